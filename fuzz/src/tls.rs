//! What certificates and bundles of them say, whoever made them.

use mesh_core::model::identity::Identity;
use mesh_core::runtime::Runtime;
use mesh_core::wire::tls::{self, Credentials};

use crate::control::world;

/// A certificate in DER: names and times are read or refused; a name that is read is one.
pub fn certificate(input: &[u8]) {
    let all = tls::identities_of(input);
    let first = tls::identity_of(input);
    assert!(first.is_none_or(|first| all.contains(&first)));
    for identity in all {
        let again = Identity::new(identity.as_str());
        assert_eq!(again.as_ref(), Ok(&identity), "{identity}");
    }
    let _ = tls::validity_of(input);
}

/// Anchors of trust in PEM: taken or refused, and a bundle that was refused changes nothing.
pub fn trust_anchors(input: &[u8]) {
    let world = world();
    let credentials = Credentials::new(runtime(), world.server.clone());
    let first = credentials.set_roots(input).is_ok();
    assert_eq!(credentials.set_roots(input).is_ok(), first);
    assert!(credentials.set_roots(world.anchors.as_bytes()).is_ok());
}

fn runtime() -> &'static Runtime {
    &world().runtime
}
