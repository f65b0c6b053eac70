//! Messages of taps: what a proxy is asked is bounded in depth and size, and what a proxy tells can be
//! written for people, whatever it is.

use std::net::SocketAddr;

use http::{HeaderMap, Method};
use mesh_core::control::tap::render;
use mesh_core::model::labels::Labels;
use mesh_core::model::tap::{
    Event, HEADER_MATCHES_MAX, MATCH_DEPTH_MAX, MATCH_PARTS_MAX, Match, Observe,
};
use mesh_core::traffic::tap::{Facts, has_headers, matches};

use crate::api::decode;

/// `io.linkerd.proxy.tap.Tap/Observe`, as a proxy reads it and asks it of a request.
pub fn question(input: &[u8]) {
    let Some(observe) = decode::<Observe>(input) else { return };
    assert!(observe.limit > 0, "nothing is asked for");
    assert!(observe.headers.len() <= HEADER_MATCHES_MAX, "headers without end");
    let (depth, parts) = extent(&observe.matches);
    assert!(depth <= MATCH_DEPTH_MAX && parts <= MATCH_PARTS_MAX, "{depth} deep, {parts} parts");
    let labels = [("pod", "web-1"), ("route", "list")].into_iter().collect::<Labels>();
    let headers = HeaderMap::new();
    let end = |port| Some(SocketAddr::from(([10, 0, 0, 1], port)));
    let facts = Facts {
        source: end(40_000),
        destination: end(8_080),
        destination_labels: &labels,
        route_labels: &labels,
        method: &Method::GET,
        scheme: None,
        authority: "web:80",
        path: "/api",
        headers: &headers,
    };
    let is_one = matches(&observe.matches, &facts);
    let not = Match::Not(Box::new(observe.matches));
    assert_ne!(matches(&not, &facts), is_one, "what is, is not");
    let has_none = observe.headers.is_empty();
    assert_eq!(has_headers(&observe.headers, &headers), has_none, "there are no headers");
}

/// Levels of a match, and its parts.
fn extent(matches: &Match) -> (usize, usize) {
    let below = match matches {
        Match::All(all) | Match::Any(all) => all.iter().map(extent).collect(),
        Match::Not(not) => vec![extent(not)],
        _ => Vec::new(),
    };
    let deepest = below.iter().map(|(depth, _)| *depth).max().unwrap_or(0);
    (deepest + 1, below.iter().map(|(_, parts)| parts).sum::<usize>() + 1)
}

/// `TapEvent`, as a control plane reads it and passes it on to people.
pub fn event(input: &[u8]) {
    let Some(event) = decode::<Event>(input) else { return };
    let written = render::event(&event);
    let text = written.to_string();
    let read: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    assert_eq!(read, written, "it says what was written");
    let moments = ["requestInitEvent", "responseInitEvent", "responseEndEvent"];
    let told = moments.iter().filter(|moment| read.get(**moment).is_some()).count();
    assert_eq!(told, usize::from(event.what.is_some()), "one moment of a request, or none");
    // A server-sent event ends with the line: a peer's text may not end it early.
    assert!(!text.contains(['\n', '\r']), "one line");
}
