//! What a control plane implements, and the gRPC services that carry it to proxies.

use std::num::NonZeroU16;

use super::identity::Certificate;
use super::workload::{ContextToken, Workload};
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::EndpointUpdate;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::{NameAddr, Target};
use crate::runtime::{BoxFuture, BoxStream};

/// Answers proxies' questions. Each answer is a stream: the state now, then every change of it. It
/// should yield at once, for proxies wait 3 s for the first item; it is polled only when the client
/// can take an item and dropped when the client is gone. A stream that ends makes the client ask
/// again.
pub trait Discovery: Send + Sync + 'static {
    /// What `workload`'s proxy does with traffic to `target` (`OutboundPolicies.Watch`).
    ///
    /// # Errors
    /// [`Refusal`]; at `NotFound` the proxy goes by the profile and the address.
    fn client_policy(
        &self,
        workload: &Workload,
        target: &Target,
    ) -> Result<BoxStream<ClientPolicy>, Refusal>;

    /// What `workload`'s proxy does with traffic to its `port` (`InboundServerPolicies.WatchPort`).
    ///
    /// # Errors
    /// [`Refusal`].
    fn server_policy(
        &self,
        workload: &Workload,
        port: NonZeroU16,
    ) -> Result<BoxStream<ServerPolicy>, Refusal>;

    /// The profile of an address or name (`Destination.GetProfile`). Port 80 where the client gave
    /// none.
    ///
    /// # Errors
    /// [`Refusal`]; `InvalidArgument` where there can be no profile.
    fn profile(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<Profile>, Refusal>;

    /// The endpoints of a name (`Destination.Get`). Port 80 where the client gave none.
    ///
    /// # Errors
    /// [`Refusal`]; `InvalidArgument` where this is not a name to be balanced.
    fn endpoints(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<EndpointUpdate>, Refusal>;
}

/// Issues certificates (`Identity.Certify`).
pub trait Certifier: Send + Sync + 'static {
    /// Checks `token` and the request, and signs.
    fn certify(
        &self,
        identity: String,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> BoxFuture<'static, Result<Certificate, Refusal>>;
}

/// Why a question is not answered; the text goes to the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// The question makes no sense.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// Not for this client.
    #[error("denied: {0}")]
    Denied(String),
    /// Not now; ask again.
    #[error("unavailable: {0}")]
    Unavailable(String),
    /// A fault of the server.
    #[error("internal: {0}")]
    Internal(String),
}
