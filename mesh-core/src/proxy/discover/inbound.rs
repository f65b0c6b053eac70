//! Discovery of this workload's ports: the policy of each, with Linkerd's default until the first
//! answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::{Clients, News};
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::server_policy::{
    Authentication, Authorization, Network, ServerPolicy, ServerProtocol,
};
use crate::proxy::config::{self, DefaultPolicy};
use crate::proxy::unenforced;
use crate::runtime::{Runtime, TaskGuard};
use crate::telemetry::Telemetry;
use crate::time::Timestamp;

/// Ports discovered at once. A workload serves few; a scan of all is answered by the default.
pub const PORTS_MAX: usize = 1_000;

/// The policy of a port, as it changes. While one is held, the port stays discovered.
#[derive(Clone)]
pub struct PolicyWatch {
    policy: watch::Receiver<Arc<ServerPolicy>>,
    _used: Arc<()>,
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
    policy: PolicyWatch,
    last_used: Timestamp,
    /// Asked for by configuration: kept for ever.
    pinned: bool,
    _task: TaskGuard,
}

/// All discovered ports.
pub struct Ports {
    runtime: Runtime,
    clients: Clients,
    default: Arc<ServerPolicy>,
    telemetry: Arc<Telemetry>,
    idle_timeout: Duration,
    table: Mutex<BTreeMap<u16, Port>>,
}

impl Ports {
    /// Starts with the configured ports.
    pub fn new(
        runtime: &Runtime,
        clients: Clients,
        config: &config::Inbound,
        telemetry: &Arc<Telemetry>,
    ) -> Arc<Self> {
        let ports = Arc::new(Self {
            runtime: runtime.clone(),
            clients,
            default: Arc::new(default_policy(config)),
            telemetry: telemetry.clone(),
            idle_timeout: config.discovery_idle_timeout,
            table: Mutex::default(),
        });
        for port in &config.ports {
            ports.find_or_pin(*port, true);
        }
        let weak = Arc::downgrade(&ports);
        let sweeping = runtime.clone();
        let every = config.discovery_idle_timeout.max(Duration::from_secs(1));
        runtime.spawn("sweep-ports", async move {
            loop {
                sweeping.sleep(every).await;
                let Some(ports) = weak.upgrade() else { return };
                ports.sweep();
            }
        });
        ports
    }

    /// The policy of a port; discovery starts where nobody asked before.
    pub fn find(&self, port: u16) -> PolicyWatch {
        self.find_or_pin(port, false)
    }

    fn find_or_pin(&self, port: u16, pinned: bool) -> PolicyWatch {
        let now = self.runtime.now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = table.get_mut(&port) {
            known.last_used = now;
            return known.policy.clone();
        }
        let (publish, policy) = watch::channel(self.default.clone());
        let policy = PolicyWatch {
            policy,
            _used: Arc::new(()),
        };
        if table.len() >= PORTS_MAX {
            return policy;
        }
        let clients = self.clients.clone();
        let default = self.default.clone();
        let telemetry = self.telemetry.clone();
        let follow = async move {
            let open = || {
                clients
                    .policy
                    .watch_server_policy(&clients.config.workload, port)
            };
            let publish = |news| {
                let policy = match news {
                    News::Value { value, .. } => Arc::new(value),
                    News::Absent => default.clone(),
                    News::Unreachable => return,
                };
                publish.send_if_modified(|current| {
                    let changed = *current != policy;
                    if changed {
                        unenforced::report_server(&policy, &telemetry);
                        *current = policy;
                    }
                    changed
                });
            };
            clients.follow("server policy", open, publish).await;
        };
        let task = self.runtime.spawn_guarded("discover-port", follow);
        let known = Port {
            policy: policy.clone(),
            last_used: now,
            pinned,
            _task: task,
        };
        table.insert(port, known);
        policy
    }

    /// Drops what nobody uses: those who use a port hold a receiver of its policy.
    fn sweep(&self) {
        let now = self.runtime.now();
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, port| {
            let used = Arc::strong_count(&port.policy._used) > 1;
            if used {
                port.last_used = now;
            }
            port.pinned || now.since(port.last_used) < self.idle_timeout
        });
    }
}

/// The policy that holds until the control plane has answered.
fn default_policy(config: &config::Inbound) -> ServerPolicy {
    let everywhere = ["0.0.0.0/0", "::/0"]
        .map(|net| net.parse().expect("a network"))
        .to_vec();
    let (name, networks, authentication) = match config.default_policy {
        DefaultPolicy::AllUnauthenticated => (
            "all-unauthenticated",
            everywhere,
            Some(Authentication::Unauthenticated),
        ),
        DefaultPolicy::AllAuthenticated => ("all-authenticated", everywhere, Some(any_identity())),
        DefaultPolicy::ClusterUnauthenticated => (
            "cluster-unauthenticated",
            config.cluster_networks.clone(),
            Some(Authentication::Unauthenticated),
        ),
        DefaultPolicy::ClusterAuthenticated => (
            "cluster-authenticated",
            config.cluster_networks.clone(),
            Some(any_identity()),
        ),
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
    Authentication::TlsAuthenticated {
        identities: vec![],
        suffixes: vec![any],
    }
}

fn network(net: ipnet::IpNet) -> Network {
    Network {
        net,
        except: vec![],
    }
}
