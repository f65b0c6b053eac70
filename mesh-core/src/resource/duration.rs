//! Durations as Kubernetes' objects write them: `1h30m`, `250ms`, `0s`.

use std::time::Duration;

/// Longest text that is read: longer ones come from no sane object.
const BYTES_MAX: usize = 32;

/// Reads numbers with units, each unit once at most and the greatest first: `h`, `m`, `s`, `ms`,
/// and fractions as in `0.3s`. None where it is anything else.
pub fn parse(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    if text.is_empty() || text.len() > BYTES_MAX {
        return None;
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    let mut last_micros = u64::MAX;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let micros = match unit {
            "h" => 3_600_000_000_u64,
            "m" => 60_000_000,
            "s" => 1_000_000,
            "ms" => 1_000,
            "us" => 1,
            _ => return None,
        };
        if micros >= last_micros {
            return None;
        }
        last_micros = micros;
        total = total.checked_add(Duration::from_micros(scaled(number, micros)?))?;
        rest = tail;
    }
    Some(total)
}

/// `number`, which may have a fraction, times `unit`.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let mut sum = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    let mut place = unit;
    for digit in fraction.chars() {
        place /= 10;
        sum = sum.checked_add(u64::from(digit.to_digit(10)?) * place)?;
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        let read = |text| parse(text).map(|duration| duration.as_micros());
        assert_eq!(read("10s"), Some(10_000_000));
        assert_eq!(read("1h30m5s250ms"), Some(5_405_250_000));
        assert_eq!(read("0.3s"), Some(300_000));
        assert_eq!(read("1.5h"), Some(5_400_000_000));
        assert_eq!(read("0s"), Some(0));
        assert_eq!(read("0"), Some(0));
        for wrong in ["", "10", "s", "1s1h", "1s1s", "-1s", "1d", "1 s", ".s", "99999999999999h"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
