//! Headers that tell of a trace: whatever they say, what goes on tells of the same trace with
//! another parent, and no other header changes.

use http::{HeaderMap, HeaderName, HeaderValue};
use mesh_core::model::span::SpanId;
use mesh_core::telemetry::trace_context::{TraceContext, state};

const TOLD: [&str; 5] = ["traceparent", "b3", "x-b3-spanid", "x-b3-parentspanid", "grpc-trace-bin"];

/// Lines `NAME: VALUE`; those that are none are left out.
pub fn read(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(32) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            headers.append(name, value);
        }
    }
    assert!(state(&headers).len() <= 512);
    let Some(context) = TraceContext::read(&headers) else { return };
    let next = SpanId::of_random([7; 8]);
    let before = headers.clone();
    context.go_on(next, &mut headers);
    let after = TraceContext::read(&headers).expect("what was told of is told of again");
    assert_eq!(after, TraceContext { parent: next, ..context });
    for name in before.keys().filter(|name| !TOLD.contains(&name.as_str())) {
        assert!(before.get_all(name).iter().eq(headers.get_all(name)), "{name}");
    }
}
