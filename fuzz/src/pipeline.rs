//! HTTP through whole proxies: whatever a client or a server says, nothing panics, and who ended its
//! side of a connection sees the end of the other.
//!
//! The mesh is that of [`crate::garbage`], one for each thread. It serves one input after another,
//! as a proxy does, so an input may find what others left in pools and caches.

use std::net::SocketAddr;
use std::time::Duration;

use crate::garbage::stream::{Ending, From, Inside, Stream};
use crate::garbage::world::{HTTP, MESHED_IP, PLAIN_IP, SCRIPTED, WEB, World, at};
use crate::input::segments;
use crate::seeds;

thread_local! {
    static WORLD: World = World::default();
}

/// Between segments.
const PAUSE: Duration = Duration::from_millis(1);

/// Before a client ends its side: an HTTP/2 connection that ends takes its requests with it.
const LINGER: Duration = Duration::from_millis(500);

/// Between inputs: longer than the applications' patience, shorter than proxies keep what is idle,
/// so that no input pays for discovery and a handshake.
const REST: Duration = Duration::from_millis(2_200);

/// HTTP/1 of an application into its proxy, through both proxies, to another application.
pub fn outbound(input: &[u8]) {
    send(From::Meshed, at(WEB, 80), &[], input);
}

/// HTTP/1 of a stranger into a server's proxy.
pub fn inbound(input: &[u8]) {
    send(From::Elsewhere, at(MESHED_IP, HTTP), &[], input);
}

/// HTTP/2 frames of a stranger into a server's proxy, after a good preface.
pub fn http2_server(input: &[u8]) {
    send(From::Elsewhere, at(MESHED_IP, HTTP), &seeds::http2_open(), input);
}

/// What a server answers to an HTTP/1 request, into the client's proxy.
pub fn response(input: &[u8]) {
    answer(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n", &[], input);
}

/// HTTP/2 frames that a server answers with, after good settings, into the client's proxy.
pub fn http2_client(input: &[u8]) {
    answer(&seeds::http2_get(), &seeds::http2_settings(), input);
}

fn send(from: From, to: SocketAddr, first: &[u8], input: &[u8]) {
    let (_, segments) = segments(input);
    WORLD.with(|world| exchange(world, from, to, &[&[first], &segments[..]].concat()));
}

fn answer(request: &[u8], first: &[u8], input: &[u8]) {
    let (_, segments) = segments(input);
    WORLD.with(|world| {
        world.answer_with(&[&[first], &segments[..]].concat());
        exchange(world, From::Meshed, at(PLAIN_IP, SCRIPTED), &[request]);
    });
}

fn exchange(world: &World, from: From, to: SocketAddr, segments: &[&[u8]]) {
    let segments = segments.iter().map(|segment| (PAUSE, segment.to_vec()));
    let segments = segments.chain([(LINGER, Vec::new())]).collect();
    let inside = Inside::Tcp;
    world.send(vec![Stream { from, to, inside, segments, ending: Ending::HalfClose }]);
    world.wait(REST);
}
