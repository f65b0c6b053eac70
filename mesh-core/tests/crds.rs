//! The custom resource definitions in `deploy/crds` are those of the types. After a change of the
//! types: `UPDATE_CRDS=1 cargo test -p mesh-core --test crds`.

// A test of files in the repository reads them itself.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::path::Path;

use mesh_core::resource::crd;

#[test]
fn deployed_definitions_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/crds");
    let update = std::env::var_os("UPDATE_CRDS").is_some();
    let mut expected = Vec::new();
    for (name, yaml) in crd::definitions().unwrap() {
        let path = directory.join(format!("{name}.yaml"));
        if update {
            fs::create_dir_all(&directory).unwrap();
            fs::write(&path, &yaml).unwrap();
        }
        let deployed = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(deployed, yaml, "{} is not current", path.display());
        expected.push(path.file_name().unwrap().to_owned());
    }
    let entries = fs::read_dir(&directory).unwrap();
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}
