//! gRPC calls: messages each way, and the status of the trailers.

use http::{Method, Version, header};
use http_body::Frame;

use mesh_core::runtime::TaskGuard;
use mesh_core::wire::http::{Body, Request};

use super::message::CHECKED;
use super::{Load, Outcome, failure};
use crate::world::record::{Answer, Failure, FailureClass};
use crate::world::scenario::Streaming;
use crate::world::speech::body::{channel, filled};
use crate::world::speech::grpc::{self, Messages, SERVICE};
use crate::world::speech::{self, INTERVAL_MICROS, MESSAGES, RESPONSE_BYTES};

impl Load {
    pub(super) async fn grpc(&self, number: u64) -> Outcome {
        let connection = self.http2_connection(number).await?;
        let messages = self.stream_messages();
        // The messages go out while the answer comes; dropped, the call is over.
        let (mut request, _sending) = self.call(number, messages);
        let sent = connection.send(&mut request).await;
        let response = sent.map_err(|error| failure::of_http(error.error(), false))?;
        self.answered(number);
        let status = response.status().as_u16();
        let refused = grpc::status(response.headers());
        if status != 200 {
            let grpc_status = Some(refused.unwrap_or_else(|| grpc::status_of(status)));
            return Ok(Answer { status, grpc_status });
        }
        let mut incoming = Messages::new(response.into_body());
        let (mut received, mut sequence) = (0, self.sequence(number));
        loop {
            let next = incoming.next().await;
            match next.map_err(|error| failure::of_http(&error, true))? {
                Some(message) => {
                    sequence.take(self.0.runtime.now(), speech::said(&message));
                    received += 1;
                }
                None => break,
            }
            self.note(number, |request| request.messages_received += 1);
        }
        let Some(code) = incoming.status().or(refused) else {
            let what = "the call ended without a grpc-status".to_owned();
            return Err(Failure { class: FailureClass::BrokenOff, what });
        };
        let expected = match self.0.plan.stream.kind {
            Streaming::Unary | Streaming::Client => 1,
            Streaming::Server | Streaming::Bidirectional => messages,
        };
        if code == 0 && received != expected {
            return Err(failure::wrong(format!("{received} messages, not {expected}")));
        }
        Ok(Answer { status, grpc_status: Some(code) })
    }

    fn call(&self, number: u64, messages: u64) -> (Request, TaskGuard) {
        let plan = &self.0.plan;
        let method = match plan.stream.kind {
            Streaming::Unary => "Unary",
            Streaming::Server => "Server",
            Streaming::Client => "Client",
            Streaming::Bidirectional => "Bidirectional",
        };
        let path = format!("{SERVICE}{method}");
        let mut request = self.head(Method::POST.as_str(), &path, number, Version::HTTP_2);
        request = request
            .header(header::CONTENT_TYPE, grpc::CONTENT_TYPE)
            .header(header::TE, "trailers")
            .header(MESSAGES, messages)
            .header(INTERVAL_MICROS, plan.stream.interval.0.as_micros().to_string())
            .header(RESPONSE_BYTES, self.draw(plan.request.response));
        if let Some(deadline) = plan.request.deadline {
            request = request.header("grpc-timeout", grpc::timeout(deadline.0));
        }
        let (body, sending) = self.send_messages(number, messages);
        (request.body(body).expect(CHECKED), sending)
    }

    /// A body of messages, as they are sent.
    fn send_messages(&self, number: u64, messages: u64) -> (Body, TaskGuard) {
        let (frames, body) = channel(None);
        let messages = match self.0.plan.stream.kind {
            Streaming::Unary | Streaming::Server => 1,
            Streaming::Client | Streaming::Bidirectional => messages,
        };
        let load = self.clone();
        let sending = self.0.runtime.spawn_guarded("grpc messages", async move {
            for sent in 0..messages {
                if sent > 0 {
                    load.pause().await;
                }
                let bytes = load.draw(load.0.plan.request.body);
                let message = filled(&speech::message(number, sent), bytes);
                if frames.send(Ok(Frame::data(grpc::frame(&message)))).await.is_err() {
                    return;
                }
                load.note(number, |request| request.messages_sent += 1);
            }
        });
        (body, sending)
    }
}
