//! The tests that every runtime passes.
