//! What runs a client connection until it has ended: reads and writes its frames, sends its pings,
//! and says when it takes no more requests.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use ::h2::client::{Connection, SendRequest};
use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::pulse::{Beat, Pulse};
use super::streams::Streams;
use crate::runtime::BoxIo;
use crate::wire::counted::Counted;

/// The task of a connection.
pub(in super::super) struct Driver {
    pub(in super::super) connection: Connection<Counted<BoxIo>, Bytes>,
    pub(in super::super) pulse: Option<Pulse>,
    pub(in super::super) streams: Arc<Streams>,
    /// What is asked whether requests are taken; none once they are not, or nobody is there to send
    /// any: h2 closes a connection that has neither streams nor senders.
    pub(in super::super) sender: Option<SendRequest<Bytes>>,
    /// Completes when the last user is gone.
    pub(in super::super) users: oneshot::Receiver<Infallible>,
    /// Dropped when requests are taken no longer.
    pub(in super::super) open: Option<watch::Sender<()>>,
}

impl Driver {
    fn take_no_more(&mut self) {
        self.open = None;
        self.sender = None;
        self.streams.close();
    }
}

impl Future for Driver {
    type Output = Result<(), ::h2::Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if this.sender.is_some() && Pin::new(&mut this.users).poll(cx).is_ready() {
            this.sender = None;
        }
        let is_idle = this.streams.is_idle();
        match this.pulse.as_mut().and_then(|pulse| pulse.poll(cx, is_idle)) {
            Some(Beat::Windows(bytes)) => {
                this.connection.set_target_window_size(bytes);
                this.connection.set_initial_window_size(bytes)?;
            }
            Some(Beat::Dead) => {
                this.streams.time_out();
                this.take_no_more();
                return Poll::Ready(Ok(()));
            }
            None => {}
        }
        let ended = Pin::new(&mut this.connection).poll(cx);
        if let Some(pulse) = &mut this.pulse {
            pulse.note_reads();
        }
        if let Some(sender) = &mut this.sender {
            this.streams.allow(sender.current_max_send_streams());
            if matches!(sender.poll_ready(cx), Poll::Ready(Err(_))) {
                this.take_no_more();
            }
        }
        if ended.is_ready() {
            this.take_no_more();
        }
        ended
    }
}
