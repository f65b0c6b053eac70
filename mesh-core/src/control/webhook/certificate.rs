//! The certificates that API servers know a webhook by: what a Secret holds, whether it is good, and
//! new ones. Decides and makes; reads and writes nothing.
//!
//! Law: what is made anew is trusted together with what was trusted before, until that has ended.
//! So a replica that still serves the former certificate is believed as long as it does.

use std::sync::Arc;
use std::time::Duration;

use crate::control::ca::{self, Authority, Validity};
use crate::control::pem;
use crate::model::identity::{DnsName, Identity};
use crate::runtime::crypto::KeyPair;
use crate::runtime::{Crypto, Entropy, cluster::Secret};
use crate::time::WallTime;
use crate::wire::tls::{identities_of, validity_of};

/// Life of a certificate and of the authority that signs it, and nothing else.
pub const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// For API servers whose clocks are behind.
const CLOCK_SKEW: Duration = Duration::from_secs(60 * 60);
/// Former authorities that stay trusted; with each renewal one more, and the oldest goes.
const FORMER_MAX: usize = 4;
/// Linkerd's type, and everybody's.
const KIND: &str = "kubernetes.io/tls";

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const BUNDLE: &str = "ca.crt";

/// A certificate to serve with, and the authorities that API servers are to trust.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The certificate.
    pub leaf_der: Vec<u8>,
    /// Its key.
    pub key: Arc<dyn KeyPair>,
    /// Who is trusted, PEM: its own authority first.
    pub bundle_pem: String,
    /// When it is to be made anew.
    pub renew_at: WallTime,
}

/// What to do with what the Secret holds.
#[derive(Debug)]
pub enum Decision {
    /// It is what is served.
    Keep(Kept),
    /// Somebody else made it anew: serve it.
    Adopt(Kept),
    /// It must be made anew.
    Renew {
        /// Why.
        why: &'static str,
        /// Authorities that stay trusted, PEM, the newest first.
        former: Vec<String>,
    },
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// No key.
    #[error("cannot make a key: {0}")]
    Key(#[from] crate::runtime::crypto::CryptoError),
    /// No signature.
    #[error("cannot make a certificate: {0}")]
    Signing(#[from] ca::CaError),
}

/// Decides, for a process that serves `served` (a certificate in DER) or nothing yet.
pub fn decide(
    crypto: &dyn Crypto,
    secret: Option<&Secret>,
    served: Option<&[u8]>,
    names: &[DnsName],
    now: WallTime,
) -> Decision {
    let renew = |why, former| Decision::Renew { why, former };
    let Some(secret) = secret else { return renew("there is none", Vec::new()) };
    let former = former(secret, now);
    let kept = match read(crypto, secret, names, now) {
        Ok(kept) => kept,
        Err(why) => return renew(why, former),
    };
    match (now >= kept.renew_at, served == Some(&*kept.leaf_der)) {
        (true, _) => renew("two thirds of its life are over", former),
        (false, true) => Decision::Keep(kept),
        (false, false) => Decision::Adopt(kept),
    }
}

/// Makes a certificate of a new authority for these names, as a Secret in place of `instead`.
///
/// # Errors
/// [`MakeError`].
pub fn make(
    crypto: &dyn Crypto,
    entropy: &dyn Entropy,
    names: &[DnsName],
    former: &[String],
    instead: Option<&Secret>,
    now: WallTime,
) -> Result<Secret, MakeError> {
    let validity = Validity::new(now, LIFETIME, CLOCK_SKEW);
    let common_name = names.first().map_or("webhook", DnsName::as_str);
    let (anchor_key, key) = (crypto.generate_key()?, crypto.generate_key()?);
    let anchor = ca::make_anchor(entropy, &anchor_key, common_name, validity)?;
    let anchor_key = pem::encode("PRIVATE KEY", anchor_key.pkcs8_der());
    let (anchor_pem, anchor_key) = (anchor.as_bytes(), anchor_key.as_bytes());
    let authority = Authority::from_pem(crypto, anchor_pem, anchor_pem, anchor_key, now)?;
    let leaf = authority.issue(entropy, key.public_key(), names, validity)?;
    // The authority's key ends here: it signs nothing else.
    let mut bundle = anchor;
    bundle.extend(former.iter().take(FORMER_MAX).map(String::as_str));
    let data = [
        (CERTIFICATE, pem::encode("CERTIFICATE", &leaf.leaf_der)),
        (KEY, pem::encode("PRIVATE KEY", key.pkcs8_der())),
        (BUNDLE, bundle),
    ];
    Ok(Secret {
        version: instead.and_then(|secret| secret.version.clone()),
        kind: instead.map_or_else(|| KIND.to_string(), |secret| secret.kind.clone()),
        data: data.map(|(name, text)| (name.to_string(), text.into_bytes())).into(),
    })
}

/// What a Secret holds, where that can be served.
fn read(
    crypto: &dyn Crypto,
    secret: &Secret,
    names: &[DnsName],
    now: WallTime,
) -> Result<Kept, &'static str> {
    let file = |name: &str| secret.data.get(name).map(Vec::as_slice).unwrap_or_default();
    let mut leaf = pem::certificates(file(CERTIFICATE)).ok_or("its tls.crt is no certificate")?;
    let leaf_der = leaf.swap_remove(0);
    let key = pem::private_key(file(KEY)).and_then(|der| crypto.load_key(&der).ok());
    let key = key.ok_or("its tls.key is no ECDSA P-256 key")?;
    let bundle = pem::certificates(file(BUNDLE)).ok_or("its ca.crt holds no certificate")?;
    if !ca::is_for_key(&leaf_der, &*key) {
        return Err("its key is not its certificate's");
    }
    let identities = identities_of(&leaf_der);
    let is_named = |name: &DnsName| identities.contains(&Identity::Dns(name.clone()));
    if !names.iter().all(is_named) {
        return Err("it has not all names of the services");
    }
    if !bundle.iter().any(|authority| ca::is_signed_by(crypto, &leaf_der, authority)) {
        return Err("it is signed by none of its ca.crt");
    }
    let (from, until) = validity_of(&leaf_der).ok_or("its tls.crt has no validity")?;
    if now < from || now >= until {
        return Err("it is not valid now");
    }
    let life = until.since(from);
    let bundle_pem = bundle.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    Ok(Kept { leaf_der, key, bundle_pem, renew_at: from + life * 2 / 3 })
}

/// The authorities of a Secret that have not ended, PEM.
fn former(secret: &Secret, now: WallTime) -> Vec<String> {
    let bundle = secret.data.get(BUNDLE).and_then(|bundle| pem::certificates(bundle));
    let lives = |der: &Vec<u8>| validity_of(der).is_some_and(|(_, until)| now < until);
    let living = bundle.into_iter().flatten().filter(lives);
    living.map(|der| pem::encode("CERTIFICATE", &der)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::wire::tls::testing;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    fn names() -> Vec<DnsName> {
        ["linkerd-proxy-injector.linkerd.svc", "linkerd-proxy-injector.linkerd.svc.cluster.local"]
            .map(|name| DnsName::new(name).unwrap())
            .to_vec()
    }

    fn made(runtime: &Runtime, former: &[String], now: WallTime) -> Secret {
        make(&*runtime.crypto, &*runtime.entropy, &names(), former, None, now).unwrap()
    }

    fn said(runtime: &Runtime, secret: &Secret, now: WallTime) -> String {
        match decide(&*runtime.crypto, Some(secret), None, &names(), now) {
            Decision::Keep(_) => "keep".to_string(),
            Decision::Adopt(_) => "adopt".to_string(),
            Decision::Renew { why, .. } => why.to_string(),
        }
    }

    #[test]
    fn what_was_made_is_adopted_by_others_and_kept_by_who_serves_it() {
        let runtime = testing::runtime();
        let now = runtime.clock.wall();
        let secret = made(&runtime, &[], now);
        let Decision::Adopt(kept) = decide(&*runtime.crypto, Some(&secret), None, &names(), now)
        else {
            panic!("not adopted");
        };
        let again = decide(&*runtime.crypto, Some(&secret), Some(&kept.leaf_der), &names(), now);
        assert!(matches!(again, Decision::Keep(_)));
        let expected = now + (LIFETIME + CLOCK_SKEW) * 2 / 3 - CLOCK_SKEW;
        assert_eq!(kept.renew_at.as_unix_secs(), expected.as_unix_secs());
        assert_eq!(pem::certificates(kept.bundle_pem.as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn it_is_made_anew_after_two_thirds_of_its_life_and_both_authorities_are_trusted() {
        let runtime = testing::runtime();
        let now = runtime.clock.wall();
        let secret = made(&runtime, &[], now);
        assert_eq!(said(&runtime, &secret, now + DAY * 242), "adopt");
        let later = now + DAY * 244;
        let Decision::Renew { why, former } =
            decide(&*runtime.crypto, Some(&secret), None, &names(), later)
        else {
            panic!("not made anew");
        };
        assert_eq!((why, former.len()), ("two thirds of its life are over", 1));
        let next = made(&runtime, &former, later);
        assert_eq!(said(&runtime, &next, later), "adopt");
        let old = pem::certificates(&secret.data[CERTIFICATE]).unwrap().remove(0);
        let bundle = pem::certificates(&next.data[BUNDLE]).unwrap();
        assert!(bundle.iter().any(|ca| ca::is_signed_by(&*runtime.crypto, &old, ca)));
        // What has ended is trusted no more.
        assert_eq!(super::former(&next, now + DAY * 366).len(), 1);
    }

    #[test]
    fn what_cannot_be_served_is_made_anew_and_the_reason_told() {
        let runtime = testing::runtime();
        let now = runtime.clock.wall();
        let good = made(&runtime, &[], now);
        let other = made(&runtime, &[], now);
        let with = |name: &str, content: &[u8]| {
            let mut secret = good.clone();
            secret.data.insert(name.to_string(), content.to_vec());
            said(&runtime, &secret, now)
        };
        let mut renamed = names();
        renamed.push(DnsName::new("linkerd-sp-validator.linkerd.svc").unwrap());
        let renamed = match decide(&*runtime.crypto, Some(&good), None, &renamed, now) {
            Decision::Renew { why, .. } => why.to_string(),
            _ => "served".to_string(),
        };
        insta::assert_snapshot!([
            with(CERTIFICATE, b""),
            with(KEY, b"x"),
            with(BUNDLE, b""),
            with(KEY, &other.data[KEY]),
            with(BUNDLE, &other.data[BUNDLE]),
            said(&runtime, &good, now - DAY),
            said(&runtime, &good, now + DAY * 366),
            renamed,
        ].join("\n"), @r"
        its tls.crt is no certificate
        its tls.key is no ECDSA P-256 key
        its ca.crt holds no certificate
        its key is not its certificate's
        it is signed by none of its ca.crt
        it is not valid now
        it is not valid now
        it has not all names of the services
        ");
    }

    #[test]
    fn a_secret_keeps_its_type_and_its_place() {
        let runtime = testing::runtime();
        let old = Secret { version: Some("7".into()), kind: "Opaque".into(), ..Secret::default() };
        let now = runtime.clock.wall();
        let new =
            make(&*runtime.crypto, &*runtime.entropy, &names(), &[], Some(&old), now).unwrap();
        assert_eq!((new.version, new.kind), (old.version, old.kind));
    }

    #[test]
    fn a_key_is_printed_nowhere() {
        let runtime = testing::runtime();
        let secret = made(&runtime, &[], runtime.clock.wall());
        let key = String::from_utf8(secret.data[KEY].clone()).unwrap();
        let line = key.lines().nth(1).unwrap();
        assert!(!format!("{secret:?}").contains(line));
    }
}
