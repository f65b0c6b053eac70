//! `check`: what the control plane found out of itself and of the mesh. The console shows the same.

use serde::{Deserialize, Serialize};

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRow {
    /// What was looked at.
    pub title: String,
    /// How it is.
    pub state: CheckState,
    /// What was found.
    pub text: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckState {
    /// As it should be.
    Good,
    /// It should be seen to.
    Warning,
    /// It does not work.
    Bad,
}
