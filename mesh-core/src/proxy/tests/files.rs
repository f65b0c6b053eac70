//! Files in memory that can be changed under whoever watches them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use crate::runtime::files::Privacy;
use crate::runtime::{BoxFuture, BoxStream, Files};

/// Files. Clones share them.
#[derive(Clone, Default)]
pub(super) struct MemoryFiles(Arc<Mutex<Contents>>);

#[derive(Default)]
struct Contents {
    files: BTreeMap<PathBuf, Vec<u8>>,
    watchers: Vec<(PathBuf, mpsc::UnboundedSender<()>)>,
}

impl MemoryFiles {
    /// Gives a file its content, and tells whoever watches it.
    pub(super) fn put(&self, path: &str, content: &str) {
        let mut contents = self.0.lock().unwrap();
        contents.files.insert(path.into(), content.into());
        let watchers = contents.watchers.iter();
        for (_, told) in watchers.filter(|(watched, _)| watched == Path::new(path)) {
            let _ = told.send(());
        }
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path, _bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let found = self.0.lock().unwrap().files.get(path).cloned();
        Box::pin(async move { found.ok_or_else(|| io::ErrorKind::NotFound.into()) })
    }

    fn list(&self, _directory: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        Box::pin(async { Ok(vec![]) })
    }

    fn write(
        &self,
        _path: &Path,
        _content: &[u8],
        _privacy: Privacy,
    ) -> BoxFuture<'static, io::Result<()>> {
        Box::pin(async { Err(io::ErrorKind::PermissionDenied.into()) })
    }

    fn watch(&self, path: &Path) -> BoxStream<()> {
        let (told, changes) = mpsc::unbounded_channel();
        let mut contents = self.0.lock().unwrap();
        contents.watchers.push((path.to_path_buf(), told));
        Box::pin(Changes(changes))
    }
}

struct Changes(mpsc::UnboundedReceiver<()>);

impl Stream for Changes {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<()>> {
        self.0.poll_recv(cx)
    }
}
