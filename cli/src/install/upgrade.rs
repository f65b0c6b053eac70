//! `weft upgrade`: what is installed, as this version makes it. Values and keys are the cluster's, as
//! far as flags do not say otherwise.
//!
//! Law: an upgrade keeps the identity. Workloads that trust one issuer are never left with another,
//! unless that is forced.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use mesh_core::manifest::Values;
use mesh_core::manifest::install::TRUST_ROOTS;
use mesh_core::manifest::install::{self, ANCHORS_KEY, CONFIG, CONFIG_KEY, ISSUER_SECRET};
use mesh_core::manifest::values::layers::{self, Layer};
use serde_json::{Value, json};

use super::{IdentityArgs, Output, ValuesArgs, keys, print, read, tell_remarks};
use crate::Failure;
use crate::cluster::{ClusterArgs, object};

#[derive(Debug, Args)]
pub(crate) struct UpgradeArgs {
    /// Print the custom resource definitions, and nothing else
    #[arg(long)]
    crds: bool,
    /// Also where running proxies do not trust the new issuer
    #[arg(long)]
    force: bool,
    /// Take what is installed from manifests in a file, not from the cluster
    #[arg(long, value_name = "FILE")]
    from_manifests: Option<PathBuf>,
    /// With three pods of everything, on nodes of their own
    #[arg(long)]
    ha: bool,
    #[command(flatten)]
    values: ValuesArgs,
    #[command(flatten)]
    identity: IdentityArgs,
    /// Form of the manifests
    #[arg(long, short, value_enum, default_value_t = Output::Yaml)]
    output: Output,
}

/// What of an installation an upgrade goes on from.
#[derive(Debug, Default)]
pub(super) struct Installed {
    config: Option<Value>,
    trust_roots: Option<Value>,
    issuer: Option<Value>,
}

/// Prints what makes the installation one of this version.
pub(crate) async fn run(args: UpgradeArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let installed = match &args.from_manifests {
        Some(path) => Installed::from_manifests(&read("--from-manifests", path)?)?,
        None => Installed::find(cluster).await?,
    };
    let stored = installed.layer()?;
    let before = layers::merge(std::slice::from_ref(&stored)).map_err(Failure::misconfigured)?;
    let mut layers = vec![stored];
    if args.ha {
        layers.push(Layer { source: "--ha".into(), values: Values::ha() });
    }
    layers.extend(args.values.layers()?);
    layers.extend(args.identity.layers()?);
    let merged = layers::merge(&layers).map_err(Failure::misconfigured)?;
    tell_remarks(&merged);
    let mut values = merged.values;
    if args.crds {
        return print(&install::crds(&values), args.output);
    }
    if !args.force {
        keeps_trust(&before.values, &values)?;
    }
    keys::settle_given(&mut values)?;
    print(&install::install(&values), args.output)
}

/// Workloads trust the anchors that they began with until they are started anew: those must stay
/// among the anchors.
fn keeps_trust(before: &Values, after: &Values) -> Result<(), Failure> {
    let old = sections(&before.identity_trust_anchors_pem);
    let new = sections(&after.identity_trust_anchors_pem);
    match old.iter().all(|anchor| new.contains(anchor)) || after.identity.external_ca {
        true => Ok(()),
        false => Err(Failure::failed(
            "the new trust anchors leave out some that running proxies trust: give a bundle that \
             has both, upgrade, restart workloads, and leave the old ones out then; or --force",
        )),
    }
}

/// The certificates of a bundle, each as its text without blanks.
fn sections(pem: &str) -> Vec<String> {
    let plain = |text: &str| text.split_whitespace().collect::<String>();
    let sections = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    sections.filter_map(|text| Some(plain(text.split("-----END").next()?))).collect()
}

impl Installed {
    /// What the cluster has.
    pub(super) async fn find(cluster: &ClusterArgs) -> Result<Self, Failure> {
        let client = cluster.client().await?;
        let namespace = &cluster.linkerd_namespace;
        let find = async |kind: &str, name: &str| {
            let path = format!("/api/v1/namespaces/{namespace}/{kind}/{name}");
            let found = object(&client, &path).await;
            found.map_err(|error| Failure::failed(format!("{name}: {}", error.reason)))
        };
        let installed = Self {
            config: find("configmaps", CONFIG).await?,
            trust_roots: find("configmaps", TRUST_ROOTS).await?,
            issuer: find("secrets", ISSUER_SECRET).await?,
        };
        match installed.config {
            Some(_) => Ok(installed),
            None => Err(Failure::failed(format!(
                "there is no control plane in namespace {namespace}: it has no ConfigMap {CONFIG}; \
                 use `weft install`, or say where it is with --linkerd-namespace"
            ))),
        }
    }

    fn from_manifests(text: &str) -> Result<Self, Failure> {
        let mut installed = Self::default();
        for document in install::documents(text).map_err(Failure::misconfigured)? {
            let place = match (document["kind"].as_str(), document["metadata"]["name"].as_str()) {
                (Some("ConfigMap"), Some(CONFIG)) => &mut installed.config,
                (Some("ConfigMap"), Some(TRUST_ROOTS)) => &mut installed.trust_roots,
                (Some("Secret"), Some(ISSUER_SECRET)) => &mut installed.issuer,
                _ => continue,
            };
            *place = Some(document);
        }
        match installed.config {
            Some(_) => Ok(installed),
            None => Err(Failure::misconfigured(format!(
                "--from-manifests: there is no ConfigMap {CONFIG} among them"
            ))),
        }
    }

    /// The values and keys of the installation, but for its version: that is this program's.
    pub(super) fn layer(&self) -> Result<Layer, Failure> {
        let source = format!("ConfigMap {CONFIG}");
        let text = self.config.as_ref().and_then(|config| config["data"][CONFIG_KEY].as_str());
        let Some(text) = text else {
            return Err(Failure::failed(format!("{source} has no `{CONFIG_KEY}`")));
        };
        let mut layer = layers::parse(&source, text).map_err(Failure::failed)?;
        let values = layer.values.as_object_mut().expect("a layer is a map");
        values.remove("linkerdVersion");
        let anchors = self.trust_roots.as_ref().and_then(|map| map["data"][ANCHORS_KEY].as_str());
        if let Some(anchors) = anchors {
            values.insert("identityTrustAnchorsPEM".into(), anchors.into());
        }
        let is_external = values["identity"]["issuer"]["scheme"] == "kubernetes.io/tls";
        if let (Some(secret), false) = (&self.issuer, is_external) {
            let of = |names: [&str; 2]| names.iter().find_map(|name| text_of(secret, name));
            let certificate = of(["crt.pem", "tls.crt"]);
            let key = of(["key.pem", "tls.key"]);
            if let (Some(certificate), Some(key)) = (certificate, key) {
                values["identity"]["issuer"]["tls"] = json!({"crtPEM": certificate, "keyPEM": key});
            }
        }
        Ok(layer)
    }
}

/// A field of a secret.
pub(crate) fn text_of(secret: &Value, name: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][name].as_str()?).ok()?;
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(anchors: &str) -> Values {
        Values { identity_trust_anchors_pem: anchors.into(), ..Values::default() }
    }

    fn certificate(body: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn an_upgrade_goes_on_from_manifests() {
        let before = Values {
            controller_replicas: 2,
            linkerd_version: "0.0.1".into(),
            identity_trust_anchors_pem: certificate("anchor"),
            ..Values::default()
        };
        let mut keyed = before.clone();
        keyed.identity.issuer.tls.certificate_pem = "certificate".into();
        keyed.identity.issuer.tls.key_pem = "key".into();
        let text = install::render(&install::install(&keyed), install::Format::Yaml);
        let layer = Installed::from_manifests(&text).unwrap().layer().unwrap();
        let after = layers::merge(&[layer]).unwrap().values;
        let version = Values::default().linkerd_version;
        assert_eq!(after, Values { linkerd_version: version, ..keyed });
    }

    #[test]
    fn anchors_that_proxies_trust_stay() {
        let (a, b) = (certificate("a"), certificate("b"));
        assert!(keeps_trust(&values(&a), &values(&format!("{b}{a}"))).is_ok());
        assert!(keeps_trust(&values(&a), &values(&b)).is_err());
    }

    #[test]
    fn manifests_of_something_else_are_no_installation() {
        let error = Installed::from_manifests("kind: ConfigMap\nmetadata: {name: a}\n");
        assert!(error.unwrap_err().message.contains("no ConfigMap linkerd-config"));
    }
}
