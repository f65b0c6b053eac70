//! The control plane's state directory: its certificate authority and its token key, as files.
//! Knows which files there are and makes those that may be made; does not sign.
//!
//! Law: a key is never written over. Files that somebody gave are only read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::runtime::Runtime;
use crate::runtime::crypto::{CryptoError, KeyPair};
use crate::runtime::files::Privacy;

use super::ca::{self, Authority, CaError, Validity};
use super::pem;

/// Trust anchors, PEM. Proxies are given this file.
pub const ANCHORS: &str = "ca.crt";
/// The anchor's key; only where the control plane made the anchor itself.
pub const ANCHOR_KEY: &str = "ca.key";
/// The issuer's certificate, PEM.
pub const ISSUER: &str = "issuer.crt";
/// The issuer's key.
pub const ISSUER_KEY: &str = "issuer.key";
/// The key that workload tokens are signed with.
pub const TOKEN_KEY: &str = "token.key";

const FILE_BYTES_MAX: usize = 1 << 20;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const ANCHOR_LIFETIME: Duration = DAY.saturating_mul(3650);
const ISSUER_LIFETIME: Duration = DAY.saturating_mul(365);
/// An issuer that the control plane made is made anew when it has less than this left.
const ISSUER_RENEWED_BEFORE: Duration = DAY.saturating_mul(30);
const CLOCK_SKEW: Duration = Duration::from_secs(20);

/// Why the state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {error}", path = .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Some files of the authority are there, others are not.
    #[error(
        "{directory} has no {missing}, but other files of an issuer; give {ANCHORS}, {ISSUER} and \
         {ISSUER_KEY} together, or remove all to have new ones made",
        directory = .directory.display()
    )]
    Partial {
        /// The state directory.
        directory: PathBuf,
        /// The missing file.
        missing: &'static str,
    },
    /// The files do not make an authority.
    #[error("{directory}: {error}", directory = .directory.display())]
    Authority {
        /// The state directory.
        directory: PathBuf,
        /// Why.
        error: CaError,
    },
    /// A mounted file is not there.
    #[error(
        "{path} is not there; mount the Secret linkerd-identity-issuer (crt.pem and key.pem, or \
         tls.crt and tls.key) and the ConfigMap linkerd-identity-trust-roots",
        path = .path.display()
    )]
    NotMounted {
        /// Which.
        path: PathBuf,
    },
    /// Mounted files do not make an authority.
    #[error(
        "issuer {issuer}, trust roots {roots}: {error}",
        issuer = .issuer.display(), roots = .roots.display()
    )]
    Mounted {
        /// The issuer's directory.
        issuer: PathBuf,
        /// The trust roots.
        roots: PathBuf,
        /// Why.
        error: CaError,
    },
    /// A key cannot be made or read.
    #[error("{path}: {error}; remove the file to have a new key made", path = .path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        error: CryptoError,
    },
}

/// How long certificates live that are made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetimes {
    /// A trust anchor.
    pub anchor: Duration,
    /// An issuer.
    pub issuer: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { anchor: ANCHOR_LIFETIME, issuer: ISSUER_LIFETIME }
    }
}

/// The authority of a state directory: the one given there, or a new one where there is none.
///
/// # Errors
/// [`StateError`].
pub async fn authority(runtime: &Runtime, directory: &Path) -> Result<Authority, StateError> {
    authority_of(runtime, directory, Lifetimes::default()).await
}

/// The same, where what is made is to live longer or shorter than usual.
///
/// # Errors
/// [`StateError`].
pub async fn authority_of(
    runtime: &Runtime,
    directory: &Path,
    lifetimes: Lifetimes,
) -> Result<Authority, StateError> {
    let files = Directory { runtime, directory, lifetimes };
    let given =
        (files.read(ANCHORS).await?, files.read(ISSUER).await?, files.read(ISSUER_KEY).await?);
    match given {
        (None, None, None) => {
            files.make_anchor().await?;
            files.make_issuer().await
        }
        (Some(anchors), Some(issuer), Some(key)) => {
            let now = runtime.clock.wall();
            let read = Authority::from_pem(&*runtime.crypto, &anchors, &issuer, &key, now);
            let is_spent = match &read {
                Ok(authority) => authority.expires().since(now) < ISSUER_RENEWED_BEFORE,
                Err(error) => matches!(error, CaError::Expired(_)),
            };
            if is_spent && files.read(ANCHOR_KEY).await?.is_some() {
                return files.make_issuer().await;
            }
            read.map_err(|error| files.authority_error(error))
        }
        (Some(_), None, _) if files.read(ANCHOR_KEY).await?.is_some() => files.make_issuer().await,
        (anchors, issuer, _) => Err(StateError::Partial {
            directory: directory.to_path_buf(),
            missing: match (anchors, issuer) {
                (None, _) => ANCHORS,
                (_, None) => ISSUER,
                _ => ISSUER_KEY,
            },
        }),
    }
}

/// The key that workload tokens are signed with; made where there is none.
///
/// # Errors
/// [`StateError::File`], [`StateError::Key`].
pub async fn token_key(
    runtime: &Runtime,
    directory: &Path,
) -> Result<Arc<dyn KeyPair>, StateError> {
    let files = Directory { runtime, directory, lifetimes: Lifetimes::default() };
    match files.read_key(TOKEN_KEY).await? {
        Some(key) => Ok(key),
        None => files.make_key(TOKEN_KEY).await,
    }
}

struct Directory<'a> {
    runtime: &'a Runtime,
    directory: &'a Path,
    lifetimes: Lifetimes,
}

impl Directory<'_> {
    async fn make_anchor(&self) -> Result<(), StateError> {
        let key = match self.read_key(ANCHOR_KEY).await? {
            Some(key) => key,
            None => self.make_key(ANCHOR_KEY).await?,
        };
        let validity = Validity::new(self.runtime.clock.wall(), self.lifetimes.anchor, CLOCK_SKEW);
        let anchor = ca::make_anchor(&*self.runtime.entropy, &key, "Weft root", validity)
            .map_err(|error| self.authority_error(error))?;
        self.write(ANCHORS, anchor.as_bytes(), Privacy::Public).await
    }

    /// Makes an issuer below the anchor that this control plane made, for the issuer's key that is
    /// there or a new one. The key is written first: a start that was broken off is taken up here.
    async fn make_issuer(&self) -> Result<Authority, StateError> {
        let partial =
            |missing| StateError::Partial { directory: self.directory.to_path_buf(), missing };
        let anchors = self.read(ANCHORS).await?.ok_or_else(|| partial(ANCHORS))?;
        let anchor_key = self.read_key(ANCHOR_KEY).await?;
        let anchor_key = anchor_key.ok_or_else(|| partial(ANCHOR_KEY))?;
        let now = self.runtime.clock.wall();
        let key = match self.read_key(ISSUER_KEY).await? {
            Some(key) => key,
            None => self.make_key(ISSUER_KEY).await?,
        };
        let issuer = ca::make_issuer(
            &*self.runtime.entropy,
            (&anchors, &anchor_key),
            &*key,
            "Weft issuer",
            Validity::new(now, self.lifetimes.issuer, CLOCK_SKEW),
        )
        .map_err(|error| self.authority_error(error))?;
        self.write(ISSUER, issuer.as_bytes(), Privacy::Public).await?;
        let key = pem::encode("PRIVATE KEY", key.pkcs8_der());
        Authority::from_pem(&*self.runtime.crypto, &anchors, issuer.as_bytes(), key.as_bytes(), now)
            .map_err(|error| self.authority_error(error))
    }

    async fn read_key(&self, file: &'static str) -> Result<Option<Arc<dyn KeyPair>>, StateError> {
        let Some(text) = self.read(file).await? else {
            return Ok(None);
        };
        let path = self.directory.join(file);
        let key = match pem::private_key(&text) {
            Some(der) => self.runtime.crypto.load_key(&der),
            None => Err(CryptoError("holds no private key in PEM".to_string())),
        };
        key.map(Some).map_err(|error| StateError::Key { path, error })
    }

    async fn make_key(&self, file: &'static str) -> Result<Arc<dyn KeyPair>, StateError> {
        let path = self.directory.join(file);
        let key = self.runtime.crypto.generate_key();
        let key = key.map_err(|error| StateError::Key { path, error })?;
        let text = pem::encode("PRIVATE KEY", key.pkcs8_der());
        self.write(file, text.as_bytes(), Privacy::Private).await?;
        Ok(key)
    }

    async fn read(&self, file: &'static str) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.directory.join(file);
        match self.runtime.files.read(&path, FILE_BYTES_MAX).await {
            Ok(content) => Ok(Some(content)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StateError::File { path, error }),
        }
    }

    async fn write(
        &self,
        file: &'static str,
        content: &[u8],
        privacy: Privacy,
    ) -> Result<(), StateError> {
        let path = self.directory.join(file);
        let written = self.runtime.files.write(&path, content, privacy).await;
        written.map_err(|error| StateError::File { path, error })
    }

    fn authority_error(&self, error: CaError) -> StateError {
        StateError::Authority { directory: self.directory.to_path_buf(), error }
    }
}
