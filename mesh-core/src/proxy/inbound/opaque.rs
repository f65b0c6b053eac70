//! Connections of bytes on the way in: authorize, dial the application, copy, and end the
//! connection where a change of policy no longer allows it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Inbound, Session, client};
use crate::model::metadata::Metadata;
use crate::proxy::connect::{ConnectError, connect_local};
use crate::proxy::detect::Dialed;
use crate::proxy::discover::inbound::PolicyWatch;
use crate::proxy::metered::meter;
use crate::runtime::BoxIo;
use crate::telemetry::InboundError;
use crate::telemetry::labels::ServerTlsLabel;
use crate::traffic::authorize::{Denied, authorize};
use crate::traffic::denial::DenialId;
use crate::wire::http::DrainWatch;
use crate::wire::opaque::copy_bidirectional;

/// Serves a connection of bytes.
pub(super) async fn serve(inbound: &Arc<Inbound>, session: Session, drain: DrainWatch) {
    let Some(session) = admit(inbound, session) else {
        return;
    };
    match dial(inbound, session.target).await {
        Ok(server) => carry(inbound, session, server, drain).await,
        Err(error) => {
            tracing::info!(target = %session.target, %error, "cannot reach the application");
            inbound.telemetry.inbound.tcp_error(session.target, InboundError::Io);
        }
    }
}

/// Serves a connection of bytes whose application may have been dialed while sniffing.
pub(super) async fn carry_on(
    inbound: &Arc<Inbound>,
    session: Session,
    server: Option<Dialed<()>>,
    drain: DrainWatch,
) {
    let Some((server, ())) = server else {
        return serve(inbound, session, drain).await;
    };
    if let Some(session) = admit(inbound, session) {
        carry(inbound, session, server, drain).await;
    }
}

/// The authorization that allows a connection.
pub(super) fn authorized(
    peer: SocketAddr,
    tls: &ServerTlsLabel,
    policy: &PolicyWatch,
) -> Result<Metadata, Denied> {
    let policy = policy.current();
    authorize(&policy.authorizations, &[], client(peer, tls))
        .map(|authorization| authorization.metadata.clone())
}

/// Opens a connection to the application.
pub(super) async fn dial(inbound: &Inbound, target: SocketAddr) -> Result<BoxIo, ConnectError> {
    let address = inbound.application(target);
    let (config, own) = (&inbound.config.connect, &inbound.own_listeners);
    let io = connect_local(&inbound.runtime, config, own, address).await?;
    Ok(meter(io, &inbound.telemetry.inbound.local_transport()))
}

fn admit(inbound: &Inbound, session: Session) -> Option<Session> {
    let mut labels = session.authorization_labels();
    match authorized(session.peer, &session.tls, &session.policy) {
        Ok(authorization) => {
            labels.authorization = Some(authorization);
            inbound.telemetry.inbound.tcp_authz_allow(&labels).increment();
            Some(session)
        }
        Err(denied) => {
            mark!("connection-denied");
            let Session { peer, target, tls, .. } = &session;
            let reference = DenialId::new(client(*peer, tls), *target, None, denied);
            tracing::info!(client = %peer, %target, %denied, %reference, "denied");
            inbound.telemetry.inbound.tcp_authz_deny(&labels).increment();
            None
        }
    }
}

async fn carry(inbound: &Arc<Inbound>, session: Session, server: BoxIo, drain: DrainWatch) {
    let labels = session.authorization_labels();
    let Session { io, peer, tls, mut policy, target } = session;
    let revoked = async {
        loop {
            policy.changed().await;
            let current = policy.current();
            if let Err(denied) = authorize(&current.authorizations, &[], client(peer, &tls)) {
                return denied;
            }
        }
    };
    tokio::select! {
        biased;
        denied = revoked => {
            mark!("connection-ended-by-policy");
            let reference = DenialId::new(client(peer, &tls), target, None, denied);
            tracing::info!(client = %peer, %target, %denied, %reference, "connection ended by policy");
            inbound.telemetry.inbound.tcp_authz_terminate(&labels).increment();
        }
        () = inbound.credentials.replaced(), if planted!("renewal-drops-connections") => {}
        copied = copy_bidirectional(io, server, Some(&inbound.bulk)) => {
            if let Err(error) = copied {
                tracing::debug!(client = %peer, %target, %error, "connection broke");
            }
        }
    }
    // A drain waits for connections of bytes to end by themselves: the watch is held, not heard.
    drop(drain);
}
