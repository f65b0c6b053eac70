//! A server of lines: each is answered with the pod's name and the line.

use std::io;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use mesh_core::runtime::BoxIo;

use super::Server;
use super::behaviour::Ending;
use super::speech::{MARKER, MESSAGE_BYTES_MAX};

/// Serves a connection until its client closes it. An error ends it; a reset leaves bytes unread,
/// which is what makes a kernel reset a connection that is closed.
pub(super) async fn serve(server: &Server, io: BoxIo, greets: bool) -> io::Result<()> {
    let (read, mut write) = tokio::io::split(io);
    if greets {
        write.write_all(format!("hello {MARKER}\n").as_bytes()).await?;
        write.flush().await?;
    }
    if server.behaviour.conduct().stops_reading {
        return std::future::pending().await;
    }
    let mut lines = BufReader::new(read.take(MESSAGE_BYTES_MAX as u64));
    let mut line = String::new();
    let (mut answered, mut number) = (0, None);
    let mut sequence = server.sequence(None);
    while lines.read_line(&mut line).await? > 0 {
        let mut words = line.split_whitespace().skip(1).map(|word| word.parse().ok());
        let said = words.next().flatten().zip(words.next().flatten());
        if answered == 0 {
            number = said.map(|(number, _)| number);
            server.executed(number, None);
            sequence = server.sequence(number);
        }
        sequence.take(server.runtime.now(), said);
        server.record.conversed(number, 1, 0);
        let seat = server.behaviour.seat().await;
        let fate = server.behaviour.next();
        server.runtime.sleep(fate.latency).await;
        match fate.ending {
            Ending::Status(200) => {}
            Ending::Status(_) => break,
            Ending::Reset => return Ok(()),
            Ending::Silence => return std::future::pending().await,
        }
        drop(seat);
        write.write_all(format!("{} {line}", server.pod).as_bytes()).await?;
        write.flush().await?;
        server.record.conversed(number, 0, 1);
        answered += 1;
        if fate.close_after.is_some_and(|most| answered >= most) {
            break;
        }
        line.clear();
        lines.get_mut().set_limit(MESSAGE_BYTES_MAX as u64);
    }
    write.shutdown().await
}
