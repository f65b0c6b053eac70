//! The public API of a controller, asked: at an address, or through the API server at the pod that
//! has the role `viz`.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use mesh_core::control::public_api::query::encode;
use mesh_core::manifest::install::COMPONENT;
use runtime_real::kube::ApiClient;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::ClusterArgs;
use crate::forward::Forwarded;
use crate::{Failure, forward, pods};

/// Where a controller answers people, where nothing else is said.
pub(crate) const ADDRESS: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
/// The port of the role `viz`.
pub(crate) const PORT: u16 = 8084;
/// Holds the token of a controller that wants one.
const TOKEN_VARIABLE: &str = "WEFT_VIZ_TOKEN";

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;
const LINE_BYTES_MAX: usize = 1024 * 1024;
const TOKEN_BYTES: std::ops::RangeInclusive<usize> = 16..=4096;

/// The token in a file.
pub(crate) fn read_token(path: &Path) -> Result<String, Failure> {
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::misconfigured(format!("--viz-token-file {}: {what}", path.display()))
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error))?;
    let token = text.trim();
    let is_plain = token.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;\\".contains(&byte));
    match TOKEN_BYTES.contains(&token.len()) && is_plain {
        true => Ok(token.to_string()),
        false => Err(wrong(&format_args!(
            "holds no token: give {} to {} letters and digits",
            TOKEN_BYTES.start(),
            TOKEN_BYTES.end()
        ))),
    }
}

/// A controller's public API.
#[derive(Clone)]
pub(crate) struct VizClient(Way);

#[derive(Clone)]
enum Way {
    Address(String),
    Pod { client: ApiClient, namespace: String, name: String },
}

/// A controller's answers to people, where this host's browsers reach them as long as this is kept.
pub(crate) struct Near {
    address: String,
    forwarded: Option<Forwarded>,
}

impl Near {
    /// What browsers open: with the token, where one is known.
    pub(crate) fn url(&self) -> String {
        let token = std::env::var(TOKEN_VARIABLE);
        let query = token.map(|token| format!("?token={}", encode(&token))).unwrap_or_default();
        format!("http://{}/{query}", self.address)
    }

    /// Whether it is there only as long as this is kept.
    pub(crate) fn is_forwarded(&self) -> bool {
        self.forwarded.is_some()
    }
}

/// A connection.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

impl VizClient {
    /// The one that the flags say: at `--api-addr`; else a pod of the cluster, where there is a
    /// kubeconfig; else of this host.
    pub(crate) async fn open(cluster: &ClusterArgs) -> Result<Self, Failure> {
        if let Some(address) = &cluster.api_addr {
            return Ok(Self(Way::Address(address.clone())));
        }
        let is_said = cluster.kubeconfig.is_some() || cluster.context.is_some();
        let client = match cluster.client().await {
            Ok(client) => client,
            Err(_) if !is_said => return Ok(Self(Way::Address(ADDRESS.to_string()))),
            Err(failure) => return Err(failure),
        };
        let namespace = cluster.linkerd_namespace.clone();
        let selector = format!("{}%3Dviz", COMPONENT.replace('/', "%2F"));
        let found = pods::labelled(&client, &namespace, &selector).await?;
        let Some(pod) = found.into_iter().next() else {
            return Err(Failure::failed(format!(
                "no pod of linkerd-viz runs in the namespace {namespace}; see weft check, or say \
                 where with --linkerd-namespace or --api-addr"
            )));
        };
        Ok(Self(Way::Pod { client, namespace, name: pod.name }))
    }

    /// What is answered to a path and query.
    pub(crate) async fn ask(&self, path: &str) -> Result<Value, Failure> {
        let asked = timeout(ANSWER_TIMEOUT, self.answer(path)).await;
        asked.unwrap_or_else(|_| {
            let seconds = ANSWER_TIMEOUT.as_secs();
            Err(self.failed(&format_args!("no answer within {seconds} s")))
        })
    }

    /// The stream of events at a path and query.
    pub(crate) async fn events(&self, path: &str) -> Result<Events, Failure> {
        let asked = timeout(ANSWER_TIMEOUT, self.get(path, "text/event-stream")).await;
        let response = asked.unwrap_or_else(|_| Err(self.failed(&"no answer")))?;
        if response.status() != StatusCode::OK {
            self.read(response).await?;
            return Err(self.failed(&"did not answer with events"));
        }
        Ok(Events { body: response.into_body(), unread: Vec::new() })
    }

    /// Whom it asks, for people.
    pub(crate) fn target(&self) -> String {
        match &self.0 {
            Way::Address(address) => address.clone(),
            Way::Pod { namespace, name, .. } => format!("pod {namespace}/{name}"),
        }
    }

    /// Brings it near: to a port of this host where it is a pod's. Where that port is taken, to
    /// another.
    pub(crate) async fn near(&self, port: u16) -> Result<Near, Failure> {
        match &self.0 {
            Way::Address(address) => Ok(Near { address: address.clone(), forwarded: None }),
            Way::Pod { client, namespace, name } => {
                let open = |near| Forwarded::open_at(client, namespace, name, PORT, near);
                let forwarded = match open(port).await {
                    Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                        eprintln!("weft: port {port} is taken; another is used");
                        open(0).await
                    }
                    forwarded => forwarded,
                };
                let forwarded = forwarded.map_err(Failure::failed)?;
                let address = forwarded.address.to_string();
                Ok(Near { address, forwarded: Some(forwarded) })
            }
        }
    }

    async fn answer(&self, path: &str) -> Result<Value, Failure> {
        let response = self.get(path, "application/json").await?;
        self.read(response).await
    }

    async fn get(&self, path: &str, accept: &str) -> Result<Response<Incoming>, Failure> {
        let io = self.connect().await?;
        let broken = |error: hyper::Error| self.failed(&error);
        let shaken = hyper::client::conn::http1::handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = shaken.map_err(broken)?;
        tokio::spawn(connection);
        let mut request = Request::get(path).header(HOST, "localhost").header(ACCEPT, accept);
        if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| self.failed(&error))?;
        sender.send_request(request).await.map_err(broken)
    }

    async fn connect(&self) -> Result<Box<dyn Io>, Failure> {
        match &self.0 {
            Way::Address(address) => match TcpStream::connect(address).await {
                Ok(stream) => Ok(Box::new(stream)),
                Err(error) => Err(self.failed(&format_args!(
                    "{error}; is a controller running? Say where with --api-addr HOST:PORT"
                ))),
            },
            Way::Pod { client, namespace, name } => {
                let connected = forward::connect(client, namespace, name, PORT).await;
                Ok(Box::new(connected.map_err(Failure::failed)?))
            }
        }
    }

    async fn read(&self, response: Response<Incoming>) -> Result<Value, Failure> {
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| self.failed(&error))?.to_bytes();
        let value: Option<Value> = serde_json::from_slice(&body).ok();
        match (status, value) {
            (StatusCode::OK, Some(value)) => Ok(value),
            (status, Some(value)) if value["error"]["message"].is_string() => {
                let text = |field: &str| value["error"][field].as_str().unwrap_or_default().to_owned();
                let said = format!("{}; {}", text("message"), text("remedy"));
                match status.is_client_error() {
                    true => Err(Failure::misconfigured(said)),
                    false => Err(self.failed(&said)),
                }
            }
            (status, _) => Err(self.failed(&format_args!(
                "answered {status} as nothing of the mesh does; is it a controller with the role viz?"
            ))),
        }
    }

    fn failed(&self, what: &dyn std::fmt::Display) -> Failure {
        Failure::failed(format!("{}: {what}", self.target()))
    }
}

/// A stream of server-sent events.
pub(crate) struct Events {
    body: Incoming,
    unread: Vec<u8>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// What it is; empty for a message.
    pub(crate) name: String,
    pub(crate) data: String,
}

impl Events {
    /// The next event; none at the end.
    pub(crate) async fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<_> = self.unread.drain(..end + 2).collect();
                if let Some(event) = read_event(&String::from_utf8_lossy(&block)) {
                    return Ok(Some(event));
                }
                continue;
            }
            if self.unread.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("an event is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    let frame = frame.map_err(io::Error::other)?;
                    self.unread.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                }
            }
        }
    }
}

/// An event of its lines; none of comments alone.
fn read_event(block: &str) -> Option<Event> {
    let fields = |name: &'static str| {
        let of_name =
            move |line: &str| Some(line.strip_prefix(name)?.strip_prefix(": ")?.to_owned());
        block.lines().filter_map(of_name)
    };
    let data: Vec<String> = fields("data").collect();
    let name = fields("event").next().unwrap_or_default();
    (!data.is_empty()).then(|| Event { name, data: data.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_from_their_lines() {
        let event = |name: &str, data: &str| Some(Event { name: name.into(), data: data.into() });
        assert_eq!(read_event("data: {}\n\n"), event("", "{}"));
        assert_eq!(read_event("event: rows\ndata: a\ndata: b\n\n"), event("rows", "a\nb"));
        assert_eq!(read_event(":\n\n"), None);
    }

    #[test]
    fn a_token_is_one_word_of_some_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        for (text, is_good) in [
            ("0123456789abcdef\n", true),
            ("short", false),
            ("0123456789 abcdef", false),
            ("", false),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(read_token(&path).is_ok(), is_good, "{text:?}");
        }
        assert!(read_token(&directory.path().join("none")).is_err());
    }
}
