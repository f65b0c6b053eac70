//! The parts of the control plane: one process, one deployment and one service account each, so that
//! only one of them sees the issuer's key.

use super::super::values::{Resources, Values, Webhook};

/// A part of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component {
    /// What it is called in labels, and its container's name: `destination`.
    pub name: &'static str,
    /// Its deployment and its service account: `linkerd-destination`.
    pub deployment: &'static str,
    /// What its process serves: `weft controller --serve …`.
    pub serves: &'static str,
    /// Ports of its process, by name: gRPC and webhooks.
    pub ports: &'static [(&'static str, u16)],
    /// The port of `/metrics`, `/ready` and `/live`.
    pub admin_port: u16,
}

/// Where processes take webhooks' requests.
pub(super) const WEBHOOK_PORT: u16 = 8443;

/// Every part.
pub const COMPONENTS: [Component; 3] = [
    Component {
        name: "identity",
        deployment: "linkerd-identity",
        serves: "identity",
        ports: &[("ident-grpc", 8080)],
        admin_port: 9990,
    },
    Component {
        name: "destination",
        deployment: "linkerd-destination",
        serves: "destination",
        ports: &[("dest-grpc", 8086), ("policy-grpc", 8090), ("webhook", WEBHOOK_PORT)],
        admin_port: 9996,
    },
    Component {
        name: "proxy-injector",
        deployment: "linkerd-proxy-injector",
        serves: "injector",
        ports: &[("webhook", WEBHOOK_PORT)],
        admin_port: 9995,
    },
];

impl Component {
    /// It answers webhooks.
    pub(super) fn has_webhook(&self) -> bool {
        self.ports.iter().any(|(_, port)| *port == WEBHOOK_PORT)
    }

    /// What its container may use.
    pub(super) fn resources<'a>(&self, values: &'a Values) -> &'a Resources {
        let own = match self.name {
            "identity" => &values.identity_resources,
            "destination" => &values.destination_resources,
            _ => &values.proxy_injector_resources,
        };
        if *own == Resources::default() { &values.controller_resources } else { own }
    }

    /// What its sidecar may use; none: what every sidecar may.
    pub(super) fn proxy_resources<'a>(&self, values: &'a Values) -> Option<&'a Resources> {
        let own = match self.name {
            "identity" => &values.identity_proxy_resources,
            "destination" => &values.destination_proxy_resources,
            _ => &values.proxy_injector_proxy_resources,
        };
        (*own != Resources::default()).then_some(own)
    }

    /// What is said of its webhooks' pods.
    pub(super) fn webhook<'a>(&self, values: &'a Values) -> Option<&'a Webhook> {
        match self.name {
            "destination" => Some(&values.policy_validator),
            "proxy-injector" => Some(&values.proxy_injector),
            _ => None,
        }
    }
}
