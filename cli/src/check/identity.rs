//! Checks of certificates: the trust anchors, the issuer, the webhooks'.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mesh_core::control::keys::{CertificateFacts, is_anchored, read_certificates};
use mesh_core::manifest::install::{ANCHORS_KEY, ISSUER_SECRET};
use mesh_core::runtime::Crypto;
use mesh_core::time::WallTime;
use serde_json::Value;

use super::facts::{Facts, Question, WEBHOOKS, WebhookFacts};
use super::judge::{unknown, values};
use super::report::{Category, Fault};
use crate::install::upgrade::text_of;

/// Certificates that end sooner than this are warned of.
const LEFT_MIN: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// What judging certificates takes: the time, and how signatures are verified.
pub(super) struct Now<'a> {
    pub(super) time: WallTime,
    pub(super) crypto: &'a dyn Crypto,
}

/// `linkerd-identity`.
pub(super) fn certificates(question: &Question, facts: &Facts, now: &Now<'_>) -> Category {
    let mut category = Category::new("linkerd-identity");
    let found =
        anchors(question, facts).and_then(|anchors| Ok((anchors, issuer(question, facts)?)));
    let (anchors_pem, issuer_pem) = match found {
        Ok(found) => found,
        Err(fault) => {
            category.check("certificate config is valid", Err(fault));
            return category;
        }
    };
    let read = |pem: &str, what: &str| {
        read_certificates(pem).ok_or_else(|| {
            Fault::error(format!("{what} holds no certificate in PEM, or a broken one"), NEW_ISSUER)
        })
    };
    let read = read(&anchors_pem, "ConfigMap linkerd-identity-trust-roots")
        .and_then(|anchors| Ok((anchors, read(&issuer_pem, "Secret linkerd-identity-issuer")?)));
    let (anchors, issuers) = match read {
        Ok(read) => read,
        Err(fault) => {
            category.check("certificate config is valid", Err(fault));
            return category;
        }
    };
    category.check("certificate config is valid", Ok(()));
    let issuer = &issuers[..1];
    category.check("trust anchors are using supported crypto algorithm", supported(&anchors));
    if category.check("trust anchors are within their validity period", valid(&anchors, now)) {
        category.check("trust anchors are valid for at least 60 days", lasting(&anchors, now));
    }
    category.check("issuer cert is using supported crypto algorithm", supported(issuer));
    if category.check("issuer cert is within its validity period", valid(issuer, now)) {
        category.check("issuer cert is valid for at least 60 days", lasting(issuer, now));
    }
    let anchored = match is_anchored(now.crypto, &issuer_pem, &anchors_pem) {
        true => Ok(()),
        false => Err(Fault::error(
            format!("{} is signed by none of the trust anchors", issuer[0].subject),
            "add the anchor that signed it to ConfigMap linkerd-identity-trust-roots, or give an \
             issuer of the anchors there: `weft upgrade --identity-trust-anchors-file …`",
        )),
    };
    category.check("issuer cert is issued by the trust anchor", anchored);
    category
}

const NEW_ISSUER: &str = "give a good one: `weft upgrade --identity-issuer-certificate-file … \
                          --identity-issuer-key-file … | kubectl apply -f -`";

pub(super) fn anchors(question: &Question, facts: &Facts) -> Result<String, Fault> {
    let map = facts.at(&question.trust_roots()).map_err(unknown)?;
    let text = map.and_then(|map| map["data"][ANCHORS_KEY].as_str());
    text.map(ToString::to_string).ok_or_else(|| {
        Fault::error(
            "there is no ConfigMap linkerd-identity-trust-roots with ca-bundle.crt",
            "weft upgrade makes it, unless identity.externalCA says that somebody else does",
        )
    })
}

fn issuer(question: &Question, facts: &Facts) -> Result<String, Fault> {
    let secret = facts.at(&question.secret(ISSUER_SECRET)).map_err(unknown)?;
    let scheme = values(question, facts).map(|values| values.identity.issuer.scheme);
    let is_kubernetes = scheme.is_ok_and(|scheme| scheme == "kubernetes.io/tls");
    let names = if is_kubernetes { ["tls.crt", "crt.pem"] } else { ["crt.pem", "tls.crt"] };
    let text = secret.and_then(|secret| names.iter().find_map(|name| text_of(secret, name)));
    text.ok_or_else(|| {
        Fault::error(
            format!("there is no Secret {ISSUER_SECRET} with crt.pem or tls.crt"),
            "weft upgrade with --identity-issuer-certificate-file and --identity-issuer-key-file \
             makes it; an external issuer's is made by whoever issues it",
        )
    })
}

fn supported(certificates: &[CertificateFacts]) -> Result<(), Fault> {
    let other = certificates.iter().find(|certificate| !certificate.is_p256);
    other.map_or(Ok(()), |other| {
        Err(Fault::error(
            format!("{} has a key that is not ECDSA P-256", other.subject),
            "make certificates with keys of that kind: openssl ecparam -name prime256v1 -genkey",
        ))
    })
}

fn valid(certificates: &[CertificateFacts], now: &Now<'_>) -> Result<(), Fault> {
    for CertificateFacts { subject, validity, .. } in certificates {
        let fault = match () {
            () if validity.until <= now.time => format!("{subject} ended at {}", validity.until),
            () if validity.from > now.time => {
                format!("{subject} is not valid before {}", validity.from)
            }
            () => continue,
        };
        return Err(Fault::error(fault, NEW_ISSUER));
    }
    Ok(())
}

fn lasting(certificates: &[CertificateFacts], now: &Now<'_>) -> Result<(), Fault> {
    let ends = |certificate: &&CertificateFacts| certificate.validity.until <= now.time + LEFT_MIN;
    certificates.iter().find(ends).map_or(Ok(()), |certificate| {
        Err(Fault::warning(
            format!("{} ends at {}", certificate.subject, certificate.validity.until),
            NEW_ISSUER,
        ))
    })
}

/// `linkerd-webhooks-and-apisvc-tls`.
pub(super) fn webhooks(question: &Question, facts: &Facts, now: &Now<'_>) -> Category {
    let mut category = Category::new("linkerd-webhooks-and-apisvc-tls");
    for webhook in &WEBHOOKS {
        let name = webhook.name;
        let judged = certificate_of(question, facts, webhook, now);
        let until = match judged {
            Ok(until) => until,
            Err(fault) => {
                category.check(format!("{name} webhook has valid cert"), Err(fault));
                continue;
            }
        };
        category.check(format!("{name} webhook has valid cert"), Ok(()));
        // The control plane renews its own at two thirds of their lives: a day is enough.
        let lasts = match until > now.time + Duration::from_secs(24 * 60 * 60) {
            true => Ok(()),
            false => Err(Fault::warning(
                format!("it ends at {until}"),
                "the control plane renews it: see the log of its pods",
            )),
        };
        category.check(format!("{name} cert is valid for at least a day"), lasts);
    }
    category
}

/// When a webhook's certificate ends, where the API server will take it.
fn certificate_of(
    question: &Question,
    facts: &Facts,
    webhook: &WebhookFacts,
    now: &Now<'_>,
) -> Result<WallTime, Fault> {
    let wait = "the control plane makes it when it starts: see the log of its pods";
    let missing = |what: String| Fault::error(what, wait).may_pass();
    let secret = facts.at(&question.secret(webhook.secret)).map_err(unknown)?;
    let secret = secret.ok_or_else(|| missing(format!("there is no Secret {}", webhook.secret)))?;
    let chain = text_of(secret, "tls.crt");
    let chain = chain.ok_or_else(|| missing(format!("{} has no tls.crt", webhook.secret)))?;
    let leaf = read_certificates(&chain).and_then(|read| read.into_iter().next());
    let leaf =
        leaf.ok_or_else(|| Fault::error(format!("{}: tls.crt is broken", webhook.secret), wait))?;
    let configuration = facts.at(&webhook.path()).map_err(unknown)?.cloned().unwrap_or_default();
    let bundle = bundle(&configuration);
    if bundle.is_empty() {
        let configuration = webhook.configuration;
        return Err(missing(format!("{configuration} has no caBundle: nobody is trusted")));
    }
    if !is_anchored(now.crypto, &chain, &bundle) {
        return Err(missing(format!(
            "the certificate in {} is not of the caBundle in {}",
            webhook.secret, webhook.configuration
        )));
    }
    let name = format!("{}.{}.svc", webhook.service, question.namespace);
    if !leaf.dns_names.contains(&name) {
        return Err(missing(format!("the certificate in {} is not for {name}", webhook.secret)));
    }
    if leaf.validity.until <= now.time || leaf.validity.from > now.time {
        return Err(missing(format!(
            "it is valid from {} to {}",
            leaf.validity.from, leaf.validity.until
        )));
    }
    Ok(leaf.validity.until)
}

fn bundle(configuration: &Value) -> String {
    let bundle = configuration["webhooks"][0]["clientConfig"]["caBundle"].as_str();
    let bytes = bundle.and_then(|bundle| STANDARD.decode(bundle).ok()).unwrap_or_default();
    String::from_utf8(bytes).unwrap_or_default()
}
