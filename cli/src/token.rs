//! `weft token create`: tokens for workloads outside of Kubernetes.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use mesh_core::control::state::{self, StateError};
use mesh_core::control::token::{self, ServiceAccountName};
use mesh_core::runtime::crypto::CryptoError;
use runtime_real::no_cluster::NoCluster;

use crate::{EXIT_CODES, Failure, duration};

/// What is done with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a token for a service account and print it.
    ///
    /// The controller that has the same state directory will know it for its own.
    #[command(after_help = EXIT_CODES)]
    Create(TokenArgs),
}

/// Whose token it is to be.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    /// The controller's state directory
    #[arg(long, value_name = "DIR", default_value = "weft-state")]
    state_dir: PathBuf,
    /// Namespace of the service account
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Name of the service account
    #[arg(long, value_name = "NAME")]
    service_account: String,
    /// Whom the token is for; the controller takes those for its identity service alone
    #[arg(long, value_name = "NAME", default_value = mesh_core::control::token::AUDIENCE)]
    audience: String,
    /// How long the token is valid
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration::parse)]
    ttl: Duration,
    /// Write it into this file, which only its owner may read, rather than to stdout
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(
        "{namespace:?} and {account:?} do not name a service account; names have lower-case \
         letters, digits and `-`"
    )]
    Name { namespace: String, account: String },
    #[error("{0}")]
    State(#[from] StateError),
    #[error("the token key cannot sign: {0}")]
    Key(#[from] CryptoError),
}

/// Runs a command of `weft token`.
///
/// # Errors
/// Why there is no token.
pub(crate) async fn run(command: TokenCommand) -> Result<(), Failure> {
    let TokenCommand::Create(args) = command;
    let TokenArgs { state_dir, namespace, service_account, audience, ttl, output } = &args;
    let token = create(state_dir, namespace, service_account, audience, *ttl);
    let token = token.await.map_err(Failure::failed)?;
    match output {
        None => println!("{token}"),
        Some(path) => write(path, &token)
            .map_err(|error| Failure::failed(format!("--output {}: {error}", path.display())))?,
    }
    Ok(())
}

/// A token for a service account and `audience`, signed with the key of a controller's state directory. The key
/// is made where there is none yet.
///
/// # Errors
/// [`TokenError`].
pub(crate) async fn create(
    state: &Path,
    namespace: &str,
    account: &str,
    audience: &str,
    lifetime: Duration,
) -> Result<String, TokenError> {
    let username = format!("system:serviceaccount:{namespace}:{account}");
    let account = ServiceAccountName::from_username(&username).ok_or_else(|| TokenError::Name {
        namespace: namespace.to_string(),
        account: account.to_string(),
    })?;
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let key = state::token_key(&runtime, state).await?;
    Ok(token::create_for(&*key, &account, audience, runtime.clock.wall(), lifetime)?)
}

/// Writes a token into a file of its owner alone, in place of what was there.
///
/// # Errors
/// The file system's.
pub(crate) fn write(path: &Path, token: &str) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(token.as_bytes())
}

#[cfg(test)]
mod tests {
    use mesh_core::control::token::AUDIENCE;

    use super::*;

    fn run<T>(test: impl Future<Output = T>) -> T {
        runtime_real::current_thread().unwrap().block_on(test)
    }

    #[test]
    fn a_token_is_its_controllers() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let hour = Duration::from_secs(3600);
            let made = create(directory.path(), "demo", "web", AUDIENCE, hour).await.unwrap();
            let runtime = runtime_real::runtime(Arc::new(NoCluster));
            let key = state::token_key(&runtime, directory.path()).await.unwrap();
            let (crypto, now) = (&*runtime.crypto, runtime.clock.wall());
            let whose = token::verify(crypto, key.public_key(), made.as_bytes(), now).unwrap();
            assert_eq!(whose.to_string(), "system:serviceaccount:demo:web");
        });
    }

    #[test]
    fn a_token_for_another_audience_certifies_nobody() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            let hour = Duration::from_secs(3600);
            let made = create(directory.path(), "demo", "web", "elsewhere", hour).await.unwrap();
            let runtime = runtime_real::runtime(Arc::new(NoCluster));
            let key = state::token_key(&runtime, directory.path()).await.unwrap();
            let (crypto, now) = (&*runtime.crypto, runtime.clock.wall());
            let refused = token::verify(crypto, key.public_key(), made.as_bytes(), now);
            assert_eq!(refused, Err(token::TokenError::Audience));
        });
    }

    #[test]
    fn a_name_that_would_smuggle_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        run(async {
            for (namespace, account) in [("demo.other", "web"), ("demo", "a:b"), ("", "web")] {
                let made =
                    create(directory.path(), namespace, account, AUDIENCE, Duration::ZERO).await;
                assert!(matches!(made, Err(TokenError::Name { .. })), "{namespace} {account}");
            }
        });
    }
}
