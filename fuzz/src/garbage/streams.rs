//! Byte streams that no honest peer sends: random, or honest ones with faults. The same seed gives
//! the same streams.

use crate::mutate::Draw;

/// What honest peers say.
const HONEST: [&[u8]; 14] = [
    b"GET / HTTP/1.1\r\nhost: app\r\naccept: */*\r\n\r\n",
    b"POST /a HTTP/1.1\r\nhost: app\r\ncontent-length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nhost: app\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n4\r\nWiki\r\n0\r\nx: 1\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    b"GET /ws HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi",
    b"CONNECT app:80 HTTP/1.1\r\nhost: app:80\r\n\r\nbytes",
    b"GET http://app/ HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
    // HTTP/2: preface, SETTINGS, HEADERS (GET / with literal fields), PING, WINDOW_UPDATE.
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x09\x01\x05\0\0\0\x01\x82\x84\x86\x41\x03app\0\0\
      \0\0\x08\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x04\x08\0\0\0\0\0\0\0\x0f\xff",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0",
    b"transport.l5d.io/v1\r\n\r\n\0\0\0\x07\x08\x90\x3f\x1a\x02\x12\0",
    b"SSH-2.0-OpenSSH_9.6\r\n",
    b"\0\0\0\x08\x04\xd2\x16\x2f",
    b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
];

/// The segments of one stream. `names` are server names for ClientHellos.
pub fn segments(draw: &mut Draw, names: &[&str]) -> Vec<Vec<u8>> {
    let mut bytes = match draw.below(10) {
        0 | 1 => noise(draw, 2048),
        2 | 3 => client_hello(draw, names),
        _ => draw.of(&HONEST).to_vec(),
    };
    if draw.below(8) > 0 {
        for _ in 0..=draw.below(4) {
            mutate(draw, &mut bytes);
        }
    }
    let mut segments = Vec::new();
    while !bytes.is_empty() && segments.len() < 4 {
        let rest = bytes.split_off(1 + draw.below(bytes.len()));
        segments.push(std::mem::replace(&mut bytes, rest));
    }
    segments.push(bytes);
    segments
}

fn noise(draw: &mut Draw, length_max: usize) -> Vec<u8> {
    (0..draw.below(length_max)).map(|_| draw.number() as u8).collect()
}

fn mutate(draw: &mut Draw, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        bytes.extend(noise(draw, 64));
        return;
    }
    let at = draw.below(bytes.len());
    match draw.below(7) {
        0 => bytes[at] = draw.number() as u8,
        1 => bytes[at] ^= 1 << draw.below(8),
        2 => bytes.truncate(at),
        3 => bytes.extend_from_within(at..),
        4 => drop(bytes.splice(at..at, noise(draw, 64))),
        5 => drop(bytes.splice(at..at, draw.of(&HONEST).iter().copied())),
        _ => drop(bytes.drain(at..(at + 1 + draw.below(8)).min(bytes.len()))),
    }
}

/// A ClientHello of TLS 1.3 with a random server name or one of `names`.
fn client_hello(draw: &mut Draw, names: &[&str]) -> Vec<u8> {
    let name = match names.get(draw.below(2 * names.len().max(1))) {
        Some(name) => name.as_bytes().to_vec(),
        None => format!("{:x}.example", draw.number()).into_bytes(),
    };
    let u16s = |value: usize| u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes();
    let mut extensions = Vec::new();
    let mut extension = |kind: u16, body: &[u8]| {
        extensions.extend_from_slice(&kind.to_be_bytes());
        extensions.extend_from_slice(&u16s(body.len()));
        extensions.extend_from_slice(body);
    };
    let entry = [&[0], &u16s(name.len())[..], &name].concat();
    extension(0, &[&u16s(entry.len())[..], &entry].concat());
    extension(43, &[2, 3, 4]);
    extension(13, &[0, 2, 4, 3]);
    extension(10, &[0, 2, 0, 0x1d]);
    let share: Vec<u8> = (0..32).map(|_| draw.number() as u8).collect();
    extension(51, &[&[0, 36, 0, 0x1d, 0, 32][..], &share].concat());
    let nonce: Vec<u8> = (0..32).map(|_| draw.number() as u8).collect();
    let body =
        [&[3, 3][..], &nonce, &[0, 0, 2, 0x13, 1, 1, 0], &u16s(extensions.len()), &extensions]
            .concat();
    let message = [&[1, 0][..], &u16s(body.len()), &body].concat();
    [&[22, 3, 1][..], &u16s(message.len()), &message].concat()
}
