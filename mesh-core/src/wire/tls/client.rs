//! The client's side of a mesh TLS handshake.

use std::sync::Arc;

use rustls_pki_types::ServerName;
use tokio_rustls::TlsConnector;

use super::read_ahead::ReadAhead;
use super::{Credentials, TlsError, WAITING_BYTES_MAX};
use crate::model::identity::ServerTls;
use crate::runtime::BoxIo;

/// A stream to a verified server.
pub struct ClientTls {
    /// The plaintext. Flushing sends; shutting down says close_notify.
    pub io: BoxIo,
    /// Whether the server took the protocol offered.
    pub alpn_agreed: bool,
}

/// Makes `io` a TLS stream to the server that `server` names, showing our certificate where we
/// have one. Has no timeout: the caller sets its own.
///
/// # Errors
/// [`TlsError`]. That the server refuses *our* certificate shows on the first read, not here.
pub async fn connect(
    io: BoxIo,
    credentials: &Credentials,
    server: &ServerTls,
    alpn: Option<&'static [u8]>,
) -> Result<ClientTls, TlsError> {
    let config = credentials.client_config_for(&server.identity, alpn)?;
    let name = ServerName::try_from(server.server_name.as_str())
        .map_err(|error| TlsError::Protocol(format!("server name: {error}")))?
        .to_owned();
    let connector = TlsConnector::from(Arc::new(config));
    let connecting = connector.connect(name, ReadAhead::new(io));
    let mut stream = connecting.await.map_err(TlsError::from_io)?;
    stream.get_mut().1.set_buffer_limit(Some(WAITING_BYTES_MAX));
    let alpn_agreed = alpn.is_some() && stream.get_ref().1.alpn_protocol() == alpn;
    Ok(ClientTls { io: Box::new(stream), alpn_agreed })
}
