//! Everything that decides in Weft, for the data plane and the control plane.
//!
//! No socket, clock, thread, environment or file of its own: the outside is reached through
//! [`runtime`]'s doors alone, so that the code that ships is the code that the simulator runs.
//! `docs/ARCHITECTURE.md` states who may use whom, and a test
//! keeps it true.

#[macro_use]
pub mod mark;
#[macro_use]
pub mod planted;

pub mod api;
pub mod control;
pub mod manifest;
pub mod model;
pub mod proxy;
pub mod resource;
pub mod runtime;
pub mod telemetry;
pub mod time;
pub mod traffic;
pub mod wire;
