//! Sets of ports, as flags and rules write them.

use std::fmt;

/// Ports: ranges in order, that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// Reads `25` and `80-90`. Empty parts are left out, as in `4190,,25`.
    ///
    /// # Errors
    /// The part that is neither a port nor a range.
    pub(super) fn read(parts: &[String]) -> Result<Self, String> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
        let mut ranges = Vec::new();
        for part in parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (port(first), port(last)) {
                (Some(first), Some(last)) if first <= last => ranges.push((first, last)),
                _ => return Err(part.to_string()),
            }
        }
        Ok(Self::merged(ranges))
    }

    /// nftables refuses ranges that overlap, so there are none.
    fn merged(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => {
                    before.1 = before.1.max(last)
                }
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As lists of at most `slots_max`, of which a port takes one and a range two, with `to` between
    /// the ends of a range.
    pub(super) fn in_lists(&self, slots_max: usize, to: &str) -> Vec<String> {
        let mut lists = Vec::new();
        let (mut list, mut slots) = (Vec::new(), 0);
        for (first, last) in &self.0 {
            let (text, takes) = match first == last {
                true => (first.to_string(), 1),
                false => (format!("{first}{to}{last}"), 2),
            };
            if slots + takes > slots_max {
                lists.push(std::mem::take(&mut list).join(","));
                slots = 0;
            }
            slots += takes;
            list.push(text);
        }
        if !list.is_empty() {
            lists.push(list.join(","));
        }
        lists
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_lists(usize::MAX, "-").concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        let parts: Vec<_> = text.split(',').map(str::to_string).collect();
        Ports::read(&parts).map(|ports| ports.to_string())
    }

    #[test]
    fn ranges_that_overlap_or_touch_are_one() {
        assert_eq!(
            read("4190,4191,25,20-30, 4567-4568 ,,25"),
            Ok("20-30,4190-4191,4567-4568".into())
        );
        assert_eq!(read("1-65535,80"), Ok("1-65535".into()));
        assert_eq!(read(""), Ok(String::new()));
    }

    #[test]
    fn what_is_no_port_is_told() {
        for bad in ["0", "65536", "9-8", "x", "1-", "1-2-3", "-5"] {
            assert_eq!(read(bad), Err(bad.to_string()));
        }
    }

    #[test]
    fn a_list_has_no_more_slots_than_multiport_takes() {
        let ports: Vec<_> = (1..=16).map(|port| (port * 10).to_string()).collect();
        let lists = Ports::read(&ports).unwrap().in_lists(15, ":");
        assert_eq!(lists.len(), 2);
        let ranges: Vec<_> = (1..=8).map(|n| format!("{}-{}", n * 10, n * 10 + 1)).collect();
        let lists = Ports::read(&ranges).unwrap().in_lists(15, ":");
        assert_eq!(lists, ["10:11,20:21,30:31,40:41,50:51,60:61,70:71", "80:81"]);
    }
}
