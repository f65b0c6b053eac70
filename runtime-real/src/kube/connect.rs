//! How an API server is reached: whose credentials, and a connection to it that is noticed to be
//! dead.
//!
//! Law: nothing is sent to a server that the configuration's authority does not vouch for.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kube::Config;
use kube::client::ConfigExt as _;
use kube::config::{AuthInfo, KubeConfigOptions};
use mesh_core::runtime::{BoxFuture, BoxIo};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::{BoxError, ServiceBuilder};

/// How long a connection may take to be made, its TLS handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A silent connection is probed after this, and given up where nothing answers for [`DEAD_AFTER`].
const PROBE_AFTER: Duration = Duration::from_secs(15);
const DEAD_AFTER: Duration = Duration::from_secs(30);
/// Connections that nobody uses are closed after this, before load balancers forget them.
const IDLE_MAX: Duration = Duration::from_secs(60);
/// Authorities of the system, where a configuration names none.
const SYSTEM_ROOTS: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
const IN_CLUSTER_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// Which API server, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeOptions {
    /// A kubeconfig; `$KUBECONFIG` or `~/.kube/config` where nothing is said.
    pub kubeconfig: Option<PathBuf>,
    /// A context of it; its current one where nothing is said.
    pub context: Option<String>,
    /// The user to ask as, where it is not the credentials' own.
    pub impersonate: Option<String>,
    /// The groups to ask as a member of.
    pub impersonate_groups: Vec<String>,
}

/// Why an API server cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum KubeConfigError {
    /// There are no credentials, or they cannot be read.
    #[error("no Kubernetes credentials: {0}; give --kubeconfig, or run in a pod")]
    Credentials(String),
    /// They ask for what is not supported.
    #[error("kubeconfig: {0}")]
    Unsupported(&'static str),
}

/// Finds out which server and as whom: in a pod its service account, unless a kubeconfig or context
/// is asked for; else the kubeconfig.
pub(super) async fn configuration(options: &KubeOptions) -> Result<Config, KubeConfigError> {
    let mut config = own_configuration(options).await?;
    if let Some(user) = &options.impersonate {
        config.auth_info.impersonate = Some(user.clone());
    }
    if !options.impersonate_groups.is_empty() {
        config.auth_info.impersonate_groups = Some(options.impersonate_groups.clone());
    }
    Ok(config)
}

async fn own_configuration(options: &KubeOptions) -> Result<Config, KubeConfigError> {
    let KubeOptions { kubeconfig, context, .. } = options;
    let is_in_cluster = std::env::var_os(IN_CLUSTER_HOST).is_some();
    if is_in_cluster && kubeconfig.is_none() && context.is_none() {
        return Config::incluster().map_err(|error| KubeConfigError::Credentials(chain(&error)));
    }
    let of = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
    let config = match kubeconfig {
        Some(path) => match kube::config::Kubeconfig::read_from(path) {
            Ok(read) => Config::from_custom_kubeconfig(read, &of).await,
            Err(error) => Err(error),
        },
        None => Config::from_kubeconfig(&of).await,
    };
    config.map_err(|error| KubeConfigError::Credentials(chain(&error)))
}

/// A client of the configured server. Connects when it is first used.
pub(super) fn client(config: Config) -> Result<kube::Client, KubeConfigError> {
    let credentials = |error: String| KubeConfigError::Credentials(error);
    if config.accept_invalid_certs {
        return Err(KubeConfigError::Unsupported(
            "insecure-skip-tls-verify is not supported; give certificate-authority",
        ));
    }
    let auth = config.auth_layer().map_err(|error| credentials(chain(&error)))?;
    if auth.is_none() && config.auth_info.exec.is_some() {
        return Err(KubeConfigError::Unsupported(
            "a credential plugin that gives client certificates is not supported; use one that \
             gives tokens",
        ));
    }
    if let Some(proxy) = &config.proxy_url {
        tracing::warn!(%proxy, "the API server is asked directly, not through this HTTP proxy");
    }
    let connector = Connector::new(&config).map_err(credentials)?;
    let transport = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_MAX)
        .pool_timer(hyper_util::rt::TokioTimer::new())
        .build(connector);
    let headers = config.extra_headers_layer().map_err(|error| credentials(chain(&error)))?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(auth)
        .layer(headers)
        .map_err(BoxError::from)
        .service(transport);
    Ok(kube::Client::new(service, config.default_namespace.clone()))
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Makes connections: TCP that notices dead peers, and TLS 1.3 over it where the server has https.
#[derive(Clone)]
struct Connector(Arc<Inner>);

struct Inner {
    is_tls: bool,
    server_name: Option<String>,
    roots: Roots,
    auth: AuthInfo,
}

/// Whom the server's certificate is checked against. Files are read for each connection, so that
/// a new authority needs no restart.
enum Roots {
    Given(Vec<Vec<u8>>),
    File(PathBuf),
}

impl Connector {
    fn new(config: &Config) -> Result<Self, String> {
        let is_tls = config.cluster_url.scheme_str() == Some("https");
        let roots = match (&config.root_cert_file, &config.root_cert) {
            (Some(path), _) => Roots::File(path.clone()),
            (None, Some(given)) => Roots::Given(given.clone()),
            (None, None) => {
                let system = SYSTEM_ROOTS.iter().map(Path::new).find(|path| path.exists());
                let system = system.unwrap_or(Path::new(SYSTEM_ROOTS[0]));
                Roots::File(system.to_owned())
            }
        };
        let server_name = config.tls_server_name.clone();
        let auth = config.auth_info.clone();
        let inner = Inner { is_tls, server_name, roots, auth };
        if is_tls {
            inner.tls().map_err(|error| error.to_string())?;
        }
        Ok(Self(Arc::new(inner)))
    }
}

impl Inner {
    async fn connect(&self, uri: &Uri) -> io::Result<BoxIo> {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if self.is_tls { 443 } else { 80 });
        let tcp = TcpStream::connect((host, port)).await?;
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&tcp);
        let probes = TcpKeepalive::new().with_time(PROBE_AFTER).with_interval(PROBE_AFTER / 3);
        socket.set_tcp_keepalive(&probes)?;
        socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
        if !self.is_tls {
            return Ok(Box::new(tcp));
        }
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(self.tls()?)).connect(name, tcp).await?;
        Ok(Box::new(tls))
    }

    fn tls(&self) -> io::Result<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let given = match &self.roots {
            Roots::Given(given) => given.iter().cloned().map(CertificateDer::from).collect(),
            Roots::File(path) => certificates(&std::fs::read(path).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", path.display()))
            })?)?,
        };
        roots.add_parsable_certificates(given);
        if roots.is_empty() {
            return Err(io::Error::other("the cluster's certificate authority has no certificate"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(io::Error::other)?
            .with_root_certificates(roots);
        match self.identity()? {
            Some((chain, key)) => config.with_client_auth_cert(chain, key),
            None => Ok(config.with_no_client_auth()),
        }
        .map_err(io::Error::other)
    }

    /// The client's certificate and key, where the kubeconfig has them, inline or as files.
    fn identity(&self) -> io::Result<Option<Identity>> {
        let AuthInfo { client_certificate_data, client_certificate, client_key, .. } = &self.auth;
        let key_data = self.auth.client_key_data.as_ref().map(|data| data.expose_secret());
        let certificate = read(client_certificate_data.as_deref(), client_certificate.as_deref())?;
        let key = read(key_data, client_key.as_deref())?;
        let (Some(certificate), Some(key)) = (certificate, key) else {
            return Ok(None);
        };
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|_| io::Error::other("client-key of the kubeconfig is no key in PEM"))?;
        Ok(Some((certificates(&certificate)?, key)))
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// Base64 inline, or a file.
fn read(data: Option<&str>, path: Option<&str>) -> io::Result<Option<Vec<u8>>> {
    match (data, path) {
        (Some(data), _) => STANDARD.decode(data).map(Some).map_err(io::Error::other),
        (None, Some(path)) => std::fs::read(path)
            .map(Some)
            .map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}"))),
        (None, None) => Ok(None),
    }
}

fn certificates(pem: &[u8]) -> io::Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(io::Error::other)
}

impl tower::Service<Uri> for Connector {
    type Response = Stream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Stream>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let connected = timeout(CONNECT_TIMEOUT, inner.connect(&uri)).await;
            let late = || io::Error::new(io::ErrorKind::TimedOut, "no connection within 10 s");
            Ok(Stream(TokioIo::new(connected.unwrap_or_else(|_| Err(late()))?)))
        })
    }
}

/// A connection as hyper takes it.
struct Stream(TokioIo<BoxIo>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
