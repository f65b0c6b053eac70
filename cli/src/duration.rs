//! Durations on the command line: a number and a unit, as Linkerd's settings have them.

use std::time::Duration;

/// Reads `500ms`, `20s`, `5m`, `24h` or `7d`.
///
/// # Errors
/// What to write instead.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let remedy = || format!("{text:?}: give a number and a unit: ms, s, m, h or d");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| remedy())?;
    let millis: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(remedy()),
    };
    let millis = number.checked_mul(millis).ok_or_else(remedy)?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(parse("20s"), Ok(Duration::from_secs(20)));
        assert_eq!(parse("1500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse("24h"), Ok(Duration::from_secs(86_400)));
        for wrong in
            ["", "20", "s", "1.5s", "-1s", "99999999999999999999d", "18446744073709551615d"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
