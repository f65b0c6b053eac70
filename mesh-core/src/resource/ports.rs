//! Sets of ports as annotations write them: `25,443,8080-8090`.

use std::fmt;
use std::str::FromStr;

/// A set of ports: sorted, disjoint, inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<(u16, u16)>);

/// A text that is not a set of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a port nor a range of ports such as 8080-8090")]
pub struct InvalidPorts(pub String);

impl PortSet {
    /// Whether a port is in it.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|&(low, high)| (low..=high).contains(&port))
    }

    /// Whether it has no port.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All ports of all sets.
    pub fn union(sets: impl IntoIterator<Item = Self>) -> Self {
        Self::from_ranges(sets.into_iter().flat_map(|set| set.0).collect())
    }

    fn from_ranges(mut ranges: Vec<(u16, u16)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (low, high) in ranges {
            match merged.last_mut() {
                Some(last) if u32::from(low) <= u32::from(last.1) + 1 => last.1 = last.1.max(high),
                _ => merged.push((low, high)),
            }
        }
        Self(merged)
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        Self::from_ranges(ports.into_iter().map(|port| (port, port)).collect())
    }
}

impl FromStr for PortSet {
    type Err = InvalidPorts;

    /// Reads ports and ranges with commas between them. Empty text is the empty set.
    fn from_str(text: &str) -> Result<Self, InvalidPorts> {
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
        let range = |item: &str| match item.split_once('-') {
            Some((low, high)) => Some((port(low)?, port(high)?)).filter(|(low, high)| low <= high),
            None => port(item).map(|port| (port, port)),
        };
        text.split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| range(item).ok_or_else(|| InvalidPorts(item.to_string())))
            .collect::<Result<Vec<_>, _>>()
            .map(Self::from_ranges)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(low, high)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if low == high {
                write!(f, "{comma}{low}")?;
            } else {
                write!(f, "{comma}{low}-{high}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read_and_merged() {
        let read = |text: &str| text.parse::<PortSet>().map(|ports| ports.to_string());
        assert_eq!(read("443, 25,8080-8090,8085-8100,26").unwrap(), "25-26,443,8080-8100");
        assert_eq!(read("").unwrap(), "");
        assert_eq!(read("65535,1-65535").unwrap(), "1-65535");
        for wrong in ["0", "a", "5-1", "70000", "1-", "-"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        let ports: PortSet = "10-12".parse().unwrap();
        assert!(ports.contains(10) && ports.contains(12) && !ports.contains(13));
    }
}
