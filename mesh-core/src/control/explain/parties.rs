//! Who sends and where to: texts that people write, looked up in the index.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::control::destination::endpoints;
use crate::control::destination::place::Place;
use crate::control::index::{Instance, ServiceRef, View};
use crate::control::names;
use crate::control::policy::client;
use crate::control::workload;
use crate::model::identity::Identity;
use crate::model::target::{NameAddr, Target};
use crate::resource::{Kind, Service};

use super::ExplainError;

/// Names in an error at most.
const NAMES_MAX: usize = 8;
/// How near a name must be to be meant, of 1.
const NEAR: f64 = 0.6;

/// Who sends.
pub(super) struct Source<'a> {
    /// As people call it.
    pub(super) name: String,
    /// Its namespace; empty where it is of none.
    pub(super) namespace: String,
    /// The instance that stands for it.
    pub(super) instance: Option<Instance<'a>>,
    /// Other instances that it might be as well.
    pub(super) others: usize,
    /// Where it sends from; none where nobody runs yet.
    pub(super) ips: Vec<IpAddr>,
    /// Who it is, where it has a proxy.
    pub(super) identity: Option<Identity>,
    /// Where it is.
    pub(super) place: Place,
}

/// Where to.
pub(super) struct Goal<'a> {
    /// As people call it, with its port.
    pub(super) name: String,
    /// What an application calls it, in the `Host` header.
    pub(super) host: String,
    /// What its proxy is asked for.
    pub(super) target: Option<Target>,
    /// How the name leads there, where it is not the address itself.
    pub(super) resolved: Option<String>,
    /// The service that is meant.
    pub(super) service: Option<&'a Service>,
}

/// A text by its parts.
struct Named<'t> {
    kind: Option<Wanted>,
    namespace: Option<&'t str>,
    name: &'t str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Instance,
    /// What makes instances, by its kind in lower case.
    Owner(&'static str),
    Account,
    Service,
}

fn wanted(kind: &str) -> Option<Wanted> {
    Some(match kind {
        "po" | "pod" | "pods" | "wl" | "workload" | "workloads" | "ew" | "externalworkload"
        | "externalworkloads" => Wanted::Instance,
        "deploy" | "deployment" | "deployments" => Wanted::Owner("deployment"),
        "ds" | "daemonset" | "daemonsets" => Wanted::Owner("daemonset"),
        "sts" | "statefulset" | "statefulsets" => Wanted::Owner("statefulset"),
        "rs" | "replicaset" | "replicasets" => Wanted::Owner("replicaset"),
        "rc" | "replicationcontroller" | "replicationcontrollers" => {
            Wanted::Owner("replicationcontroller")
        }
        "job" | "jobs" => Wanted::Owner("job"),
        "cj" | "cronjob" | "cronjobs" => Wanted::Owner("cronjob"),
        "sa" | "serviceaccount" | "serviceaccounts" => Wanted::Account,
        "svc" | "service" | "services" => Wanted::Service,
        _ => return None,
    })
}

fn read(text: &str) -> Result<Named<'_>, ExplainError> {
    let parts: Vec<_> = text.split('/').collect();
    let wrong = |what: &str| {
        let remedy = "give KIND/NAME, NAMESPACE/KIND/NAME, NAMESPACE/NAME or NAME";
        Err(ExplainError::Wrong(format!("{text:?}: {what}; {remedy}")))
    };
    if parts.iter().any(|part| part.is_empty()) {
        return wrong("a part is empty");
    }
    Ok(match parts.as_slice() {
        [name] => Named { kind: None, namespace: None, name },
        [first, name] => match wanted(first) {
            Some(kind) => Named { kind: Some(kind), namespace: None, name },
            None => Named { kind: None, namespace: Some(first), name },
        },
        [namespace, kind, name] => match wanted(kind) {
            Some(kind) => Named { kind: Some(kind), namespace: Some(namespace), name },
            None => return wrong(&format!("{kind} is no kind that is known here")),
        },
        _ => return wrong("it has too many parts"),
    })
}

/// Who sends.
pub(super) fn source<'a>(
    view: &View<'a>,
    namespace: &str,
    text: &str,
) -> Result<Source<'a>, ExplainError> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        let found = view.instances().find(|one| one.has_address(ip.to_canonical()));
        return Ok(match found {
            Some(instance) => of_instance(view, instance, 0),
            None => outside(ip),
        });
    }
    let Named { kind, namespace: own, name } = read(text)?;
    let namespace = own.unwrap_or(namespace);
    // Two names alone mean an account; one alone, whatever runs under it.
    let orders: &[Wanted] = match (kind, own) {
        (Some(Wanted::Service), _) => {
            let reason = format!("{text}: a service sends nothing; give what runs, or an account");
            return Err(ExplainError::Wrong(reason));
        }
        (Some(kind), _) => &[kind],
        (None, Some(_)) => &[Wanted::Account, Wanted::Instance, Wanted::Owner("")],
        (None, None) => &[Wanted::Instance, Wanted::Owner(""), Wanted::Account],
    };
    for order in orders {
        let found = instances(view, namespace, *order, name);
        if let Some((first, rest)) = found.split_first() {
            return Ok(of_instance(view, *first, rest.len()));
        }
        if *order == Wanted::Account && has_account(view, namespace, name) {
            return Ok(of_account(view, namespace, name));
        }
    }
    Err(unknown(text, source_names(view, namespace), name))
}

fn of_instance<'a>(view: &View<'a>, instance: Instance<'a>, others: usize) -> Source<'a> {
    let is_meshed = instance.is_meshed(&view.mesh.control_namespace);
    let node = instance.node().unwrap_or_default();
    Source {
        name: format!("{} {}/{}", instance.kind().name(), instance.namespace(), instance.name()),
        namespace: instance.namespace().to_string(),
        instance: Some(instance),
        others,
        ips: instance.addresses(),
        identity: endpoints::identity(view, instance).filter(|_| is_meshed).map(|tls| tls.identity),
        place: Place { node: node.to_string(), zone: view.zone_of(node).to_string() },
    }
}

fn of_account<'a>(view: &View<'a>, namespace: &str, name: &str) -> Source<'a> {
    Source {
        name: format!("ServiceAccount {namespace}/{name}"),
        namespace: namespace.to_string(),
        instance: None,
        others: 0,
        ips: Vec::new(),
        identity: view.mesh.identity(namespace, name).ok(),
        place: Place::default(),
    }
}

fn outside<'a>(ip: IpAddr) -> Source<'a> {
    Source {
        name: ip.to_string(),
        namespace: String::new(),
        instance: None,
        others: 0,
        ips: vec![ip.to_canonical()],
        identity: None,
        place: Place::default(),
    }
}

fn has_account(view: &View<'_>, namespace: &str, name: &str) -> bool {
    view.objects(Kind::ServiceAccount).any(|account| {
        let meta = account.meta();
        meta.namespace.as_deref() == Some(namespace) && meta.name.as_deref() == Some(name)
    })
}

/// The instances of that name and sort, those that have an address first.
fn instances<'a>(
    view: &View<'a>,
    namespace: &str,
    wanted: Wanted,
    name: &str,
) -> Vec<Instance<'a>> {
    let is_it = |one: &Instance<'a>| {
        one.namespace() == namespace
            && match wanted {
                Wanted::Instance => one.name() == name,
                Wanted::Account => {
                    !matches!(one, Instance::External(_)) && one.service_account() == name
                }
                Wanted::Owner(kind) => {
                    let is_named = |owner: &str, found: &str| {
                        (kind.is_empty() || kind == owner) && found == name
                    };
                    let own = one.made_by();
                    let own = own
                        .is_some_and(|(owner, found)| is_named(&owner.to_ascii_lowercase(), found));
                    own || workload::of_instance(view, *one)
                        .is_some_and(|(owner, found)| is_named(&owner, &found))
                }
                Wanted::Service => false,
            }
    };
    let mut found: Vec<_> = view.instances().filter(is_it).collect();
    found.sort_by_key(|one| one.addresses().is_empty());
    found
}

/// Where to.
pub(super) fn goal<'a>(
    view: &View<'a>,
    namespace: &str,
    text: &str,
) -> Result<Goal<'a>, ExplainError> {
    let (bare, port) = split_port(text)?;
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return of_address(view, ip, port);
    }
    let Named { kind, namespace: own, name } = read(bare)?;
    let home = own.unwrap_or(namespace);
    if matches!(kind, None | Some(Wanted::Service)) {
        // As a resolver reads it: with dots its own way, and in a namespace where that is given.
        let candidates = match own {
            Some(_) => vec![names::ServiceName {
                service: ServiceRef { namespace: home.to_string(), name: name.to_string() },
                instance: None,
            }],
            None => names::candidates(view.mesh, home, name),
        };
        for names::ServiceName { service, instance } in candidates {
            if let Some(found) = view.service(&service.namespace, &service.name) {
                return of_service(view, &service, found, instance.as_deref(), port);
            }
        }
    }
    let orders: &[Wanted] = match kind {
        Some(Wanted::Service) => &[],
        Some(Wanted::Account) => {
            let reason = format!("{text}: an account receives nothing; give a service or a pod");
            return Err(ExplainError::Wrong(reason));
        }
        Some(kind) => &[kind],
        None => &[Wanted::Instance, Wanted::Owner("")],
    };
    for order in orders {
        if let Some(first) = instances(view, home, *order, name).first() {
            return of_target(view, *first, text, port);
        }
    }
    Err(unknown(bare, goal_names(view, home), name))
}

/// `HOST:PORT`, `[IPV6]:PORT`, or without a port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), ExplainError> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text, None));
    }
    let (bare, port) = match text.rsplit_once(':') {
        Some((bare, port)) => (bare, Some(port)),
        None => (text, None),
    };
    let bare = bare.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(bare);
    let read = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    match port.map(read) {
        Some(None) => Err(ExplainError::Wrong(format!(
            "{text:?}: give a port from 1 to 65535 after the colon"
        ))),
        port => Ok((bare, port.flatten())),
    }
}

fn of_address<'a>(
    view: &View<'a>,
    ip: IpAddr,
    port: Option<u16>,
) -> Result<Goal<'a>, ExplainError> {
    let service = view.service_at(ip);
    let port = match (port, service) {
        (Some(port), _) => port,
        (None, Some(service)) => service_port(service, &ip.to_string(), None)?,
        (None, None) => {
            let fault = "say which port".to_string();
            let what = ip.to_string();
            return Err(ExplainError::Port { what, fault, ports: Vec::new() });
        }
    };
    let address = SocketAddr::new(ip, port);
    Ok(Goal {
        name: address.to_string(),
        host: address.to_string(),
        target: Some(Target::Address(address)),
        resolved: None,
        service,
    })
}

fn of_service<'a>(
    view: &View<'a>,
    named: &ServiceRef,
    service: &'a Service,
    instance: Option<&str>,
    port: Option<u16>,
) -> Result<Goal<'a>, ExplainError> {
    let ServiceRef { namespace, name } = named;
    let what = format!("Service {namespace}/{name}");
    if client::is_external(service) {
        let elsewhere = service.spec.as_ref().and_then(|spec| spec.external_name.as_deref());
        return Err(ExplainError::Wrong(format!(
            "{what} is a name of {}, which is not of this mesh; give one of its addresses",
            elsewhere.unwrap_or("somewhere else")
        )));
    }
    let port = service_port(service, &what, port)?;
    let host = view.mesh.service_name(namespace, name);
    let host = instance.map_or(host.clone(), |instance| format!("{instance}.{host}"));
    let path = NameAddr::new(&host, port)
        .map_err(|error| ExplainError::Wrong(format!("{what}: {error}")))?;
    let cluster_ips = service.spec.iter().flat_map(|spec| {
        spec.cluster_ips.iter().flatten().chain(&spec.cluster_ip).filter_map(|ip| ip.parse().ok())
    });
    let mut cluster_ips: Vec<IpAddr> = cluster_ips.collect();
    cluster_ips.sort_by_key(|ip| ip.is_ipv6() != view.mesh.prefer_ipv6);
    let (target, resolved) = match cluster_ips.first() {
        Some(ip) if instance.is_none() => {
            let told = format!("{host} is the cluster address {ip}");
            (Some(Target::Address(SocketAddr::new(*ip, port))), told)
        }
        // Plain hosts: the name itself is given to the proxy.
        _ if view.workloads(named).next().is_some() => {
            let told = format!("{host} is asked for by name: it has no cluster address");
            (Some(Target::Name(path)), told)
        }
        // Headless: a resolver answers with the addresses of its pods.
        _ => {
            let placed = endpoints::compile(view, &path).unwrap_or_default();
            let all = placed.seen_from(&Place::default());
            match all.endpoints.keys().next() {
                Some(first) => {
                    let address = SocketAddr::new(first.ip(), port);
                    let told = format!(
                        "{host} is headless: its name is its pods' addresses, {} of {}",
                        first.ip(),
                        all.endpoints.len()
                    );
                    (Some(Target::Address(address)), told)
                }
                None => (None, format!("{host} is headless and has no ready pods: no address")),
            }
        }
    };
    Ok(Goal {
        name: format!("{what}:{port}"),
        host: format!("{host}:{port}"),
        target,
        resolved: Some(resolved),
        service: Some(service),
    })
}

fn of_target<'a>(
    view: &View<'a>,
    instance: Instance<'a>,
    text: &str,
    port: Option<u16>,
) -> Result<Goal<'a>, ExplainError> {
    let what = format!("{} {}/{}", instance.kind().name(), instance.namespace(), instance.name());
    let ports: Vec<_> = instance.declared_ports();
    let port = match (port, ports.as_slice()) {
        (Some(port), _) => port,
        (None, [(_, only)]) => *only,
        (None, _) => {
            let fault = "say which port".to_string();
            let ports = ports.iter().map(|(name, port)| told_port(*name, i32::from(*port)));
            return Err(ExplainError::Port { what, fault, ports: ports.collect() });
        }
    };
    let mut ips = instance.addresses();
    ips.sort_by_key(|ip| ip.is_ipv6() != view.mesh.prefer_ipv6);
    let Some(ip) = ips.first() else {
        return Err(ExplainError::Wrong(format!("{text}: {what} has no address yet")));
    };
    let address = SocketAddr::new(*ip, port);
    Ok(Goal {
        name: format!("{what}:{port}"),
        host: address.to_string(),
        target: Some(Target::Address(address)),
        resolved: Some(format!("{what} is at {ip}")),
        service: None,
    })
}

/// The port that is given, as it is: a port that a service lacks is explained. Else its only one.
fn service_port(service: &Service, what: &str, port: Option<u16>) -> Result<u16, ExplainError> {
    let ports: Vec<_> = service.spec.iter().flat_map(|s| s.ports.iter().flatten()).collect();
    match (port, ports.as_slice()) {
        (Some(port), _) => Ok(port),
        (None, [only]) => u16::try_from(only.port)
            .map_err(|_| ExplainError::Wrong(format!("{what}: {} is no port", only.port))),
        (None, _) => Err(ExplainError::Port {
            what: what.to_string(),
            fault: "say which port".to_string(),
            ports: ports.iter().map(|port| told_port(port.name.as_deref(), port.port)).collect(),
        }),
    }
}

fn told_port(name: Option<&str>, port: i32) -> String {
    name.map_or(port.to_string(), |name| format!("{port} ({name})"))
}

fn unknown(what: &str, all: BTreeSet<String>, name: &str) -> ExplainError {
    let bare = |full: &str| full.rsplit('/').next().unwrap_or(full).to_string();
    let mut near: Vec<_> = all
        .iter()
        .map(|full| (nearness(&bare(full), name), full))
        .filter(|(score, _)| *score >= NEAR)
        .collect();
    near.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    let near: Vec<_> = near.into_iter().take(3).map(|(_, full)| full.clone()).collect();
    let mut known: Vec<_> = all.iter().take(NAMES_MAX).cloned().collect();
    if all.len() > NAMES_MAX {
        known.push("…".to_string());
    }
    ExplainError::Unknown { what: what.to_string(), near, known }
}

/// 1 for the same name.
fn nearness(one: &str, other: &str) -> f64 {
    let begins = strsim::jaro_winkler(one, other);
    // A name that only begins alike is not near.
    let begins = if begins > 0.9 { begins } else { 0.0 };
    strsim::normalized_damerau_levenshtein(one, other).max(begins)
}

/// What could send, in a namespace; namespaces, where nothing is in that one.
fn source_names(view: &View<'_>, namespace: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for one in view.instances().filter(|one| one.namespace() == namespace) {
        names.insert(format!("pod/{}", one.name()));
        if let Some((kind, name)) = workload::of_instance(view, one) {
            names.insert(format!("{kind}/{name}"));
        }
        names.insert(format!("sa/{}", one.service_account()));
    }
    or_namespaces(view, names)
}

/// What could receive, in a namespace; namespaces, where nothing is in that one.
fn goal_names(view: &View<'_>, namespace: &str) -> BTreeSet<String> {
    let services = view.objects(Kind::Service).map(crate::resource::Object::object_ref);
    let services = services.filter(|service| service.namespace == namespace);
    let mut names: BTreeSet<_> = services.map(|service| format!("svc/{}", service.name)).collect();
    let instances = view.instances().filter(|one| one.namespace() == namespace);
    names.extend(instances.map(|one| format!("pod/{}", one.name())));
    or_namespaces(view, names)
}

fn or_namespaces(view: &View<'_>, names: BTreeSet<String>) -> BTreeSet<String> {
    if !names.is_empty() {
        return names;
    }
    let services = view.objects(Kind::Service).map(|service| service.object_ref().namespace);
    let instances = view.instances().map(|one| one.namespace().to_string());
    services.chain(instances).map(|namespace| format!("namespace {namespace}")).collect()
}
