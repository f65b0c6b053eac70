//! An instance of a workload: a Pod of a cluster, a Workload of a plain host or an ExternalWorkload,
//! read alike.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::Resource;

use crate::resource::workload::WorkloadProxy;
use crate::resource::{ExternalWorkload, Kind, Object, Pod, Workload};

/// A Pod, a Workload or an ExternalWorkload.
#[derive(Clone, Copy, Debug)]
pub enum Instance<'a> {
    /// In a cluster.
    Pod(&'a Pod),
    /// On a plain host.
    Workload(&'a Workload),
    /// Outside of the cluster, as Linkerd has it.
    External(&'a ExternalWorkload),
}

/// Label that an injected pod carries: the namespace of its control plane.
const CONTROL_PLANE_NS: &str = "linkerd.io/control-plane-ns";
const PROXY_CONTAINER: &str = "linkerd-proxy";
const INBOUND_PORT: u16 = 4143;
const ADMIN_PORT: u16 = 4191;
const CONTROL_PORT: u16 = 4190;
const TAP_SERVICE: &str = "LINKERD2_PROXY_TAP_SVC_NAME";

impl<'a> Instance<'a> {
    /// An object as an instance, where it is one.
    pub fn of(object: &'a Object) -> Option<Self> {
        match object {
            Object::Pod(pod) => Some(Self::Pod(pod)),
            Object::Workload(workload) => Some(Self::Workload(workload)),
            Object::ExternalWorkload(workload) => Some(Self::External(workload)),
            _ => None,
        }
    }

    /// Its namespace.
    pub fn namespace(self) -> &'a str {
        self.meta().namespace.as_deref().unwrap_or_default()
    }

    /// Its name.
    pub fn name(self) -> &'a str {
        self.meta().name.as_deref().unwrap_or_default()
    }

    /// A label.
    pub fn label(self, name: &str) -> Option<&'a str> {
        let labels = self.meta().labels.as_ref()?;
        labels.get(name).map(String::as_str)
    }

    /// All labels.
    pub fn labels(self) -> Option<&'a BTreeMap<String, String>> {
        self.meta().labels.as_ref()
    }

    /// An annotation.
    pub fn annotation(self, name: &str) -> Option<&'a str> {
        let annotations = self.meta().annotations.as_ref()?;
        annotations.get(name).map(String::as_str)
    }

    /// Its service account.
    pub fn service_account(self) -> &'a str {
        let account = match self {
            Self::Pod(pod) => {
                pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref())
            }
            Self::Workload(workload) => workload.spec.service_account.as_deref(),
            Self::External(_) => None,
        };
        account.filter(|account| !account.is_empty()).unwrap_or("default")
    }

    /// The port of a name.
    pub fn port_named(self, name: &str) -> Option<u16> {
        self.ports().find_map(|(found, port)| (found == Some(name)).then_some(port))
    }

    /// Whether it declares a port.
    pub fn has_port(self, port: u16) -> bool {
        self.ports().any(|(_, found)| found == port)
    }

    /// Whether others may be behind its address as well, told apart by ports: what shares its
    /// host's network, and Workloads that say which ports are theirs.
    pub fn shares_address(self) -> bool {
        match self {
            Self::Pod(pod) => {
                let spec = pod.spec.as_ref();
                spec.is_some_and(|spec| spec.host_network == Some(true))
            }
            Self::Workload(workload) => !workload.spec.ports.is_empty(),
            Self::External(_) => false,
        }
    }

    /// Whether an address is one of its own.
    pub fn has_address(self, ip: IpAddr) -> bool {
        let is_it =
            |text: &String| text.parse::<IpAddr>().is_ok_and(|own| own.to_canonical() == ip);
        match self {
            Self::Pod(pod) => pod.status.iter().any(|status| {
                let ips = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
                ips.chain(&status.pod_ip).any(is_it)
            }),
            Self::Workload(workload) => workload.spec.addresses.iter().any(is_it),
            Self::External(workload) => {
                workload.spec.workload_ips.iter().flatten().any(|ip| is_it(&ip.ip))
            }
        }
    }

    /// Its own addresses, in the order it names them.
    pub fn addresses(self) -> Vec<IpAddr> {
        let texts: Vec<&str> = match self {
            Self::Pod(pod) => {
                let status = pod.status.iter();
                let all = status.flat_map(|status| {
                    let ips = status.pod_ips.iter().flatten().map(|ip| ip.ip.as_str());
                    status.pod_ip.as_deref().into_iter().chain(ips)
                });
                all.collect()
            }
            Self::Workload(workload) => {
                workload.spec.addresses.iter().map(String::as_str).collect()
            }
            Self::External(workload) => {
                let ips = workload.spec.workload_ips.iter().flatten();
                ips.map(|ip| ip.ip.as_str()).collect()
            }
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for ip in texts.into_iter().filter_map(|text| text.parse::<IpAddr>().ok()) {
            if !addresses.contains(&ip.to_canonical()) {
                addresses.push(ip.to_canonical());
            }
        }
        addresses
    }

    /// The node it runs on, where that is known.
    pub fn node(self) -> Option<&'a str> {
        match self {
            Self::Pod(pod) => pod.spec.as_ref()?.node_name.as_deref(),
            Self::Workload(_) | Self::External(_) => None,
        }
    }

    /// The TCP ports that it declares, with their names.
    pub fn declared_ports(self) -> Vec<(Option<&'a str>, u16)> {
        self.ports().collect()
    }

    /// The kind of object it is.
    pub fn kind(self) -> Kind {
        match self {
            Self::Pod(_) => Kind::Pod,
            Self::Workload(_) => Kind::Workload,
            Self::External(_) => Kind::ExternalWorkload,
        }
    }

    /// Whether an address is its host's, and not its own.
    pub fn is_behind(self, ip: IpAddr) -> bool {
        let Self::Pod(pod) = self else { return false };
        let host = pod.status.as_ref().and_then(|status| status.host_ip.as_deref());
        let is_hosts = host.and_then(|host| host.parse().ok()) == Some(ip.to_canonical());
        is_hosts && !self.has_address(ip.to_canonical())
    }

    /// Whether ports of its host lead to it.
    pub fn has_host_port(self) -> bool {
        let Self::Pod(pod) = self else { return false };
        let is_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let mut ports = containers(pod).flat_map(|container| container.ports.iter().flatten());
        !is_network && ports.any(|port| port.host_port.is_some_and(|port| port > 0))
    }

    /// The port of its own that a port of its host leads to.
    pub fn port_behind(self, host_port: u16) -> Option<u16> {
        let Self::Pod(pod) = self else { return None };
        let mut ports = containers(pod).flat_map(|container| container.ports.iter().flatten());
        let found = ports.find(|port| {
            port.host_port == Some(i32::from(host_port))
                && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        })?;
        u16::try_from(found.container_port).ok()
    }

    /// Whether it has a proxy of the control plane in `control_namespace`.
    pub fn is_meshed(self, control_namespace: &str) -> bool {
        match self {
            Self::Pod(_) => self.label(CONTROL_PLANE_NS) == Some(control_namespace),
            Self::Workload(workload) => workload.spec.proxy.is_some(),
            // It says who it is, which only one with a proxy can.
            Self::External(_) => true,
        }
    }

    /// The namespace of its control plane, where it has a proxy.
    pub fn control_namespace(self, of_workloads: &'a str) -> Option<&'a str> {
        match self {
            Self::Pod(_) => self.label(CONTROL_PLANE_NS),
            Self::Workload(workload) => workload.spec.proxy.as_ref().map(|_| of_workloads),
            Self::External(_) => Some(of_workloads),
        }
    }

    /// Whether a proxy itself serves this port: its admin or control port.
    pub fn is_proxy_port(self, port: u16) -> bool {
        match self {
            Self::Pod(_) => {
                ["ADMIN", "CONTROL"].iter().any(|which| self.proxy_listen_port(which) == Some(port))
            }
            Self::Workload(workload) => {
                let proxy = workload.spec.proxy.as_ref();
                proxy.is_some_and(|_| [self.admin_port(), self.control_port()].contains(&port))
            }
            Self::External(_) => [ADMIN_PORT, CONTROL_PORT].contains(&port),
        }
    }

    /// The port of its proxy that shows metrics.
    pub fn admin_port(self) -> u16 {
        let said = match self {
            Self::Pod(_) => self.proxy_listen_port("ADMIN"),
            Self::Workload(workload) => {
                workload.spec.proxy.as_ref().and_then(|proxy| proxy.admin_port)
            }
            Self::External(_) => None,
        };
        said.unwrap_or(ADMIN_PORT)
    }

    /// The port on which its proxy serves taps.
    pub fn control_port(self) -> u16 {
        let said = match self {
            Self::Pod(_) => self.proxy_listen_port("CONTROL"),
            Self::Workload(workload) => {
                workload.spec.proxy.as_ref().and_then(|proxy| proxy.control_port)
            }
            Self::External(_) => None,
        };
        said.unwrap_or(CONTROL_PORT)
    }

    /// Who may tap a pod's proxy, as its injector wrote it.
    pub fn tap_service(self) -> Option<&'a str> {
        self.proxy_variable(TAP_SERVICE).filter(|name| !name.is_empty())
    }

    /// Whether it runs, as far as is known: a pod may wait to, or have ended.
    pub fn is_running(self) -> bool {
        let Self::Pod(pod) = self else { return true };
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running")
    }

    /// The port of its proxy that takes transport headers.
    pub fn inbound_port(self) -> Option<u16> {
        match self {
            Self::Pod(_) => self.proxy_listen_port("INBOUND"),
            Self::Workload(workload) => {
                let proxy: Option<&WorkloadProxy> = workload.spec.proxy.as_ref();
                proxy.map(|proxy| proxy.inbound_port.unwrap_or(INBOUND_PORT))
            }
            Self::External(_) => Some(INBOUND_PORT),
        }
    }

    /// What made it, by its own word: `("ReplicaSet", "web-5d8f")`.
    pub fn made_by(self) -> Option<(&'a str, &'a str)> {
        made_by(self.meta())
    }

    /// Paths that the kubelet asks for over plain HTTP on a port, sorted.
    pub fn probe_paths(self, port: u16) -> Vec<String> {
        let Self::Pod(pod) = self else {
            return Vec::new();
        };
        let mut paths: Vec<_> = containers(pod)
            .flat_map(|container| {
                let probes = [
                    &container.liveness_probe,
                    &container.readiness_probe,
                    &container.startup_probe,
                ];
                probes.into_iter().flatten()
            })
            .filter_map(|probe| probe.http_get.as_ref())
            .filter(|get| get.scheme.as_deref().is_none_or(|scheme| scheme == "HTTP"))
            .filter(|get| match &get.port {
                IntOrString::Int(number) => *number == i32::from(port),
                IntOrString::String(name) => self.port_named(name) == Some(port),
            })
            // A query is not part of what routes match.
            .map(|get| get.path.as_deref().unwrap_or("/").split('?').next())
            .map(|path| path.unwrap_or("/").to_string())
            .collect();
        paths.sort();
        paths.dedup();
        paths
    }

    /// Metadata.
    pub fn meta(self) -> &'a ObjectMeta {
        match self {
            Self::Pod(pod) => pod.meta(),
            Self::Workload(workload) => workload.meta(),
            Self::External(workload) => workload.meta(),
        }
    }

    fn ports(self) -> Box<dyn Iterator<Item = (Option<&'a str>, u16)> + 'a> {
        match self {
            Self::Pod(pod) => {
                let ports = containers(pod).flat_map(|container| container.ports.iter().flatten());
                Box::new(ports.filter_map(|port| {
                    let number = u16::try_from(port.container_port).ok()?;
                    let is_tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
                    is_tcp.then_some((port.name.as_deref(), number))
                }))
            }
            Self::Workload(workload) => {
                let ports = workload.spec.ports.iter();
                Box::new(ports.map(|port| (port.name.as_deref(), port.port)))
            }
            Self::External(workload) => {
                let ports = workload.spec.ports.iter().flatten();
                let is_tcp = |port: &&crate::resource::external::ExternalWorkloadPort| {
                    port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
                };
                Box::new(ports.filter(is_tcp).map(|port| (port.name.as_deref(), port.port)))
            }
        }
    }

    /// A variable of a pod's own proxy.
    fn proxy_variable(self, name: &str) -> Option<&'a str> {
        let Self::Pod(pod) = self else { return None };
        let proxy = containers(pod).find(|container| container.name == PROXY_CONTAINER)?;
        let variable = proxy.env.iter().flatten().find(|variable| variable.name == name)?;
        variable.value.as_deref()
    }

    /// The port that a pod's own proxy was told to listen on, as its injector wrote it.
    fn proxy_listen_port(self, which: &str) -> Option<u16> {
        let said = self.proxy_variable(&format!("LINKERD2_PROXY_{which}_LISTEN_ADDR"))?;
        let (_, port) = said.rsplit_once(':')?;
        port.parse().ok().filter(|port| *port != 0)
    }
}

/// What made an object: its controller, or else its first owner.
pub(super) fn made_by(meta: &ObjectMeta) -> Option<(&str, &str)> {
    let owners = meta.owner_references.as_ref()?;
    let owner =
        owners.iter().find(|owner| owner.controller == Some(true)).or_else(|| owners.first())?;
    Some((&owner.kind, &owner.name))
}

fn containers(pod: &Pod) -> impl Iterator<Item = &k8s_openapi::api::core::v1::Container> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()))
}
