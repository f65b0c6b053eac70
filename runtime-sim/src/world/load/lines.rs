//! Lines over TCP, or over the application's own TLS.

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};

use mesh_core::runtime::BoxIo;
use mesh_core::wire::tls;

use super::{Load, Outcome, failure};
use crate::world::record::{Answer, Failure, FailureClass};
use crate::world::speech::body::filled;
use crate::world::speech::{self, MARKER};

impl Load {
    pub(super) async fn lines(&self, number: u64, greeted: bool) -> Outcome {
        let io = self.connect(number).await?;
        self.talk(number, io, greeted).await
    }

    pub(super) async fn tls_lines(&self, number: u64) -> Outcome {
        let io = self.connect(number).await?;
        let failed = |what| Failure { class: FailureClass::Tls, what };
        let server = crate::world::speech::tls::server(self.0.authority.host()).map_err(failed)?;
        let Some(credentials) = &self.0.credentials else {
            return Err(failed("no credentials".to_owned()));
        };
        let session = tls::client::connect(io, credentials, &server, None).await;
        let session = session.map_err(|error| match &error {
            tls::TlsError::Closed => failure::of_end(false),
            tls::TlsError::Io(error) => failure::of_io(error, false),
            other => failed(other.to_string()),
        })?;
        self.talk(number, session.io, false).await
    }

    async fn talk(&self, number: u64, io: BoxIo, greeted: bool) -> Outcome {
        let (read, mut write) = tokio::io::split(io);
        let mut lines = BufReader::new(read);
        let mut begun = false;
        if greeted {
            let greeting = self.line(number, &mut lines, &mut begun).await?;
            if !greeting.starts_with("hello ") {
                return Err(failure::wrong(format!("greeted with {greeting:?}")));
            }
        }
        let (messages, half_close) = (self.stream_messages(), self.0.plan.stream.half_close);
        for sent in 0..messages {
            if sent > 0 {
                self.pause().await;
            }
            let bytes = self.draw(self.0.plan.request.body);
            let fill = filled("\n", bytes.saturating_sub(MARKER.len() as u64));
            let message = speech::message(number, sent);
            let line = format!("{message} {}", String::from_utf8_lossy(&fill));
            let broke = |error: std::io::Error| failure::of_io(&error, begun);
            write.write_all(line.as_bytes()).await.map_err(broke)?;
            write.flush().await.map_err(broke)?;
            if half_close && sent + 1 == messages {
                write.shutdown().await.map_err(broke)?;
            }
            self.note(number, |request| request.messages_sent += 1);
            let answer = self.line(number, &mut lines, &mut begun).await?;
            // The server's name is before the line, and nothing else.
            if !answer.ends_with(&line) || answer.matches(MARKER).count() != 1 {
                return Err(failure::wrong(format!("answered with {} bytes", answer.len())));
            }
            self.note(number, |request| request.messages_received += 1);
        }
        if !half_close {
            write.shutdown().await.map_err(|error| failure::of_io(&error, true))?;
        }
        let mut rest = String::new();
        match lines.read_line(&mut rest).await.map_err(|error| failure::of_io(&error, true))? {
            0 => Ok(Answer::status(0)),
            _ => Err(failure::wrong(format!("more came: {rest:?}"))),
        }
    }

    /// The next line, whole.
    async fn line(
        &self,
        number: u64,
        lines: &mut BufReader<impl AsyncRead + Unpin>,
        begun: &mut bool,
    ) -> Result<String, Failure> {
        let mut line = String::new();
        let read = lines.read_line(&mut line).await;
        *begun |= !line.is_empty();
        read.map_err(|error| failure::of_io(&error, *begun))?;
        if *begun {
            self.answered(number);
        }
        match line.ends_with('\n') {
            true => Ok(line),
            false => Err(failure::of_end(*begun)),
        }
    }
}
