//! Measurements, and the budget they are held against.
//!
//! `allocations` counts what each thread allocates, `mesh` runs a whole meshed path in one process,
//! a thread for each proxy, so that what one proxy allocates is known apart from all else. The
//! program `budget` prints figures against gates, `growth` what costs grow with; `peers/` compares
//! processes.

pub mod allocations;
pub mod budget;
pub mod growth;
pub mod mesh;
pub mod processes;
pub mod side_by_side;
pub mod untapped;
