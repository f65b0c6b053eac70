//! Authorities and issuers, and how a kubelet mounts and replaces them.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::control::ca::{self, Validity};
use mesh_core::runtime::crypto::KeyPair;
use mesh_core::runtime::{Clock as _, Crypto as _};
use runtime_real::clock::SystemClock;
use runtime_real::crypto::AwsLc;
use runtime_real::entropy::SystemEntropy;

/// A trust anchor and its key.
pub struct Root {
    pub pem: String,
    key: Arc<dyn KeyPair>,
}

/// An issuer and its key, both PEM.
pub struct Issuer {
    pub pem: String,
    pub key: String,
}

impl Root {
    pub fn make(name: &str) -> Self {
        let key = AwsLc::new().generate_key().expect("a key");
        let pem = ca::make_anchor(&SystemEntropy::new(), &key, name, validity()).expect("signed");
        Self { pem, key }
    }

    pub fn issuer(&self) -> Issuer {
        let key = AwsLc::new().generate_key().expect("a key");
        let own = (self.pem.as_bytes(), &self.key);
        let pem = ca::make_issuer(&SystemEntropy::new(), own, &*key, "issuer", validity());
        let der = STANDARD.encode(key.pkcs8_der());
        let key = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
        Issuer { pem: pem.expect("signed"), key }
    }
}

/// From an hour ago to a day from now.
pub fn validity() -> Validity {
    let hour = Duration::from_secs(3600);
    Validity::new(SystemClock::new().wall(), hour * 24, hour)
}

/// A volume as a kubelet keeps it: files are links into `..data`, which is a link to the directory
/// of the moment, and is replaced in one step.
pub struct Volume(PathBuf);

impl Volume {
    pub fn make(directory: PathBuf) -> Self {
        std::fs::create_dir_all(&directory).expect("a directory");
        Self(directory)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts these files in the place of all others.
    pub fn put(&self, version: &str, files: &[(&str, &str)]) {
        let timestamped = format!("..{version}");
        let new = self.0.join(&timestamped);
        std::fs::create_dir(&new).expect("a new version");
        for (name, content) in files {
            std::fs::write(new.join(name), content).expect("to write");
        }
        symlink(&timestamped, self.0.join("..data_tmp")).expect("a link");
        std::fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).expect("in one step");
        for (name, _) in files {
            let link = self.0.join(name);
            if !link.is_symlink() {
                symlink(Path::new("..data").join(name), link).expect("a link");
            }
        }
    }
}
