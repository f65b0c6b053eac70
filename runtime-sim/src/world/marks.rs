//! Coverage marks of the mesh, as a run sees them: built in with the feature `marks`, else none.

use std::collections::BTreeMap;

pub use mesh_core::mark::KNOWN;

/// Whether marks are built in.
pub const BUILT_IN: bool = cfg!(feature = "marks");

/// What this thread reached since it was last asked, and how often.
pub(super) fn take() -> BTreeMap<&'static str, u64> {
    #[cfg(feature = "marks")]
    return mesh_core::mark::take();
    #[cfg(not(feature = "marks"))]
    BTreeMap::new()
}
