//! The doors on tokio and Linux.
