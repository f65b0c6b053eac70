//! Clients that break the rules of their protocol: bytes on a connection of their own, and what
//! the other side makes of them.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use mesh_core::runtime::BoxIo;

use super::{Load, Outcome, UnderWay, failure};
use crate::lock;
use crate::world::record::{Answer, Failure};
use crate::world::scenario::Misbehaviour;
use crate::world::speech::{self, MARKER, NUMBER, RESPONSE_BYTES};

/// Bytes of answers that are looked at.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

impl Load {
    pub(super) async fn misbehave(&self, number: u64, misbehaviour: Misbehaviour) -> Outcome {
        let mut io = self.connect(number).await?;
        let request = self.text(number, false);
        match misbehaviour {
            Misbehaviour::SlowLoris { every } => {
                self.slowly(number, io, request.as_bytes(), every.0).await
            }
            Misbehaviour::StopReading { requests } => {
                for _ in 0..requests {
                    write(&mut io, request.as_bytes()).await?;
                }
                // The connection is held, and not read, until the client's patience ends.
                std::future::pending().await
            }
            Misbehaviour::HalfOpen {} => {
                write(&mut io, &request.as_bytes()[..request.len() / 2]).await?;
                self.wait_for_answer(number, &mut io).await
            }
            Misbehaviour::Idle {} => self.wait_for_answer(number, &mut io).await,
            Misbehaviour::Pipelining { depth } => self.pipeline(number, io, depth).await,
            Misbehaviour::Garbage { bytes } => {
                let mut garbage = vec![0; bytes as usize];
                lock(&self.0.random).fill(&mut garbage);
                write(&mut io, &garbage).await?;
                self.wait_for_answer(number, &mut io).await
            }
        }
    }

    /// A request of HTTP/1.1 as bytes.
    fn text(&self, number: u64, close: bool) -> String {
        let shape = &self.0.plan.request;
        let body = format!("{MARKER} {number}");
        let mut text = format!("{} {} HTTP/1.1\r\n", shape.method, shape.path);
        let mut field = |name: &str, value: &dyn std::fmt::Display| {
            write!(text, "{name}: {value}\r\n").expect("a String takes everything");
        };
        field("host", &self.0.plan.to);
        field(NUMBER, &number);
        field("content-length", &body.len());
        let response_bytes = self.draw(shape.response);
        if response_bytes > 0 {
            field(RESPONSE_BYTES, &response_bytes);
        }
        for (name, value) in &shape.headers {
            field(name, value);
        }
        if close {
            field("connection", &"close");
        }
        text + "\r\n" + &body
    }

    /// Writes a byte at a time, and meanwhile listens.
    async fn slowly(&self, number: u64, io: BoxIo, bytes: &[u8], every: Duration) -> Outcome {
        let (mut read, mut write) = tokio::io::split(io);
        let writing = async {
            for byte in bytes {
                if write.write_all(&[*byte]).await.is_err() || write.flush().await.is_err() {
                    break;
                }
                self.0.runtime.sleep(every).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            outcome = self.wait_for_answer(number, &mut read) => outcome,
            () = writing => Err(failure::of_end(false)),
        }
    }

    /// What the other side answers: a status, or the end of the connection.
    async fn wait_for_answer(
        &self,
        number: u64,
        io: &mut (impl tokio::io::AsyncRead + Unpin),
    ) -> Outcome {
        let mut answer = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let begun = !answer.is_empty();
            let read = io.read(&mut buffer).await;
            let length = read.map_err(|error| failure::of_io(&error, begun))?;
            if length == 0 {
                return Err(failure::of_end(begun));
            }
            self.answered(number);
            answer.extend_from_slice(&buffer[..length]);
            if let Some(status) = status_of(&answer) {
                return Ok(Answer::status(status));
            }
            // Anything but HTTP/1.1 is an answer without a status.
            if answer.len() >= 12 {
                return Ok(Answer::status(0));
            }
        }
    }

    /// Sends requests at once, each with a number of its own, and then reads their answers.
    async fn pipeline(&self, number: u64, mut io: BoxIo, depth: u32) -> Outcome {
        let others: Vec<_> = (1..depth).map(|_| UnderWay::begin(self)).collect();
        let numbers = std::iter::once(number).chain(others.iter().map(|other| other.number));
        let last = others.last().map_or(number, |other| other.number);
        let text: String = numbers.map(|number| self.text(number, number == last)).collect();
        for other in &others {
            self.note(other.number, |request| request.attempts = 1);
        }
        write(&mut io, text.as_bytes()).await?;
        let mut input = Vec::new();
        let first = self.pipelined(number, &mut io, &mut input).await;
        for other in others {
            let outcome = self.pipelined(other.number, &mut io, &mut input).await;
            other.end(outcome);
        }
        first
    }

    /// The next of the answers; what follows it stays in `input`.
    async fn pipelined(&self, number: u64, io: &mut BoxIo, input: &mut Vec<u8>) -> Outcome {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some((status, length)) = whole_answer(input)? {
                self.answered(number);
                let end = speech::answer(Some(number));
                if status == 200 && !input[..length].ends_with(end.as_bytes()) {
                    return Err(failure::wrong(format!("the answer does not end with {end:?}")));
                }
                input.drain(..length);
                return Ok(Answer::status(status));
            }
            let begun = !input.is_empty();
            let read = io.read(&mut buffer).await;
            let length = read.map_err(|error| failure::of_io(&error, begun))?;
            if length == 0 {
                return Err(failure::of_end(begun));
            }
            input.extend_from_slice(&buffer[..length]);
            if input.len() > ANSWER_BYTES_MAX {
                return Err(failure::wrong("an answer is too long".to_owned()));
            }
        }
    }
}

async fn write(io: &mut BoxIo, bytes: &[u8]) -> Result<(), Failure> {
    let broke = |error: std::io::Error| failure::of_io(&error, false);
    io.write_all(bytes).await.map_err(broke)?;
    io.flush().await.map_err(broke)
}

/// The status of an answer that has begun.
fn status_of(answer: &[u8]) -> Option<u16> {
    let rest = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(rest).ok()?.parse().ok()
}

/// The status and the bytes of an answer with a length, once it is there.
fn whole_answer(input: &[u8]) -> Result<Option<(u16, usize)>, Failure> {
    let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&input[..end]).to_ascii_lowercase();
    let status = status_of(input).ok_or_else(|| failure::wrong(format!("{head:?}")))?;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.and_then(|length| length.trim().parse::<usize>().ok());
    let length = length.ok_or_else(|| failure::wrong("an answer without a length".to_owned()))?;
    let whole = end + 4 + length;
    Ok((input.len() >= whole).then_some((status, whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_taken_one_after_the_other() {
        let wire = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 404 ";
        assert_eq!(whole_answer(wire), Ok(Some((200, 40))));
        assert_eq!(whole_answer(&wire[..39]), Ok(None));
        assert_eq!(status_of(&wire[40..]), Some(404));
    }
}
