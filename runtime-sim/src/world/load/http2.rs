//! HTTP/2 with prior knowledge, on one connection or on one for each request.

use http::Version;

use mesh_core::wire::http::client::{self, Http2ClientOptions, Http2Connection};

use super::{Load, Outcome, failure};
use crate::world::record::Failure;
use crate::world::scenario::Connections;

impl Load {
    pub(super) async fn http2(&self, number: u64) -> Outcome {
        let connection = self.http2_connection(number).await?;
        let (mut request, expected) = self.message(number, Version::HTTP_2);
        match connection.send(&mut request).await {
            Ok(response) => self.finish(number, response, expected).await,
            Err(error) => Err(failure::of_http(error.error(), false)),
        }
    }

    /// The connection for a request.
    pub(super) async fn http2_connection(&self, number: u64) -> Result<Http2Connection, Failure> {
        if self.0.plan.connections == Connections::PerRequest {
            return Ok(self.open_http2(number).await?.1);
        }
        let mut shared = self.0.http2.lock().await;
        if let Some((id, connection)) = &*shared
            && !connection.is_closed()
        {
            self.note(number, |request| request.connection = Some(*id));
            return Ok(connection.clone());
        }
        let (id, connection) = self.open_http2(number).await?;
        *shared = Some((id, connection.clone()));
        Ok(connection)
    }

    async fn open_http2(&self, number: u64) -> Result<(u64, Http2Connection), Failure> {
        let (id, io) = self.open(number).await?;
        let opened = client::connect(&self.0.runtime, io, &Http2ClientOptions::default()).await;
        Ok((id, opened.map_err(|error| failure::of_http(&error, false))?))
    }
}
