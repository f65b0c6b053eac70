//! The data plane: one straight line per direction, from an accepted connection to a response.
