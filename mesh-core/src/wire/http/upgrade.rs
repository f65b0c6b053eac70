//! A connection that has left HTTP: after `101 Switching Protocols`, or `2xx` to CONNECT.
//!
//! A client connection puts the raw stream into the response's extensions; the server connection
//! that sends the response on takes it out and joins the two streams.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::BoxIo;

/// The raw stream behind an upgraded response, with the bytes read ahead put back. Clones share
/// it; the first to take it has it.
#[derive(Clone)]
pub struct Upgraded(Arc<Mutex<Option<BoxIo>>>);

impl Upgraded {
    /// Makes `io` available to whoever takes it first.
    pub fn new(io: BoxIo) -> Self {
        Self(Arc::new(Mutex::new(Some(io))))
    }

    /// The stream; `None` where it was taken before.
    pub fn take(&self) -> Option<BoxIo> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl fmt::Debug for Upgraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upgraded")
    }
}
