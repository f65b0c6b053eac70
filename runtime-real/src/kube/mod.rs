//! The door to the cluster's objects, with a Kubernetes API server behind it.
//!
//! `connect` finds credentials and makes connections, `client` asks, `paths` says where, `watch`
//! lists and follows a kind, `decode` reads objects, `write` and `events` write.
//!
//! Law: the door's. Nothing is decided here: what an object means is for the control plane to say.

mod client;
mod connect;
mod decode;
mod events;
mod paths;
mod watch;
mod write;

use std::sync::Arc;

use mesh_core::resource::{Kind, Object};
use mesh_core::runtime::cluster::{
    ClusterError, Event, Lease, Secret, TokenReview, WatchEvent, WebhookKind,
};
use mesh_core::runtime::{BoxFuture, BoxStream, Cluster};

use events::Recorded;
use paths::Versions;
use watch::Watch;

pub use client::{ApiClient, ApiError};
pub use connect::{KubeConfigError, KubeOptions};
pub use watch::Patience;

/// The objects of a Kubernetes cluster. Its watches and requests are tasks of the tokio runtime
/// that they are begun in.
#[derive(Clone, Debug)]
pub struct KubeCluster {
    client: ApiClient,
    /// Where leases are: the control plane's namespace.
    namespace: String,
    patience: Patience,
    versions: Versions,
    recorded: Arc<Recorded>,
}

impl KubeCluster {
    /// A cluster that is asked through `client`, with leases in `namespace`.
    pub fn new(client: ApiClient, namespace: &str) -> Self {
        Self {
            client,
            namespace: namespace.to_owned(),
            patience: Patience::default(),
            versions: Versions::default(),
            recorded: Arc::default(),
        }
    }

    /// Waits as long as this for what does not come.
    #[must_use]
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// What it asks through.
    pub fn client(&self) -> &ApiClient {
        &self.client
    }

    /// The same, to be moved into a request that outlives the borrow.
    fn shared(&self) -> (ApiClient, String) {
        (self.client.clone(), self.namespace.clone())
    }
}

impl Cluster for KubeCluster {
    fn watch(&self, kind: Kind) -> BoxStream<Result<WatchEvent, ClusterError>> {
        let (client, versions) = (self.client.clone(), self.versions.clone());
        Box::pin(Watch::new(client, versions, kind, self.patience))
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let (client, versions) = (self.client.clone(), self.versions.clone());
        Box::pin(async move { write::status(&client, &versions, object).await })
    }

    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        let ((client, namespace), name) = (self.shared(), name.to_owned());
        Box::pin(async move { write::lease(&client, &namespace, &name).await })
    }

    fn write_lease(
        &self,
        name: &str,
        lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let ((client, namespace), name) = (self.shared(), name.to_owned());
        Box::pin(async move { write::write_lease(&client, &namespace, &name, lease).await })
    }

    fn review_token(
        &self,
        token: &str,
        audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        let client = self.client.clone();
        let (token, audience) = (token.to_owned(), audience.to_owned());
        Box::pin(async move { write::review(&client, &token, &audience).await })
    }

    fn secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> BoxFuture<'static, Result<Option<Secret>, ClusterError>> {
        let client = self.client.clone();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Box::pin(async move { write::secret(&client, &namespace, &name).await })
    }

    fn write_secret(
        &self,
        namespace: &str,
        name: &str,
        secret: Secret,
    ) -> BoxFuture<'static, Result<Secret, ClusterError>> {
        let client = self.client.clone();
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        Box::pin(async move { write::write_secret(&client, &namespace, &name, secret).await })
    }

    fn write_ca_bundle(
        &self,
        webhook: WebhookKind,
        name: &str,
        pem: &str,
    ) -> BoxFuture<'static, Result<(), ClusterError>> {
        let (client, name, pem) = (self.client.clone(), name.to_owned(), pem.to_owned());
        Box::pin(async move { write::ca_bundle(&client, webhook, &name, &pem).await })
    }

    fn record_event(&self, event: Event) -> BoxFuture<'static, Result<(), ClusterError>> {
        let (client, recorded) = (self.client.clone(), self.recorded.clone());
        Box::pin(async move { recorded.record(&client, event).await })
    }
}
