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

/// The parts that a control plane always has.
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

/// What people look at. Its port is the loopback's: it is reached as its pod's ports are forwarded.
pub const VIZ: Component = Component {
    name: "viz",
    deployment: "linkerd-viz",
    serves: "viz",
    ports: &[],
    admin_port: 9994,
};

/// The parts of an installation with these values.
pub fn components(values: &Values) -> impl Iterator<Item = &'static Component> {
    COMPONENTS.iter().chain(values.viz.enabled.then_some(&VIZ))
}

impl Component {
    /// How many pods it has. People look at one place, which remembers what it saw.
    pub(super) fn replicas(&self, values: &Values) -> u32 {
        if self.name == VIZ.name { 1 } else { values.controller_replicas }
    }

    /// It answers webhooks.
    pub(super) fn has_webhook(&self) -> bool {
        self.ports.iter().any(|(_, port)| *port == WEBHOOK_PORT)
    }

    /// What its container may use.
    pub(super) fn resources<'a>(&self, values: &'a Values) -> &'a Resources {
        let own = match self.name {
            "identity" => &values.identity_resources,
            "destination" => &values.destination_resources,
            "viz" => &values.viz.resources,
            _ => &values.proxy_injector_resources,
        };
        if *own == Resources::default() { &values.controller_resources } else { own }
    }

    /// What its sidecar may use; none: what every sidecar may.
    pub(super) fn proxy_resources<'a>(&self, values: &'a Values) -> Option<&'a Resources> {
        let own = match self.name {
            "identity" => &values.identity_proxy_resources,
            "destination" => &values.destination_proxy_resources,
            "viz" => &values.viz.proxy_resources,
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
