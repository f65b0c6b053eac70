//! Discovery of this workload's ports: the policy of each, with Linkerd's default until the first
//! answer.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Clients, News, Standing};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::server_policy::{
    Authentication, Authorization, Network, ServerPolicy, ServerProtocol,
};
use crate::proxy::config::{self, DefaultPolicy};
use crate::proxy::idle::{Full, IdleTable};
use crate::proxy::unenforced;
use crate::runtime::{Runtime, TaskGuard};
use crate::telemetry::Telemetry;

/// Ports discovered at once. A workload serves few; a scan of all is answered by the default.
pub const PORTS_MAX: usize = 1_000;

/// The policy of a port, as it changes. While one is held, the port stays discovered.
#[derive(Clone)]
pub struct PolicyWatch {
    policy: watch::Receiver<Arc<ServerPolicy>>,
    _port: Option<Arc<Port>>,
}

impl PolicyWatch {
    /// What holds now.
    pub fn current(&self) -> Arc<ServerPolicy> {
        self.policy.borrow().clone()
    }

    /// Waits for a change. Does not end where there is none to come.
    pub async fn changed(&mut self) {
        if self.policy.changed().await.is_err() {
            std::future::pending().await
        }
    }
}

struct Port {
    policy: watch::Receiver<Arc<ServerPolicy>>,
    standing: Standing,
    _task: TaskGuard,
}

/// All discovered ports.
pub struct Ports {
    runtime: Runtime,
    clients: Clients,
    default: Arc<ServerPolicy>,
    telemetry: Arc<Telemetry>,
    table: Arc<IdleTable<u16, Port>>,
    /// Those that configuration names: kept for ever.
    _pinned: Vec<PolicyWatch>,
}

impl Ports {
    /// Starts with the configured ports.
    pub fn new(
        runtime: &Runtime,
        clients: Clients,
        config: &config::Inbound,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        let idle_timeout = config.discovery_idle_timeout;
        let mut ports = Self {
            runtime: runtime.clone(),
            clients,
            default: Arc::new(default_policy(config)),
            telemetry: telemetry.clone(),
            table: IdleTable::new(
                runtime,
                "sweep-ports",
                idle_timeout,
                PORTS_MAX,
                |port: &Port| port.standing.is_irreplaceable(),
            ),
            _pinned: Vec::new(),
        };
        ports._pinned = config.ports.iter().map(|port| ports.find(*port)).collect();
        ports
    }

    /// The policy of a port; discovery starts where nobody asked before. The default where too
    /// many are discovered.
    pub fn find(&self, port: u16) -> PolicyWatch {
        match self.table.find(port, |port| self.discover(*port)) {
            Ok(port) => PolicyWatch { policy: port.policy.clone(), _port: Some(port) },
            Err(Full) => {
                let (_, policy) = watch::channel(self.default.clone());
                PolicyWatch { policy, _port: None }
            }
        }
    }

    fn discover(&self, port: u16) -> Arc<Port> {
        let (publish, policy) = watch::channel(self.default.clone());
        let clients = self.clients.clone();
        let default = self.default.clone();
        let telemetry = self.telemetry.clone();
        let standing = Standing::default();
        let heard = standing.clone();
        let follow = async move {
            let open = || clients.policy.watch_server_policy(&clients.config.workload, port);
            let publish = |news| {
                let policy = match news {
                    News::Value { value, .. } => Arc::new(value),
                    News::Absent => default.clone(),
                    News::Unreachable if planted!("policy-forgotten-in-outage") => default.clone(),
                    News::Unreachable => return,
                };
                publish.send_if_modified(|current| {
                    if planted!("policy-update-ignored") && *current != default {
                        return false;
                    }
                    let changed = *current != policy;
                    if changed {
                        unenforced::report_server(&policy, &telemetry);
                        *current = policy;
                    }
                    changed
                });
            };
            clients.follow("server policy", &heard, open, publish).await;
        };
        let task = self.runtime.spawn_guarded("discover-port", follow);
        Arc::new(Port { policy, standing, _task: task })
    }
}

/// The policy that holds until the control plane has answered.
fn default_policy(config: &config::Inbound) -> ServerPolicy {
    let everywhere = ["0.0.0.0/0", "::/0"].map(|net| net.parse().expect("a network")).to_vec();
    let (name, networks, authentication) = match config.default_policy {
        DefaultPolicy::AllUnauthenticated => {
            ("all-unauthenticated", everywhere, Some(Authentication::Unauthenticated))
        }
        DefaultPolicy::AllAuthenticated => ("all-authenticated", everywhere, Some(any_identity())),
        DefaultPolicy::ClusterUnauthenticated => (
            "cluster-unauthenticated",
            config.cluster_networks.clone(),
            Some(Authentication::Unauthenticated),
        ),
        DefaultPolicy::ClusterAuthenticated => {
            ("cluster-authenticated", config.cluster_networks.clone(), Some(any_identity()))
        }
        DefaultPolicy::Deny => ("deny", vec![], None),
        DefaultPolicy::Audit => ("audit", everywhere, Some(Authentication::Unauthenticated)),
    };
    let localhost = Authorization {
        metadata: Metadata::new_default("localhost"),
        networks: ["127.0.0.0/8", "::1/128"]
            .map(|net| network(net.parse().expect("a network")))
            .into(),
        authentication: Authentication::Unauthenticated,
        labels: Labels::default(),
    };
    let default = authentication.map(|authentication| Authorization {
        metadata: Metadata::new_default(name),
        networks: networks.into_iter().map(network).collect(),
        authentication,
        labels: Labels::default(),
    });
    ServerPolicy {
        server: Metadata::new_default(name),
        protocol: ServerProtocol::Detect {
            timeout: config.detect_timeout,
            routes: vec![],
            rate_limit: None,
        },
        authorizations: std::iter::once(localhost).chain(default).collect(),
        labels: Labels::default(),
    }
}

fn any_identity() -> Authentication {
    let any = crate::model::server_policy::IdentitySuffix { parts: vec![] };
    Authentication::TlsAuthenticated { identities: vec![], suffixes: vec![any] }
}

fn network(net: ipnet::IpNet) -> Network {
    Network { net, except: vec![] }
}
