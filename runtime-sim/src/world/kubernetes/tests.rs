//! Facts about the controllers.
