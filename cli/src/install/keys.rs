//! The keys that an installation begins with: those that were given, or new ones.

use std::sync::Arc;

use mesh_core::control::ca::CaError;
use mesh_core::control::keys::{InstallationKeys, KeysError, are_certificates};
use mesh_core::manifest::Values;
use mesh_core::manifest::install::ISSUER_SCHEME_KUBERNETES;
use runtime_real::no_cluster::NoCluster;

use crate::Failure;

/// Checks the keys that values have. New ones are not made: they would cut workloads off.
pub(super) fn settle_given(values: &mut Values) -> Result<(), Failure> {
    let issuer = &values.identity.issuer;
    let is_external = issuer.scheme == ISSUER_SCHEME_KUBERNETES;
    if !is_external && (issuer.tls.certificate_pem.is_empty() || issuer.tls.key_pem.is_empty()) {
        return Err(Failure::failed(
            "the cluster's Secret linkerd-identity-issuer has no certificate and key; give \
             --identity-issuer-certificate-file and --identity-issuer-key-file",
        ));
    }
    settle(values)
}

/// Checks the keys that values have, or makes them where they have none.
pub(super) fn settle(values: &mut Values) -> Result<(), Failure> {
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let tls = &values.identity.issuer.tls;
    let anchors = &values.identity_trust_anchors_pem;
    let given = [anchors, &tls.certificate_pem, &tls.key_pem].map(|pem| !pem.is_empty());
    if values.identity.issuer.scheme == ISSUER_SCHEME_KUBERNETES && !given[1] && !given[2] {
        return external(values);
    }
    let keys = match given {
        [false, false, false] => {
            let domain = &values.identity_trust_domain;
            let made = InstallationKeys::make(&runtime, domain).map_err(Failure::failed)?;
            eprintln!(
                "weft: no trust anchors were given: made an anchor and an issuer, valid for a \
                 year. The anchor's key is not kept; give your own for more than a trial \
                 (--identity-trust-anchors-file, --identity-issuer-certificate-file, \
                 --identity-issuer-key-file)"
            );
            made
        }
        [true, true, true] => {
            let given = InstallationKeys {
                anchors_pem: anchors.clone(),
                issuer_pem: tls.certificate_pem.clone(),
                key_pem: tls.key_pem.clone(),
            };
            given.check(&runtime).map_err(in_flags)?;
            given
        }
        [has_anchors, has_certificate, _] => {
            let missing = match (has_anchors, has_certificate) {
                (false, _) => "--identity-trust-anchors-file",
                (_, false) => "--identity-issuer-certificate-file",
                _ => "--identity-issuer-key-file",
            };
            return Err(Failure::misconfigured(format!(
                "{missing} is missing: trust anchors, the issuer's certificate and its key are \
                 given together, or none of them"
            )));
        }
    };
    values.identity_trust_anchors_pem = keys.anchors_pem;
    values.identity.issuer.tls.certificate_pem = keys.issuer_pem;
    values.identity.issuer.tls.key_pem = keys.key_pem;
    Ok(())
}

/// The issuer is somebody else's; the anchors are theirs too, or given.
fn external(values: &Values) -> Result<(), Failure> {
    let anchors = &values.identity_trust_anchors_pem;
    if values.identity.external_ca || are_certificates(anchors) {
        return Ok(());
    }
    Err(Failure::misconfigured(match anchors.is_empty() {
        true => {
            "an external issuer needs its trust anchors: give --identity-trust-anchors-file, or \
             --set identity.externalCA=true where somebody else makes the ConfigMap \
             linkerd-identity-trust-roots"
        }
        false => "--identity-trust-anchors-file: holds no PEM certificate",
    }))
}

/// What is wrong with given keys, in the words of the command line.
fn in_flags(error: KeysError) -> Failure {
    let message = match &error {
        KeysError::Authority(CaError::File { file, fault }) => {
            let flag = match *file {
                "ca.crt" => "--identity-trust-anchors-file",
                "issuer.crt" => "--identity-issuer-certificate-file",
                _ => "--identity-issuer-key-file",
            };
            let fault = fault.replace("the anchors in ca.crt", "the trust anchors");
            format!("{flag}: {}", fault.replace("issuer.crt", "the issuer's certificate"))
        }
        KeysError::Authority(CaError::Expired(at)) => format!(
            "--identity-issuer-certificate-file: expired at {at}; give a new certificate and key"
        ),
        error => error.to_string(),
    };
    Failure::misconfigured(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(values: &mut Values) -> String {
        let tokio = runtime_real::current_thread().unwrap();
        let settled = tokio.block_on(async { settle(values) });
        settled.map_or_else(|failure| failure.message, |()| "fine".into())
    }

    fn made() -> Values {
        let mut values = Values::default();
        assert_eq!(said(&mut values), "fine");
        values
    }

    #[test]
    fn keys_that_are_made_are_good() {
        let mut values = made();
        assert_eq!(said(&mut values), "fine");
    }

    #[test]
    fn keys_that_do_not_belong_together_are_refused() {
        let other = made();
        let mut values = made();
        values.identity.issuer.tls.key_pem = other.identity.issuer.tls.key_pem.clone();
        insta::assert_snapshot!(
            said(&mut values),
            @"--identity-issuer-key-file: is not the key of the issuer's certificate; give its key"
        );
        let mut values = made();
        values.identity_trust_anchors_pem = other.identity_trust_anchors_pem.clone();
        insta::assert_snapshot!(
            said(&mut values),
            @"--identity-issuer-certificate-file: is signed by none of the trust anchors; add the anchor that signed it"
        );
    }

    #[test]
    fn keys_are_given_together() {
        let mut values = made();
        values.identity.issuer.tls.key_pem.clear();
        insta::assert_snapshot!(said(&mut values), @"--identity-issuer-key-file is missing: trust anchors, the issuer's certificate and its key are given together, or none of them");
    }

    #[test]
    fn an_external_issuer_needs_its_anchors() {
        let mut values = Values::default();
        values.identity.issuer.scheme = ISSUER_SCHEME_KUBERNETES.into();
        assert!(said(&mut values).starts_with("an external issuer needs its trust anchors"));
        values.identity.external_ca = true;
        assert_eq!(said(&mut values), "fine");
    }
}
