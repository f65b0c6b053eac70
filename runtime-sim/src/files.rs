//! A host's files, in memory. They outlive the host's processes, as a disk does.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use mesh_core::runtime::files::Privacy;
use mesh_core::runtime::{BoxFuture, BoxStream, Files};

use crate::lock;

/// The files of one host. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<[u8]>>,
    watches: Vec<(PathBuf, mpsc::Sender<()>)>,
}

impl MemoryFiles {
    /// Puts a file there, as another program of the host would.
    pub fn put(&self, path: impl Into<PathBuf>, content: &[u8]) {
        let path = path.into();
        let mut state = lock(&self.0);
        state.files.insert(path.clone(), content.into());
        state.tell(&path);
    }

    /// A file's content, where there is one.
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        lock(&self.0).files.get(path).map(|content| content.to_vec())
    }

    /// Removes a file, where there is one.
    pub fn remove(&self, path: &Path) {
        let mut state = lock(&self.0);
        if state.files.remove(path).is_some() {
            state.tell(path);
        }
    }
}

impl State {
    /// A full channel holds a notice that has not been read, which is notice enough.
    fn tell(&mut self, changed: &Path) {
        self.watches.retain(|(_, watch)| !watch.is_closed());
        for (watched, watch) in &self.watches {
            if changed.starts_with(watched) {
                let _ = watch.try_send(());
            }
        }
    }

    fn read(&self, path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
        let content = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        if content.len() > bytes_max {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(content.to_vec())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let below: Vec<_> = self
            .files
            .keys()
            .filter_map(|path| Some((path, path.strip_prefix(directory).ok()?)))
            .collect();
        if below.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let listed = below.into_iter().filter(|(_, rest)| !hidden(rest));
        Ok(listed.map(|(path, _)| path.clone()).collect())
    }
}

fn hidden(path: &Path) -> bool {
    path.components().any(|component| match component {
        Component::Normal(name) => name.as_encoded_bytes().starts_with(b"."),
        _ => false,
    })
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let result = lock(&self.0).read(path, bytes_max);
        Box::pin(async { result })
    }

    fn list(&self, directory: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        let result = lock(&self.0).list(directory);
        Box::pin(async { result })
    }

    fn write(
        &self,
        path: &Path,
        content: &[u8],
        _privacy: Privacy,
    ) -> BoxFuture<'static, io::Result<()>> {
        self.put(path, content);
        Box::pin(async { Ok(()) })
    }

    fn watch(&self, path: &Path) -> BoxStream<()> {
        let (tell, told) = mpsc::channel(1);
        lock(&self.0).watches.push((path.to_owned(), tell));
        Box::pin(Watch(told))
    }
}

struct Watch(mpsc::Receiver<()>);

impl Stream for Watch {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.0.poll_recv(context)
    }
}
