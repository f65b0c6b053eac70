//! `weft install`: what a control plane is made of, for kubectl. Reads values and keys, and leaves
//! the rest to `mesh_core::manifest::install`.
//!
//! Law: manifests go to stdout, and only where all of them can be made.

mod keys;
pub(crate) mod remove;
pub(crate) mod upgrade;

use std::fs;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mesh_core::manifest::Values;
use mesh_core::manifest::install::{self, Format};
use mesh_core::manifest::values::layers::{self, Layer, Merged};
use mesh_core::manifest::values::set;
use serde_json::{Value, json};

use crate::cluster::{ClusterArgs, object};
use crate::{Failure, check, say};

#[derive(Debug, Args)]
pub(crate) struct InstallArgs {
    /// Print the custom resource definitions, which come first, and nothing else
    #[arg(long)]
    crds: bool,
    /// With three pods of everything, on nodes of their own
    #[arg(long)]
    ha: bool,
    /// Traffic is redirected by Linkerd's CNI plugin, not by init containers
    #[arg(long)]
    linkerd_cni_enabled: bool,
    #[command(flatten)]
    values: ValuesArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Do not look at the cluster at all
    #[arg(long)]
    ignore_cluster: bool,
    /// Do not check whether the cluster is fit for it, and whether the credentials suffice
    #[arg(long)]
    skip_checks: bool,
    /// Form of the manifests
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// Values, as Helm takes them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Values")]
pub(crate) struct ValuesArgs {
    /// A file of values; later ones win
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value: controllerReplicas=3, or several with commas between
    #[arg(long, value_name = "PATH=VALUE")]
    set: Vec<String>,
    /// A value that is a file's text: identityTrustAnchorsPEM=ca.crt
    #[arg(long, value_name = "PATH=FILE")]
    set_file: Vec<String>,
}

/// Who certifies workloads.
#[derive(Debug, Args)]
#[command(next_help_heading = "Identity")]
pub(crate) struct IdentityArgs {
    /// Trust anchors, PEM [default: a new one, valid for a year]
    #[arg(long, value_name = "FILE")]
    identity_trust_anchors_file: Option<PathBuf>,
    /// The issuer's certificate, PEM
    #[arg(long, value_name = "FILE")]
    identity_issuer_certificate_file: Option<PathBuf>,
    /// The issuer's key, PEM
    #[arg(long, value_name = "FILE")]
    identity_issuer_key_file: Option<PathBuf>,
    /// Somebody else makes the Secret linkerd-identity-issuer, such as cert-manager
    #[arg(long)]
    identity_external_issuer: bool,
    /// The domain at the end of every identity
    #[arg(long, value_name = "DOMAIN")]
    identity_trust_domain: Option<String>,
    /// Life of workloads' certificates
    #[arg(long, value_name = "TIME")]
    identity_issuance_lifetime: Option<String>,
}

/// Form of manifests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// YAML documents
    Yaml,
    /// A JSON List
    Json,
}

/// Prints what installs a control plane.
pub(crate) async fn run(args: InstallArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let merged = values(&args, cluster)?;
    tell_remarks(&merged);
    if !args.ignore_cluster && !args.crds {
        refuse_second(cluster).await?;
        if !args.skip_checks {
            refuse_unfit(cluster).await?;
        }
    }
    let mut values = merged.values;
    if args.crds {
        return print(&install::crds(&values), args.output);
    }
    keys::settle(&mut values)?;
    print(&install::install(&values), args.output)
}

/// Stops where there is a control plane already: a second identity would cut its workloads off.
async fn refuse_second(cluster: &ClusterArgs) -> Result<(), Failure> {
    let namespace = &cluster.linkerd_namespace;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{}", install::CONFIG);
    let found = match cluster.client().await {
        Ok(client) => object(&client, &path).await.map_err(|error| error.reason),
        Err(failure) => Err(failure.message),
    };
    match found {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Failure::failed(format!(
            "there is a control plane in namespace {namespace} already; use `weft upgrade`, or \
             --ignore-cluster to print manifests all the same"
        ))),
        Err(reason) => Err(Failure::failed(format!(
            "the cluster cannot be asked whether it has a control plane: {reason}; give \
             --ignore-cluster to print manifests all the same"
        ))),
    }
}

/// Stops where the cluster would not take the manifests.
async fn refuse_unfit(cluster: &ClusterArgs) -> Result<(), Failure> {
    match check::obstacles(cluster).await.as_slice() {
        [] => Ok(()),
        obstacles => Err(Failure::failed(format!(
            "the cluster is not fit for it: {}; see weft check --pre, or give --skip-checks to \
             print manifests all the same",
            obstacles.join("; ")
        ))),
    }
}

/// The values that flags and files say.
fn values(args: &InstallArgs, cluster: &ClusterArgs) -> Result<Merged, Failure> {
    let mut layers = Vec::new();
    let mut layer = |source: &str, values: Value| {
        layers.push(Layer { source: source.to_string(), values });
    };
    if args.ha {
        layer("--ha", Values::ha());
    }
    if args.linkerd_cni_enabled {
        layer("--linkerd-cni-enabled", json!({"cniEnabled": true}));
    }
    layer("--linkerd-namespace", json!({"linkerdNamespace": cluster.linkerd_namespace}));
    layers.extend(args.values.layers()?);
    layers.extend(args.identity.layers()?);
    layers::merge(&layers).map_err(Failure::misconfigured)
}

impl ValuesArgs {
    /// What files and assignments say: assignments win.
    pub(crate) fn layers(&self) -> Result<Vec<Layer>, Failure> {
        let mut layers = Vec::new();
        for path in &self.values {
            let source = format!("--values {}", path.display());
            let parsed = layers::parse(&source, &read("--values", path)?);
            layers.push(parsed.map_err(Failure::misconfigured)?);
        }
        for text in &self.set {
            layers.extend(set::parse(text).map_err(Failure::misconfigured)?);
        }
        for text in &self.set_file {
            let (path, file) = text.split_once('=').ok_or_else(|| {
                Failure::misconfigured(format!("--set-file {text}: give a path and a file"))
            })?;
            let text = read("--set-file", &PathBuf::from(file))?;
            layers.push(set::text(path, text).map_err(Failure::misconfigured)?);
        }
        Ok(layers)
    }
}

impl IdentityArgs {
    /// What the flags say.
    pub(crate) fn layers(&self) -> Result<Vec<Layer>, Failure> {
        let mut layers = Vec::new();
        let mut layer = |source: &str, values: Value| {
            layers.push(Layer { source: source.to_string(), values });
        };
        if let Some(path) = &self.identity_trust_anchors_file {
            let flag = "--identity-trust-anchors-file";
            layer(flag, json!({"identityTrustAnchorsPEM": read(flag, path)?}));
        }
        if let Some(path) = &self.identity_issuer_certificate_file {
            let flag = "--identity-issuer-certificate-file";
            layer(flag, json!({"identity": {"issuer": {"tls": {"crtPEM": read(flag, path)?}}}}));
        }
        if let Some(path) = &self.identity_issuer_key_file {
            let flag = "--identity-issuer-key-file";
            layer(flag, json!({"identity": {"issuer": {"tls": {"keyPEM": read(flag, path)?}}}}));
        }
        if self.identity_external_issuer {
            let scheme = json!({"identity": {"issuer": {
                "scheme": install::ISSUER_SCHEME_KUBERNETES,
            }}});
            layer("--identity-external-issuer", scheme);
        }
        if let Some(domain) = &self.identity_trust_domain {
            layer("--identity-trust-domain", json!({"identityTrustDomain": domain}));
        }
        if let Some(time) = &self.identity_issuance_lifetime {
            let values = json!({"identity": {"issuer": {"issuanceLifetime": time}}});
            layer("--identity-issuance-lifetime", values);
        }
        Ok(layers)
    }
}

fn read(flag: &str, path: &PathBuf) -> Result<String, Failure> {
    fs::read_to_string(path)
        .map_err(|error| Failure::failed(format!("{flag} {}: {error}", path.display())))
}

pub(crate) fn tell_remarks(merged: &Merged) {
    for remark in &merged.remarks {
        eprintln!("weft: {remark}");
    }
}

pub(crate) fn print(documents: &[Value], output: Output) -> Result<(), Failure> {
    let format = match output {
        Output::Yaml => Format::Yaml,
        Output::Json => Format::Json,
    };
    say(install::render(documents, format))
}
