//! The sender's side: what its proxy makes of the connection and of the request, and the ways on.

mod backends;

use http::{HeaderMap, HeaderValue, Method, Uri, header};

use crate::control::index::View;
use crate::control::names;
use crate::control::policy;
use crate::control::protocol::{self, Because};
use crate::model::client_policy::{
    ClientPolicy, ClientProtocol, ConnectionRule, FailureAccrual, GrpcRoute, HttpRoute,
    OpaqueRoute, Rule,
};
use crate::model::metadata::Metadata;
use crate::model::target::Target;
use crate::resource::Kind;
use crate::resource::check::SKIP_OUTBOUND_PORTS;
use crate::traffic::classify::is_grpc;
use crate::traffic::filter::{self, Filter, Refused};
use crate::traffic::retry::Conditions;
use crate::traffic::select;

use super::parties::{Goal, Source};
use super::story::{Form, Refusal, Step, StepName, Verdict, Way, named};
use super::{Asked, ExplainError, Speaks, cite, words};

/// A request as proxies see it, or bytes.
pub(super) struct Request {
    pub(super) speaks: Speaks,
    method: Method,
    uri: Uri,
    host: String,
    pub(super) headers: HeaderMap,
}

impl Request {
    /// `host`: what the sender's application calls its server.
    pub(super) fn new(asked: &Asked, host: &str) -> Result<Self, ExplainError> {
        let mut headers = asked.headers.clone();
        let is_http = asked.speaks != Speaks::Tcp;
        let speaks = match asked.speaks {
            _ if is_http && is_grpc(&headers) => Speaks::Grpc,
            speaks => speaks,
        };
        if speaks == Speaks::Grpc {
            let grpc = HeaderValue::from_static("application/grpc");
            headers.entry(header::CONTENT_TYPE).or_insert(grpc);
        }
        let path = match asked.path.strip_prefix('/') {
            Some(_) => asked.path.clone(),
            None => format!("/{}", asked.path),
        };
        let uri = path.parse::<Uri>();
        let uri = uri.map_err(|error| ExplainError::Wrong(format!("path {path:?}: {error}")))?;
        let given = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        Ok(Self {
            speaks,
            method: if speaks == Speaks::Grpc { Method::POST } else { asked.method.clone() },
            host: given.unwrap_or(host).to_string(),
            uri,
            headers,
        })
    }

    pub(super) fn told(&self) -> String {
        let Self { method, uri, .. } = self;
        match self.speaks {
            Speaks::Http1 => format!("{method} {uri} over HTTP/1"),
            Speaks::Http2 => format!("{method} {uri} over HTTP/2"),
            Speaks::Grpc => format!("gRPC {}", uri.path().trim_start_matches('/')),
            Speaks::Tcp => "bytes over TCP".to_string(),
        }
    }

    pub(super) fn form(&self) -> Form {
        match self.speaks {
            Speaks::Http1 | Speaks::Http2 => Form::Http,
            Speaks::Grpc => Form::Grpc,
            Speaks::Tcp => Form::Bytes,
        }
    }

    pub(super) fn selected_by(&self) -> select::Request<'_> {
        let Self { method, uri, headers, .. } = self;
        select::Request { method, uri, host: Some(&self.host), headers }
    }
}

/// What is carried on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    Http1,
    Http2,
    Bytes,
}

impl Carried {
    pub(super) fn of(speaks: Speaks) -> Self {
        match speaks {
            Speaks::Http1 => Self::Http1,
            Speaks::Http2 | Speaks::Grpc => Self::Http2,
            Speaks::Tcp => Self::Bytes,
        }
    }

    pub(super) fn told(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1",
            Self::Http2 => "HTTP/2",
            Self::Bytes => "bytes",
        }
    }
}

/// What every step is about.
pub(super) struct Scope<'s, 'v> {
    pub(super) view: &'s View<'v>,
    pub(super) source: &'s Source<'v>,
    pub(super) request: &'s Request,
    /// Whether the connection goes through the sender's proxy.
    pub(super) is_proxied: bool,
}

impl Scope<'_, '_> {
    fn refused(&self, refusal: Refusal, why: &str) -> Verdict {
        Verdict::refused(refusal, self.request.form(), why)
    }
}

/// The steps of the sender's side, the ways on, and the end of it.
pub(super) fn follow(
    view: &View<'_>,
    source: &Source<'_>,
    goal: &Goal<'_>,
    request: &Request,
) -> (Vec<Step>, Vec<Way>, Verdict) {
    let skips = goal.target.as_ref().is_some_and(|target| skips_proxy(view, source, target));
    let is_proxied = source.identity.is_some() && !skips;
    let scope = Scope { view, source, request, is_proxied };
    let mut steps = vec![source_step(&scope, skips)];
    let found = match &goal.target {
        Some(target) if is_proxied => proxied(&scope, goal, target, &mut steps),
        Some(target) => Ok(unproxied(&scope, goal, target, &mut steps)),
        None => {
            let why = goal.resolved.clone().unwrap_or_default();
            steps.push(discovery(&scope, goal, &why).refusing());
            Err(Verdict::closed("its name has no address"))
        }
    };
    match found {
        Ok(ways) => {
            let verdict = Verdict::of_ways(&ways);
            (steps, ways, verdict)
        }
        Err(verdict) => (steps, Vec::new(), verdict),
    }
}

fn port_of(target: &Target) -> u16 {
    match target {
        Target::Address(address) => address.port(),
        Target::Name(name) => name.port(),
    }
}

fn skips_proxy(view: &View<'_>, source: &Source<'_>, target: &Target) -> bool {
    let Some(instance) = source.instance else { return false };
    let of_namespace = || protocol::of_namespace(view, instance.namespace(), SKIP_OUTBOUND_PORTS);
    let ports = instance.annotation(SKIP_OUTBOUND_PORTS).or_else(of_namespace);
    ports.is_some_and(|text| protocol::read_ports(text, |_| None).contains(port_of(target)))
}

fn source_step(scope: &Scope<'_, '_>, skips: bool) -> Step {
    let Scope { view, source, .. } = scope;
    let at = words::list(&source.ips, "nowhere yet");
    let step = match (&source.identity, source.instance) {
        (Some(identity), _) if skips => {
            let says = format!("{} at {at} is meshed, and sends this past its proxy", source.name);
            let because = format!("{SKIP_OUTBOUND_PORTS} names the port");
            Step::new(StepName::Source, says).because(because).because(format!("it is {identity}"))
        }
        (Some(identity), _) => {
            let says = format!("{} at {at} is meshed, and shows {identity}", source.name);
            Step::new(StepName::Source, says)
        }
        (None, Some(_)) => {
            let says = format!("{} at {at} has no proxy: it sends in plaintext", source.name);
            Step::new(StepName::Source, says)
        }
        (None, None) => {
            let says = format!("{} is nobody that the mesh knows", source.name);
            Step::new(StepName::Source, says)
        }
    };
    let others = (source.others > 0).then(|| {
        format!(
            "{} may send as well; this one stands for them",
            words::count(source.others, "other")
        )
    });
    let nobody = source.instance.is_none() && source.ips.is_empty();
    let nobody =
        nobody.then(|| "nothing runs under it: an address in the cluster is assumed".into());
    let account = source.instance.and_then(|one| {
        cite::find(view, Kind::ServiceAccount, one.namespace(), one.service_account())
    });
    step.because_of(others.into_iter().chain(nobody))
        .citing(source.instance.map(cite::instance).into_iter().chain(account))
}

fn discovery(scope: &Scope<'_, '_>, goal: &Goal<'_>, says: &str) -> Step {
    let service = goal.service.map(|service| cite::meta(Kind::Service, &service.metadata));
    let step = Step::new(StepName::Discovery, says).citing(service);
    let profile = goal.service.and_then(|service| {
        let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let full = scope.view.mesh.service_name(namespace, name);
        let own = scope.view.service_profile(&scope.source.namespace, &full);
        own.or_else(|| scope.view.service_profile(namespace, &full))
    });
    match profile {
        Some(profile) => step
            .because("its ServiceProfile is told to proxies; Weft's do not heed its routes yet")
            .citing([cite::meta(Kind::ServiceProfile, &profile.metadata)]),
        None => step,
    }
}

/// What the cluster itself does with a connection that goes through no proxy of the sender's.
fn unproxied(
    scope: &Scope<'_, '_>,
    goal: &Goal<'_>,
    target: &Target,
    steps: &mut Vec<Step>,
) -> Vec<Way> {
    let (says, way) = backends::of_cluster(scope, goal, target);
    steps.push(discovery(scope, goal, &says).because_of(goal.resolved.clone()));
    way
}

fn proxied(
    scope: &Scope<'_, '_>,
    goal: &Goal<'_>,
    target: &Target,
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    let view = scope.view;
    let policy = match policy::client::compile(view, &scope.source.namespace, target) {
        Ok(policy) => policy,
        Err(refusal) => {
            let says = format!("{target} is not known to the control plane: {refusal}");
            steps.push(discovery(scope, goal, &says).refusing());
            return Err(scope.refused(Refusal::NoEndpoints, "nothing is known of the destination"));
        }
    };
    steps.push(discovered(scope, goal, target, &policy));
    steps.push(protocol_step(scope, goal, target, &policy));
    let (protocol, carried) = (&policy.protocol, Carried::of(scope.request.speaks));
    let mismatch = |expected: &str, steps: &mut Vec<Step>| {
        let why = format!("the sender speaks {}, and its proxy expects {expected}", carried.told());
        let last = steps.pop().map(|step| step.refusing().because(why.clone()));
        steps.extend(last);
        Err(Verdict::closed(&why))
    };
    match (protocol, carried) {
        (ClientProtocol::Detect { http1: routes, .. }, Carried::Http1)
        | (ClientProtocol::Detect { http2: routes, .. }, Carried::Http2)
        | (ClientProtocol::Http1(routes), Carried::Http1)
        | (ClientProtocol::Http2(routes), Carried::Http2) => {
            by_http(scope, &routes.routes, routes.breaker.as_ref(), carried, steps)
        }
        (ClientProtocol::Grpc(routes), Carried::Http2) => {
            by_grpc(scope, &routes.routes, routes.breaker.as_ref(), steps)
        }
        (ClientProtocol::Detect { opaque, .. }, Carried::Bytes)
        | (ClientProtocol::Opaque(opaque), _) => by_bytes(scope, &opaque.routes, steps),
        (ClientProtocol::Http1(_), _) => mismatch("HTTP/1", steps),
        (ClientProtocol::Http2(_) | ClientProtocol::Grpc(_), _) => mismatch("HTTP/2", steps),
        (ClientProtocol::Tls(_), _) => mismatch("TLS with a server's name", steps),
    }
}

/// What an address or a name is.
fn discovered(
    scope: &Scope<'_, '_>,
    goal: &Goal<'_>,
    target: &Target,
    policy: &ClientPolicy,
) -> Step {
    let view = scope.view;
    let undefined = matches!(&policy.protocol, ClientProtocol::Opaque(opaque)
        if opaque.routes.first().is_some_and(|route| route.metadata.name() == "undefined-port"));
    let (says, cited) = match (&policy.parent, target) {
        (parent @ Metadata::Resource(resource), _) if resource.kind == "Service" => {
            let what = named(parent);
            let says = match undefined {
                true => format!("{target} is {what}, which has no TCP port {}", resource.port),
                false => format!("{target} is port {} of {what}", resource.port),
            };
            (says, cite::metadata(view, parent, ""))
        }
        (parent @ Metadata::Resource(_), _) => {
            let says = format!("{target} is outside of the cluster, in {}", named(parent));
            (says, cite::metadata(view, parent, ""))
        }
        (Metadata::Default(_), Target::Address(address)) => match view.instance_at(*address) {
            Some((instance, port)) => {
                let (namespace, name) = (instance.namespace(), instance.name());
                let kind = instance.kind().name();
                let says = format!("{target} is port {port} of {kind} {namespace}/{name} itself");
                (says, Some(cite::instance(instance)))
            }
            None => (format!("{target} is nothing that the mesh knows: it is forwarded to"), None),
        },
        (Metadata::Default(_), Target::Name(_)) => (format!("{target} is forwarded to"), None),
    };
    discovery(scope, goal, &says).because_of(goal.resolved.clone()).citing(cited)
}

/// What the sender's proxy takes the connection for.
fn protocol_step(
    scope: &Scope<'_, '_>,
    goal: &Goal<'_>,
    target: &Target,
    policy: &ClientPolicy,
) -> Step {
    let spoken = Carried::of(scope.request.speaks).told();
    let says = match &policy.protocol {
        ClientProtocol::Detect { timeout, .. } => format!(
            "detected from the first bytes, of which it waits {} at most: {spoken}",
            words::time(*timeout)
        ),
        ClientProtocol::Opaque(_) => "opaque: bytes, whatever they are".to_string(),
        ClientProtocol::Http1(_) => "HTTP/1, without detection".to_string(),
        ClientProtocol::Http2(_) => "HTTP/2, without detection".to_string(),
        ClientProtocol::Grpc(_) => "gRPC, without detection".to_string(),
        ClientProtocol::Tls(_) => "TLS, routed by its server's name".to_string(),
    };
    let because = service_because(scope.view, goal, target).or_else(|| match target {
        Target::Address(address) => {
            let (instance, port) = scope.view.instance_at(*address)?;
            protocol::opaque_because(scope.view, instance, port)
        }
        Target::Name(_) => None,
    });
    let route = matches!(policy.protocol, ClientProtocol::Grpc(_))
        .then(|| "a GRPCRoute of the port says so".to_string());
    let because = because.and_then(told).map(ToString::to_string);
    Step::new(StepName::Protocol, says).because_of(route.or(because))
}

fn service_because(view: &View<'_>, goal: &Goal<'_>, target: &Target) -> Option<Because> {
    let service = goal.service.or_else(|| match target {
        Target::Address(address) => view.service_at(address.ip()),
        Target::Name(name) => {
            let full = names::parse_full(view.mesh, name.host())?;
            view.service(&full.service.namespace, &full.service.name)
        }
    })?;
    let headless = match target {
        Target::Address(address) => view.service_at(address.ip()).is_none(),
        Target::Name(_) => false,
    };
    let port = policy::client::tcp_port(service, port_of(target)).filter(|_| !headless)?;
    Some(protocol::service_port_because(view, service, port).1)
}

pub(super) fn told(because: Because) -> Option<&'static str> {
    Some(match because {
        Because::NothingSaid => return None,
        Because::OwnAnnotation => "its annotation config.linkerd.io/opaque-ports says so",
        Because::NamespaceAnnotation => {
            "its namespace's annotation config.linkerd.io/opaque-ports says so"
        }
        Because::AppProtocol => "the port's appProtocol says so",
        Because::DefaultList => "the port is one of the mesh's opaque ports",
        Because::Server => "the Server that selects it says so",
    })
}

fn by_http(
    scope: &Scope<'_, '_>,
    routes: &[HttpRoute],
    breaker: Option<&FailureAccrual>,
    carried: Carried,
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    let asked = scope.request.selected_by();
    let Some(selected) = select::client_http(routes, asked) else {
        let all = routes.iter().map(|route| &route.metadata);
        return Err(no_route(scope, StepName::Route, all, "", steps));
    };
    let others = routes.iter().filter(|route| !std::ptr::eq(*route, selected.route));
    let others = others.map(|route| {
        let matches = select::client_http(std::slice::from_ref(route), asked).is_some();
        (&route.metadata, matches)
    });
    let at = place(&selected.route.rules, selected.rule);
    let matched = selected.matched.map_or("everything".into(), words::http_match);
    let hosts = &selected.route.hosts;
    steps.push(route_step(scope, &selected.route.metadata, at, (&matched, hosts), others));
    by_rule(scope, selected.rule, breaker, carried, steps)
}

fn by_grpc(
    scope: &Scope<'_, '_>,
    routes: &[GrpcRoute],
    breaker: Option<&FailureAccrual>,
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    let asked = scope.request.selected_by();
    let Some(selected) = select::client_grpc(routes, asked) else {
        let all = routes.iter().map(|route| &route.metadata);
        return Err(no_route(scope, StepName::Route, all, "", steps));
    };
    let others = routes.iter().filter(|route| !std::ptr::eq(*route, selected.route));
    let others = others.map(|route| {
        let matches = select::client_grpc(std::slice::from_ref(route), asked).is_some();
        (&route.metadata, matches)
    });
    let at = place(&selected.route.rules, selected.rule);
    let matched = selected.matched.map_or("everything".into(), words::grpc_match);
    let hosts = &selected.route.hosts;
    steps.push(route_step(scope, &selected.route.metadata, at, (&matched, hosts), others));
    by_rule(scope, selected.rule, breaker, Carried::Http2, steps)
}

/// Which of the rules it is, from 0.
pub(super) fn place<T>(rules: &[T], rule: &T) -> usize {
    rules.iter().position(|one| std::ptr::eq(one, rule)).unwrap_or_default()
}

fn route_step<'m>(
    scope: &Scope<'_, '_>,
    route: &Metadata,
    rule: usize,
    (matched, hosts): (&str, &[crate::model::route::HostMatch]),
    others: impl Iterator<Item = (&'m Metadata, bool)>,
) -> Step {
    let says = match route {
        Metadata::Default(_) => format!("no route is for it: {} holds", named(route)),
        Metadata::Resource(_) => format!("{}, rules[{rule}]: {matched}", named(route)),
    };
    let mut step = Step::new(StepName::Route, says).citing(cite::metadata(scope.view, route, ""));
    if !hosts.is_empty() {
        step = step.because(format!("it is for {}", words::hosts(hosts)));
    }
    for (other, matches) in others {
        let why = match matches {
            true => "matches as well, and has not the precedence",
            false => "does not match",
        };
        step = step.because(format!("{} {why}", named(other)));
        step = step.citing(cite::metadata(scope.view, other, ""));
    }
    step
}

/// None of the routes matches: 404.
pub(super) fn no_route<'m>(
    scope: &Scope<'_, '_>,
    name: StepName,
    routes: impl Iterator<Item = &'m Metadata>,
    home: &str,
    steps: &mut Vec<Step>,
) -> Verdict {
    let mut step = Step::new(name, format!("no route matches {}", scope.request.told())).refusing();
    for route in routes {
        step = step.because(format!("{} does not match", named(route)));
        step = step.citing(cite::metadata(scope.view, route, home));
    }
    steps.push(step);
    scope.refused(Refusal::NoRoute, "no route is for the request")
}

fn by_rule<M, F: Filter, C: Conditions>(
    scope: &Scope<'_, '_>,
    rule: &Rule<M, F, C>,
    breaker: Option<&FailureAccrual>,
    carried: Carried,
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    permit(scope, &rule.filters, steps)?;
    let choices = backends::choices(scope, &rule.backends);
    let limits = words::timeouts(&rule.timeouts, choices.first().and_then(|first| first.timeout));
    if !limits.is_empty() {
        steps.push(Step::new(StepName::Timeouts, limits.join("; ")));
    }
    if let Some(retry) = &rule.retry {
        steps.push(Step::new(StepName::Retries, words::retry(retry, &retry.conditions.on())));
    }
    if let Some(says) = breaker.and_then(words::breaker) {
        steps.push(Step::new(StepName::Breaker, format!("an endpoint is taken out {says}")));
    }
    backends::ways(scope, choices, carried, steps)
}

fn by_bytes(
    scope: &Scope<'_, '_>,
    routes: &[OpaqueRoute],
    steps: &mut Vec<Step>,
) -> Result<Vec<Way>, Verdict> {
    let first = routes.first().and_then(|route| Some((route, route.rules.first()?)));
    let Some((route, ConnectionRule { backends, filters })) = first else {
        steps.push(Step::new(StepName::Route, "no route is for bytes").refusing());
        return Err(Verdict::closed("no route is for the connection"));
    };
    let says = format!("bytes go by {}", named(&route.metadata));
    steps.push(Step::new(StepName::Route, says).citing(cite::metadata(
        scope.view,
        &route.metadata,
        "",
    )));
    // Whatever was asked for: a connection of bytes is refused by being closed.
    permit(scope, filters, steps).map_err(|_| Verdict::closed("its route refuses it"))?;
    let choices = backends::choices(scope, backends);
    backends::ways(scope, choices, Carried::Bytes, steps)
}

/// What filters refuse.
pub(super) fn permit<F: Filter>(
    scope: &Scope<'_, '_>,
    filters: &[F],
    steps: &mut Vec<Step>,
) -> Result<(), Verdict> {
    match filter::apply(filters) {
        Ok(ignored) if ignored.is_empty() => Ok(()),
        Ok(ignored) => {
            let names = words::list(ignored.iter(), "");
            let says = format!("{names}: told to proxies; Weft's do not heed them yet");
            steps.push(Step::new(StepName::Filters, says));
            Ok(())
        }
        Err(refused) => {
            let says = refused.to_string();
            steps.push(Step::new(StepName::Filters, says.clone()).refusing());
            Err(scope.refused(refusal_of(refused), &says))
        }
    }
}

pub(super) fn refusal_of(refused: Refused<'_>) -> Refusal {
    match refused {
        Refused::Forbidden => Refusal::Forbidden,
        Refused::Invalid(_) | Refused::Unknown => Refusal::Invalid,
    }
}
