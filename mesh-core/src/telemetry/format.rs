//! The two texts in which metrics are told: Prometheus' text format 0.0.4 and OpenMetrics 1.0.0; what
//! they differ in, and which a client wants.
//!
//! Law: names and labels of samples are the same in both, but for the spelling of `le`.

use std::fmt::{Display, Write};

/// How metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    #[default]
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// What a family of metrics is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations by size.
    Histogram,
}

impl Kind {
    /// A sample's name, in two parts: a counter's ends with `_total`, whether `name` does or not.
    pub fn sample_name(self, name: &str) -> (&str, &'static str) {
        match self {
            Self::Counter => (name.strip_suffix(TOTAL).unwrap_or(name), TOTAL),
            Self::Gauge | Self::Histogram => (name, ""),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

const TOTAL: &str = "_total";
const OPEN_METRICS: &str = "application/openmetrics-text";

impl Format {
    /// The format for a client that sent this `accept`: OpenMetrics where it takes that at least as
    /// gladly as text, else text.
    pub fn negotiate(accept: &str) -> Self {
        let mut best = [0.0_f32; 2];
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut version, mut quality) = (None, 1.0);
            for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "version" => version = Some(value),
                    "q" => quality = value.parse().unwrap_or(0.0),
                    _ => {}
                }
            }
            let at = if media.eq_ignore_ascii_case(OPEN_METRICS) {
                // There was a 0.0.1, of which ours is none.
                if version.is_some_and(|version| version != "1.0.0") {
                    continue;
                }
                1
            } else if ["text/plain", "text/*"].iter().any(|own| media.eq_ignore_ascii_case(own)) {
                0
            } else {
                continue;
            };
            best[at] = best[at].max(quality);
        }
        match best[1] > 0.0 && best[1] >= best[0] {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    /// What to send as `content-type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// What a text ends with.
    pub fn end(self) -> &'static str {
        match self {
            Self::Text => "",
            Self::OpenMetrics => "# EOF\n",
        }
    }

    /// HELP, TYPE and, in OpenMetrics, UNIT lines of a family. `unit` is what its name ends with
    /// (before a counter's `_total`).
    pub fn write_head(
        self,
        out: &mut String,
        name: &str,
        kind: Kind,
        help: impl Display,
        unit: Option<&str>,
    ) {
        let (bare, total) = kind.sample_name(name);
        // OpenMetrics' families of counters have not the suffix that their samples have.
        let total = if self == Self::Text { total } else { "" };
        let kind = kind.as_str();
        let _ = writeln!(out, "# HELP {bare}{total} {help}\n# TYPE {bare}{total} {kind}");
        if let (Self::OpenMetrics, Some(unit)) = (self, unit) {
            let _ = writeln!(out, "# UNIT {bare} {unit}");
        }
    }
}

/// Whether a client that sent this `accept-encoding` takes gzip.
pub fn accepts_gzip(accept_encoding: &str) -> bool {
    let mut codings = accept_encoding.split(',').map(|coding| {
        let (name, parameters) = coding.split_once(';').unwrap_or((coding, ""));
        let quality = parameters.trim().strip_prefix("q=").map(str::trim);
        let refused = quality.and_then(|q| q.parse::<f32>().ok()) == Some(0.0);
        (name.trim().to_ascii_lowercase(), refused)
    });
    codings.any(|(name, refused)| (name == "gzip" || name == "x-gzip") && !refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_whether_they_take_gzip() {
        assert!(accepts_gzip("gzip"));
        assert!(accepts_gzip("deflate, GZip;q=0.5"));
        assert!(!accepts_gzip("gzip;q=0, deflate"));
        assert!(!accepts_gzip("identity"));
    }

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/plain;version=0.0.4", Format::Text),
            ("application/json", Format::Text),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; VERSION=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text;version=0.0.1", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=nonsense", Format::Text),
            ("text/plain, application/openmetrics-text;q=0.9", Format::Text),
            // Prometheus, the second and the third.
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;\
                 version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                 text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,*/*;q=0.1",
                Format::OpenMetrics,
            ),
        ] {
            assert_eq!(Format::negotiate(accept), format, "{accept}");
        }
    }

    #[test]
    fn only_text_has_the_suffix_of_counters_in_its_heads() {
        let head = |format: Format| {
            let mut out = String::new();
            format.write_head(&mut out, "a_bytes", Kind::Counter, "Help.", Some("bytes"));
            format.write_head(&mut out, "b_total", Kind::Counter, "Help.", None);
            format.write_head(&mut out, "c", Kind::Gauge, "Help.", None);
            out + format.end()
        };
        insta::assert_snapshot!(head(Format::Text), @r"
        # HELP a_bytes_total Help.
        # TYPE a_bytes_total counter
        # HELP b_total Help.
        # TYPE b_total counter
        # HELP c Help.
        # TYPE c gauge
        ");
        insta::assert_snapshot!(head(Format::OpenMetrics), @r"
        # HELP a_bytes Help.
        # TYPE a_bytes counter
        # UNIT a_bytes bytes
        # HELP b Help.
        # TYPE b counter
        # HELP c Help.
        # TYPE c gauge
        # EOF
        ");
    }
}
