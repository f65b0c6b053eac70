//! Finds and reads scenario files, and tells which commit this is.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use runtime_sim::world::parse::{self, Scenario};

use crate::outcome::Trouble;

/// The scenario files of paths: of a directory every .yaml file below it, in order of their names.
pub fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Trouble> {
    let mut all = Vec::new();
    for path in paths {
        let metadata = path.metadata().map_err(|error| Trouble::unreadable(path, error))?;
        match metadata.is_file() {
            true => all.push(path.clone()),
            false => all.extend(below(path)?),
        }
    }
    Ok(all)
}

fn below(path: &Path) -> Result<Vec<PathBuf>, Trouble> {
    let mut found = Vec::new();
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let unreadable = |error| Trouble::unreadable(&directory, error);
        for entry in directory.read_dir().map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            match path.extension() {
                _ if path.is_dir() => directories.push(path),
                Some(extension) if extension == "yaml" => found.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(Trouble::unreadable(path, "there is no .yaml file below it")),
        false => Ok(found),
    }
}

/// Reads a scenario file.
pub fn read(file: &Path) -> Result<Scenario, Trouble> {
    file.metadata().map_err(|error| Trouble::unreadable(file, error))?;
    parse::load(file).map_err(|problems| {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        Trouble::bad_scenario(problems.join("\nweft-sim: "))
    })
}

/// Which commit this is: as git tells it where a file lies in a repository, else the version.
pub fn commit(file: &Path) -> String {
    let directory = file.parent().filter(|path| !path.as_os_str().is_empty());
    let mut git = Command::new("git");
    git.arg("-C").arg(directory.unwrap_or(Path::new(".")));
    let described = git.args(["describe", "--always", "--dirty"]).stderr(Stdio::null()).output();
    let described = described.ok().filter(|output| output.status.success());
    let text = described.and_then(|output| String::from_utf8(output.stdout).ok());
    match text.as_deref().map(str::trim) {
        Some(text) if !text.is_empty() => text.to_owned(),
        _ => format!("weft-sim {}", env!("CARGO_PKG_VERSION")),
    }
}
