//! The nouns of both planes, plain and `Eq`: what the control plane compiles and the proxy obeys.
//! Knows neither protobuf (`api` encodes and decodes) nor Kubernetes (`control` compiles).

pub mod client_policy;
pub mod endpoint;
pub mod identity;
pub mod labels;
pub mod metadata;
pub mod pattern;
pub mod profile;
pub mod protocol;
pub mod ratio;
pub mod route;
pub mod server_policy;
pub mod span;
pub mod tap;
pub mod target;
