//! Which cluster a command is about, and as whom it asks there.

use std::path::PathBuf;

use clap::Args;
use http::StatusCode;
use runtime_real::kube::{ApiClient, ApiError, KubeOptions};
use serde_json::Value;

use crate::Failure;

/// The flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct ClusterArgs {
    /// The control plane's namespace
    #[arg(
        long,
        short = 'L',
        value_name = "NAME",
        default_value = "linkerd",
        env = "LINKERD_NAMESPACE",
        hide_env = true,
        global = true
    )]
    pub(crate) linkerd_namespace: String,
    /// A kubeconfig [default: $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// A context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) context: Option<String>,
    /// Ask the API server as this user
    #[arg(long = "as", value_name = "USER", global = true)]
    pub(crate) impersonate: Option<String>,
    /// Ask the API server as a member of this group
    #[arg(long = "as-group", value_name = "GROUP", global = true)]
    pub(crate) impersonate_groups: Vec<String>,
    /// Ask the control plane at this address, not through the API server
    #[arg(long, value_name = "HOST:PORT", global = true)]
    pub(crate) api_addr: Option<String>,
    /// Tell on stderr what is asked of whom, and what is answered
    #[arg(long, global = true)]
    pub(crate) verbose: bool,
}

impl ClusterArgs {
    /// The client of the cluster's API server. Asks nothing yet.
    pub(crate) async fn client(&self) -> Result<ApiClient, Failure> {
        let options = KubeOptions {
            kubeconfig: self.kubeconfig.clone(),
            context: self.context.clone(),
            impersonate: self.impersonate.clone(),
            impersonate_groups: self.impersonate_groups.clone(),
        };
        let client = ApiClient::open(&options).await.map_err(Failure::failed)?;
        tracing::debug!(server = client.server(), "asking this API server");
        Ok(client)
    }
}

/// An object at a path of the API, such as `/api/v1/namespaces/linkerd`; none where there is none.
///
/// # Errors
/// [`ApiError`], but that it is not there.
pub(crate) async fn object(client: &ApiClient, path: &str) -> Result<Option<Value>, ApiError> {
    let found = client.find(path).await;
    match &found {
        Ok(text) => tracing::debug!(path, bytes = text.len(), "found"),
        Err(error) => tracing::debug!(path, reason = error.reason, "not found"),
    }
    match found {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(object) => Ok(Some(object)),
            Err(error) => {
                let reason = format!("{path}: the answer is no JSON: {error}");
                Err(ApiError { status: None, reason, retry_after: None })
            }
        },
        Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}
