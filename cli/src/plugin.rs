//! Commands that other programs bring: `weft NAME` runs `weft-NAME`, or `linkerd-NAME`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use crate::Failure;

/// Becomes the program that a command is of.
pub(crate) fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let (name, rest) = arguments.split_first().expect("a command has a name");
    let path = env::var_os("PATH").unwrap_or_default();
    let Some(program) = find(name, &path) else {
        let name = name.to_string_lossy();
        return Err(Failure {
            code: 2,
            message: format!(
                "there is no command {name}, and neither weft-{name} nor linkerd-{name} is on the \
                 path; see weft --help"
            ),
        });
    };
    let error = Command::new(&program).args(rest).exec();
    Err(Failure::failed(format!("{}: {error}", program.display())))
}

/// Where a path has the program of a command.
fn find(name: &OsStr, path: &OsStr) -> Option<PathBuf> {
    // A name with a slash would lead out of the path.
    if name.is_empty() || name.as_encoded_bytes().contains(&b'/') {
        return None;
    }
    ["weft-", "linkerd-"].iter().find_map(|prefix| {
        let mut program = OsString::from(prefix);
        program.push(name);
        env::split_paths(path).map(|directory| directory.join(&program)).find(|candidate| {
            let metadata = candidate.metadata();
            metadata.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn ours_comes_before_linkerds_and_must_be_a_program() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().as_os_str();
        let make = |name: &str, mode| {
            let file = directory.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            file
        };
        assert_eq!(find(OsStr::new("viz"), path), None);
        let linkerds = make("linkerd-viz", 0o755);
        assert_eq!(find(OsStr::new("viz"), path), Some(linkerds.clone()));
        make("weft-viz", 0o644);
        assert_eq!(find(OsStr::new("viz"), path), Some(linkerds));
        let ours = make("weft-viz", 0o755);
        assert_eq!(find(OsStr::new("viz"), path), Some(ours));
        for wrong in ["", "../weft-viz", "/bin/sh"] {
            assert_eq!(find(OsStr::new(wrong), path), None, "{wrong}");
        }
    }
}
