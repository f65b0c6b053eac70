//! Attacks on tokens, requests and the state directory, and what is issued to honest callers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{CertificateParams, DistinguishedName, DnType, SanType};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::IdentityIssuer;
use crate::api::identity::Certificate;
use crate::api::server::{Certifier, Refusal};
use crate::control::config::{IdentityConfig, MeshConfig};
use crate::control::metrics::ControlMetrics;
use crate::control::testing::{self, MemoryCluster, MemoryFiles};
use crate::control::token::{self, ServiceAccountName};
use crate::control::{csr, pem, signature, state};
use crate::model::identity::Identity;
use crate::runtime::Runtime;
use crate::runtime::crypto::KeyPair;
use crate::wire::tls::csr::{RcgenKey, csr_der};

const WEB: &str = "web.shop.serviceaccount.identity.linkerd.cluster.local";
const HOUR: Duration = Duration::from_secs(60 * 60);

struct Bench {
    runtime: Runtime,
    files: MemoryFiles,
    cluster: MemoryCluster,
    config: IdentityConfig,
    issuer: IdentityIssuer,
}

async fn open(runtime: &Runtime, config: &IdentityConfig) -> Result<IdentityIssuer, String> {
    let metrics = Arc::new(ControlMetrics::default());
    IdentityIssuer::open(runtime, config, &MeshConfig::default(), metrics)
        .await
        .map_err(|error| error.to_string())
}

async fn bench() -> Bench {
    let (runtime, files, cluster, _) = testing::runtime();
    let config =
        IdentityConfig { state_directory: PathBuf::from("state"), ..IdentityConfig::default() };
    let issuer = open(&runtime, &config).await.unwrap();
    Bench { runtime, files, cluster, config, issuer }
}

impl Bench {
    fn account(&self) -> ServiceAccountName {
        ServiceAccountName::from_username("system:serviceaccount:shop:web").unwrap()
    }

    fn token_key(&self) -> Arc<dyn KeyPair> {
        let text = self.files.content("state/token.key").unwrap();
        let der = pem::private_key(&text).unwrap();
        self.runtime.crypto.load_key(&der).unwrap()
    }

    fn token(&self) -> String {
        let now = self.runtime.clock.wall();
        token::create(&*self.token_key(), &self.account(), now, HOUR).unwrap()
    }

    fn key(&self) -> Arc<dyn KeyPair> {
        self.runtime.crypto.generate_key().unwrap()
    }

    /// A token with any claims, signed by any key.
    fn forged(&self, key: &dyn KeyPair, header: &str, claims: &str) -> String {
        let encode = |text: &[u8]| URL_SAFE_NO_PAD.encode(text);
        let signed = format!("{}.{}", encode(header.as_bytes()), encode(claims.as_bytes()));
        let raw = signature::to_raw(&key.sign(signed.as_bytes()).unwrap()).unwrap();
        format!("{signed}.{}", encode(&raw))
    }

    async fn certify(&self, token: &str, csr: Vec<u8>) -> Result<Certificate, Refusal> {
        let token = token.as_bytes().to_vec();
        self.issuer.certify(WEB.to_string(), token, csr).await
    }

    async fn with_token(&self, token: &str) -> Result<Certificate, Refusal> {
        let csr = csr_der(&self.key(), &Identity::new(WEB).unwrap()).unwrap();
        self.certify(token, csr).await
    }

    async fn with_request(&self, change: impl FnOnce(&mut CertificateParams)) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![dns(WEB)];
        change(&mut params);
        let request = params.serialize_request(&RcgenKey(self.key())).unwrap();
        match self.certify(&self.token(), request.der().to_vec()).await {
            Ok(_) => "issued".to_string(),
            Err(refusal) => refusal.to_string(),
        }
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

const HEADER: &str = r#"{"alg":"ES256","typ":"JWT"}"#;

fn claims(audience: &str, subject: &str, from: u64, until: u64) -> String {
    format!(
        r#"{{"iss":"weft","sub":"{subject}","aud":["{audience}"],"iat":{from},"nbf":{from},"exp":{until}}}"#
    )
}

#[tokio::test]
async fn an_honest_caller_gets_a_leaf_of_exactly_its_name_for_a_day() {
    let bench = bench().await;
    let issued = bench.with_token(&bench.token()).await.unwrap();
    let now = bench.runtime.clock.wall();
    assert_eq!(issued.valid_until.as_unix_secs(), (now + 24 * HOUR).as_unix_secs());
    let (_, leaf) = X509Certificate::from_der(&issued.leaf_der).unwrap();
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    assert!(names.value.general_names[0].to_string().contains(WEB));
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth && !usage.any);
    let (_, issuer) = X509Certificate::from_der(&issued.intermediates_der[0]).unwrap();
    assert_eq!(leaf.issuer().as_raw(), issuer.subject().as_raw());
    assert!(issuer.is_ca());
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused() {
    let bench = bench().await;
    let (key, other) = (bench.token_key(), bench.key());
    let now = bench.runtime.clock.wall().as_unix_secs();
    let web = "system:serviceaccount:shop:web";
    let good = claims("identity.l5d.io", web, now, now + 60);
    let forged = |header: &str, claims: &str| bench.forged(&*key, header, claims);
    assert!(bench.with_token(&forged(HEADER, &good)).await.is_ok());

    let none = format!(
        "{}.{}.",
        URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#),
        URL_SAFE_NO_PAD.encode(&good)
    );
    let token = bench.token();
    let (signed, _) = token.rsplit_once('.').unwrap();
    let cases = [
        ("another audience", forged(HEADER, &claims("vault", web, now, now + 60))),
        ("expired", forged(HEADER, &claims("identity.l5d.io", web, now - 60, now))),
        ("not yet", forged(HEADER, &claims("identity.l5d.io", web, now + 60, now + 90))),
        ("a user", forged(HEADER, &claims("identity.l5d.io", "admin", now, now + 60))),
        (
            "a dotted namespace",
            forged(
                HEADER,
                &claims("identity.l5d.io", "system:serviceaccount:a.b:web", now, now + 60),
            ),
        ),
        ("another key", bench.forged(&*other, HEADER, &good)),
        ("alg none, unsigned", none),
        ("alg none, signed", forged(r#"{"alg":"none"}"#, &good)),
        ("alg HS256", forged(r#"{"alg":"HS256"}"#, &good)),
        ("critical extensions", forged(r#"{"alg":"ES256","crit":["x"]}"#, &good)),
        ("another issuer", forged(HEADER, &good.replace("weft", "else"))),
        ("no expiry", forged(HEADER, &good.replace("\"exp\"", "\"x\""))),
        ("a signature of zeros", format!("{signed}.{}", URL_SAFE_NO_PAD.encode([0; 64]))),
        ("another payload", token.replacen('.', ".A", 1)),
        ("oversize", "a".repeat(20_000)),
        ("no token", String::new()),
        ("two parts", "a.b".to_string()),
    ];
    let mut refusals = Vec::new();
    for (name, token) in cases {
        let refusal = bench.with_token(&token).await.unwrap_err();
        refusals.push(format!("{name}: {refusal}"));
    }
    insta::assert_snapshot!(refusals.join("\n"), @r#"
another audience: denied: the token is not for "identity.l5d.io"
expired: denied: the token expired at 2026-01-01T00:00:00.000Z; make a new one with `weft token create`
not yet: denied: the token is not valid before 2026-01-01T00:01:00.000Z; check the clocks
a user: denied: the token names no service account
a dotted namespace: denied: the token names no service account
another key: denied: the token's signature is not this control plane's
alg none, unsigned: denied: not a token of this control plane
alg none, signed: denied: not a token of this control plane
alg HS256: denied: not a token of this control plane
critical extensions: denied: not a token of this control plane
another issuer: denied: not a token of this control plane
no expiry: denied: not a token of this control plane
a signature of zeros: denied: the token's signature is not this control plane's
another payload: denied: the token's signature is not this control plane's
oversize: denied: not a token of this control plane
no token: denied: not a token of this control plane
two parts: denied: not a token of this control plane
"#);
}

#[tokio::test]
async fn a_token_is_only_for_its_own_identity() {
    let bench = bench().await;
    let other = WEB.replace("web", "admin");
    let csr = csr_der(&bench.key(), &Identity::new(&other).unwrap()).unwrap();
    let token = bench.token().into_bytes();
    let refused = bench.issuer.certify(other, token, csr).await.unwrap_err();
    insta::assert_snapshot!(refused, @"denied: the token is for web.shop.serviceaccount.identity.linkerd.cluster.local, the request for another identity");
}

#[tokio::test]
async fn requests_for_anything_but_the_one_name_are_refused() {
    let bench = bench().await;
    let other = "admin.shop.serviceaccount.identity.linkerd.cluster.local";
    let mut results = Vec::new();
    let mut note = |name: &str, result: String| results.push(format!("{name}: {result}"));
    note("plain", bench.with_request(|_| {}).await);
    note("no name", bench.with_request(|p| p.subject_alt_names.clear()).await);
    let two = |p: &mut CertificateParams| p.subject_alt_names.push(dns(other));
    note("two names", bench.with_request(two).await);
    let wrong = |p: &mut CertificateParams| p.subject_alt_names = vec![dns(other)];
    note("another name", bench.with_request(wrong).await);
    let uri = |p: &mut CertificateParams| {
        p.subject_alt_names.push(SanType::URI("spiffe://x/y".try_into().unwrap()));
    };
    note("and a URI", bench.with_request(uri).await);
    let ip = |p: &mut CertificateParams| {
        p.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    };
    note("and an address", bench.with_request(ip).await);
    let subject = |name: &'static str| {
        move |p: &mut CertificateParams| p.distinguished_name.push(DnType::CommonName, name)
    };
    note("its own common name", bench.with_request(subject(WEB)).await);
    note("another common name", bench.with_request(subject("admin")).await);

    let mut csr = csr_der(&bench.key(), &Identity::new(WEB).unwrap()).unwrap();
    let last = csr.len() - 1;
    csr[last] ^= 1;
    let certify = async |csr| bench.certify(&bench.token(), csr).await.unwrap_err().to_string();
    note("broken signature", certify(csr.clone()).await);
    csr.push(0);
    note("bytes after it", certify(csr).await);
    note("oversize", certify(vec![0x30; csr::CSR_BYTES_MAX + 1]).await);
    note("nothing", certify(Vec::new()).await);
    insta::assert_snapshot!(results.join("\n"), @r#"
plain: issued
no name: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
two names: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
another name: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
and a URI: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
and an address: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
its own common name: issued
another common name: invalid argument: signing request: must have exactly one name, the DNS name web.shop.serviceaccount.identity.linkerd.cluster.local
broken signature: invalid argument: signing request: the signature is not that of its key
bytes after it: invalid argument: signing request: not a DER certificate signing request
oversize: invalid argument: signing request: larger than 4096 bytes
nothing: invalid argument: signing request: not a DER certificate signing request
"#);
}

#[tokio::test]
async fn requests_are_not_parsed_for_callers_without_a_token() {
    let bench = bench().await;
    let refused = bench.certify("", b"no request at all".to_vec()).await.unwrap_err();
    assert!(matches!(refused, Refusal::Denied(_)), "{refused}");
}

#[tokio::test]
async fn tokens_that_are_not_ours_are_shown_to_the_cluster() {
    let bench = bench().await;
    bench.cluster.add_token("k8s", "system:serviceaccount:shop:web");
    bench.cluster.add_token("user", "alice");
    assert!(bench.with_token("k8s").await.is_ok());
    assert!(matches!(bench.with_token("user").await, Err(Refusal::Denied(_))));
}

#[tokio::test]
async fn a_second_start_takes_up_what_the_first_made() {
    let bench = bench().await;
    let anchors = bench.files.content("state/ca.crt");
    let issuer = open(&bench.runtime, &bench.config).await.unwrap();
    assert_eq!(anchors, bench.files.content("state/ca.crt"));
    assert_eq!(issuer.authority().anchors_pem(), bench.issuer.authority().anchors_pem());
    assert!(bench.with_token(&bench.token()).await.is_ok());
}

#[tokio::test]
async fn files_that_do_not_belong_together_are_refused_with_a_remedy() {
    let bench = bench().await;
    let files = &bench.files;
    let kept = |name: &str| files.content(&format!("state/{name}")).unwrap();
    let (ca, issuer, key) = (kept("ca.crt"), kept("issuer.crt"), kept("issuer.key"));
    files.remove("state/ca.key");
    let mut faults = Vec::new();
    let mut note = |name: &str, result: Result<IdentityIssuer, String>| {
        faults.push(format!("{name}: {}", result.err().unwrap_or_default()));
    };
    let reopen = async || open(&bench.runtime, &bench.config).await;

    files.remove("state/issuer.key");
    note("no key", reopen().await);
    files.put("state/issuer.key", pem::encode("PRIVATE KEY", bench.key().pkcs8_der()).as_bytes());
    note("another's key", reopen().await);
    files.put("state/issuer.key", b"garbage");
    note("no key in it", reopen().await);
    files.put("state/issuer.key", &key);
    files.put("state/issuer.crt", &ca);
    note("the anchor as issuer", reopen().await);
    files.put("state/issuer.crt", &issuer);
    files.put("state/ca.crt", &issuer);
    note("the issuer as anchor", reopen().await);
    files.put("state/ca.crt", b"");
    note("no anchors", reopen().await);
    insta::assert_snapshot!(faults.join("\n"), @r#"
no key: state has no issuer.key, but other files of an issuer; give ca.crt, issuer.crt and issuer.key together, or remove all to have new ones made
another's key: state: issuer.key: is not the key of issuer.crt; give its key
no key in it: state: issuer.key: is not an ECDSA P-256 key in PEM; make one with `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256`
the anchor as issuer: state: issuer.key: is not the key of issuer.crt; give its key
the issuer as anchor: state: issuer.crt: is signed by none of the anchors in ca.crt; add the anchor that signed it
no anchors: state: ca.crt: holds no PEM certificate; give the trust anchors
"#);

    // What was read before stays in force.
    assert!(bench.issuer.reload().await.is_err());
    assert!(bench.with_token(&bench.token()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_issuer_of_our_own_is_renewed_before_it_ends_and_leaves_never_outlive_it() {
    let bench = bench().await;
    let first = bench.issuer.authority().expires();
    tokio::time::advance(Duration::from_secs(340 * 24 * 60 * 60)).await;
    bench.issuer.reload().await.unwrap();
    assert!(bench.issuer.authority().expires() > first);
    assert!(bench.with_token(&bench.token()).await.is_ok());

    bench.files.remove("state/ca.key");
    tokio::time::advance(Duration::from_secs(365 * 24 * 60 * 60 - 100)).await;
    let issued = bench.with_token(&bench.token()).await.unwrap();
    let ends = bench.issuer.authority().expires().as_unix_secs();
    assert_eq!(issued.valid_until.as_unix_secs(), ends);
    tokio::time::advance(Duration::from_secs(200)).await;
    assert!(matches!(bench.with_token(&bench.token()).await, Err(Refusal::Unavailable(_))));
}

#[tokio::test]
async fn the_token_key_is_made_once() {
    let bench = bench().await;
    let key = state::token_key(&bench.runtime, &bench.config.state_directory).await.unwrap();
    assert_eq!(key.public_key(), bench.token_key().public_key());
}
