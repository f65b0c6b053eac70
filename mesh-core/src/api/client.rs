//! What the proxy asks of a control plane: streams of policy, profiles and endpoints, and
//! certificates.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use http::Uri;
use linkerd2_proxy_api::destination::destination_client::DestinationClient;
use linkerd2_proxy_api::identity::CertifyRequest;
use linkerd2_proxy_api::identity::identity_client::IdentityClient;
use linkerd2_proxy_api::inbound::inbound_server_policies_client::InboundServerPoliciesClient;
use linkerd2_proxy_api::outbound::outbound_policies_client::OutboundPoliciesClient;
use tonic::{Code, Response, Status, Streaming};

use super::channel::Channel;
use super::codec::{Codec, DecodeError};
use super::identity::Certificate;
pub use super::observe::{ControlEnd, ControlObserver};
use super::request::{encode_destination, encode_port, encode_traffic};
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::EndpointUpdate;
use crate::model::identity::ServerTls;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::{NameAddr, Target};
use crate::runtime::{BoxStream, Runtime};
use crate::wire::tls::Credentials;

/// Largest message taken. Four times what Linkerd's proxy takes: some ten thousand endpoints.
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Where a control plane's service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlAddress {
    /// Name or address, and port.
    pub authority: NameAddr,
    /// Whom to expect there. `None` only for loopback addresses, which are asked in plaintext.
    pub tls: Option<ServerTls>,
}

/// Asks one service of a control plane. Clones share one HTTP/2 connection, which is made when it
/// is first needed and again when it is gone: the name is resolved anew, every address tried in
/// turn from a random one on, and failures are followed by growing waits of up to some 6 s.
///
/// No call has a timeout but those of connecting; the caller sets its own for the first answer.
#[derive(Clone)]
pub struct ControlClient {
    channel: Channel,
    origin: Uri,
}

impl ControlClient {
    /// A client that is not connected yet. `credentials` are not used where `address` has no TLS.
    pub fn new(runtime: &Runtime, address: ControlAddress, credentials: Credentials) -> Self {
        Self {
            origin: origin(&address.authority),
            channel: Channel::new(runtime, address, credentials, None),
        }
    }

    /// [`Self::new`], with somebody who is told how it goes.
    pub fn observed(
        runtime: &Runtime,
        address: ControlAddress,
        credentials: Credentials,
        observer: Arc<dyn ControlObserver>,
    ) -> Self {
        Self {
            origin: origin(&address.authority),
            channel: Channel::new(runtime, address, credentials, Some(observer)),
        }
    }

    /// Where this client asks.
    pub fn address(&self) -> &ControlAddress {
        self.channel.address()
    }

    /// What `workload`'s proxy does with traffic to `target` (`OutboundPolicies.Watch`).
    ///
    /// # Errors
    /// [`ApiError`]; at `NotFound` and `Unimplemented` go by profile and address.
    pub async fn watch_client_policy(
        &self,
        workload: &str,
        target: &Target,
    ) -> Result<ApiStream<ClientPolicy>, ApiError> {
        OutboundPoliciesClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .watch(encode_traffic(workload, target))
            .await
            .map(decoded)
            .map_err(ApiError::from_status)
    }

    /// What `workload`'s proxy does with traffic to its `port`
    /// (`InboundServerPolicies.WatchPort`).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn watch_server_policy(
        &self,
        workload: &str,
        port: u16,
    ) -> Result<ApiStream<ServerPolicy>, ApiError> {
        InboundServerPoliciesClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .watch_port(encode_port(workload, port))
            .await
            .map(decoded)
            .map_err(ApiError::from_status)
    }

    /// The profile of `path`, an address or name with a port (`Destination.GetProfile`).
    ///
    /// # Errors
    /// [`ApiError`]; `InvalidArgument` where there is none.
    pub async fn watch_profile(
        &self,
        path: &str,
        context_token: &str,
    ) -> Result<ApiStream<Profile>, ApiError> {
        DestinationClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .get_profile(encode_destination(path, context_token))
            .await
            .map(decoded)
            .map_err(ApiError::from_status)
    }

    /// The endpoints of `path`, a name with a port (`Destination.Get`). Each item is a change of
    /// those before it in the same stream; the first of a new stream replaces all of an older one.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn watch_endpoints(
        &self,
        path: &str,
        context_token: &str,
    ) -> Result<ApiStream<EndpointUpdate>, ApiError> {
        DestinationClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .get(encode_destination(path, context_token))
            .await
            .map(decoded)
            .map_err(ApiError::from_status)
    }

    /// A certificate for `identity`, whose key signed the request (`Identity.Certify`).
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn certify(
        &self,
        identity: &str,
        token: Vec<u8>,
        csr_der: Vec<u8>,
    ) -> Result<Certificate, ApiError> {
        let request = CertifyRequest {
            identity: identity.to_string(),
            token,
            certificate_signing_request: csr_der,
        };
        let response = IdentityClient::with_origin(self.channel.clone(), self.origin.clone())
            .certify(request)
            .await
            .map_err(ApiError::from_status)?;
        Ok(Certificate::decode(response.into_inner())?)
    }
}

impl fmt::Debug for ControlClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ControlClient").field(self.address()).finish()
    }
}

/// What requests go to. The scheme is Linkerd's, whether or not there is TLS below.
pub(super) fn origin(authority: &NameAddr) -> Uri {
    Uri::builder()
        .scheme("http")
        .authority(authority.to_string())
        .path_and_query("/")
        .build()
        .expect("NameAddr::new admits only what an authority may hold")
}

/// Answers to one question, in order, until the server or the connection ends. Dropping it tells
/// the server.
pub struct ApiStream<T> {
    answers: BoxStream<Result<T, ApiError>>,
}

impl<T> ApiStream<T> {
    /// Answers from elsewhere, for those who test their use of them.
    pub fn from_stream(answers: BoxStream<Result<T, ApiError>>) -> Self {
        Self { answers }
    }

    /// The next answer. `None` where the server ended the stream: ask again. After
    /// [`ApiError::Decode`] more answers may follow; after any other error there are none.
    pub async fn next(&mut self) -> Option<Result<T, ApiError>> {
        poll_fn(|context| self.answers.as_mut().poll_next(context)).await
    }
}

impl<T> fmt::Debug for ApiStream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiStream")
    }
}

fn decoded<T: Codec + 'static>(response: Response<Streaming<T::Proto>>) -> ApiStream<T> {
    ApiStream::from_stream(Box::pin(Answers::<T>(Some(response.into_inner()))))
}

/// tonic's stream, decoded. `None` after its end.
struct Answers<T: Codec>(Option<Streaming<T::Proto>>);

impl<T: Codec> Stream for Answers<T> {
    type Item = Result<T, ApiError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(streaming) = &mut self.0 else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(Pin::new(streaming).poll_next(cx)) {
            Some(Ok(proto)) => Some(T::decode(proto).map_err(ApiError::Decode)),
            Some(Err(status)) => {
                self.0 = None;
                Some(Err(ApiError::from_status(status)))
            }
            None => {
                self.0 = None;
                None
            }
        })
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// The control plane cannot be reached, or broke off: ask again later.
    #[error("control plane unavailable: {0}")]
    Unavailable(String),
    /// It knows no such thing.
    #[error("not found: {0}")]
    NotFound(String),
    /// It holds the question for wrong; asking again changes nothing.
    #[error("invalid argument: {0}")]
    InvalidArgument(String),
    /// It does not offer this: an older control plane.
    #[error("unimplemented: {0}")]
    Unimplemented(String),
    /// It does not answer us.
    #[error("denied: {0}")]
    Denied(String),
    /// Its answer makes no sense; what was known before stays good.
    #[error("invalid answer: {0}")]
    Decode(#[from] DecodeError),
    /// It failed in another way.
    #[error("{code}: {message}")]
    Other {
        /// gRPC status.
        code: String,
        /// Text.
        message: String,
    },
}

impl ApiError {
    pub(super) fn from_status(status: Status) -> Self {
        let message = status.message().to_string();
        match status.code() {
            Code::NotFound => Self::NotFound(message),
            Code::InvalidArgument => Self::InvalidArgument(message),
            Code::Unimplemented => Self::Unimplemented(message),
            Code::PermissionDenied | Code::Unauthenticated => Self::Denied(message),
            Code::Unavailable
            | Code::Aborted
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted => {
                // What our own channel says has said so already.
                let told = message.strip_prefix("control plane unavailable: ");
                Self::Unavailable(told.unwrap_or(&message).to_string())
            }
            code => Self::Other { code: format!("{code:?}"), message },
        }
    }
}
