//! Facts about files.

use std::future::poll_fn;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::{Bed, declare_cases};
use crate::runtime::files::Privacy;
use crate::runtime::{BoxStream, Runtime};

declare_cases! { "files";
    what_is_written_is_read,
    a_missing_file_is_not_found,
    a_file_larger_than_the_limit_is_an_error,
    a_list_is_sorted_deep_and_without_hidden_names,
    readers_never_see_a_part_of_a_write,
    private_files_are_for_their_owner_alone,
    a_watch_tells_of_a_changed_file,
    a_watch_tells_of_a_file_that_appears,
    a_watch_of_a_directory_tells_of_changes_below_it,
}

async fn write(runtime: &Runtime, path: &Path, content: &[u8]) {
    let written = runtime.files.write(path, content, Privacy::Public).await;
    written.expect("to write");
}

async fn what_is_written_is_read(bed: Bed) {
    let runtime = &bed.near.runtime;
    let path = bed.directory.join("made/on/the/way");
    for content in [&b"one"[..], b"", b"another"] {
        write(runtime, &path, content).await;
        let read = runtime.files.read(&path, 7).await;
        assert_eq!(read.expect("to read"), content);
    }
}

async fn a_missing_file_is_not_found(bed: Bed) {
    let files = &bed.near.runtime.files;
    let read = files.read(&bed.directory.join("missing"), 1).await;
    assert_eq!(read.expect_err("no file").kind(), ErrorKind::NotFound);
    let list = files.list(&bed.directory.join("missing")).await;
    assert_eq!(list.expect_err("no directory").kind(), ErrorKind::NotFound);
}

async fn a_file_larger_than_the_limit_is_an_error(bed: Bed) {
    let runtime = &bed.near.runtime;
    let path = bed.directory.join("large");
    write(runtime, &path, &[7; 100]).await;
    assert_eq!(runtime.files.read(&path, 100).await.expect("fits").len(), 100);
    let error = runtime.files.read(&path, 99).await.expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

async fn a_list_is_sorted_deep_and_without_hidden_names(bed: Bed) {
    let (runtime, root) = (&bed.near.runtime, bed.directory.join("list"));
    for name in ["b", "a/z", "a/y/x", ".hidden", ".dir/file", "c"] {
        write(runtime, &root.join(name), b"x").await;
    }
    let listed = runtime.files.list(&root).await.expect("to list");
    let expected = ["a/y/x", "a/z", "b", "c"].map(|name| root.join(name));
    assert_eq!(listed, expected);
}

async fn readers_never_see_a_part_of_a_write(bed: Bed) {
    let runtime = bed.near.runtime.clone();
    let path = bed.directory.join("replaced");
    write(&runtime, &path, &[0; 10_000]).await;
    let _guard = bed.near.runtime.spawn_guarded("contract", {
        let (runtime, path) = (runtime.clone(), path.clone());
        async move {
            for round in 1u8.. {
                write(&runtime, &path, &[round; 10_000]).await;
                runtime.sleep(Duration::from_millis(1)).await;
                if round == u8::MAX {
                    return;
                }
            }
        }
    });
    for _ in 0..50 {
        let read = runtime.files.read(&path, 10_000).await.expect("to read");
        assert_eq!(read.len(), 10_000);
        assert!(read.iter().all(|byte| *byte == read[0]), "torn");
        runtime.sleep(Duration::from_millis(1)).await;
    }
}

async fn private_files_are_for_their_owner_alone(bed: Bed) {
    let Some(mode) = bed.file_mode else { return };
    let files = &bed.near.runtime.files;
    let (private, public) = (bed.directory.join("key"), bed.directory.join("certificate"));
    let written = files.write(&private, b"x", Privacy::Private).await;
    written.expect("to write");
    let written = files.write(&public, b"x", Privacy::Public).await;
    written.expect("to write");
    assert_eq!((mode(&private), mode(&public)), (0o600, 0o644));
}

/// Whether the watch yields within what the door promises, with slack for a busy machine.
async fn yields(runtime: &Runtime, watch: &mut BoxStream<()>) -> bool {
    let next = poll_fn(|context| watch.as_mut().poll_next(context));
    let item = runtime.timeout(Duration::from_secs(3), next).await;
    item == Ok(Some(()))
}

/// Takes what is already there.
async fn settle(runtime: &Runtime, watch: &mut BoxStream<()>) {
    loop {
        let next = poll_fn(|context| watch.as_mut().poll_next(context));
        if runtime.timeout(Duration::from_millis(1_200), next).await.is_err() {
            return;
        }
    }
}

async fn tells(bed: &Bed, watched: &Path, changed: &Path) {
    let runtime = &bed.near.runtime;
    let mut watch = runtime.files.watch(watched);
    settle(runtime, &mut watch).await;
    for content in ["one", "other"] {
        write(runtime, changed, content.as_bytes()).await;
        assert!(yields(runtime, &mut watch).await, "said nothing");
    }
}

async fn a_watch_tells_of_a_changed_file(bed: Bed) {
    let path = bed.directory.join("watched");
    write(&bed.near.runtime, &path, b"first").await;
    tells(&bed, &path, &path).await;
}

async fn a_watch_tells_of_a_file_that_appears(bed: Bed) {
    let path = bed.directory.join("appears");
    write(&bed.near.runtime, &bed.directory.join("other"), b"x").await;
    tells(&bed, &path, &path).await;
}

async fn a_watch_of_a_directory_tells_of_changes_below_it(bed: Bed) {
    let root = bed.directory.join("tree");
    write(&bed.near.runtime, &root.join("a/b"), b"x").await;
    tells(&bed, &root, &root.join("a/b")).await;
    tells(&bed, &root, &root.join("a/new")).await;
}
