//! The door to files.

use std::io;
use std::path::{Path, PathBuf};

use super::{BoxFuture, BoxStream};

/// Who may read a written file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privacy {
    /// Everyone (mode 0644).
    Public,
    /// The owner alone (mode 0600): keys and tokens.
    Private,
}

/// Reads, writes and watches files.
pub trait Files: Send + Sync {
    /// The whole content of a file, up to `bytes_max`.
    ///
    /// # Errors
    /// As the system's; `InvalidData` where the file is larger.
    fn read(&self, path: &Path, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>>;

    /// The regular files under a directory and its subdirectories, sorted. Names that start with a
    /// dot are left out, as is what a symbolic link named so hides (a mounted ConfigMap's `..data`).
    ///
    /// # Errors
    /// As the system's.
    fn list(&self, directory: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>>;

    /// Replaces a file's content in one step: readers see the old or the new, never a part. Makes
    /// the directories above it.
    ///
    /// # Errors
    /// As the system's.
    fn write(
        &self,
        path: &Path,
        content: &[u8],
        privacy: Privacy,
    ) -> BoxFuture<'static, io::Result<()>>;

    /// Yields after a file, or anything under a directory, may have changed. May yield when
    /// nothing did, and once for many changes; each change is followed by an item within one second.
    fn watch(&self, path: &Path) -> BoxStream<()>;
}
