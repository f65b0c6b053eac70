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

/// Lines `NAME=VALUE`, or `NAME="VALUE"` as Kubernetes writes a pod's labels to a file. Others are
/// passed over.
pub fn attribute_lines(text: &str) -> Vec<(String, String)> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    let pairs = pairs.map(|(name, value)| (name.trim(), value.trim().trim_matches('"')));
    let named = pairs.filter(|(name, _)| !name.is_empty());
    named.map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// OpenTelemetry's `NAME=VALUE,NAME=VALUE`, values percent-encoded. Linkerd's injector writes lines.
pub(super) fn resource_attributes(text: &str) -> Vec<(String, String)> {
    if text.contains('\n') {
        return attribute_lines(text);
    }
    let decoded = |(name, value): (String, String)| (name, percent_decoded(&value));
    attribute_lines(&text.replace(',', "\n")).into_iter().map(decoded).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).filter(|_| byte == b'%');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A share from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("give a share from 0 to 1, such as 0.01".into()),
    }
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
    fn attributes_are_read_as_kubernetes_and_opentelemetry_write_them() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<_> {
            pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
        };
        let lines = "app=\"web\"\nzone=eu\nkey==v\nempty=\n\nnothing\n=nameless\n";
        let read = pairs(&[("app", "web"), ("zone", "eu"), ("key", "=v"), ("empty", "")]);
        assert_eq!(attribute_lines(lines), read);
        let listed = "a=b, c=d%2Ce%20%,f=%C3%A9%zz";
        let read = pairs(&[("a", "b"), ("c", "d,e %"), ("f", "é%zz")]);
        assert_eq!(resource_attributes(listed), read);
        assert_eq!(resource_attributes("a=\"b,c\"\nd=e"), pairs(&[("a", "b,c"), ("d", "e")]));
    }

    #[test]
    fn ports_are_read_once_each_and_in_order() {
        assert_eq!(ports("443, 25,4000-4002,25"), Ok(vec![25, 443, 4000, 4001, 4002]));
        assert_eq!(ports(""), Ok(vec![]));
        assert!(ports("0").is_err() && ports("a-b").is_err() && ports("70000").is_err());
    }
}
