//! Parts of routes that both planes and all protocols share: hosts, and weighted distributions.

pub mod grpc;
pub mod http;

/// Which hosts a route is for (Gateway API `hostnames`), and which SNIs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostMatch {
    /// This name, without regard to case.
    Exact(String),
    /// Names under these labels, last first: `*.example.com` is `["com", "example"]`.
    Suffix(Vec<String>),
}
