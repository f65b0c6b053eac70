//! A program's end of a connection, and its listening socket.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use mesh_core::runtime::{BoxFuture, Connection, Listener};

use super::Shared;
use super::host::{HostId, ProcessId};
use super::network::State;
use super::tcp::{ConnectionId, SEGMENT_BYTES_MAX, wake};
use crate::{heap, lock};

pub(super) struct Stream {
    pub(super) shared: Arc<Shared>,
    pub(super) connection: ConnectionId,
    pub(super) end: usize,
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared.state);
        let Some(connection) = state.connections.get_mut(self.connection) else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let failed = connection.ends[self.end].failed;
        let pipe = &mut connection.pipes[1 - self.end];
        let before = pipe.received_bytes;
        let _kernel = heap::kernel();
        while buffer.remaining() > 0 {
            let Some(mut bytes) = pipe.received.pop_front() else {
                break;
            };
            let count = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..count]);
            pipe.received_bytes -= count;
            bytes.advance(count);
            if !bytes.is_empty() {
                pipe.received.push_front(bytes);
            }
        }
        if pipe.received_bytes < before {
            pipe.unread -= before - pipe.received_bytes;
            pipe.closed_since = None;
            wake(&mut pipe.writer);
            return Poll::Ready(Ok(()));
        }
        match failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None if pipe.fin_received || buffer.remaining() == 0 => Poll::Ready(Ok(())),
            None => {
                pipe.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Stream {
    /// How much may be written now, or why not.
    fn poll_room(&self, state: &mut State, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(connection) = state.connections.get_mut(self.connection) else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        let failed = connection.ends[self.end].failed;
        let pipe = &mut connection.pipes[self.end];
        match (failed, pipe.room()) {
            (Some(kind), _) => Poll::Ready(Err(kind.into())),
            (None, _) if pipe.fin_sent => Poll::Ready(Err(ErrorKind::BrokenPipe.into())),
            (None, 0) => {
                pipe.writer = Some(context.waker().clone());
                state.lose_patience_with_reader(self.connection, self.end);
                Poll::Pending
            }
            (None, room) => Poll::Ready(Ok(room.min(SEGMENT_BYTES_MAX))),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.shared.state);
        let mut room = match self.poll_room(&mut state, context) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let _kernel = heap::kernel();
        let length = slices.iter().map(|slice| slice.len()).sum::<usize>().min(room);
        let mut segment = Vec::with_capacity(length);
        for slice in slices {
            let count = slice.len().min(room);
            segment.extend_from_slice(&slice[..count]);
            room -= count;
        }
        if length > 0 {
            state.send_data(self.connection, self.end, Bytes::from(segment));
        }
        Poll::Ready(Ok(length))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = lock(&self.shared.state);
        let Some(connection) = state.connections.get_mut(self.connection) else {
            return Poll::Ready(Err(ErrorKind::NotConnected.into()));
        };
        if connection.ends[self.end].failed.is_none() {
            let _kernel = heap::kernel();
            state.send_fin(self.connection, self.end);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let _kernel = heap::kernel();
        lock(&self.shared.state).release(self.connection, self.end);
    }
}

pub(super) struct Socket {
    pub(super) shared: Arc<Shared>,
    pub(super) host: HostId,
    pub(super) process: ProcessId,
    pub(super) id: u64,
    pub(super) at: SocketAddr,
    pub(super) transparent: bool,
}

impl Listener for Socket {
    fn accept(&self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(poll_fn(|context| {
            let mut state = lock(&self.shared.state);
            let listener = state.hosts[self.host].listeners.get_mut(&self.at);
            let Some(listener) = listener.filter(|listener| listener.id == self.id) else {
                return Poll::Ready(Err(ErrorKind::NotConnected.into()));
            };
            let Some(id) = listener.pending.pop_front() else {
                listener.accepting = Some(context.waker().clone());
                return Poll::Pending;
            };
            let Some(connection) = state.connections.get_mut(id) else {
                return Poll::Ready(Err(ErrorKind::ConnectionAborted.into()));
            };
            connection.ends[1].process = Some(self.process);
            let [peer, local] = [connection.ends[0].address, connection.ends[1].address];
            let original_dst = connection.original_dst.filter(|_| self.transparent);
            let io = Stream { shared: self.shared.clone(), connection: id, end: 1 };
            Poll::Ready(Ok(Connection { io: Box::new(io), peer, local, original_dst }))
        }))
    }

    fn local_addr(&self) -> SocketAddr {
        self.at
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        let listeners = &mut state.hosts[self.host].listeners;
        if listeners.get(&self.at).is_some_and(|listener| listener.id == self.id)
            && let Some(listener) = listeners.remove(&self.at)
        {
            let _kernel = heap::kernel();
            state.reset_pending(listener.pending);
        }
    }
}
