//! What a control plane implements, and the gRPC services that carry it to proxies.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use linkerd2_proxy_api::destination::GetDestination;
use linkerd2_proxy_api::destination::destination_server::{self, DestinationServer};
use linkerd2_proxy_api::identity::identity_server::{self, IdentityServer};
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse};
use linkerd2_proxy_api::inbound::inbound_server_policies_server::{
    self, InboundServerPoliciesServer,
};
use linkerd2_proxy_api::inbound::{PortSpec, Server};
use linkerd2_proxy_api::outbound::outbound_policies_server::{self, OutboundPoliciesServer};
use linkerd2_proxy_api::outbound::{OutboundPolicy, TrafficSpec};
use tonic::{Request, Response, Status};
use tower_service::Service as _;

use super::channel::to_wire;
use super::codec::{Codec, DecodeError};
use super::identity::{Certificate, CertificateQuestion};
use super::request::{DestinationQuestion, PortQuestion, TrafficQuestion};
use super::workload::{ContextToken, Workload};
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::EndpointUpdate;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::{NameAddr, Target};
use crate::runtime::{BoxFuture, BoxStream};
use crate::wire::http as wire;

/// Largest question taken: a certificate signing request and a token fit many times.
const QUESTION_BYTES_MAX: usize = 64 * 1024;

/// Endpoints in one message. Linkerd's proxies take 4 MiB, and an endpoint is 1 KiB at most.
const ENDPOINTS_PER_MESSAGE: usize = 2_000;

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

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotFound(reason) => Self::not_found(reason),
            Refusal::InvalidArgument(reason) => Self::invalid_argument(reason),
            Refusal::Denied(reason) => Self::permission_denied(reason),
            Refusal::Unavailable(reason) => Self::unavailable(reason),
            Refusal::Internal(reason) => Self::internal(reason),
        }
    }
}

/// All services of a control plane, told apart by path. Serve it over HTTP/2. What `certifier`
/// would answer is unimplemented without one.
pub fn grpc_service(
    discovery: Arc<dyn Discovery>,
    certifier: Option<Arc<dyn Certifier>>,
) -> Arc<dyn wire::Service> {
    Arc::new(Services { discovery: Some(discovery), certifier })
}

/// The identity service alone.
pub fn identity_service(certifier: Arc<dyn Certifier>) -> Arc<dyn wire::Service> {
    Arc::new(Services { discovery: None, certifier: Some(certifier) })
}

struct Services {
    discovery: Option<Arc<dyn Discovery>>,
    certifier: Option<Arc<dyn Certifier>>,
}

impl wire::Service for Services {
    fn call(&self, request: wire::Request) -> BoxFuture<'static, wire::Response> {
        let name = request.uri().path().split('/').nth(1).unwrap_or_default();
        let discovery = || self.discovery.clone().map(Answerer).map(Arc::new);
        let certifier = || self.certifier.clone().map(Issuer);
        match name {
            destination_server::SERVICE_NAME => match discovery() {
                Some(answerer) => answer(
                    DestinationServer::from_arc(answerer)
                        .max_decoding_message_size(QUESTION_BYTES_MAX)
                        .call(request),
                ),
                None => unimplemented(),
            },
            outbound_policies_server::SERVICE_NAME => match discovery() {
                Some(answerer) => answer(
                    OutboundPoliciesServer::from_arc(answerer)
                        .max_decoding_message_size(QUESTION_BYTES_MAX)
                        .call(request),
                ),
                None => unimplemented(),
            },
            inbound_server_policies_server::SERVICE_NAME => match discovery() {
                Some(answerer) => answer(
                    InboundServerPoliciesServer::from_arc(answerer)
                        .max_decoding_message_size(QUESTION_BYTES_MAX)
                        .call(request),
                ),
                None => unimplemented(),
            },
            identity_server::SERVICE_NAME => match certifier() {
                Some(issuer) => answer(
                    IdentityServer::new(issuer)
                        .max_decoding_message_size(QUESTION_BYTES_MAX)
                        .call(request),
                ),
                None => unimplemented(),
            },
            _ => unimplemented(),
        }
    }
}

type TonicResponse = ::http::Response<tonic::body::Body>;

fn answer(
    response: impl Future<Output = Result<TonicResponse, std::convert::Infallible>> + Send + 'static,
) -> BoxFuture<'static, wire::Response> {
    Box::pin(async move {
        let Ok(response) = response.await;
        response.map(to_wire)
    })
}

fn unimplemented() -> BoxFuture<'static, wire::Response> {
    let status = Status::unimplemented("no such service here");
    Box::pin(async move { status.into_http::<tonic::body::Body>().map(to_wire) })
}

/// [`Discovery`] as the generated servers want it.
struct Answerer(Arc<dyn Discovery>);

#[tonic::async_trait]
impl destination_server::Destination for Answerer {
    type GetStream = Messages<EndpointUpdate>;
    type GetProfileStream = Messages<Profile>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let DestinationQuestion { path, context } = decode(request)?;
        let updates = self.0.endpoints(&path, &context)?;
        Ok(Response::new(Messages::new(Box::pin(Split::new(updates)))))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let DestinationQuestion { path, context } = decode(request)?;
        let profiles = self.0.profile(&path, &context)?;
        Ok(Response::new(Messages::new(profiles)))
    }
}

#[tonic::async_trait]
impl outbound_policies_server::OutboundPolicies for Answerer {
    type WatchStream = Messages<ClientPolicy>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        first(self.watch(request).await?.into_inner()).await
    }

    async fn watch(
        &self,
        request: Request<TrafficSpec>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let TrafficQuestion { workload, target } = decode(request)?;
        let policies = self.0.client_policy(&workload, &target)?;
        Ok(Response::new(Messages::new(policies)))
    }
}

#[tonic::async_trait]
impl inbound_server_policies_server::InboundServerPolicies for Answerer {
    type WatchPortStream = Messages<ServerPolicy>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        first(self.watch_port(request).await?.into_inner()).await
    }

    async fn watch_port(
        &self,
        request: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        let PortQuestion { workload, port } = decode(request)?;
        let policies = self.0.server_policy(&workload, port)?;
        Ok(Response::new(Messages::new(policies)))
    }
}

/// [`Certifier`] as the generated server wants it.
struct Issuer(Arc<dyn Certifier>);

#[tonic::async_trait]
impl identity_server::Identity for Issuer {
    async fn certify(
        &self,
        request: Request<CertifyRequest>,
    ) -> Result<Response<CertifyResponse>, Status> {
        let CertificateQuestion { identity, token, csr_der } = decode(request)?;
        let certified = self.0.certify(identity, token, csr_der);
        Ok(Response::new(certified.await?.encode()))
    }
}

fn decode<T: Codec>(question: Request<T::Proto>) -> Result<T, Status> {
    let nonsense = |error: DecodeError| Status::invalid_argument(error.to_string());
    T::decode(question.into_inner()).map_err(nonsense)
}

/// A stream of answers as messages.
struct Messages<T>(BoxStream<T>);

impl<T: Codec> Messages<T> {
    fn new(answers: BoxStream<T>) -> Self {
        Self(answers)
    }
}

impl<T: Codec> Stream for Messages<T> {
    type Item = Result<T::Proto, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = ready!(self.0.as_mut().poll_next(cx));
        Poll::Ready(answer.map(|answer| Ok(answer.encode())))
    }
}

/// The state now, for those who do not watch.
async fn first<T: Codec>(mut messages: Messages<T>) -> Result<Response<T::Proto>, Status> {
    match poll_fn(|cx| Pin::new(&mut messages).poll_next(cx)).await {
        Some(message) => message.map(Response::new),
        None => Err(Status::unavailable("ended before there was an answer")),
    }
}

/// Breaks up additions that would be too large a message. Additions add up, so nothing changes.
struct Split {
    updates: BoxStream<EndpointUpdate>,
    /// The rest of a large addition.
    rest: VecDeque<EndpointUpdate>,
}

impl Split {
    fn new(updates: BoxStream<EndpointUpdate>) -> Self {
        Self { updates, rest: VecDeque::new() }
    }
}

impl Stream for Split {
    type Item = EndpointUpdate;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(update) = self.rest.pop_front() {
            return Poll::Ready(Some(update));
        }
        match ready!(self.updates.as_mut().poll_next(cx)) {
            Some(EndpointUpdate::Add { endpoints, labels })
                if endpoints.len() > ENDPOINTS_PER_MESSAGE =>
            {
                let part = |endpoints: &[_]| EndpointUpdate::Add {
                    endpoints: endpoints.to_vec(),
                    labels: labels.clone(),
                };
                self.rest = endpoints.chunks(ENDPOINTS_PER_MESSAGE).map(part).collect();
                Poll::Ready(self.rest.pop_front())
            }
            update => Poll::Ready(update),
        }
    }
}
