//! Figures as people read them: rates, latencies, sizes, times to come. Pure.
//!
//! Law: a success rate is never rounded up to a perfection that was not there.

use std::time::Duration;

/// What stands where there is no figure.
pub(crate) const NONE: &str = "\u{2013}";

/// A share, as a percentage of two decimals at most, rounded down.
pub(crate) fn percent(share: Option<f64>) -> String {
    match share.filter(|share| share.is_finite()) {
        None => NONE.to_string(),
        Some(share) if share >= 1.0 => "100%".to_string(),
        Some(share) => format!("{:.2}%", (share * 10_000.0).floor() / 100.0),
    }
}

/// How many a second.
pub(crate) fn rate(per_second: Option<f64>) -> String {
    match per_second.filter(|rate| rate.is_finite()) {
        None => NONE.to_string(),
        Some(0.0) => "0".to_string(),
        Some(rate) if rate < 0.05 => "<0.1".to_string(),
        Some(rate) if rate < 100.0 => format!("{rate:.1}"),
        Some(rate) => grouped(rate.round()),
    }
}

/// A time of milliseconds.
pub(crate) fn millis(millis: Option<f64>) -> String {
    match millis.filter(|millis| millis.is_finite()) {
        None => NONE.to_string(),
        Some(millis) if millis < 10.0 => format!("{millis:.1} ms"),
        Some(millis) if millis < 1_000.0 => format!("{millis:.0} ms"),
        Some(millis) if millis < 60_000.0 => format!("{:.1} s", millis / 1_000.0),
        Some(millis) => duration(Duration::from_secs_f64(millis / 1_000.0)),
    }
}

/// A number of things.
pub(crate) fn count(count: u64) -> String {
    grouped(count as f64)
}

/// Bytes a second.
pub(crate) fn bytes_rate(bytes: Option<f64>) -> String {
    match bytes.filter(|bytes| bytes.is_finite()) {
        None => NONE.to_string(),
        Some(bytes) => format!("{}/s", self::bytes(bytes)),
    }
}

/// Bytes, in powers of 1,000.
pub(crate) fn bytes(bytes: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let mut value = bytes.max(0.0);
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < units.len() {
        value /= 1_000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{value:.0} B"),
        _ if value < 10.0 => format!("{value:.1} {}", units[unit]),
        _ => format!("{value:.0} {}", units[unit]),
    }
}

/// A time span in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) if minutes >= 10 || seconds.is_multiple_of(60) => format!("{minutes} min"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1..=9, 1.., _) => format!("{days} d {hours} h"),
        (1, ..) => "1 day".to_string(),
        _ => format!("{} days", grouped(days as f64)),
    }
}

/// One thing, or several.
pub(crate) fn plural(number: usize, one: &str, several: &str) -> String {
    format!("{} {}", count(number as u64), if number == 1 { one } else { several })
}

fn grouped(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_below_one_is_never_all() {
        assert_eq!(percent(Some(0.999_999)), "99.99%");
        assert_eq!(percent(Some(1.0)), "100%");
        assert_eq!(percent(Some(0.5)), "50.00%");
        assert_eq!(percent(Some(f64::NAN)), NONE);
        assert_eq!(percent(None), NONE);
    }

    #[test]
    fn figures_have_the_digits_that_count() {
        assert_eq!([rate(Some(0.0)), rate(Some(0.01)), rate(Some(51.26))], ["0", "<0.1", "51.3"]);
        assert_eq!(rate(Some(1_234_567.8)), "1,234,568");
        assert_eq!(millis(Some(3.12)), "3.1 ms");
        assert_eq!([millis(Some(99.6)), millis(Some(1_500.0))], ["100 ms", "1.5 s"]);
        assert_eq!([bytes(999.0), bytes(999.6), bytes(15_300.0)], ["999 B", "1.0 kB", "15 kB"]);
    }

    #[test]
    fn spans_have_two_units_at_most() {
        let of = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!(
            [of(5), of(65), of(3_600), of(5_400)],
            ["5 s", "1 min 5 s", "1 h", "1 h 30 min"]
        );
        assert_eq!(
            [of(86_400), of(90_000), of(86_400 * 3_650)],
            ["1 day", "1 d 1 h", "3,650 days"]
        );
    }
}
