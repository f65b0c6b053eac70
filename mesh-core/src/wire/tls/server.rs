//! The server's side of a mesh TLS handshake.

use tokio_rustls::TlsAcceptor;

use super::read_ahead::ReadAhead;
use super::{Credentials, TlsError, WAITING_BYTES_MAX, identity_of};
use crate::model::identity::Identity;
use crate::runtime::BoxIo;

/// A stream to a client.
pub struct ServerSession {
    /// The plaintext. Flushing sends; shutting down says close_notify.
    pub io: BoxIo,
    /// Who the client proved to be; `None` where it showed no certificate, or one without a name.
    pub client: Option<Identity>,
    /// The protocol agreed on.
    pub alpn: Option<Vec<u8>>,
}

/// Answers a client's handshake with the newest certificate, asking for the client's. Has no
/// timeout: the caller sets its own.
///
/// # Errors
/// [`TlsError`]; a client certificate that does not chain to our anchors is refused.
pub async fn accept(
    io: BoxIo,
    credentials: &Credentials,
    alpn: &[&'static [u8]],
) -> Result<ServerSession, TlsError> {
    let config = credentials.server_config_for(alpn)?;
    let stream = TlsAcceptor::from(config).accept(ReadAhead::new(io)).await;
    let mut stream = stream.map_err(TlsError::from_io)?;
    stream.get_mut().1.set_buffer_limit(Some(WAITING_BYTES_MAX));
    let session = stream.get_ref().1;
    let client =
        session.peer_certificates().and_then(<[_]>::first).and_then(|leaf| identity_of(leaf));
    let alpn = session.alpn_protocol().map(<[u8]>::to_vec);
    Ok(ServerSession { io: Box::new(stream), client, alpn })
}
