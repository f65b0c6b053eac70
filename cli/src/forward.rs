//! Ports of pods, reached through the API server.

use std::io;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use runtime_real::kube::ApiClient;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A connection to a port of a pod. To the pod it comes from itself.
pub(crate) async fn connect(
    client: &ApiClient,
    namespace: &str,
    pod: &str,
    port: u16,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>, String> {
    let pods: Api<Pod> = Api::namespaced(client.kube(), namespace);
    let reached = |error: &dyn std::fmt::Display| format!("{namespace}/{pod}:{port}: {error}");
    let forwarded = pods.portforward(pod, &[port]).await;
    let mut forwarded = forwarded.map_err(|error| reached(&error))?;
    forwarded.take_stream(port).ok_or_else(|| reached(&"the API server forwards no such port"))
}

/// A port of this host that leads to a port of a pod, as long as this is kept.
pub(crate) struct Forwarded {
    /// Where it is.
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Forwarded {
    /// Listens, and forwards every connection.
    pub(crate) async fn open(
        client: &ApiClient,
        namespace: &str,
        pod: &str,
        port: u16,
    ) -> io::Result<Self> {
        Self::open_at(client, namespace, pod, port, 0).await
    }

    /// The same, at a port of this host that is chosen.
    pub(crate) async fn open_at(
        client: &ApiClient,
        namespace: &str,
        pod: &str,
        port: u16,
        near: u16,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", near)).await?;
        let address = listener.local_addr()?;
        let (client, namespace, pod) = (client.clone(), namespace.to_owned(), pod.to_owned());
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (client, namespace, pod) = (client.clone(), namespace.clone(), pod.clone());
                tokio::spawn(async move {
                    match connect(&client, &namespace, &pod, port).await {
                        // However it ends, both ends see it.
                        Ok(mut far) => drop(copy_bidirectional(&mut near, &mut far).await),
                        Err(error) => eprintln!("weft: {error}"),
                    }
                });
            }
        });
        Ok(Self { address, task })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        self.task.abort();
    }
}
