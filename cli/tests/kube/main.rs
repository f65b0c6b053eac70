//! The control plane on a Kubernetes API server: the real client over TLS and HTTP on loopback,
//! against the simulator's API server behind a front.

mod admission;
mod contract;
mod controller;
mod credentials;
mod front;
mod keys;
mod process;
mod source;
mod watching;
mod writes;
