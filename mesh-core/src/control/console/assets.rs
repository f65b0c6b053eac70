//! The files that pages load: styles, scripts, the icon. They are part of this program, and are
//! asked for by their version, so that browsers keep them for good.

use std::sync::LazyLock;

use sha2::{Digest, Sha256};

/// A file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asset {
    name: &'static str,
    /// Its media type.
    pub(crate) kind: &'static str,
    /// What is in it.
    pub(crate) content: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: [Asset; 5] = [
    Asset {
        name: "console.css",
        kind: "text/css; charset=utf-8",
        content: include_str!("assets/console.css"),
    },
    Asset { name: "console.js", kind: SCRIPT, content: include_str!("assets/console.js") },
    Asset { name: "tap.js", kind: SCRIPT, content: include_str!("assets/tap.js") },
    Asset { name: "theme.js", kind: SCRIPT, content: include_str!("assets/theme.js") },
    Asset { name: "icon.svg", kind: "image/svg+xml", content: include_str!("assets/icon.svg") },
];

/// The file of a name.
pub(crate) fn find(name: &str) -> Option<Asset> {
    ASSETS.into_iter().find(|asset| asset.name == name)
}

/// What all of them are, in a few letters: another for every change of any.
pub(crate) fn version() -> &'static str {
    static VERSION: LazyLock<String> = LazyLock::new(|| {
        let mut hash = Sha256::new();
        ASSETS.iter().for_each(|asset| hash.update(asset.content));
        hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
    });
    &VERSION
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        for asset in ASSETS {
            let links = ["http:", "https:", "//cdn", "@import"].into_iter();
            let links = links.flat_map(|start| asset.content.match_indices(start));
            for (at, _) in links {
                let link = &asset.content[at..];
                assert!(
                    link.starts_with("http://www.w3.org/2000/svg"),
                    "{}: {}",
                    asset.name,
                    &link[..link.len().min(60)]
                );
            }
        }
    }

    #[test]
    fn all_of_it_is_small() {
        let bytes: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(bytes < 64 * 1024, "{bytes} bytes");
    }
}
