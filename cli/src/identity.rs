//! `weft identity`: the certificates that pods' sidecars show, as they show them.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mesh_core::control::keys::{CertificateFacts, read_certificate};
use mesh_core::manifest::Values;
use mesh_core::manifest::install::{CONFIG, CONFIG_KEY};
use runtime_real::kube::ApiClient;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::cluster::{ClusterArgs, object};
use crate::pods::{self, PodRef};
use crate::{Failure, forward, say};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct IdentityArgs {
    /// Pods
    #[arg(value_name = "POD")]
    pods: Vec<String>,
    /// Their namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    /// Pods with these labels: app=web
    #[arg(long, short = 'l', value_name = "LABELS", conflicts_with = "pods")]
    selector: Option<String>,
}

/// Prints the certificate of each pod.
pub(crate) async fn run(args: IdentityArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let mut found = Vec::new();
    for pod in &args.pods {
        found.extend(pods::of_resource(&client, &args.namespace, pod).await?);
    }
    if let Some(selector) = &args.selector {
        let selector = selector.replace('/', "%2F").replace('=', "%3D");
        found.extend(pods::labelled(&client, &args.namespace, &selector).await?);
    }
    if found.is_empty() {
        return Err(Failure::failed("give pods, or labels that running pods have with --selector"));
    }
    let values = values(&client, cluster).await?;
    let mut all_shown = true;
    let of = found.len();
    for (index, pod) in found.iter().enumerate() {
        say(format!("\nPOD {} ({} of {of})\n\n", pod.name, index + 1))?;
        match shown(&client, &values, pod).await {
            Ok(certificate) => say(text(&certificate))?,
            Err(error) => {
                all_shown = false;
                eprintln!("weft: {}/{}: {error}", pod.namespace, pod.name);
            }
        }
    }
    if all_shown { Ok(()) } else { Err(Failure::silent(1)) }
}

async fn values(client: &ApiClient, cluster: &ClusterArgs) -> Result<Values, Failure> {
    let path = format!("/api/v1/namespaces/{}/configmaps/{CONFIG}", cluster.linkerd_namespace);
    let config = object(client, &path).await.map_err(|error| Failure::failed(error.reason))?;
    let config = config.ok_or_else(|| {
        Failure::failed(format!("there is no control plane in {}", cluster.linkerd_namespace))
    })?;
    Values::read(config["data"][CONFIG_KEY].as_str().unwrap_or_default()).map_err(Failure::failed)
}

/// The certificate that a pod's sidecar shows to whoever asks for its name.
async fn shown(
    client: &ApiClient,
    values: &Values,
    pod: &PodRef,
) -> Result<CertificateFacts, String> {
    let port = pod.port("linkerd-proxy", "linkerd-proxy").ok_or("it has no sidecar")?;
    let account = if pod.service_account.is_empty() { "default" } else { &pod.service_account };
    let name = format!(
        "{account}.{}.serviceaccount.identity.{}.{}",
        pod.namespace, values.linkerd_namespace, values.identity_trust_domain
    );
    let stream = forward::connect(client, &pod.namespace, &pod.name, port).await?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Shown))
        .with_no_client_auth();
    let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let late = || format!("no handshake within {} s", HANDSHAKE_TIMEOUT.as_secs());
    let connected = timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(|_| late())?;
    let connected =
        connected.map_err(|error| format!("its sidecar shows no certificate: {error}"))?;
    let shown = connected.get_ref().1.peer_certificates().and_then(|shown| shown.first());
    shown.and_then(|der| read_certificate(der)).ok_or_else(|| "its certificate is broken".into())
}

/// What openssl would say of the parts that matter.
fn text(certificate: &CertificateFacts) -> String {
    let CertificateFacts { subject, issuer, serial, validity, dns_names, .. } = certificate;
    let mut text = String::from("Certificate:\n    Data:\n");
    // Writing to a string does not fail.
    let _ = write!(
        text,
        "        Serial Number: {serial}\n        \
         Issuer: {issuer}\n        \
         Validity\n            \
         Not Before: {}\n            \
         Not After : {}\n        \
         Subject: {subject}\n        \
         X509v3 Subject Alternative Name:\n            \
         DNS:{}\n",
        validity.from,
        validity.until,
        dns_names.join(", DNS:")
    );
    text
}

/// Takes whatever is shown: it is looked at, and nothing is sent to who shows it.
#[derive(Debug)]
struct Shown;

impl ServerCertVerifier for Shown {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let supported = provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
