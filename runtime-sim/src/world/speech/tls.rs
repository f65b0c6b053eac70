//! The application's own TLS: a certificate that is not the mesh's, which clients trust.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber,
};

use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::runtime::{Crypto, Runtime};
use mesh_core::wire::tls::Credentials;
use mesh_core::wire::tls::csr::{RcgenKey, san};

use crate::crypto::SeededCrypto;

/// Who every such application is, whatever name it is called by.
const IDENTITY: &str = "application.simulated";

/// What servers show and clients trust: equal in every world.
///
/// # Errors
/// What is wrong, in words; nothing is, but with `name`.
pub(crate) fn credentials(runtime: &Runtime, name: &str) -> Result<Credentials, String> {
    let crypto = SeededCrypto::new(0, IDENTITY);
    let key = || crypto.generate_key().map_err(|error| error.to_string());
    let fail = |error: rcgen::Error| error.to_string();
    let anchor_key = RcgenKey(key()?);
    let mut anchor = params(1);
    anchor.distinguished_name.push(DnType::CommonName, "simulated applications");
    anchor.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    anchor.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let anchor_pem = anchor.self_signed(&anchor_key).map_err(fail)?.pem();
    let issuer = Issuer::new(anchor, anchor_key);
    let server = server(name)?;
    let mut leaf = params(2);
    leaf.subject_alt_names = vec![san(&server.identity).map_err(|error| error.to_string())?];
    leaf.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let leaf_key = key()?;
    let leaf = leaf.signed_by(&RcgenKey(leaf_key.clone()), &issuer).map_err(fail)?;
    let credentials = Credentials::new(runtime, server);
    let fail = |error: mesh_core::wire::tls::CredentialsError| error.to_string();
    credentials.set_roots(anchor_pem.as_bytes()).map_err(fail)?;
    credentials.set_certificate(leaf.der().to_vec(), Vec::new(), leaf_key).map_err(fail)?;
    Ok(credentials)
}

/// The server that is called `name` in SNI.
pub(crate) fn server(name: &str) -> Result<ServerTls, String> {
    let dns = |name: &str| DnsName::new(name).map_err(|error| format!("{name}: {error}"));
    Ok(ServerTls { identity: Identity::Dns(dns(IDENTITY)?), server_name: dns(name)? })
}

/// Of a run's first day and ten years after it.
fn params(serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    params.not_after = rcgen::date_time_ymd(2040, 1, 1);
    params
}
