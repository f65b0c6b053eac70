//! WebSockets: an upgrade, then a ping and a text for each message, and a close.

use http::{Version, header};

use mesh_core::runtime::BoxIo;
use mesh_core::wire::http::{Body, Upgraded, h1};

use super::message::CHECKED;
use super::{Load, Outcome, failure};
use crate::lock;
use crate::world::record::{Answer, Failure};
use crate::world::speech;
use crate::world::speech::body::filled;
use crate::world::speech::websocket::{self, Frame, Opcode};

impl Load {
    pub(super) async fn websocket(&self, number: u64) -> Outcome {
        let io = self.connect(number).await?;
        let mut random = [0; 16];
        lock(&self.0.random).fill(&mut random);
        let key = websocket::key(random);
        let mut request = self
            .head("GET", &self.0.plan.request.path, number, Version::HTTP_11)
            .header(header::UPGRADE, "websocket")
            .header(header::CONNECTION, "upgrade")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", &key)
            .body(Body::empty())
            .expect(CHECKED);
        let sent = h1::Connection::new(&self.0.runtime, io).send(&mut request, None).await;
        let mut response = sent.map_err(|error| failure::of_http(error.error(), false))?;
        self.answered(number);
        let status = response.status().as_u16();
        let upgraded = response.extensions_mut().remove::<Upgraded>();
        let Some(io) = upgraded.and_then(|upgraded| upgraded.take()) else {
            return Ok(Answer::status(status));
        };
        let accept = response.headers().get("sec-websocket-accept");
        if accept.is_none_or(|accept| *accept != *websocket::accept(&key)) {
            return Err(failure::wrong(format!("sec-websocket-accept is {accept:?}")));
        }
        self.converse(number, io).await?;
        Ok(Answer::status(status))
    }

    async fn converse(&self, number: u64, mut io: BoxIo) -> Result<(), Failure> {
        for sent in 0..self.stream_messages() {
            if sent > 0 {
                self.pause().await;
            }
            self.exchange_frames(&mut io, Opcode::Ping, Opcode::Pong, b"alive").await?;
            let bytes = self.draw(self.0.plan.request.body);
            let text = filled(&speech::message(number, sent), bytes);
            self.note(number, |request| request.messages_sent += 1);
            self.exchange_frames(&mut io, Opcode::Text, Opcode::Text, &text).await?;
            self.note(number, |request| request.messages_received += 1);
        }
        let normal = 1000_u16.to_be_bytes();
        self.exchange_frames(&mut io, Opcode::Close, Opcode::Close, &normal).await
    }

    /// Sends a frame and expects its payload back in one of another kind.
    async fn exchange_frames(
        &self,
        io: &mut BoxIo,
        opcode: Opcode,
        expected: Opcode,
        payload: &[u8],
    ) -> Result<(), Failure> {
        let mut mask = [0; 4];
        lock(&self.0.random).fill(&mut mask);
        let broke = |error: std::io::Error| failure::of_io(&error, true);
        websocket::write(io, opcode, payload, Some(mask)).await.map_err(broke)?;
        match websocket::read(io).await.map_err(broke)? {
            None => Err(failure::of_end(true)),
            Some(Frame { opcode, payload: echo }) if opcode == expected && echo == payload => {
                Ok(())
            }
            Some(other) => Err(failure::wrong(format!("{:?} for {opcode:?}", other.opcode))),
        }
    }
}
