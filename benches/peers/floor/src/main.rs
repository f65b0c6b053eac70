//! The least that a pair of hyper and rustls can do: what Weft is held against. One thread.
//!
//! usage: floor c|s DIRECTORY-OF-CERTIFICATE CA.CRT NAME-OF-SERVER     (c: outbound on 4140; s: inbound on 4143)
//!        floor grpc ADDRESS                                            (no proxy: a server of one unary method)
//!
//! Port 8080 is HTTP/1, 8081 gRPC, 8082 bytes. No policy, metrics, discovery, timeouts or balancing.

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::{
    body::Incoming,
    client::conn::{http1 as c1, http2 as c2},
    header, http, server,
    service::service_fn,
    Request, Response, Version,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::{pem::PemObject, CertificateDer, PrivateKeyDer, ServerName};
use std::{
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    os::fd::AsRawFd,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{rustls, TlsAcceptor, TlsConnector};


type Err = Box<dyn std::error::Error + Send + Sync>;

fn orig_dst(s: &TcpStream) -> Option<SocketAddr> {
    let mut a: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    let mut l = std::mem::size_of_val(&a) as libc::socklen_t;
    let r = unsafe { libc::getsockopt(s.as_raw_fd(), libc::SOL_IP, 80, &mut a as *mut _ as *mut _, &mut l) };
    (r == 0).then(|| SocketAddrV4::new(Ipv4Addr::from(u32::from_be(a.sin_addr.s_addr)), u16::from_be(a.sin_port)).into())
}

type Sender = c1::SendRequest<Incoming>;
type Idle = Mutex<Vec<Sender>>;

/// An HTTP/1 connection pool for one address.
struct Pool { addr: SocketAddr, idle: Arc<Idle> }

struct Pooled { inner: Incoming, back: Option<(Sender, Arc<Idle>)> }
impl Pooled {
    fn put(&mut self) {
        if let Some((s, p)) = self.back.take() { p.lock().unwrap().push(s); }
    }
}
impl Body for Pooled {
    type Data = Bytes;
    type Error = hyper::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let r = Pin::new(&mut self.inner).poll_frame(cx);
        if matches!(r, Poll::Ready(None)) || matches!(r, Poll::Ready(Some(Ok(_)))) && self.inner.is_end_stream() { self.put(); }
        r
    }
    fn is_end_stream(&self) -> bool { self.inner.is_end_stream() }
    fn size_hint(&self) -> http_body::SizeHint { self.inner.size_hint() }
}

impl Pool {
    fn new(addr: SocketAddr) -> Arc<Self> { Arc::new(Pool { addr, idle: Default::default() }) }
    async fn send(&self, req: Request<Incoming>) -> Result<Response<Pooled>, Err> {
        let mut s = loop {
            let got = self.idle.lock().unwrap().pop();
            match got {
                Some(mut s) => { if s.ready().await.is_ok() { break s; } }
                None => {
                    let io = TcpStream::connect(self.addr).await?;
                    io.set_nodelay(true)?;
                    let (s, conn) = c1::handshake(TokioIo::new(io)).await?;
                    tokio::spawn(conn);
                    break s;
                }
            }
        };
        let rsp = s.send_request(req).await?;
        Ok(rsp.map(|inner| {
            let mut b = Pooled { inner, back: Some((s, self.idle.clone())) };
            if b.inner.is_end_stream() { b.put(); }
            b
        }))
    }
}

/// One shared HTTP/2 mTLS connection.
struct Mesh { addr: SocketAddr, tls: TlsConnector, name: ServerName<'static>, tx: Mutex<Option<c2::SendRequest<Incoming>>> }
impl Mesh {
    async fn send(&self, mut req: Request<Incoming>) -> Result<Response<Incoming>, Err> {
        let have = self.tx.lock().unwrap().clone().filter(|t| !t.is_closed());
        let mut tx = match have {
            Some(t) => t,
            None => {
                let io = TcpStream::connect(self.addr).await?;
                io.set_nodelay(true)?;
                let io = self.tls.connect(self.name.clone(), io).await?;
                let (t, conn) = c2::Builder::new(TokioExecutor::new()).initial_connection_window_size(1 << 20).handshake(TokioIo::new(io)).await?;
                tokio::spawn(conn);
                *self.tx.lock().unwrap() = Some(t.clone());
                t
            }
        };
        if req.version() != Version::HTTP_2 { to_h2(&mut req)?; }
        tx.ready().await?;
        Ok(tx.send_request(req).await?)
    }
}

fn strip<T>(h: &mut http::HeaderMap<T>) {
    for k in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] { h.remove(k); }
    h.remove("keep-alive");
}

fn to_h2(req: &mut Request<Incoming>) -> Result<(), Err> {
    let host = req.headers_mut().remove(header::HOST).ok_or("no host")?;
    strip(req.headers_mut());
    let mut p = std::mem::take(req.uri_mut()).into_parts();
    p.scheme = Some(http::uri::Scheme::HTTP);
    p.authority = Some(http::uri::Authority::try_from(host.as_bytes())?);
    *req.uri_mut() = http::Uri::from_parts(p)?;
    *req.version_mut() = Version::HTTP_2;
    Ok(())
}

fn to_h1(req: &mut Request<Incoming>) -> Result<(), Err> {
    let p = std::mem::take(req.uri_mut()).into_parts();
    if let Some(a) = p.authority { req.headers_mut().insert(header::HOST, a.as_str().parse()?); }
    let mut q = http::uri::Parts::default();
    q.path_and_query = p.path_and_query;
    *req.uri_mut() = http::Uri::from_parts(q)?;
    *req.version_mut() = Version::HTTP_11;
    Ok(())
}

fn h1_server<S, B>(io: TcpStream, svc: S) -> Pin<Box<dyn std::future::Future<Output = ()> + Send>> where
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Err> + Send + 'static,
    S::Future: Send,
    B: Body<Data = Bytes, Error = hyper::Error> + Send + 'static,
{
    let conn = server::conn::http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(io), svc);
    Box::pin(async move { let _ = conn.await; })
}

const GRPC: u16 = 8081;
const TCP: u16 = 8082;

/// Its ways through mutual TLS, a connection of HTTP/2 for each port.
struct Ways { http: Arc<Mesh>, grpc: Arc<Mesh>, tcp: SocketAddr }

/// HTTP/2 to the application, with prior knowledge.
struct Http2App { addr: SocketAddr, tx: Mutex<Option<c2::SendRequest<Incoming>>> }
impl Http2App {
    async fn send(&self, req: Request<Incoming>) -> Result<Response<Incoming>, Err> {
        let have = self.tx.lock().unwrap().clone().filter(|t| !t.is_closed());
        let mut tx = match have {
            Some(t) => t,
            None => {
                let io = TcpStream::connect(self.addr).await?;
                io.set_nodelay(true)?;
                let (t, conn) = c2::Builder::new(TokioExecutor::new()).initial_connection_window_size(1 << 20).handshake(TokioIo::new(io)).await?;
                tokio::spawn(conn);
                *self.tx.lock().unwrap() = Some(t.clone());
                t
            }
        };
        tx.ready().await?;
        Ok(tx.send_request(req).await?)
    }
}

fn h2_server<I, S, B>(io: I, svc: S) -> Pin<Box<dyn std::future::Future<Output = ()> + Send>> where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    S: hyper::service::Service<Request<Incoming>, Response = Response<B>, Error = Err> + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = hyper::Error> + Send + 'static,
{
    let conn = server::conn::http2::Builder::new(TokioExecutor::new()).initial_connection_window_size(1 << 20).serve_connection(TokioIo::new(io), svc);
    Box::pin(async move { let _ = conn.await; })
}

/// Both ways, 64 kB at a time.
async fn copy<A, B>(mut a: A, mut b: B) where
    A: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    B: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut a, &mut b, 64 << 10, 64 << 10).await;
}

/// What a unary method answers: a message of seven bytes, and that all went well.
struct Answer(u8);
impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;
    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0 += 1;
        Poll::Ready(match self.0 {
            1 => Some(Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x02ok")))),
            2 => Some(Ok(Frame::trailers([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))].into_iter().collect()))),
            _ => None,
        })
    }
}

/// The application behind gRPC's cells.
async fn grpc_server(at: &str) -> Result<(), Err> {
    let l = TcpListener::bind(at).await?;
    loop {
        let (s, _) = l.accept().await?;
        s.set_nodelay(true)?;
        tokio::spawn(h2_server(s, service_fn(|r: Request<Incoming>| async move {
            let mut body = r.into_body();
            while let Some(frame) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await { frame?; }
            Ok::<_, Err>(Response::builder().header("content-type", "application/grpc").body(Answer(0))?)
        })));
    }
}

fn main() {
    let a: Vec<String> = std::env::args().collect();
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    match &*a[1] {
        "grpc" => rt.block_on(grpc_server(&a[2])),
        _ => rt.block_on(run(&a)),
    }.unwrap();
}

async fn run(a: &[String]) -> Result<(), Err> {
    let (role, dir, ca, peer) = (&a[1], &a[2], &a[3], a[4].clone());
    let certs = CertificateDer::pem_file_iter(format!("{dir}/crt.pem"))?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(format!("{dir}/key.pem"))?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let roots = Arc::new(roots);
    rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap();

    tokio::spawn(async {
        let l = TcpListener::bind("0.0.0.0:4191").await.unwrap();
        loop {
            let Ok((mut s, _)) = l.accept().await else { continue };
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt, AsyncWriteExt};
                let _ = s.read(&mut [0; 512]).await;
                let _ = s.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
            });
        }
    });

    if role == "c" {
        let mut c = rustls::ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(certs, key)?;
        c.alpn_protocols = vec![b"h2".to_vec()];
        let (c, name) = (Arc::new(c), ServerName::try_from(peer)?);
        let way = |addr: SocketAddr| Arc::new(Mesh { addr, tls: TlsConnector::from(c.clone()), name: name.clone(), tx: Mutex::new(None) });
        let ways = Arc::new(Ways { http: way("10.99.0.2:8080".parse()?), grpc: way(SocketAddr::from(([10, 99, 0, 2], GRPC))), tcp: SocketAddr::from(([10, 99, 0, 2], TCP)) });
        let plain = Pool::new("10.99.0.2:9080".parse()?);
        let l = TcpListener::bind("0.0.0.0:4140").await?;
        loop {
            let (s, _) = l.accept().await?;
            s.set_nodelay(true)?;
            let dst = orig_dst(&s);
            let is_mesh = dst.map_or(false, |d| d.ip().to_string() == "10.99.1.1");
            let port = dst.map_or(0, |d| d.port());
            if is_mesh && port == TCP {
                let (ways, tls, name) = (ways.clone(), TlsConnector::from(c.clone()), name.clone());
                tokio::spawn(async move {
                    let Ok(io) = TcpStream::connect(ways.tcp).await else { return };
                    let _ = io.set_nodelay(true);
                    let Ok(io) = tls.connect(name, io).await else { return };
                    copy(s, io).await;
                });
            } else if is_mesh && port == GRPC {
                let mesh = ways.grpc.clone();
                tokio::spawn(h2_server(s, service_fn(move |r| { let m = mesh.clone(); async move { m.send(r).await } })));
            } else if is_mesh {
                let mesh = ways.http.clone();
                tokio::spawn(h1_server(s, service_fn(move |r| { let m = mesh.clone(); async move {
                    let mut r = m.send(r).await?;
                    *r.version_mut() = Version::HTTP_11;
                    Ok::<_, Err>(r)
                } })));
            } else {
                let plain = plain.clone();
                tokio::spawn(h1_server(s, service_fn(move |mut r| { let p = plain.clone(); async move { strip(r.headers_mut()); p.send(r).await } })));
            }
        }
    } else {
        let v = rustls::server::WebPkiClientVerifier::builder(roots).build()?;
        let mut c = rustls::ServerConfig::builder().with_client_cert_verifier(v).with_single_cert(certs, key)?;
        c.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(c));
        let app = Pool::new("127.0.0.1:8080".parse()?);
        let grpc = Arc::new(Http2App { addr: ([127, 0, 0, 1], GRPC).into(), tx: Mutex::new(None) });
        let l = TcpListener::bind("0.0.0.0:4143").await?;
        loop {
            let (s, _) = l.accept().await?;
            s.set_nodelay(true)?;
            let (tls, app, grpc) = (tls.clone(), app.clone(), grpc.clone());
            tokio::spawn(async move {
                let port = orig_dst(&s).map_or(0, |d| d.port());
                let mut b = [0u8; 1];
                if s.peek(&mut b).await.unwrap_or(0) == 0 { return; }
                if b[0] != 0x16 {
                    return h1_server(s, service_fn(move |mut r| { let p = app.clone(); async move { strip(r.headers_mut()); p.send(r).await } })).await;
                }
                let Ok(io) = tls.accept(s).await else { return };
                if port == TCP {
                    let Ok(app) = TcpStream::connect(("127.0.0.1", TCP)).await else { return };
                    let _ = app.set_nodelay(true);
                    return copy(io, app).await;
                }
                if port == GRPC {
                    return h2_server(io, service_fn(move |r| { let g = grpc.clone(); async move { g.send(r).await } })).await;
                }
                let svc = service_fn(move |mut r: Request<Incoming>| { let p = app.clone(); async move {
                    to_h1(&mut r)?;
                    let mut r = p.send(r).await?;
                    strip(r.headers_mut());
                    Ok::<_, Err>(r)
                } });
                h2_server(io, svc).await;
            });
        }
    }
}
