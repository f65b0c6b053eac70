//! An event of a tap in the shape that `linkerd viz tap -o json` gives it.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::model::labels::Labels;
use crate::model::tap::{Captured, Direction, End, Event, Headers, StreamId, What};

/// An event.
pub fn event(event: &Event) -> Value {
    let mut value = json!({
        "source": endpoint(event.source, &event.source_labels),
        "destination": endpoint(event.destination, &event.destination_labels),
        "routeMeta": labels(&event.route_labels),
        "proxyDirection": match event.direction {
            Direction::Unknown => "UNKNOWN",
            Direction::Inbound => "INBOUND",
            Direction::Outbound => "OUTBOUND",
        },
    });
    if let Some((name, what)) = event.what.as_ref().map(what) {
        value[name] = what;
    }
    value
}

fn endpoint(address: Option<SocketAddr>, of: &Labels) -> Value {
    match address {
        None => Value::Null,
        Some(address) => {
            let ip = address.ip().to_canonical().to_string();
            json!({"ip": ip, "port": address.port(), "metadata": labels(of)})
        }
    }
}

fn labels(labels: &Labels) -> Value {
    let all = labels.iter().map(|(name, value)| (name.to_string(), value.into()));
    Value::Object(all.collect())
}

fn what(what: &What) -> (&'static str, Value) {
    match what {
        What::RequestInit { id, method, scheme, authority, path, headers: all } => (
            "requestInitEvent",
            json!({
                "id": stream(id),
                "method": method.as_str(),
                "scheme": scheme.as_ref().map_or("", |scheme| scheme.as_str()),
                "authority": authority,
                "path": path,
                "headers": headers(all),
            }),
        ),
        What::ResponseInit { id, since_request, status, headers: all } => (
            "responseInitEvent",
            json!({
                "id": stream(id),
                "sinceRequestInit": duration(*since_request),
                "httpStatus": status,
                "headers": headers(all),
            }),
        ),
        What::ResponseEnd {
            id,
            since_request,
            since_response,
            bytes,
            end,
            trailers,
            request_body,
            response_body,
        } => {
            let mut value = json!({
                "id": stream(id),
                "sinceRequestInit": duration(*since_request),
                "sinceResponseInit": since_response.map_or(Value::Null, duration),
                "responseBytes": bytes,
                "trailers": headers(trailers),
            });
            match end {
                Some(End::Grpc(code)) => value["grpcStatusCode"] = (*code).into(),
                Some(End::Reset(code)) => value["resetErrorCode"] = (*code).into(),
                None => {}
            }
            for (name, body) in [("requestBody", request_body), ("responseBody", response_body)] {
                if let Some(body) = body {
                    value[name] = captured(body);
                }
            }
            ("responseEndEvent", value)
        }
    }
}

fn stream(id: &StreamId) -> Value {
    json!({"base": id.base, "stream": id.stream})
}

/// As Go's JSON has protobuf's durations: what is zero is left out.
fn duration(time: Duration) -> Value {
    let mut value = Map::new();
    if time.as_secs() > 0 {
        value.insert("seconds".to_string(), time.as_secs().into());
    }
    if time.subsec_nanos() > 0 {
        value.insert("nanos".to_string(), time.subsec_nanos().into());
    }
    Value::Object(value)
}

fn headers(headers: &Headers) -> Value {
    let header = |(name, value): &(String, Vec<u8>)| match std::str::from_utf8(value) {
        Ok(text) => json!({"name": name, "valueStr": text}),
        Err(_) => json!({"name": name, "valueStr": String::from_utf8_lossy(value)}),
    };
    headers.iter().map(header).collect()
}

fn captured(body: &Captured) -> Value {
    json!({"text": String::from_utf8_lossy(&body.data), "truncated": body.truncated})
}
