//! Quantities as people write them: durations, rates of bits, sizes, points in time. Each is one
//! string with one parser, one way to print it, and one name in the schema.

use std::fmt;
use std::time::Duration;

use mesh_core::time::WallTime;

/// Makes serde and the schema agree on a type that is a string: `read` takes what `Display` gives.
macro_rules! is_text {
    ($type:ty, $format:literal, $about:literal, $($example:literal),+) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(source)?;
                Self::read(&text).map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                $format.into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "type": "string",
                    "format": $format,
                    "description": $about,
                    "examples": [$($example),+],
                })
            }
        }
    };
}
pub(crate) use is_text;

/// A duration as people write it: `250us`, `20ms`, `1.5s`, `2m`, `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

is_text!(Span, "span", "A duration with its unit: ns, us, ms, s, m or h.", "250us", "1.5s", "2m");

const SPAN_UNITS: [(&str, u64); 6] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl Span {
    /// Reads a number and a unit.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let nanos = read_scaled(text, &SPAN_UNITS)
            .map_err(|fault| fault.explain(text, "duration", "ns, us, ms, s, m or h"))?;
        Ok(Self(Duration::from_nanos(nanos)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        // Minutes and hours stay seconds: "90s" is read more easily than two units.
        write_scaled(f, nanos, &SPAN_UNITS[..4], 3)
    }
}

/// Bits per second: `64kbit`, `100Mbit`, `1Gbit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bandwidth(pub u64);

is_text!(Bandwidth, "bandwidth", "Bits a second: bit, kbit, Mbit or Gbit.", "64kbit", "1Gbit");

const BIT_UNITS: [(&str, u64); 4] =
    [("bit", 1), ("kbit", 1_000), ("Mbit", 1_000_000), ("Gbit", 1_000_000_000)];

impl Bandwidth {
    /// Reads a number and a unit.
    ///
    /// # Errors
    /// What is wrong with it; a bandwidth of nothing is a partition.
    pub fn read(text: &str) -> Result<Self, String> {
        match read_scaled(text, &BIT_UNITS) {
            Ok(0) => Err(format!("`{text}` lets nothing through: use a partition")),
            Ok(bits) => Ok(Self(bits)),
            Err(fault) => Err(fault.explain(text, "bandwidth", "bit, kbit, Mbit or Gbit")),
        }
    }
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &BIT_UNITS, 0)
    }
}

/// A number of bytes: `512B`, `64KiB`, `24MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

is_text!(Bytes, "bytes", "A size: B, KiB, MiB or GiB.", "64KiB", "24MiB");

const BYTE_UNITS: [(&str, u64); 4] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl Bytes {
    /// Reads a number and a unit.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        read_scaled(text, &BYTE_UNITS)
            .map(Self)
            .map_err(|fault| fault.explain(text, "size", "B, KiB, MiB or GiB"))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &BYTE_UNITS, 0)
    }
}

/// A point in time, RFC 3339: `2026-01-01T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub WallTime);

is_text!(Moment, "date-time", "A point in time (RFC 3339).", "2026-01-01T00:00:00Z");

impl Moment {
    /// Reads a date and time with its zone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let read: k8s_openapi::jiff::Timestamp = text
            .parse()
            .map_err(|_| format!("`{text}` is no point in time: write 2026-01-01T00:00:00Z"))?;
        let since = Duration::try_from(read.as_duration())
            .map_err(|_| format!("`{text}` is before 1970"))?;
        Ok(Self(WallTime::since_unix_epoch(since)))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

enum Misread {
    NoUnit,
    NoNumber,
    TooLarge,
}

impl Misread {
    fn explain(self, text: &str, what: &str, units: &str) -> String {
        match self {
            Self::NoUnit => format!("`{text}` has no unit of {units}"),
            Self::NoNumber => format!("`{text}` is no {what}"),
            Self::TooLarge => format!("`{text}` is too large"),
        }
    }
}

/// A number and a unit, in the smallest unit. Whole numbers are exact.
fn read_scaled(text: &str, units: &[(&str, u64)]) -> Result<u64, Misread> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let (_, scale) = units.iter().find(|(name, _)| *name == unit).ok_or(Misread::NoUnit)?;
    let number = number.trim();
    if !number.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Err(Misread::NoNumber);
    }
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*scale).ok_or(Misread::TooLarge);
    }
    let number: f64 = number.parse().map_err(|_| Misread::NoNumber)?;
    let scaled = (number * *scale as f64).round();
    if scaled < u64::MAX as f64 { Ok(scaled as u64) } else { Err(Misread::TooLarge) }
}

/// In the largest unit that needs no fraction; nothing in the `of_zero`th.
fn write_scaled(
    f: &mut fmt::Formatter<'_>,
    number: u64,
    units: &[(&str, u64)],
    of_zero: usize,
) -> fmt::Result {
    let fits = |(_, scale): &&(&str, u64)| number != 0 && number.is_multiple_of(*scale);
    let (unit, scale) = units.iter().rev().find(fits).unwrap_or(&units[of_zero]);
    write!(f, "{}{unit}", number / scale)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        let span = |text| Span::read(text).map(|span| span.0);
        assert_eq!(span("250us"), Ok(Duration::from_micros(250)));
        assert_eq!(span("1.5s"), Ok(Duration::from_millis(1_500)));
        assert_eq!(span("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(Bandwidth::read("1.5Mbit"), Ok(Bandwidth(1_500_000)));
        assert_eq!(Bytes::read("24MiB"), Ok(Bytes(24 << 20)));
        let start = Moment::read("2026-01-01T01:00:00+01:00").expect("a point in time");
        assert_eq!(start.0, WallTime::from_unix_secs(1_767_225_600));
    }

    #[test]
    fn what_cannot_be_read_is_told_with_the_units() {
        let faults = [
            Span::read("12").unwrap_err(),
            Span::read("ms").unwrap_err(),
            Span::read("-1s").unwrap_err(),
            Bandwidth::read("0bit").unwrap_err(),
            Bytes::read("1MB").unwrap_err(),
            Bytes::read("99999999999GiB").unwrap_err(),
            Moment::read("yesterday").unwrap_err(),
        ];
        insta::assert_snapshot!(faults.join("\n"), @r#"
        `12` has no unit of ns, us, ms, s, m or h
        `ms` is no duration
        `-1s` is no duration
        `0bit` lets nothing through: use a partition
        `1MB` has no unit of B, KiB, MiB or GiB
        `99999999999GiB` is too large
        `yesterday` is no point in time: write 2026-01-01T00:00:00Z
        "#);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_as_the_same(number in any::<u64>(), zeros in 0u32..12) {
            let number = number / 10u64.pow(zeros) * 10u64.pow(zeros);
            let span = Span(Duration::from_nanos(number));
            prop_assert_eq!(Span::read(&span.to_string()), Ok(span));
            let bytes = Bytes(number);
            prop_assert_eq!(Bytes::read(&bytes.to_string()), Ok(bytes));
            let bandwidth = Bandwidth(number.max(1));
            prop_assert_eq!(Bandwidth::read(&bandwidth.to_string()), Ok(bandwidth));
            let moment = Moment(WallTime::since_unix_epoch(Duration::from_millis(number >> 24)));
            prop_assert_eq!(Moment::read(&moment.to_string()), Ok(moment));
        }
    }
}
