//! Sniffing: whatever it finds, every byte of the streams is still to be read, in order.

use std::future::pending;
use std::time::Duration;

use mesh_core::runtime::BoxIo;
use mesh_core::traffic::detect::{HttpDetector, Progress, TlsDetector, TlsFound};
use mesh_core::wire::sniff::{self, Sniffed};
use tokio::io::AsyncReadExt;

use crate::input::{Still, Stream, run, segments};

const SECOND: Duration = Duration::from_secs(1);

/// One stream.
pub fn sniff(input: &[u8]) {
    let (whole, segments) = segments(input);
    match run(sniff::sniff_tls(&Still, Stream::boxed(&segments), SECOND)) {
        Ok((sniffed, io)) => {
            assert_eq!(rest(io), whole);
            let expected = match TlsDetector::new().push(&whole) {
                Progress::Done(found) => found,
                Progress::More => TlsFound::NotTls,
            };
            assert_eq!(sniffed, Sniffed::Found(expected));
        }
        Err(error) => assert!(whole.is_empty(), "{error}"),
    }
    match run(sniff::sniff_http(&Still, Stream::boxed(&segments), SECOND)) {
        Ok((sniffed, io)) => {
            assert_eq!(rest(io), whole);
            let mut detector = HttpDetector::new();
            for segment in segments {
                detector.push(segment);
            }
            assert_eq!(sniffed, Sniffed::Found(detector.end()));
        }
        Err(error) => assert!(whole.is_empty(), "{error}"),
    }
}

/// A client's stream and a server's, which ends the race where it speaks first.
pub fn race(input: &[u8]) {
    let (server, client) = match input {
        [server_bytes, rest @ ..] => rest.split_at(usize::from(*server_bytes).min(rest.len())),
        [] => return,
    };
    let (client_whole, client) = segments(client);
    let (server_whole, server) = segments(server);
    let streams = || (Stream::boxed(&client), Stream::boxed(&server));
    let (near, far) = streams();
    let dialed = Some((far, ()));
    if let Ok(raced) = run(sniff::race_http(&Still, near, dialed, pending(), SECOND)) {
        assert_eq!(rest(raced.client), client_whole);
        let (server, ()) = raced.server.expect("it was open");
        assert_eq!(rest(server), server_whole);
    }
    let (near, far) = streams();
    let dialed = Some((far, ()));
    if let Ok(raced) = run(sniff::race_tls(&Still, near, dialed, pending(), SECOND)) {
        assert_eq!(rest(raced.client), client_whole);
        let (server, ()) = raced.server.expect("it was open");
        assert_eq!(rest(server), server_whole);
    }
}

fn rest(mut io: BoxIo) -> Vec<u8> {
    let mut bytes = Vec::new();
    run(io.read_to_end(&mut bytes)).expect("such streams do not fail");
    bytes
}
