//! The headers that tie the spans of one trace together: W3C `traceparent`, B3 in one header and in
//! many, and `grpc-trace-bin`. Reads what came, writes what goes on. Emits no spans and draws no
//! chance.
//!
//! Law: of a request that goes on, only the parent changes: each format that told of the trace tells
//! of it again, and every other header is as it was.

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::model::span::{SpanId, TraceId};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");
const GRPC: HeaderName = HeaderName::from_static("grpc-trace-bin");

/// Longest `tracestate` that is told on with a span, in bytes; that much must be, by W3C.
const STATE_BYTES_MAX: usize = 512;

/// gRPC leaves the padding out, and must take it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// W3C's flag that whoever called records the trace.
const SAMPLED: u8 = 1;
/// W3C's flags that are known: sampled, and a random identity.
const FLAGS_KNOWN: u8 = 3;

/// What a request's headers say of the trace that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceContext {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub parent: SpanId,
    /// Whether the caller records it.
    pub is_sampled: bool,
}

/// W3C's form, with its flags.
#[derive(Clone, Copy)]
struct W3c(TraceContext, u8);

impl TraceContext {
    /// What headers say: by `traceparent`, else B3 in one header, else in many, else
    /// `grpc-trace-bin`. None where they say nothing that makes sense, or not whether the trace is
    /// recorded at all.
    pub fn read(headers: &HeaderMap) -> Option<Self> {
        W3c::read(headers)
            .map(|w3c| w3c.0)
            .or_else(|| read_b3(headers))
            .or_else(|| read_b3_many(headers))
            .or_else(|| read_grpc(headers))
    }

    /// Makes `span` the parent in every format in which headers tell of this trace.
    pub fn go_on(&self, span: SpanId, headers: &mut HeaderMap) {
        let is_ours = |found: &Self| found.trace == self.trace;
        if let Some(W3c(found, flags)) = W3c::read(headers)
            && is_ours(&found)
        {
            set(headers, TRACEPARENT, format!("00-{}-{span}-{flags:02x}", self.trace));
        }
        if let Some(found) = read_b3(headers).filter(is_ours)
            && let Some((trace, state)) = b3_ends(headers)
        {
            set(headers, B3, format!("{trace}-{span}-{state}-{}", found.parent));
        }
        if let Some(found) = read_b3_many(headers).filter(is_ours) {
            set(headers, B3_SPAN, span.to_string());
            set(headers, B3_PARENT, found.parent.to_string());
        }
        if let Some(found) = read_grpc(headers).filter(is_ours) {
            let next = Self { parent: span, ..found };
            set(headers, GRPC, BASE64.encode(next.to_grpc()));
        }
    }

    /// Writes itself where no headers tell of a trace, as W3C's.
    pub fn begin(&self, headers: &mut HeaderMap) {
        let sampled = if self.is_sampled { SAMPLED } else { 0 };
        let text = format!("00-{}-{}-{sampled:02x}", self.trace, self.parent);
        set(headers, TRACEPARENT, text);
        headers.remove(TRACESTATE);
    }

    fn to_grpc(self) -> [u8; 29] {
        let mut bytes = [0; 29];
        bytes[2..18].copy_from_slice(self.trace.as_bytes());
        bytes[18] = 1;
        bytes[19..27].copy_from_slice(self.parent.as_bytes());
        (bytes[27], bytes[28]) = (2, u8::from(self.is_sampled));
        bytes
    }
}

/// What vendors of tracers say of the trace; nothing where it is too long to be told on.
pub fn state(headers: &HeaderMap) -> String {
    let values = headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok());
    let text = values.collect::<Vec<_>>().join(",");
    if text.len() <= STATE_BYTES_MAX { text } else { String::new() }
}

/// Whether a trace is recorded that begins here: of those that `ratio` (0 to 1) wants. The same for
/// the same trace wherever it is asked.
pub fn is_wanted(trace: TraceId, ratio: f64) -> bool {
    let [.., a, b, c, d, e, f, g, h] = *trace.as_bytes();
    let random = u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 11;
    (random as f64) < ratio * (1_u64 << 53) as f64
}

impl W3c {
    fn read(headers: &HeaderMap) -> Option<Self> {
        let mut parts = only(headers, &TRACEPARENT)?.split('-');
        let version = lower_hex::<1>(parts.next()?)?;
        let trace = TraceId::new(lower_hex(parts.next()?)?)?;
        let parent = SpanId::new(lower_hex(parts.next()?)?)?;
        let [flags] = lower_hex(parts.next()?)?;
        // A later version may say more; the first says no more, and the last is none.
        if version == [0xff] || version == [0] && parts.next().is_some() {
            return None;
        }
        let context = TraceContext { trace, parent, is_sampled: flags & SAMPLED != 0 };
        Some(Self(context, flags & FLAGS_KNOWN))
    }
}

/// `TRACE-SPAN[-STATE[-PARENT]]`
fn read_b3(headers: &HeaderMap) -> Option<TraceContext> {
    let mut parts = only(headers, &B3)?.split('-');
    let trace = b3_trace(parts.next()?)?;
    let parent = SpanId::new(hex(parts.next()?)?)?;
    let is_sampled = match parts.next()? {
        "1" | "d" => true,
        "0" => false,
        _ => return None,
    };
    Some(TraceContext { trace, parent, is_sampled })
}

/// The parts of B3's one header that stay.
fn b3_ends(headers: &HeaderMap) -> Option<(String, String)> {
    let mut parts = only(headers, &B3)?.split('-');
    Some((parts.next()?.to_string(), parts.nth(1)?.to_string()))
}

fn read_b3_many(headers: &HeaderMap) -> Option<TraceContext> {
    let trace = b3_trace(only(headers, &B3_TRACE)?)?;
    let parent = SpanId::new(hex(only(headers, &B3_SPAN)?)?)?;
    let is_sampled = match (only(headers, &B3_FLAGS), only(headers, &B3_SAMPLED)) {
        (Some("1"), _) | (_, Some("1" | "true")) => true,
        (_, Some("0" | "false")) => false,
        _ => return None,
    };
    Some(TraceContext { trace, parent, is_sampled })
}

/// A trace of B3 has 64 bits or 128.
fn b3_trace(text: &str) -> Option<TraceId> {
    if text.len() == 32 {
        return TraceId::new(hex(text)?);
    }
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&hex::<8>(text)?);
    TraceId::new(bytes)
}

/// Version 0, then fields in order: 0 the trace, 1 the span, 2 the options.
fn read_grpc(headers: &HeaderMap) -> Option<TraceContext> {
    let bytes = BASE64.decode(only(headers, &GRPC)?).ok()?;
    let rest = bytes.strip_prefix(&[0, 0])?;
    let (trace, rest) = rest.split_first_chunk::<16>()?;
    let (parent, rest) = rest.strip_prefix(&[1])?.split_first_chunk::<8>()?;
    let is_sampled = match rest {
        [2, options, ..] => options & SAMPLED != 0,
        _ => false,
    };
    Some(TraceContext { trace: TraceId::new(*trace)?, parent: SpanId::new(*parent)?, is_sampled })
}

/// A header's value where it is there once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

fn lower_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    (!text.bytes().any(|byte| byte.is_ascii_uppercase())).then(|| hex(text))?
}

/// Exactly as many digits as make `N` bytes.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn set(headers: &mut HeaderMap, name: HeaderName, text: String) {
    // Of hexadecimal digits, dashes and base64 alone, and of a B3 state that was a value before.
    if let Ok(value) = HeaderValue::try_from(text) {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";
    const NEXT: &str = "00f067aa0ba902b7";

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parsed = pairs.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap())
        });
        parsed.collect()
    }

    fn text(headers: &HeaderMap) -> String {
        let line = |(name, value): (&HeaderName, &HeaderValue)| {
            format!("{name}: {}", value.to_str().unwrap())
        };
        headers.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    fn next() -> SpanId {
        SpanId::new(hex(NEXT).unwrap()).unwrap()
    }

    #[test]
    fn each_format_is_read_and_goes_on_in_itself() {
        let grpc = TraceContext {
            trace: TraceId::new(hex(TRACE).unwrap()).unwrap(),
            parent: SpanId::new(hex(SPAN).unwrap()).unwrap(),
            is_sampled: true,
        };
        let grpc = BASE64.encode(grpc.to_grpc());
        let of_w3c = format!("00-{TRACE}-{SPAN}-01");
        let of_b3 = format!("{TRACE}-{SPAN}-d-0000000000000001");
        let pairs = |pairs: &[(&str, &str)]| headers(pairs);
        for mut headers in [
            pairs(&[("traceparent", &of_w3c), ("tracestate", "a=b"), ("accept", "*/*")]),
            pairs(&[("b3", &of_b3)]),
            pairs(&[("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN), ("x-b3-sampled", "1")]),
            pairs(&[("grpc-trace-bin", &grpc)]),
            pairs(&[("traceparent", &of_w3c), ("b3", &of_b3), ("grpc-trace-bin", &grpc)]),
        ] {
            let context = TraceContext::read(&headers).unwrap();
            assert_eq!(
                (context.trace.to_string(), context.parent.to_string()),
                (TRACE.into(), SPAN.into())
            );
            assert!(context.is_sampled);
            let before = text(&headers);
            context.go_on(next(), &mut headers);
            let after = TraceContext::read(&headers).unwrap();
            assert_eq!(after, TraceContext { parent: next(), ..context });
            assert_ne!(text(&headers), before);
            assert_eq!(headers.get("accept").is_some(), before.contains("accept"));
        }
    }

    #[test]
    fn what_goes_on_looks_as_its_format_wants() {
        let b3 = format!("{TRACE}-{SPAN}-1");
        let mut headers = headers(&[
            ("traceparent", &format!("cc-{TRACE}-{SPAN}-ff-what-the-future-holds")),
            ("tracestate", "rojo=00f067aa0ba902b7"),
            ("b3", &b3),
            ("x-b3-traceid", TRACE),
            ("x-b3-spanid", SPAN),
            ("x-b3-flags", "1"),
            ("x-request-id", "7"),
        ]);
        TraceContext::read(&headers).unwrap().go_on(next(), &mut headers);
        insta::assert_snapshot!(text(&headers), @r"
        traceparent: 00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-03
        tracestate: rojo=00f067aa0ba902b7
        b3: 0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-1-b7ad6b7169203331
        x-b3-traceid: 0af7651916cd43dd8448eb211c80319c
        x-b3-spanid: 00f067aa0ba902b7
        x-b3-flags: 1
        x-request-id: 7
        x-b3-parentspanid: b7ad6b7169203331
        ");
    }

    #[test]
    fn another_trace_in_another_format_stays_as_it_is() {
        let other = format!("{}-{SPAN}-1", "1".repeat(32));
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let mut headers = headers(&[("traceparent", &w3c), ("b3", &other)]);
        TraceContext::read(&headers).unwrap().go_on(next(), &mut headers);
        assert_eq!(headers["b3"], other);
        assert_eq!(headers["traceparent"], format!("00-{TRACE}-{NEXT}-01"));
    }

    #[test]
    fn what_makes_no_sense_is_nothing() {
        let zero_trace = format!("00-{}-{SPAN}-01", "0".repeat(32));
        let zero_span = format!("00-{TRACE}-{}-01", "0".repeat(16));
        for traceparent in [
            "",
            "00",
            &zero_trace,
            &zero_span,
            &format!("ff-{TRACE}-{SPAN}-01"),
            &format!("00-{TRACE}-{SPAN}-01-more"),
            &format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            &format!("00-{TRACE}-{SPAN}"),
            &format!("00-{TRACE}-{SPAN}-1"),
            &format!("00-{TRACE}{SPAN}-01-"),
        ] {
            assert_eq!(
                TraceContext::read(&headers(&[("traceparent", traceparent)])),
                None,
                "{traceparent}"
            );
        }
        let once = format!("00-{TRACE}-{SPAN}-01");
        let mut twice = headers(&[("traceparent", &once)]);
        twice.append(TRACEPARENT, HeaderValue::try_from(once).unwrap());
        assert_eq!(TraceContext::read(&twice), None);
        // Whether it is recorded is left to others: nothing to go by.
        for b3 in ["0", "1", "d", &format!("{TRACE}-{SPAN}")] {
            assert_eq!(TraceContext::read(&headers(&[("b3", b3)])), None, "{b3}");
        }
        assert_eq!(TraceContext::read(&headers(&[("x-b3-sampled", "1")])), None);
    }

    #[test]
    fn a_trace_of_64_bits_keeps_its_spelling() {
        let short = "a3ce929d0e0e4736";
        let mut headers = headers(&[("b3", &format!("{short}-{SPAN}-1"))]);
        let context = TraceContext::read(&headers).unwrap();
        assert_eq!(context.trace.to_string(), format!("{}{short}", "0".repeat(16)));
        context.go_on(next(), &mut headers);
        assert_eq!(headers["b3"], format!("{short}-{NEXT}-1-{SPAN}"));
    }

    fn any_context() -> impl Strategy<Value = TraceContext> {
        (any::<[u8; 16]>(), any::<[u8; 8]>(), any::<bool>()).prop_map(
            |(trace, span, is_sampled)| {
                let (trace, parent) = (TraceId::of_random(trace), SpanId::of_random(span));
                TraceContext { trace, parent, is_sampled }
            },
        )
    }

    proptest! {
        #[test]
        fn reading_undoes_beginning(context in any_context()) {
            let mut headers = headers(&[("tracestate", "a=b")]);
            context.begin(&mut headers);
            prop_assert_eq!(TraceContext::read(&headers), Some(context));
            prop_assert_eq!(state(&headers), "");
        }

        #[test]
        fn only_the_parent_changes(context in any_context(), span in any::<[u8; 8]>()) {
            let sampled = if context.is_sampled { "1" } else { "0" };
            let TraceContext { trace, parent, .. } = context;
            let mut headers = headers(&[
                ("b3", &format!("{trace}-{parent}-{sampled}")),
                ("x-b3-traceid", &trace.to_string()),
                ("x-b3-spanid", &parent.to_string()),
                ("x-b3-sampled", sampled),
                ("grpc-trace-bin", &BASE64.encode(context.to_grpc())),
            ]);
            context.begin(&mut headers);
            let next = TraceContext { parent: SpanId::of_random(span), ..context };
            context.go_on(next.parent, &mut headers);
            prop_assert_eq!(W3c::read(&headers).map(|w3c| w3c.0), Some(next));
            prop_assert_eq!(read_b3(&headers), Some(next));
            prop_assert_eq!(read_b3_many(&headers), Some(next));
            prop_assert_eq!(read_grpc(&headers), Some(next));
        }

        #[test]
        fn the_ratio_is_what_is_recorded(ratio in 0.0..=1.0_f64, seed in any::<u64>()) {
            let traces = (0..2_000_u64).map(|n| {
                let random = (seed.wrapping_add(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                let random = (random ^ (random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                TraceId::of_random((u128::from(random) | 1 << 100).to_be_bytes())
            });
            let wanted = traces.filter(|trace| is_wanted(*trace, ratio)).count() as f64 / 2_000.0;
            prop_assert!((wanted - ratio).abs() < 0.08, "{wanted} of {ratio}");
        }
    }
}
