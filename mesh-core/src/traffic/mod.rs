//! Decisions about traffic, one a file: pure functions and sans-I/O machines.
