//! How well a host or SNI is matched.

use crate::model::route::HostMatch;

/// How specific a match is; the greater wins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HostRank {
    /// The route is for all hosts.
    All,
    /// A suffix of this many bytes, dots included.
    Suffix(usize),
    /// The whole name.
    Exact,
}

impl HostRank {
    /// The best of `hosts`; [`HostRank::All`] where there are none. `None` where none matches, and
    /// where some are wanted and the request names no host.
    pub(super) fn of_any(hosts: &[HostMatch], host: Option<&str>) -> Option<Self> {
        if hosts.is_empty() {
            return Some(Self::All);
        }
        let host = without_port(host?);
        hosts.iter().filter_map(|m| Self::of(m, host)).max()
    }

    fn of(wanted: &HostMatch, host: &str) -> Option<Self> {
        // A trailing dot makes a name absolute; it counts only where the route writes it too.
        let relative = host.strip_suffix('.').unwrap_or(host);
        match wanted {
            HostMatch::Exact(name) => {
                let host = if name.ends_with('.') { host } else { relative };
                name.eq_ignore_ascii_case(host).then_some(Self::Exact)
            }
            HostMatch::Suffix(labels) => {
                let absolute = labels.first().is_some_and(String::is_empty);
                let mut rest = if absolute { host } else { relative };
                let mut length = 0;
                for label in labels {
                    let at = rest.len().checked_sub(label.len())?;
                    let (before, last) = rest.split_at_checked(at)?;
                    if !last.eq_ignore_ascii_case(label) {
                        return None;
                    }
                    // At least one label must stand where `*` stood.
                    rest = before.strip_suffix('.')?;
                    length += label.len() + 1;
                }
                (!rest.is_empty()).then_some(Self::Suffix(length))
            }
        }
    }
}

/// A host without its port: `web:80`, `[::1]:80`.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port))
            if (!name.contains(':') || name.ends_with(']'))
                && port.bytes().all(|b| b.is_ascii_digit()) =>
        {
            name
        }
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(wanted: &str, host: &str) -> Option<HostRank> {
        let wanted = match wanted.strip_prefix("*.") {
            Some(suffix) => HostMatch::Suffix(suffix.rsplit('.').map(String::from).collect()),
            None => HostMatch::Exact(wanted.into()),
        };
        HostRank::of_any(&[wanted], Some(host))
    }

    #[test]
    fn names_match_whole_and_without_regard_to_case() {
        for host in ["example.com", "EXAMPLE.com.", "example.com:80", "Example.com.:8080"] {
            assert_eq!(rank("example.com", host), Some(HostRank::Exact), "{host}");
        }
        for host in ["a.example.com", "example.org", "example.com.org", "", "com"] {
            assert_eq!(rank("example.com", host), None, "{host}");
        }
        assert_eq!(rank("example.com.", "example.com"), None);
        assert_eq!(rank("example.com.", "example.com."), Some(HostRank::Exact));
        assert_eq!(rank("[::1]", "[::1]:80"), Some(HostRank::Exact));
    }

    #[test]
    fn a_suffix_wants_at_least_one_more_label() {
        let suffix = Some(HostRank::Suffix(".example.com".len()));
        for host in ["a.example.com", "b.a.EXAMPLE.com", "a.example.com.:1"] {
            assert_eq!(rank("*.example.com", host), suffix, "{host}");
        }
        for host in ["example.com", ".example.com", "aexample.com", "com", "é.com"] {
            assert_eq!(rank("*.example.com", host), None, "{host}");
        }
    }

    #[test]
    fn no_hosts_match_all_and_some_want_one() {
        assert_eq!(HostRank::of_any(&[], None), Some(HostRank::All));
        assert_eq!(HostRank::of_any(&[HostMatch::Exact("a".into())], None), None);
    }
}
