//! The certificate authority of a cluster: an issuer and its key, and the trust roots, as files that
//! others write and a kubelet mounts. Reads them; makes nothing.
//!
//! Law: a certificate and a key of two moments are never used together.

use std::io;
use std::path::Path;

use crate::runtime::Runtime;

use super::ca::Authority;
use super::config::MountedIdentity;
use super::state::StateError;

const FILE_BYTES_MAX: usize = 1 << 20;
/// Both layouts of the Secret: `linkerd.io/tls` and `kubernetes.io/tls`.
const LAYOUTS: [(&str, &str); 2] = [("crt.pem", "key.pem"), ("tls.crt", "tls.key")];
/// Times that files are read again where they changed meanwhile.
const READS_MAX: u32 = 3;

/// The authority that is mounted now.
///
/// # Errors
/// [`StateError`], which names the files.
pub(super) async fn authority(
    runtime: &Runtime,
    mounted: &MountedIdentity,
) -> Result<Authority, StateError> {
    let roots = &mounted.trust_roots;
    let anchors = read(runtime, roots).await?;
    let anchors = anchors.ok_or_else(|| StateError::NotMounted { path: roots.clone() })?;
    let (certificate, key) = issuer(runtime, &mounted.issuer_directory).await?;
    let now = runtime.clock.wall();
    Authority::from_pem(&*runtime.crypto, &anchors, &certificate, &key, now).map_err(|error| {
        StateError::Mounted {
            issuer: mounted.issuer_directory.clone(),
            roots: roots.clone(),
            error,
        }
    })
}

/// The issuer's certificates and its key. The kubelet puts new files in place between two reads of
/// ours, but never while nothing changes.
async fn issuer(runtime: &Runtime, directory: &Path) -> Result<(Vec<u8>, Vec<u8>), StateError> {
    let mut missing = directory.join(LAYOUTS[0].0);
    for (certificate_file, key_file) in LAYOUTS {
        let path = directory.join(certificate_file);
        let Some(mut certificate) = read(runtime, &path).await? else {
            continue;
        };
        for _ in 0..READS_MAX {
            let key = read(runtime, &directory.join(key_file)).await?;
            let Some(again) = read(runtime, &path).await? else { break };
            match key {
                Some(key) if again == certificate => return Ok((certificate, key)),
                Some(_) => certificate = again,
                None => break,
            }
        }
        missing = directory.join(key_file);
        break;
    }
    Err(StateError::NotMounted { path: missing })
}

async fn read(runtime: &Runtime, path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    match runtime.files.read(path, FILE_BYTES_MAX).await {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::File { path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests;
