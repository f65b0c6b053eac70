//! The backends of a rule with their shares, and the ways on by their endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::control::destination::endpoints::{self, EndpointSet};
use crate::control::explain::server;
use crate::control::explain::story::{Cited, Refusal, Step, StepName, Verdict, Way, named};
use crate::control::explain::{cite, words};
use crate::control::policy;
use crate::model::client_policy::{Dispatcher, Distribution, RouteBackend};
use crate::model::endpoint::Endpoint;
use crate::model::metadata::Metadata;
use crate::model::target::{NameAddr, Target};
use crate::traffic::filter::{self, Filter};

use super::super::parties::Goal;
use super::{Carried, Scope, refusal_of};

/// Endpoints of one backend that are looked at; more are as the others most likely.
const ENDPOINTS_MAX: usize = 256;

/// A backend that a request may go to.
pub(super) struct Choice {
    name: String,
    cited: Option<Cited>,
    /// Its share of a hundred.
    percent: f64,
    weight: Option<u32>,
    pub(super) timeout: Option<Duration>,
    refused: Option<(Refusal, String)>,
    found: Found,
}

/// What a backend has for endpoints.
enum Found {
    /// It can only fail.
    Fails,
    /// This one, as it is.
    One(Box<Endpoint>),
    /// These, of which the sender is told some.
    Set { told: Arc<EndpointSet>, all: usize, waiting: usize },
}

impl Found {
    fn is_available(&self) -> bool {
        match self {
            // It takes its share, and fails it.
            Self::Fails | Self::One(_) => true,
            Self::Set { told, .. } => !told.endpoints.is_empty(),
        }
    }
}

/// The backends that a request may go to. As proxies choose: among those that are available, by
/// weight; where none is, among all.
pub(super) fn choices<F: Filter>(
    scope: &Scope<'_, '_>,
    distribution: &Distribution<F>,
) -> Vec<Choice> {
    let all: Vec<_> = match distribution {
        Distribution::Empty => Vec::new(),
        Distribution::FirstAvailable(backends) => {
            let mut all: Vec<_> =
                backends.iter().map(|backend| choice(scope, backend, None)).collect();
            let first = all.iter().position(|choice| choice.found.is_available()).unwrap_or(0);
            if all.is_empty() { all } else { vec![all.swap_remove(first)] }
        }
        Distribution::RandomAvailable(backends) => {
            let weighted = backends.iter().filter(|weighted| weighted.weight > 0);
            weighted.map(|each| choice(scope, &each.backend, Some(each.weight))).collect()
        }
    };
    let total = |all: &[Choice], only: bool| -> u64 {
        let counted = all.iter().filter(|choice| !only || choice.found.is_available());
        counted.map(|choice| u64::from(choice.weight.unwrap_or(1))).sum()
    };
    let only_available = all.len() > 1 && total(&all, true) > 0;
    let sum = total(&all, only_available).max(1) as f64;
    let share = |mut choice: Choice| {
        let counts = !only_available || choice.found.is_available();
        let weight = f64::from(choice.weight.unwrap_or(1));
        choice.percent = if counts { (weight / sum * 1000.0).round() / 10.0 } else { 0.0 };
        choice
    };
    all.into_iter().map(share).collect()
}

fn choice<F: Filter>(
    scope: &Scope<'_, '_>,
    backend: &RouteBackend<F>,
    weight: Option<u32>,
) -> Choice {
    let metadata = &backend.backend.metadata;
    let port = metadata.port().map(|port| format!(":{port}")).unwrap_or_default();
    let refused = filter::apply(&backend.filters).err();
    Choice {
        name: match metadata {
            Metadata::Default(name) if &**name == "invalid" => "an invalid backend".to_string(),
            Metadata::Default(_) => "the address itself".to_string(),
            Metadata::Resource(_) => format!("{}{port}", named(metadata)),
        },
        cited: cite::metadata(scope.view, metadata, ""),
        percent: 100.0,
        weight,
        timeout: backend.request_timeout,
        refused: refused.map(|refused| (refusal_of(refused), refused.to_string())),
        found: find(scope, &backend.backend.dispatcher),
    }
}

fn find(scope: &Scope<'_, '_>, dispatcher: &Dispatcher) -> Found {
    match dispatcher {
        Dispatcher::Fail => Found::Fails,
        Dispatcher::Forward(endpoint) => Found::One(Box::new(endpoint.clone())),
        Dispatcher::Balance { path, .. } => match path.parse::<NameAddr>() {
            Ok(path) => set(scope, &path),
            Err(_) => Found::Fails,
        },
    }
}

fn set(scope: &Scope<'_, '_>, path: &NameAddr) -> Found {
    let placed = endpoints::compile(scope.view, path).unwrap_or_default();
    let told = placed.seen_from(&scope.source.place);
    let all = placed.len();
    Found::Set { told, all, waiting: endpoints::not_ready(scope.view, path) }
}

/// The ways on, by each backend and each sort of its endpoints. Says which backends there are.
pub(super) fn ways(
    scope: &Scope<'_, '_>,
    choices: Vec<Choice>,
    carried: Carried,
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    if choices.is_empty() {
        let says = "its rule has no backend that may be used";
        steps.push(Step::new(StepName::Backends, says).refusing());
        let refused = scope.refused(Refusal::Invalid, says);
        return Err(if carried == Carried::Bytes { Verdict::closed(says) } else { refused });
    }
    let told = choices.iter().map(|choice| match choice.percent {
        0.0 => format!("{} has no endpoint, and gets nothing meanwhile", choice.name),
        _ if choices.len() == 1 => choice.name.clone(),
        percent => format!("{} gets {percent} %", choice.name),
    });
    let says = words::list(told, "");
    let step = Step::new(StepName::Backends, says);
    steps.push(step.citing(choices.iter().filter_map(|choice| choice.cited.clone())));
    let used = choices.into_iter().filter(|choice| choice.percent > 0.0);
    Ok(used.flat_map(|choice| by_choice(scope, choice, carried)).collect())
}

fn by_choice(scope: &Scope<'_, '_>, choice: Choice, carried: Carried) -> Vec<Way> {
    let Choice { name, percent, refused, found, cited, .. } = choice;
    let refuse = |refusal: Refusal, why: &str| match carried {
        Carried::Bytes => Verdict::closed(why),
        Carried::Http1 | Carried::Http2 => scope.refused(refusal, why),
    };
    let no_way = |step: Step, verdict: Verdict| {
        let (backend, endpoints) = (name.clone(), Vec::new());
        vec![Way { backend, percent, endpoints, steps: vec![step.refusing()], verdict }]
    };
    if let Some((refusal, why)) = refused {
        return no_way(Step::new(StepName::Filters, why.clone()), refuse(refusal, &why));
    }
    let (all, step) = match found {
        Found::Fails => {
            let why = "the backend can only fail";
            return no_way(Step::new(StepName::Endpoints, why), refuse(Refusal::Invalid, why));
        }
        Found::One(endpoint) => (vec![*endpoint], None),
        Found::Set { told, all, waiting } => {
            let step = endpoints_step(&told, all, waiting).citing(cited);
            if told.endpoints.is_empty() {
                let why = "no endpoint is ready; it is waited for, 3 s at most";
                return no_way(step, refuse(Refusal::NoEndpoints, why));
            }
            (told.endpoints.values().take(ENDPOINTS_MAX).cloned().collect(), Some(step))
        }
    };
    group(scope, &name, percent, &all, step, carried)
}

/// Endpoints that all goes alike for are one way.
fn group(
    scope: &Scope<'_, '_>,
    backend: &str,
    percent: f64,
    endpoints: &[Endpoint],
    first: Option<Step>,
    carried: Carried,
) -> Vec<Way> {
    let mut ways: Vec<Way> = Vec::new();
    for endpoint in endpoints {
        let (rest, verdict) = server::arrive(scope, endpoint, carried);
        let steps: Vec<_> = first.iter().cloned().chain(rest).collect();
        let name = match &endpoint.resource {
            Some(resource) => format!("{} ({})", endpoint.address, named(resource)),
            None => endpoint.address.to_string(),
        };
        match ways.iter_mut().find(|way| way.steps == steps && way.verdict == verdict) {
            Some(way) => way.endpoints.push(name),
            None => {
                let (backend, endpoints) = (backend.to_string(), vec![name]);
                ways.push(Way { backend, percent, endpoints, steps, verdict });
            }
        }
    }
    ways
}

fn endpoints_step(told: &EndpointSet, all: usize, waiting: usize) -> Step {
    let meshed = told.endpoints.values().filter(|endpoint| endpoint.tls.is_some()).count();
    let count = told.endpoints.len();
    let says = match (count, told.exists) {
        (0, false) => "there is no such service".to_string(),
        (0, true) => "it has no endpoint that is ready".to_string(),
        (count, _) => format!("{}, {meshed} meshed", words::count(count, "ready endpoint")),
    };
    let mut step = Step::new(StepName::Endpoints, says);
    if waiting > 0 {
        step = step.because(format!("{} not ready", words::count(waiting, "other endpoint")));
    }
    if all > count {
        let why = "the sender's zone, or its node where traffic is local";
        step = step.because(format!("of {all}, those that are for {why}"));
    }
    let mut zones: Vec<_> =
        told.endpoints.values().filter_map(|endpoint| endpoint.labels.value("zone")).collect();
    zones.sort_unstable();
    zones.dedup();
    if !zones.is_empty() {
        step = step.because(format!("in {}", words::list(zones, "")));
    }
    step
}

/// Where a connection goes that no proxy of the sender's carries: the cluster itself balances it.
pub(super) fn of_cluster(
    scope: &Scope<'_, '_>,
    goal: &Goal<'_>,
    target: &Target,
) -> (String, Vec<Way>) {
    let carried = Carried::of(scope.request.speaks);
    let service = goal.service.filter(|_| match target {
        Target::Address(address) => scope.view.service_at(address.ip()).is_some(),
        Target::Name(_) => true,
    });
    let Some(service) = service else {
        let address = match target {
            Target::Address(address) => Some(*address),
            Target::Name(name) => name.as_address(),
        };
        let address: SocketAddr = address.unwrap_or(([0, 0, 0, 0], 0).into());
        let endpoint = match scope.view.instance_at(address) {
            Some((instance, port)) => endpoints::of_instance(scope.view, instance, address, port),
            None => Endpoint::new(address),
        };
        let says = format!("{target} is connected to as it is");
        let ways = group(scope, "the address itself", 100.0, &[endpoint], None, carried);
        return (says, ways);
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let backend = format!("Service {namespace}/{name}");
    let port = match target {
        Target::Address(address) => address.port(),
        Target::Name(name) => name.port(),
    };
    let path = NameAddr::new(&scope.view.mesh.service_name(namespace, name), port);
    let found = path.map_or(Found::Fails, |path| set(scope, &path));
    let has_port = policy::client::tcp_port(service, port).is_some();
    let says = match has_port {
        true => format!("{target} is port {port} of {backend}, which the cluster balances"),
        false => format!("{target} is {backend}, which has no TCP port {port}"),
    };
    let Found::Set { told, all, waiting } = found else {
        return (says, Vec::new());
    };
    let step = endpoints_step(&told, all, waiting);
    if told.endpoints.is_empty() {
        let verdict = Verdict::closed("nothing takes connections there");
        let (steps, endpoints) = (vec![step.refusing()], Vec::new());
        return (says, vec![Way { backend, percent: 100.0, endpoints, steps, verdict }]);
    }
    let all: Vec<_> = told.endpoints.values().take(ENDPOINTS_MAX).cloned().collect();
    (says, group(scope, &backend, 100.0, &all, Some(step), carried))
}
