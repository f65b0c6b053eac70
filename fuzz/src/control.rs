//! What the control plane is shown by whoever asks it for a certificate, and by its own operator.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use mesh_core::control::ca::{self, Authority, Validity};
use mesh_core::control::csr;
use mesh_core::control::token::{self, ServiceAccountName};
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::runtime::Runtime;
use mesh_core::runtime::crypto::KeyPair;
use mesh_core::wire::tls::csr::csr_der;
use runtime_sim::cluster::ApiServer;
use runtime_sim::engine::Engine;
use runtime_sim::topology::{HostSpec, Role};
use runtime_sim::trace::Trace;

use crate::input::NOW;

/// A requested certificate: a request is granted only for the one name that the token allows, and
/// then the leaf has that name alone.
pub fn csr(input: &[u8]) {
    let world = world();
    let Identity::Dns(name) = &world.server.identity else {
        unreachable!("the world's identity is a DNS name");
    };
    let Ok(key) = csr::check(&*world.runtime.crypto, input, name) else {
        return;
    };
    let validity = Validity::new(NOW, Duration::from_secs(3600), Duration::ZERO);
    let names = std::slice::from_ref(name);
    let leaf = world
        .authority
        .issue(&*world.runtime.entropy, &key, names, validity)
        .expect("a good request is signed");
    let found = mesh_core::wire::tls::identities_of(&leaf.leaf_der);
    assert_eq!(found, std::slice::from_ref(&world.server.identity));
}

/// A token: nothing but a token that was signed here is taken, and for its own account alone.
pub fn token(input: &[u8]) {
    let world = world();
    let public_key = world.key.public_key();
    let found = token::verify(&*world.runtime.crypto, public_key, input, NOW);
    if let Ok(account) = found {
        assert_eq!(account, world.account, "nobody else was given one");
        let signed = |token: &[u8]| {
            let end = token.iter().rposition(|byte| *byte == b'.');
            token[..end.unwrap_or(0)].to_vec()
        };
        // A signature may have more than one spelling; what it signs has one.
        assert_eq!(signed(input.trim_ascii()), signed(world.token.as_bytes()));
    }
}

/// The issuer's files, between NUL bytes: anchors, issuer, key.
pub fn authority(input: &[u8]) {
    let world = world();
    let mut parts = input.split(|byte| *byte == 0);
    let [anchors, issuer, key] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let read = Authority::from_pem(&*world.runtime.crypto, anchors, issuer, key, NOW);
    if let Ok(authority) = read {
        assert!(authority.expires() > NOW);
        let validity = Validity::new(NOW, Duration::from_secs(60), Duration::ZERO);
        let key = world.key.public_key();
        // A subject that cannot be written again is refused here.
        let _ = authority.issue(&*world.runtime.entropy, key, &[], validity);
    }
}

/// A control plane's keys and a workload's, the same in every run.
pub struct World {
    /// Doors; those of randomness and cryptography are functions of a seed.
    pub runtime: Runtime,
    /// The anchors, PEM.
    pub anchors: String,
    /// The issuer's certificate, PEM.
    pub issuer: String,
    /// The issuer's key, PKCS#8.
    pub issuer_key: Arc<dyn KeyPair>,
    /// The issuer.
    pub authority: Authority,
    /// A workload's key, which also signs tokens.
    pub key: Arc<dyn KeyPair>,
    /// Whom the workload's token names.
    pub account: ServiceAccountName,
    /// The workload's token.
    pub token: String,
    /// The workload's identity.
    pub server: ServerTls,
    /// A good request for a certificate.
    pub csr: Vec<u8>,
}

/// The one world.
pub fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

impl World {
    fn new() -> Self {
        let mut engine = Engine::new(1, Trace::new(false), ApiServer::default());
        let host = engine.add_host(HostSpec::new("fuzz", [10, 0, 0, 1].into()));
        let runtime = engine.start(host, "fuzz", Role::App);
        let key = || runtime.crypto.generate_key().expect("a key");
        let validity = Validity::new(NOW, Duration::from_secs(86_400), Duration::ZERO);
        let (anchor_key, issuer_key, key) = (key(), key(), key());
        let anchors =
            ca::make_anchor(&*runtime.entropy, &anchor_key, "root", validity).expect("an anchor");
        let anchor = (anchors.as_bytes(), &anchor_key);
        let issuer = ca::make_issuer(&*runtime.entropy, anchor, &*issuer_key, "identity", validity)
            .expect("an issuer");
        let authority = Authority::from_pem(
            &*runtime.crypto,
            anchors.as_bytes(),
            issuer.as_bytes(),
            pem("PRIVATE KEY", issuer_key.pkcs8_der()).as_bytes(),
            NOW,
        );
        let name = "web.demo.serviceaccount.identity.linkerd.cluster.local";
        let server_name = DnsName::new(name).expect("a name");
        let identity = Identity::Dns(server_name.clone());
        let account = ServiceAccountName { namespace: "demo".to_owned(), name: "web".to_owned() };
        let token = token::create(&*key, &account, NOW, Duration::from_secs(3600));
        Self {
            csr: csr_der(&key, &identity).expect("a request"),
            authority: authority.expect("an authority"),
            token: token.expect("a token"),
            server: ServerTls { identity, server_name },
            runtime,
            anchors,
            issuer,
            issuer_key,
            key,
            account,
        }
    }
}

/// A PEM section.
pub fn pem(label: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = format!("-----BEGIN {label}-----\n");
    for (number, group) in der.chunks(3).enumerate() {
        let bits = group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for digit in 0..4 {
            let known = digit <= group.len();
            let at = (bits >> (18 - 6 * digit)) & 63;
            text.push(if known { DIGITS[at as usize].into() } else { '=' });
        }
        if number % 16 == 15 {
            text.push('\n');
        }
    }
    text + &format!("\n-----END {label}-----\n")
}
