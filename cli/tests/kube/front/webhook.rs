//! A call of a webhook: where it is, and an AdmissionReview there and back.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh_core::resource::{Kind, ObjectRef};
use runtime_sim::cluster::ApiServer;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a webhook may take that says nothing of it.
const TIMEOUT_SECONDS: u64 = 10;

/// Where a webhook is.
pub struct Target {
    /// Address and port.
    connect: String,
    /// Whom its certificate must be for.
    name: String,
    path: String,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// What a clientConfig leads to: a URL, or a Service and one of its endpoints that are ready.
    pub fn of(server: &ApiServer, config: &Value) -> Result<Self, String> {
        let tls = tls(config["caBundle"].as_str().unwrap_or_default())?;
        let Some(url) = config["url"].as_str() else {
            let service = &config["service"];
            let text = |field: &str| service[field].as_str().unwrap_or_default().to_owned();
            let (namespace, name) = (text("namespace"), text("name"));
            let port = service["port"].as_u64().unwrap_or(443);
            let connect = endpoint(server, &namespace, &name, port)?;
            return Ok(Self {
                connect,
                name: format!("{name}.{namespace}.svc"),
                path: text("path"),
                tls,
            });
        };
        let url = url.parse::<Uri>().map_err(|error| format!("{url}: {error}"))?;
        let name = url.host().unwrap_or_default().to_owned();
        let connect = format!("{name}:{}", url.port_u16().unwrap_or(443));
        Ok(Self { connect, name, path: url.path().to_owned(), tls })
    }
}

/// Where an endpoint of a Service is that is ready, as `ADDRESS:PORT`.
fn endpoint(
    server: &ApiServer,
    namespace: &str,
    name: &str,
    number: u64,
) -> Result<String, String> {
    let of = |kind| ObjectRef { kind, namespace: namespace.to_owned(), name: name.to_owned() };
    let service = server.find(&of(Kind::Service));
    let service = service.ok_or_else(|| format!("service {name:?} not found"))?.to_json();
    let mut ports = service["spec"]["ports"].as_array().into_iter().flatten();
    let port = ports
        .find(|each| each["port"] == number)
        .ok_or_else(|| format!("no service port {number} found for service {name:?}"))?;
    let slices = server.list(Kind::EndpointSlice).into_iter().filter(|slice| {
        let meta = slice.meta();
        let label = meta.labels.as_ref().and_then(|all| all.get("kubernetes.io/service-name"));
        meta.namespace.as_deref() == Some(namespace) && label.is_some_and(|label| label == name)
    });
    let mut addresses = slices.flat_map(|slice| {
        let slice = slice.to_json();
        let list = |field: &str| slice[field].as_array().cloned().unwrap_or_default();
        let port = list("ports").into_iter().find(|each| each["name"] == port["name"]);
        let ready = list("endpoints").into_iter().filter(|one| one["conditions"]["ready"] != false);
        let addresses = ready.filter_map(|one| one["addresses"][0].as_str().map(str::to_owned));
        let number = port.and_then(|port| port["port"].as_u64());
        addresses
            .filter_map(move |address| Some(format!("{address}:{}", number?)))
            .collect::<Vec<_>>()
    });
    addresses.next().ok_or_else(|| format!("no endpoints available for service {name:?}"))
}

fn tls(bundle: &str) -> Result<Arc<ClientConfig>, String> {
    let pem = STANDARD.decode(bundle).map_err(|error| format!("caBundle: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if roots.is_empty() {
        return Err("tls: certificate signed by unknown authority: no caBundle".to_owned());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The response of a webhook's AdmissionReview.
pub async fn call(target: &Target, webhook: &Value, review: &Value) -> Result<Value, String> {
    let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT_SECONDS);
    let answer = tokio::time::timeout(Duration::from_secs(seconds), post(target, review, seconds));
    let (status, body) = answer.await.map_err(|_| "context deadline exceeded".to_owned())??;
    if status != StatusCode::OK {
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)));
    }
    let mut answer: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    let is_review = ["kind", "apiVersion"].iter().all(|field| answer[field] == review[field]);
    if !is_review || answer["response"]["uid"] != review["request"]["uid"] {
        return Err(format!("it is no answer to this review: {answer}"));
    }
    Ok(answer["response"].take())
}

async fn post(
    target: &Target,
    review: &Value,
    seconds: u64,
) -> Result<(StatusCode, Bytes), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", target.connect);
    let tcp = TcpStream::connect(&target.connect).await.map_err(|error| failed(&error))?;
    let name = ServerName::try_from(target.name.clone()).map_err(|error| failed(&error))?;
    let connecting = TlsConnector::from(target.tls.clone()).connect(name, tcp);
    let tls = connecting.await.map_err(|error| failed(&error))?;
    let http = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tls));
    let (mut requests, connection) = http.await.map_err(|error| failed(&error))?;
    // Ends when nobody has requests any more.
    tokio::spawn(connection);
    let url = format!("https://{}{}?timeout={seconds}s", target.name, target.path);
    let request = Request::post(url).header("content-type", "application/json");
    let request = request.header("accept", "application/json");
    let request = request.body(Full::new(Bytes::from(review.to_string())));
    let sent = requests.send_request(request.map_err(|error| failed(&error))?);
    let (head, body) = sent.await.map_err(|error| failed(&error))?.into_parts();
    let body = body.collect().await.map_err(|error| failed(&error))?;
    Ok((head.status, body.to_bytes()))
}
