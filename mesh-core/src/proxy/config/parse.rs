//! Values of environment variables: durations with units, addresses, networks, port sets.

use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Most ports a port set may name in ranges; the whole space fits.
const PORTS_MAX: usize = 65_536;

/// A duration with a unit: `250ms`, `10s`, `5m`, `1h`, `1d`. Units are never left out.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 =
        number.parse().map_err(|_| "give a whole number and a unit, such as 250ms".to_string())?;
    let millis_each = match unit {
        "" if number == 0 => 0,
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("give a unit: ms, s, m, h or d".into()),
    };
    let millis = number.checked_mul(millis_each).ok_or("give a shorter time")?;
    Ok(Duration::from_millis(millis))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "" | "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("give true or false".into()),
    }
}

pub(super) fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "give a whole number".into())
}

pub(super) fn number_u32(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "give a whole number below 4294967296".into())
}

pub(super) fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && (0.0..=100.0).contains(&value) => Ok(value),
        _ => Err("give a number from 0 to 100, such as 0.1".into()),
    }
}

pub(super) fn socket_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an address and a port, such as 127.0.0.1:4140".into())
}

/// A comma-separated list; empty items are passed over.
pub(super) fn list<T>(
    text: &str,
    item: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    text.split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| item(part).map_err(|remedy| format!("{part:?}: {remedy}")))
        .collect()
}

pub(super) fn network(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from))
        .map_err(|_| "give a network such as 10.0.0.0/8".into())
}

/// Ports and ranges of ports, `25,4000-4010`, in order, each once.
pub(super) fn ports(text: &str) -> Result<Vec<u16>, String> {
    let port = |text: &str| match text.trim().parse::<u16>() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err("give ports from 1 to 65535, or ranges such as 4000-4010".to_string()),
    };
    let ranges = list(text, |part| match part.split_once('-') {
        Some((low, high)) => Ok(port(low)?..=port(high)?),
        None => port(part).map(|only| only..=only),
    })?;
    let mut all: Vec<u16> = ranges.into_iter().flatten().take(PORTS_MAX).collect();
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("1d"), Ok(Duration::from_secs(86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for wrong in ["", "10", "s", "1.5s", "-1s", "10 s", "99999999999999999999s", "1w"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(duration("18446744073709551615d").is_err());
    }

    #[test]
    fn ports_are_read_once_each_and_in_order() {
        assert_eq!(ports("443, 25,4000-4002,25"), Ok(vec![25, 443, 4000, 4001, 4002]));
        assert_eq!(ports(""), Ok(vec![]));
        assert!(ports("0").is_err() && ports("a-b").is_err() && ports("70000").is_err());
    }
}
