//! HTTP/1.1 on pooled connections, or on one for each request.

use std::sync::Arc;

use http::Version;

use mesh_core::wire::http::{SendError, h1};

use super::{Load, Outcome, failure};
use crate::lock;
use crate::world::scenario::Connections;

impl Load {
    pub(super) async fn http1(&self, number: u64) -> Outcome {
        let (mut request, expected) = self.message(number, Version::HTTP_11);
        loop {
            let pooled = self.idle();
            let fresh = pooled.is_none();
            let (id, connection) = match pooled {
                Some((id, connection)) => {
                    self.note(number, |request| request.connection = Some(id));
                    (id, connection)
                }
                None => {
                    let (id, io) = self.open(number).await?;
                    (id, h1::Connection::new(&self.0.runtime, io))
                }
            };
            let recycle = (self.0.plan.connections == Connections::Pooled).then(|| {
                let load = self.clone();
                let keep = move |connection| lock(&load.0.http1).push((id, connection));
                Arc::new(keep) as Arc<dyn h1::Recycle>
            });
            match connection.send(&mut request, recycle).await {
                Ok(response) => return self.finish(number, response, expected).await,
                // The pooled connection had been closed: nothing was sent.
                Err(SendError::Unsent(_)) if !fresh => {}
                Err(error) => return Err(failure::of_http(error.error(), false)),
            }
        }
    }

    fn idle(&self) -> Option<(u64, h1::Connection)> {
        let mut pool = lock(&self.0.http1);
        let mut idle = std::iter::from_fn(|| pool.pop());
        idle.find_map(|(id, mut idle)| idle.is_alive().then_some((id, idle)))
    }
}
