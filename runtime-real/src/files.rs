//! The door to files: the host's file system.
//!
//! Changes are noticed by looking twice a second, not by inotify: that works alike on overlays,
//! network mounts and ConfigMaps (whose files are symbolic links swapped underneath), and costs
//! a proxy, which watches one or two files, some microseconds.

use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use futures_core::Stream;
use mesh_core::runtime::files::{Files, Privacy};
use mesh_core::runtime::{BoxFuture, BoxStream};
use tokio::sync::mpsc;

/// How often a watched path is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A file changed this shortly before it was looked at may change again under the same time stamp.
const CLOCK_STEP: Duration = Duration::from_millis(50);

/// How deep directories are followed. Links may make circles; this ends them.
const DEPTH_MAX: usize = 16;

/// The most files listed under one directory.
const FILES_MAX: usize = 100_000;

/// The host's file system.
#[derive(Clone, Copy, Debug)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path, bytes_max: usize) -> BoxFuture<'static, io::Result<Vec<u8>>> {
        let path = path.to_owned();
        off_thread(move || read(&path, bytes_max))
    }

    fn list(&self, directory: &Path) -> BoxFuture<'static, io::Result<Vec<PathBuf>>> {
        let directory = directory.to_owned();
        off_thread(move || list(&directory))
    }

    fn write(
        &self,
        path: &Path,
        content: &[u8],
        privacy: Privacy,
    ) -> BoxFuture<'static, io::Result<()>> {
        let (path, content) = (path.to_owned(), content.to_vec());
        off_thread(move || write(&path, &content, privacy))
    }

    fn watch(&self, path: &Path) -> BoxStream<()> {
        let path = path.to_owned();
        // Looked at before this returns: a change right after the call is already a change.
        let first = Look::at(&path);
        let (changed, changes) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut last = first;
            loop {
                tokio::select! {
                    biased;
                    () = changed.closed() => return,
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                }
                let now = match last.is_directory {
                    false => Look::at(&path),
                    true => {
                        let path = path.clone();
                        let look = tokio::task::spawn_blocking(move || Look::at(&path));
                        look.await.unwrap_or(last)
                    }
                };
                if now != last || last.is_fresh {
                    // Full: a change is waiting to be seen already, and stands for this one too.
                    let _ = changed.try_send(());
                }
                last = now;
            }
        });
        Box::pin(Receiving(changes))
    }
}

/// Runs what may block on one of tokio's threads for that.
fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> BoxFuture<'static, io::Result<T>> {
    Box::pin(async move {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done,
            Err(stopped) => Err(io::Error::other(stopped)),
        }
    })
}

pub(crate) fn read(path: &Path, bytes_max: usize) -> io::Result<Vec<u8>> {
    let file = fs::File::open(path)?;
    let mut content = Vec::new();
    file.take(bytes_max as u64 + 1).read_to_end(&mut content)?;
    match content.len() > bytes_max {
        true => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: larger than {bytes_max} bytes", path.display()),
        )),
        false => Ok(content),
    }
}

pub(crate) fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    walk(directory, 0, &mut |path, _| {
        files.push(path);
        match files.len() > FILES_MAX {
            true => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: more than {FILES_MAX} files", directory.display()),
            )),
            false => Ok(()),
        }
    })?;
    files.sort();
    Ok(files)
}

/// Calls `found` with each regular file under `directory`. A file that goes away meanwhile is none.
fn walk(
    directory: &Path,
    depth: usize,
    found: &mut dyn FnMut(PathBuf, &Metadata) -> io::Result<()>,
) -> io::Result<()> {
    if depth == DEPTH_MAX {
        return Ok(());
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        if metadata.is_file() {
            found(path, &metadata)?;
        } else if metadata.is_dir() {
            match walk(&path, depth + 1, found) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                walked => walked?,
            }
        }
    }
    Ok(())
}

fn write(path: &Path, content: &[u8], privacy: Privacy) -> io::Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);

    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{}: names no file", path.display()))
    })?;
    let (file_mode, directory_mode) = match privacy {
        Privacy::Public => (0o644, 0o755),
        Privacy::Private => (0o600, 0o700),
    };
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::DirBuilder::new().recursive(true).mode(directory_mode).create(directory)?;

    let unique = COUNTER.fetch_add(1, Ordering::Relaxed);
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}-{unique}", std::process::id()));
    let temporary = directory.join(temporary_name);
    let written = (|| {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(file_mode)
            .open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// What a path looked like at one time. Equal looks mean that nothing changed, unless they are fresh.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Of every file's name, number, size and times.
    digest: u64,
    is_directory: bool,
    /// Something changed so shortly before that a further change need not show.
    is_fresh: bool,
}

impl Look {
    fn at(path: &Path) -> Self {
        let now = SystemTime::now();
        let mut look = Self { digest: 0, is_directory: false, is_fresh: false };
        let mut add = |path: PathBuf, metadata: &Metadata| {
            let mut hasher = DefaultHasher::new();
            path.hash(&mut hasher);
            let times =
                [metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec()];
            (metadata.dev(), metadata.ino(), metadata.size(), times).hash(&mut hasher);
            // Directories are read in no order: the sum does not depend on it.
            look.digest = look.digest.wrapping_add(hasher.finish());
            let changed = metadata.modified().unwrap_or(now);
            look.is_fresh |= now.duration_since(changed).unwrap_or_default() < CLOCK_STEP;
            Ok(())
        };
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                // What cannot be read counts as absent; once it can be, that is a change.
                let _ = walk(path, 0, &mut add);
                look.is_directory = true;
            }
            Ok(metadata) => drop(add(path.to_owned(), &metadata)),
            Err(_) => {}
        }
        look
    }
}

/// A channel's receiving end as a stream.
pub(crate) struct Receiving<T>(pub(crate) mpsc::Receiver<T>);

impl<T> Stream for Receiving<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        crate::current_thread().unwrap().block_on(test)
    }

    #[test]
    fn reading_stops_at_the_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "12345").unwrap();
        run(async {
            assert_eq!(SystemFiles.read(&path, 5).await.unwrap(), b"12345");
            let error = SystemFiles.read(&path, 4).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        });
    }

    #[test]
    fn a_mounted_config_map_lists_its_files_once() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("..2026")).unwrap();
        fs::create_dir_all(at("below")).unwrap();
        fs::write(at("..2026/b.yaml"), "").unwrap();
        fs::write(at("below/c.yaml"), "").unwrap();
        symlink("..2026", at("..data")).unwrap();
        symlink("..data/b.yaml", at("b.yaml")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        let listed = run(SystemFiles.list(directory.path())).unwrap();
        assert_eq!(listed, [at("b.yaml"), at("below/c.yaml")]);
    }

    #[test]
    fn writing_replaces_makes_directories_and_keeps_secrets() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/key.p8");
        run(async {
            for content in [&b"old"[..], b"new"] {
                SystemFiles.write(&path, content, Privacy::Private).await.unwrap();
            }
        });
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()), 0o700);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn a_swap_of_links_is_a_change_and_rest_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (version, content) in [("..1", "same"), ("..2", "size")] {
            fs::create_dir(at(version)).unwrap();
            fs::write(at(version).join("roots.pem"), content).unwrap();
        }
        symlink("..1", at("..data")).unwrap();
        symlink("..data/roots.pem", at("roots.pem")).unwrap();

        for path in [at("roots.pem"), directory.path().to_owned()] {
            let before = Look::at(&path);
            assert!(before.digest == Look::at(&path).digest);
            fs::remove_file(at("..data")).unwrap();
            symlink("..2", at("..data")).unwrap();
            assert!(before.digest != Look::at(&path).digest);
            fs::remove_file(at("..data")).unwrap();
            symlink("..1", at("..data")).unwrap();
        }
    }

    #[test]
    fn a_change_is_told_within_a_second() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("late.yaml");
        run(async {
            let mut changes = SystemFiles.watch(directory.path());
            fs::write(&path, "a").unwrap();
            let next = poll_fn(|context| changes.as_mut().poll_next(context));
            let told = tokio::time::timeout(Duration::from_secs(1), next).await;
            assert_eq!(told, Ok(Some(())));
        });
    }
}
