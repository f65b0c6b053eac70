//! No cluster: what stands behind the door in a process that needs none, such as the proxy.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use mesh_core::resource::{Kind, Object};
use mesh_core::runtime::cluster::{ClusterError, Lease, TokenReview, WatchEvent};
use mesh_core::runtime::{BoxFuture, BoxStream, Cluster};

/// Has no objects. Every question is answered with [`ClusterError::NotFound`].
#[derive(Clone, Copy, Debug)]
pub struct NoCluster;

impl Cluster for NoCluster {
    fn watch(&self, kind: Kind) -> BoxStream<Result<WatchEvent, ClusterError>> {
        Box::pin(OneError(Some(not_found(&kind.to_string()))))
    }

    fn write_status(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        let error = not_found(&object.object_ref().to_string());
        Box::pin(async move { Err(error) })
    }

    fn lease(&self, name: &str) -> BoxFuture<'static, Result<Option<Lease>, ClusterError>> {
        let error = not_found(&format!("lease {name}"));
        Box::pin(async move { Err(error) })
    }

    fn write_lease(
        &self,
        name: &str,
        _lease: Lease,
    ) -> BoxFuture<'static, Result<Lease, ClusterError>> {
        let error = not_found(&format!("lease {name}"));
        Box::pin(async move { Err(error) })
    }

    fn review_token(
        &self,
        _token: &str,
        _audience: &str,
    ) -> BoxFuture<'static, Result<TokenReview, ClusterError>> {
        Box::pin(async { Err(not_found("token review")) })
    }
}

fn not_found(what: &str) -> ClusterError {
    ClusterError::NotFound(format!("{what}: this process has no cluster"))
}

/// Says once what is wrong, then stays silent: a watch does not end.
struct OneError(Option<ClusterError>);

impl Stream for OneError {
    type Item = Result<WatchEvent, ClusterError>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.0.take() {
            Some(error) => Poll::Ready(Some(Err(error))),
            None => Poll::Pending,
        }
    }
}
