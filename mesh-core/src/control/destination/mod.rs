//! Compiles endpoints and profiles: pure functions of the index, the mesh's configuration and a
//! question.

pub mod endpoints;
pub mod place;
pub mod profile;

#[cfg(test)]
mod tests;
