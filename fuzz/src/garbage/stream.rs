//! What clients send: where to, which bytes in which segments, and how they end.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use mesh_core::model::protocol::HttpVersion;
use mesh_core::runtime::BoxIo;
use mesh_core::wire::transport_header::{self, TransportHeader};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::world::{
    BYTES, CLOSED, CONTROLLER_IP, GREETING, HTTP, MESHED_IP, PLAIN_IP, RUDE, UNMARKED, WEB, at,
};
use crate::mutate::{Draw, mutate};
use crate::seeds;

/// One connection.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Who sends.
    pub from: From,
    /// Where to.
    pub to: SocketAddr,
    /// In what.
    pub inside: Inside,
    /// Each with the pause before it.
    pub segments: Vec<(Duration, Vec<u8>)>,
    /// How it ends.
    pub ending: Ending,
}

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A program beside a proxy, which its connections are brought to.
    Meshed,
    /// Another host.
    Elsewhere,
}

/// What the bytes are sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// Nothing.
    Tcp,
    /// Good mutual TLS.
    Tls {
        /// With the protocol of transport headers, or with none.
        transport_header: bool,
    },
    /// TLS of which a byte on the way is damaged.
    DamagedTls {
        /// Bytes before it.
        at: usize,
    },
}

/// What comes after the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Everything is dropped at once.
    Drop,
    /// The client ends its side; the other end must follow.
    HalfClose,
    /// Nothing, until the client's patience ends.
    Silence,
    /// The other end must begin with this, and then everything is dropped. An honest client.
    Answer(&'static [u8]),
}

/// Where mutations begin.
pub struct Seeds {
    requests: Vec<Vec<u8>>,
    all: Vec<Vec<u8>>,
}

impl Default for Seeds {
    fn default() -> Self {
        let proxied = [
            "CONNECT 10.1.0.3:9000 HTTP/1.1\r\nHost: 10.1.0.3:9000\r\n\r\nhello",
            "GET http://web.garbage.svc.cluster.local/ HTTP/1.1\r\nHost: web\r\n\r\n",
            "GET http://10.1.0.3:8080/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n",
            "PUT /proxy-log-level HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\ninfo",
        ];
        let proxied = proxied.map(|text| text.as_bytes().to_vec()).to_vec();
        let requests = [seeds::requests(), seeds::http2(), proxied].concat();
        let rest = [seeds::client_hellos(), seeds::transport_headers()].concat();
        Self { all: [requests.clone(), rest].concat(), requests }
    }
}

const HONEST: &[u8] = b"GET /honest HTTP/1.1\r\nHost: web.garbage.svc.cluster.local\r\n\r\n";

impl Stream {
    /// A request that must be answered.
    pub fn honest(draw: &mut Draw) -> Self {
        Self {
            from: From::Meshed,
            to: *draw.of(&[at(WEB, 80), at(MESHED_IP, HTTP), at(PLAIN_IP, HTTP)]),
            inside: Inside::Tcp,
            segments: cut(HONEST.to_vec(), false, draw),
            ending: Ending::Answer(b"HTTP/1.1 200"),
        }
    }

    /// Any stream; one in a hundred is honest.
    pub fn draw(seeds: &Seeds, draw: &mut Draw) -> Self {
        if draw.once_in(100) {
            return Self::honest(draw);
        }
        let (from, to, inside) = way(draw);
        let mut bytes = bytes(seeds, draw);
        if inside == (Inside::Tls { transport_header: true }) && !draw.once_in(4) {
            let mut header = header(draw);
            if draw.once_in(4) {
                mutate(&mut header, draw);
            }
            bytes = [header, bytes].concat();
        }
        Self {
            from,
            to,
            inside,
            // One in fifty dawdles.
            segments: cut(bytes, draw.once_in(50), draw),
            ending: match draw.below(10) {
                0..3 => Ending::Drop,
                3..8 => Ending::HalfClose,
                _ => Ending::Silence,
            },
        }
    }
}

fn way(draw: &mut Draw) -> (From, SocketAddr, Inside) {
    let application = *draw.of(&[HTTP, HTTP, BYTES, GREETING, RUDE, CLOSED, UNMARKED]);
    let tcp = |from, to| (from, to, Inside::Tcp);
    match draw.below(100) {
        0..25 => tcp(From::Meshed, at(PLAIN_IP, application)),
        25..33 => tcp(From::Meshed, at(WEB, 80)),
        33..36 => tcp(From::Meshed, at(MESHED_IP, application)),
        36..50 => tcp(From::Meshed, at([127, 0, 0, 1], 4141)),
        50..53 => tcp(From::Meshed, at([127, 0, 0, 1], 4191)),
        53..80 => tcp(From::Elsewhere, at(MESHED_IP, application)),
        80..87 => tcp(From::Elsewhere, at(MESHED_IP, 4143)),
        87..90 => tcp(From::Elsewhere, at(MESHED_IP, 4191)),
        90..95 => {
            let port = *draw.of(&[8086, 8090, 8080, 9996]);
            tcp(From::Elsewhere, at(CONTROLLER_IP, port))
        }
        95 => {
            let inside = Inside::DamagedTls { at: draw.below(3_000) };
            (From::Elsewhere, at(MESHED_IP, 4143), inside)
        }
        96 => {
            let inside = Inside::Tls { transport_header: false };
            (From::Elsewhere, at(MESHED_IP, application), inside)
        }
        _ => {
            let inside = Inside::Tls { transport_header: true };
            (From::Elsewhere, at(MESHED_IP, 4143), inside)
        }
    }
}

fn bytes(seeds: &Seeds, draw: &mut Draw) -> Vec<u8> {
    match draw.below(20) {
        0 => Vec::new(),
        1..4 => draw.bytes(400),
        4 => draw.bytes(40_000),
        // As they are.
        5 => draw.of(&seeds.all).clone(),
        kind => {
            let from = if kind < 16 { &seeds.requests } else { &seeds.all };
            let mut bytes = draw.of(from).clone();
            if draw.once_in(6) {
                bytes.extend(draw.of(&seeds.all).iter());
            }
            mutate(&mut bytes, draw);
            bytes
        }
    }
}

fn header(draw: &mut Draw) -> Vec<u8> {
    let port = *draw.of(&[HTTP, HTTP, BYTES, GREETING, RUDE, CLOSED]);
    let protocols = [None, Some(HttpVersion::Http1), Some(HttpVersion::Http2)];
    transport_header::encode(&TransportHeader {
        port: NonZeroU16::new(port).expect("not zero"),
        name: None,
        protocol: *draw.of(&protocols),
    })
}

/// Into at most five segments, mostly without pauses but where the client `dawdles`.
fn cut(mut bytes: Vec<u8>, dawdles: bool, draw: &mut Draw) -> Vec<(Duration, Vec<u8>)> {
    let mut segments = Vec::new();
    for _ in 0..draw.below(5) {
        let rest = bytes.split_off(draw.below(bytes.len() + 1));
        segments.push(bytes);
        bytes = rest;
    }
    segments.push(bytes);
    let paused = segments.into_iter().map(|segment| {
        let pause_ms = match dawdles {
            true => draw.below(12_000),
            false => *draw.of(&[0, 0, 0, 1, 60]),
        };
        (Duration::from_millis(pause_ms as u64), segment)
    });
    paused.collect()
}

/// A stream of which one byte that is written becomes another.
pub struct Damaged {
    /// The stream.
    pub io: BoxIo,
    /// Bytes before it.
    pub at: usize,
}

impl AsyncRead for Damaged {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Damaged {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut bytes = bytes.to_vec();
        let at = self.at;
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x55;
        }
        let written = Pin::new(&mut self.io).poll_write(cx, &bytes);
        if let Poll::Ready(Ok(count)) = written {
            // Past it, no byte is at this place.
            self.at = at.checked_sub(count).unwrap_or(usize::MAX);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
