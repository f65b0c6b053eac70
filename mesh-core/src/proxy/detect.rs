//! Detection with a dialed server. Where the client is silent it may be waiting for a server that
//! speaks first: the server is dialed meanwhile, and its first bytes settle that this is neither
//! TLS nor HTTP. Linkerd waits for its whole timeout (10 s) instead.
//!
//! `wire::sniff` reads and judges; this file says when to dial.

use std::future::Future;
use std::io;
use std::time::Duration;

use crate::model::protocol::HttpVersion;
use crate::runtime::{BoxIo, Runtime};
use crate::traffic::detect::{HttpFound, TlsFound};
use crate::wire::sniff::{self, Sniffed};

/// How long a client may be silent before the server is dialed. Clients of HTTP and TLS speak at
/// once, so that this spares them a connection that would be of no use.
pub const DIAL_AFTER: Duration = Duration::from_millis(50);

/// How long a client may be silent on the way in, where it may yet turn out to be a proxy of the
/// mesh: that must not be answered in the clear. A proxy sends its ClientHello with the connection's
/// first packets; within this time those may be lost twice and arrive all the same.
pub const DIAL_AFTER_UNSECURED: Duration = Duration::from_secs(1);

/// A server dialed while sniffing, with what its dialer knows of it.
pub type Dialed<S> = (BoxIo, S);

/// What was found, and the streams with all of their bytes.
pub struct Detected<T, S> {
    /// The verdict.
    pub found: T,
    /// The client's stream.
    pub client: BoxIo,
    /// The server's, where it was dialed.
    pub server: Option<Dialed<S>>,
}

/// What a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP.
    Http(HttpVersion),
    /// Something else, or its server spoke first.
    NotHttp,
    /// Nothing in time.
    Silent,
}

/// Whether a client speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secured {
    /// TLS or not.
    Found(TlsFound),
    /// Its server spoke first: neither TLS nor HTTP.
    ServerFirst,
    /// Nothing in time.
    Silent,
}

/// Looks for HTTP. `dial` is begun where the client is silent for [`DIAL_AFTER`] and no server was
/// dialed before; none where it may not be, or failed.
///
/// # Errors
/// As either stream's.
pub async fn http<S, F: Future<Output = Option<Dialed<S>>>>(
    runtime: &Runtime,
    client: BoxIo,
    timeout: Duration,
    dialed: Option<Dialed<S>>,
    dial: impl FnOnce() -> F,
) -> io::Result<Detected<Spoken, S>> {
    let dial = after_silence(runtime, DIAL_AFTER, dial);
    let raced = sniff::race_http(&*runtime.clock, client, dialed, dial, timeout).await?;
    Ok(Detected { found: spoken(raced.sniffed), client: raced.client, server: raced.server })
}

/// Looks for TLS. `dial` is as for [`http`], after [`DIAL_AFTER_UNSECURED`].
///
/// # Errors
/// As either stream's.
pub async fn tls<S, F: Future<Output = Option<Dialed<S>>>>(
    runtime: &Runtime,
    client: BoxIo,
    timeout: Duration,
    dial: impl FnOnce() -> F,
) -> io::Result<Detected<Secured, S>> {
    let dial = after_silence(runtime, DIAL_AFTER_UNSECURED, dial);
    let raced = sniff::race_tls(&*runtime.clock, client, None, dial, timeout).await?;
    Ok(Detected { found: secured(raced.sniffed), client: raced.client, server: raced.server })
}

/// Dials after a while. The dial is made then, and on the heap: nearly every client speaks before.
async fn after_silence<F: Future>(
    runtime: &Runtime,
    silence: Duration,
    dial: impl FnOnce() -> F,
) -> F::Output {
    runtime.sleep(silence).await;
    if planted!("server-never-dialed") {
        return std::future::pending().await;
    }
    Box::pin(dial()).await
}

fn spoken(sniffed: Sniffed<HttpFound>) -> Spoken {
    match sniffed {
        Sniffed::Found(HttpFound::Http1) => Spoken::Http(HttpVersion::Http1),
        Sniffed::Found(HttpFound::Http2) => Spoken::Http(HttpVersion::Http2),
        Sniffed::Found(HttpFound::NotHttp) => Spoken::NotHttp,
        Sniffed::ServerFirst => {
            mark!("server-spoke-first");
            Spoken::NotHttp
        }
        Sniffed::TimedOut => {
            mark!("detection-timed-out");
            Spoken::Silent
        }
    }
}

fn secured(sniffed: Sniffed<TlsFound>) -> Secured {
    match sniffed {
        Sniffed::Found(found) => Secured::Found(found),
        Sniffed::ServerFirst => Secured::ServerFirst,
        Sniffed::TimedOut => Secured::Silent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::testing;

    #[test]
    fn a_dial_takes_no_room_until_it_is_begun() {
        let dial = async || {
            let large = std::hint::black_box([0_u8; 8192]);
            std::future::pending::<()>().await;
            std::hint::black_box(&large);
            None::<Dialed<()>>
        };
        let runtime = testing::runtime();
        let (client, _) = tokio::io::duplex(1);
        let detection = http(&runtime, Box::new(client), Duration::from_secs(1), None, dial);
        assert!(size_of_val(&detection) <= 1024, "{} bytes", size_of_val(&detection));
    }
}
