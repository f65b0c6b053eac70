//! The demo's mesh: which services there are, where their instances live, what each process is told.
//!
//! Every instance is its own "host": a loopback address of its own, so that each proxy has
//! Linkerd's ports. Nothing is redirected: an application calls a service through a fixed listener
//! of the proxy beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use tokio::process::Command;

use crate::viz;

/// The namespace of everything in the demo.
pub(crate) const NAMESPACE: &str = "demo";

const INBOUND_PORT: u16 = 4143;
const ADMIN_PORT: u16 = 4191;
const CONTROL_PORT: u16 = 4190;

/// The first of the ports at which an instance's proxy takes calls to services.
const CALL_PORT_BASE: u16 = 9001;

/// A service of the demo.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) replicas: u8,
    /// What it speaks, as the table says it.
    pub(crate) protocol: &'static str,
    /// Where it listens; none for a client.
    pub(crate) port: Option<u16>,
    /// The services it calls.
    pub(crate) calls: &'static [&'static str],
    /// Its clients count the exchanges, not their proxies, which see only bytes.
    pub(crate) is_counted_by_client: bool,
}

/// Callers after those they call, so that what starts finds what it needs.
pub(crate) const SERVICES: [Service; 5] = [
    Service {
        name: "cache",
        replicas: 2,
        protocol: "TCP",
        port: Some(7000),
        calls: &[],
        is_counted_by_client: true,
    },
    Service {
        name: "api",
        replicas: 2,
        protocol: "gRPC",
        port: Some(8080),
        calls: &["cache"],
        is_counted_by_client: false,
    },
    Service {
        name: "web",
        replicas: 2,
        protocol: "HTTP/1",
        port: Some(8080),
        calls: &["api"],
        is_counted_by_client: false,
    },
    Service {
        name: "chat",
        replicas: 2,
        protocol: "WebSocket",
        port: Some(8080),
        calls: &[],
        is_counted_by_client: true,
    },
    Service {
        name: "load",
        replicas: 1,
        protocol: "",
        port: None,
        calls: &["web", "chat"],
        is_counted_by_client: false,
    },
];

/// The service of a name.
pub(crate) fn service(name: &str) -> Option<&'static Service> {
    SERVICES.iter().find(|service| service.name == name)
}

/// A running demo's part of the loopback network: `127.A.B.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network(u8, u8);

impl Network {
    /// A part that no other demo uses, looked for from a place that depends on `seed`.
    ///
    /// # Errors
    /// As the kernel's, where none of several could be had.
    pub(crate) fn free(seed: u64) -> io::Result<Self> {
        Self::hold(seed).map(|(network, _)| network)
    }

    /// A part that no other demo uses, and the ports by which it is known to be free, bound.
    fn hold(seed: u64) -> io::Result<(Self, Vec<TcpListener>)> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for attempt in 0..16 {
            let drawn = seed.wrapping_add(attempt * 7919);
            let network = Self(64 + (drawn % 128) as u8, (drawn / 128 % 256) as u8);
            let bound: io::Result<Vec<_>> = Instance::all()
                .map(|instance| TcpListener::bind((instance.address(network), INBOUND_PORT)))
                .collect();
            match bound {
                Ok(bound) => return Ok((network, bound)),
                Err(error) => last = error,
            }
        }
        Err(io::Error::new(last.kind(), format!("no free loopback network 127.x.y.0/24: {last}")))
    }

    /// Where the controller serves.
    pub(crate) fn controller(self, port: u16) -> SocketAddr {
        (Ipv4Addr::new(127, self.0, self.1, 1), port).into()
    }
}

/// One replica of a service: an application and a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instance {
    pub(crate) service: &'static Service,
    /// From 1.
    replica: u8,
}

impl Instance {
    /// Every instance of the demo.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        SERVICES.iter().flat_map(Self::all_of)
    }

    fn all_of(service: &'static Service) -> impl Iterator<Item = Self> {
        (1..=service.replicas).map(move |replica| Self { service, replica })
    }

    /// `web-1`.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.service.name, self.replica)
    }

    /// Its own address: `.11` and `.12` for the first service, `.21` and so on for the second.
    pub(crate) fn address(&self, network: Network) -> Ipv4Addr {
        let service = SERVICES.iter().position(|s| s == self.service);
        let host = 10 * (service.unwrap_or_default() as u8 + 1) + self.replica;
        Ipv4Addr::new(127, network.0, network.1, host)
    }

    /// Where its proxy serves `/metrics` and `/ready`.
    pub(crate) fn admin(&self, network: Network) -> SocketAddr {
        (self.address(network), ADMIN_PORT).into()
    }

    /// Where its proxy takes calls to each service it calls.
    fn call_addresses(&self, network: Network) -> impl Iterator<Item = (&'static str, SocketAddr)> {
        let address = self.address(network);
        let ports = CALL_PORT_BASE..;
        let calls = self.service.calls.iter().copied();
        calls.zip(ports).map(move |(to, port)| (to, (address, port).into()))
    }
}

/// Where the demo keeps what its processes read and write.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) directory: PathBuf,
}

impl Layout {
    /// What the controller serves.
    pub(crate) fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    /// The controller's keys and certificates.
    pub(crate) fn state(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// A service account's token.
    pub(crate) fn token(&self, account: &str) -> PathBuf {
        self.directory.join(format!("{account}.token"))
    }

    /// A process's log.
    pub(crate) fn log(&self, process: &str) -> PathBuf {
        self.directory.join(format!("{process}.log"))
    }
}

/// The demo's manifests, by file name: what a user of the standalone controller would write.
pub(crate) fn manifests(network: Network) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    files.insert(
        "namespace.yaml".to_string(),
        format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {NAMESPACE}\n"),
    );
    for service in &SERVICES {
        files.insert(format!("{}.yaml", service.name), manifest(service, network));
    }
    files
}

fn manifest(service: &'static Service, network: Network) -> String {
    let name = service.name;
    let mut yaml = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: {name}\n  namespace: {NAMESPACE}\n"
    );
    // Writing into a string does not fail.
    if let Some(port) = service.port {
        let _ = write!(
            yaml,
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\n  namespace: \
             {NAMESPACE}\nspec:\n  ports:\n  - name: app\n    port: {port}\n"
        );
    }
    for instance in Instance::all_of(service) {
        let _ = write!(
            yaml,
            "---\napiVersion: workload.weft.sh/v1alpha1\nkind: Workload\nmetadata:\n  name: {}\n  \
             namespace: {NAMESPACE}\nspec:\n  addresses: [{}]\n  serviceAccount: {name}\n",
            instance.name(),
            instance.address(network),
        );
        if let Some(port) = service.port {
            let _ = write!(yaml, "  service: {name}\n  ports:\n  - name: app\n    port: {port}\n");
        }
        let _ = write!(
            yaml,
            "  proxy:\n    inboundPort: {INBOUND_PORT}\n    adminPort: {ADMIN_PORT}\n"
        );
    }
    yaml
}

/// How the controller is started.
pub(crate) fn controller_command(weft: &Path, layout: &Layout, network: Network) -> Command {
    let mut command = Command::new(weft);
    command
        .arg("controller")
        .arg("--manifests")
        .arg(layout.manifests())
        .arg("--state-dir")
        .arg(layout.state())
        .arg("--listen")
        .arg(network.controller(0).ip().to_string())
        .arg("--viz-listen")
        .arg(network.controller(viz::PORT).to_string());
    command
}

/// How an instance's application is started.
pub(crate) fn application_command(
    weft: &Path,
    instance: Instance,
    network: Network,
    rate: f64,
) -> Command {
    let mut command = Command::new(weft);
    command
        .args(["demo-application", instance.service.name])
        .args(["--name", &instance.name()])
        .args(["--rate", &rate.to_string()]);
    if let Some(port) = instance.service.port {
        let listen = SocketAddr::from((instance.address(network), port));
        command.args(["--listen", &listen.to_string()]);
    }
    for (_, at) in instance.call_addresses(network) {
        command.args(["--call", &at.to_string()]);
    }
    command
}

/// How an instance's proxy is started: what a pod's environment would say.
pub(crate) fn proxy_command(
    program: &Path,
    layout: &Layout,
    instance: Instance,
    network: Network,
    log_levels: &str,
) -> Command {
    let account = instance.service.name;
    let ip = instance.address(network);
    let at = |port: u16| SocketAddr::from((ip, port)).to_string();
    let calls: Vec<String> = instance
        .call_addresses(network)
        .map(|(to, at)| {
            let port = service(to).and_then(|s| s.port).unwrap_or_default();
            format!("{at}={to}.{NAMESPACE}.svc.cluster.local:{port}")
        })
        .collect();
    let workload = format!(r#"{{"ns":"{NAMESPACE}","pod":"{}"}}"#, instance.name());
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LINKERD2_PROXY_LOG", log_levels)
        .env("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", at(INBOUND_PORT))
        .env("LINKERD2_PROXY_INBOUND_IPS", ip.to_string())
        .env("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "none")
        .env("WEFT_OUTBOUND_LISTENERS", calls.join(","))
        .env("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", at(ADMIN_PORT))
        .env("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", at(CONTROL_PORT))
        // Alone, the controller taps by its own name.
        .env(
            "LINKERD2_PROXY_TAP_SVC_NAME",
            "linkerd-destination.linkerd.serviceaccount.identity.linkerd.cluster.local",
        )
        .env("LINKERD2_PROXY_DESTINATION_SVC_ADDR", network.controller(8086).to_string())
        .env("LINKERD2_PROXY_POLICY_SVC_ADDR", network.controller(8090).to_string())
        .env("LINKERD2_PROXY_IDENTITY_SVC_ADDR", network.controller(8080).to_string())
        .env("LINKERD2_PROXY_DESTINATION_CONTEXT", &workload)
        .env("LINKERD2_PROXY_POLICY_WORKLOAD", &workload)
        .env(
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            format!("{account}.{NAMESPACE}.serviceaccount.identity.linkerd.cluster.local"),
        )
        .env("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", layout.token(account))
        .env("WEFT_IDENTITY_TRUST_ANCHORS_FILE", layout.state().join("ca.crt"))
        .env("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "1s");
    if let Some(port) = instance.service.port {
        command.env("LINKERD2_PROXY_INBOUND_PORTS", port.to_string());
    }
    command
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_instance_has_an_address_of_its_own() {
        let network = Network(70, 1);
        let addresses: BTreeSet<_> = Instance::all().map(|i| i.address(network)).collect();
        assert_eq!(addresses.len(), 9);
        assert!(!addresses.contains(&Ipv4Addr::new(127, 70, 1, 1)));
    }

    #[test]
    fn a_service_is_an_account_a_service_and_its_workloads() {
        let web = service("web").unwrap();
        insta::assert_snapshot!(manifest(web, Network(70, 1)), @r#"
        apiVersion: v1
        kind: ServiceAccount
        metadata:
          name: web
          namespace: demo
        ---
        apiVersion: v1
        kind: Service
        metadata:
          name: web
          namespace: demo
        spec:
          ports:
          - name: app
            port: 8080
        ---
        apiVersion: workload.weft.sh/v1alpha1
        kind: Workload
        metadata:
          name: web-1
          namespace: demo
        spec:
          addresses: [127.70.1.31]
          serviceAccount: web
          service: web
          ports:
          - name: app
            port: 8080
          proxy:
            inboundPort: 4143
            adminPort: 4191
        ---
        apiVersion: workload.weft.sh/v1alpha1
        kind: Workload
        metadata:
          name: web-2
          namespace: demo
        spec:
          addresses: [127.70.1.32]
          serviceAccount: web
          service: web
          ports:
          - name: app
            port: 8080
          proxy:
            inboundPort: 4143
            adminPort: 4191
        "#);
    }

    #[test]
    fn what_is_called_exists() {
        let calls = SERVICES.iter().flat_map(|service| service.calls);
        assert!(calls.into_iter().all(|to| service(to).is_some_and(|s| s.port.is_some())));
    }

    #[test]
    fn two_demos_have_networks_of_their_own() {
        let (first, _held) = Network::hold(5).unwrap();
        assert_ne!(Network::free(5).unwrap(), first);
    }
}
