//! Texts at addresses: HTTP and HTTPS, as `weft inject https://…` takes them.
//!
//! Law: a server is believed where an authority of the system vouches for it, and nothing is read
//! beyond its bound.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, LOCATION, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const FETCH_TIMEOUT: Duration = Duration::from_secs(30);
const REDIRECTS_MAX: usize = 5;
/// Authorities of the system.
const SYSTEM_ROOTS: [&str; 2] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// A connection.
trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The text at an address, of at most so many bytes.
///
/// # Errors
/// Why there is none.
pub(crate) async fn text(address: &str, bytes_max: usize) -> Result<String, String> {
    let fetched = timeout(FETCH_TIMEOUT, follow(address, bytes_max)).await;
    fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIMEOUT.as_secs())))
}

async fn follow(address: &str, bytes_max: usize) -> Result<String, String> {
    let mut uri: Uri = address.parse().map_err(|error| format!("no address: {error}"))?;
    for _ in 0..=REDIRECTS_MAX {
        let response = get(&uri).await?;
        let status = response.status();
        if status.is_redirection() {
            uri = target(&uri, &response)?;
            continue;
        }
        if status != StatusCode::OK {
            return Err(format!("answered {status}"));
        }
        let body = Limited::new(response.into_body(), bytes_max).collect().await;
        let body = body.map_err(|error| format!("its text cannot be read: {error}"))?.to_bytes();
        return String::from_utf8(body.into()).map_err(|_| "is no UTF-8 text".into());
    }
    Err(format!("leads elsewhere more than {REDIRECTS_MAX} times"))
}

/// Where a redirection leads. From HTTPS it must not lead to HTTP.
fn target(from: &Uri, response: &Response<Incoming>) -> Result<Uri, String> {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to: Uri = location
        .and_then(|location| location.parse().ok())
        .ok_or_else(|| format!("answered {} and does not say where to", response.status()))?;
    let mut parts = to.into_parts();
    parts.scheme = parts.scheme.or_else(|| from.scheme().cloned());
    parts.authority = parts.authority.or_else(|| from.authority().cloned());
    let to = Uri::from_parts(parts).map_err(|error| format!("leads nowhere: {error}"))?;
    match from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        true => Err(format!("leads to {to}, which is not encrypted")),
        false => Ok(to),
    }
}

async fn get(uri: &Uri) -> Result<Response<Incoming>, String> {
    let authority = uri.authority().ok_or("the address names no host")?;
    let stream = connect(uri).await.map_err(|error| format!("{authority}: {error}"))?;
    let broken = |error: hyper::Error| format!("{authority}: {error}");
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(broken)?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("weft/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    sender.send_request(request).await.map_err(broken)
}

async fn connect(uri: &Uri) -> Result<Box<dyn Io>, String> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("give an address with http:// or https://".into()),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    if !is_tls {
        return Ok(Box::new(tcp));
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let tls = TlsConnector::from(Arc::new(tls()?)).connect(name, tcp).await;
    Ok(Box::new(tls.map_err(|error| error.to_string())?))
}

fn tls() -> Result<ClientConfig, String> {
    let file = SYSTEM_ROOTS.iter().find(|path| Path::new(path).exists());
    let file = file.ok_or("this system has no certificate authorities (ca-certificates)")?;
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(file).map_err(|error| format!("{file}: {error}"))?;
    roots.add_parsable_certificates(read.flatten());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers one connection after the other, and says where.
    async fn serving(answers: Vec<&'static str>) -> String {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await.unwrap();
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        format!("http://{address}/web.yaml")
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        runtime_real::current_thread().unwrap().block_on(test)
    }

    #[test]
    fn a_text_is_fetched_where_its_address_leads() {
        run(async {
            let moved = "HTTP/1.1 302 Found\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n";
            let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n\
                           5\r\nkind:\r\n4\r\n Pod\r\n0\r\n\r\n";
            let address = serving(vec![moved, chunked]).await;
            assert_eq!(text(&address, 1024).await.unwrap(), "kind: Pod");
        });
    }

    #[test]
    fn what_cannot_be_fetched_says_why() {
        run(async {
            let missing =
                serving(vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"]).await;
            assert_eq!(text(&missing, 1024).await.unwrap_err(), "answered 404 Not Found");
            let long = serving(vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nkind: Pod"]).await;
            assert!(text(&long, 4).await.unwrap_err().starts_with("its text cannot be read"));
            let circle = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
            let address = serving(vec![circle; 8]).await;
            assert!(text(&address, 4).await.unwrap_err().contains("leads elsewhere"));
        });
    }
}
