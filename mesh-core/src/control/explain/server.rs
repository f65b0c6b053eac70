//! The server's side: who the endpoint is, what its proxy makes of the connection, and who may.

use std::net::IpAddr;

use crate::control::index::{Instance, View};
use crate::control::policy::server::{self as compiled, DefaultBecause};
use crate::control::policy::{authorization, rate_limit};
use crate::control::protocol;
use crate::control::select::server_of;
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::identity::Identity;
use crate::model::metadata::Metadata;
use crate::model::server_policy::{Authorization, RateLimit, ServerPolicy, ServerProtocol};
use crate::resource::{AuthorizationPolicy, Kind, Object};
use crate::traffic::authorize::{Client, ClientTls, Denied, check};
use crate::traffic::select;

use super::client::{Carried, Scope, no_route, permit, place};
use super::story::{Cited, Refusal, Step, StepName, Verdict, named};
use super::{cite, words};

/// Client and connection, as the server's proxy sees them.
struct Arrival<'s> {
    ip: IpAddr,
    /// Who the client showed to be.
    identity: Option<&'s Identity>,
    /// What is on the connection, once TLS is off it.
    carried: Carried,
    /// It came to the proxy's own port, with a header that says what it carries.
    is_direct: bool,
    /// The sender's proxy sent it as a request, and answers that where the connection is closed.
    is_request: bool,
}

impl Arrival<'_> {
    fn client(&self) -> Client<'_> {
        let tls = self.identity.map_or(ClientTls::None, ClientTls::Identity);
        Client { ip: self.ip, tls }
    }
}

/// The steps from the connection to an endpoint on, and their end.
pub(super) fn arrive(
    scope: &Scope<'_, '_>,
    endpoint: &Endpoint,
    carried: Carried,
) -> (Vec<Step>, Verdict) {
    let mut steps = Vec::new();
    let verdict = match follow(scope, endpoint, carried, &mut steps) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    (steps, verdict)
}

fn follow(
    scope: &Scope<'_, '_>,
    endpoint: &Endpoint,
    carried: Carried,
    steps: &mut Vec<Step>,
) -> Result<Verdict, Verdict> {
    let view = scope.view;
    let (ip, port) = (endpoint.address.ip().to_canonical(), endpoint.address.port());
    let found = endpoint
        .resource
        .as_ref()
        .and_then(|resource| view.instance(resource.namespace(), resource.name()));
    let found = found.map(|one| (one, one.is_behind(ip)));
    let found = found.map(|(one, behind)| match behind {
        true => (one, one.port_behind(port).unwrap_or(port)),
        false => (one, port),
    });
    let is_self = scope.source.ips.contains(&ip);
    let tls = endpoint.tls.as_ref().filter(|_| scope.is_proxied && !is_self);
    let is_direct = tls.is_some() && endpoint.inbound_port.is_some();
    require(scope, tls.map(|tls| &tls.identity), carried, steps)?;
    steps.push(identity_step(scope, endpoint, found, is_self, carried));
    let Some((instance, port)) = found else {
        let says = "outside of the mesh: whatever is there answers";
        steps.push(Step::new(StepName::Application, says));
        return Ok(Verdict::allowed("allowed: it goes out of the mesh"));
    };
    if let Some(why) = past_proxy(view, instance, port, is_self) {
        steps.push(Step::new(StepName::Application, format!("reached at port {port}: {why}")));
        return Ok(Verdict::allowed("allowed: the application is reached"));
    }
    let policy = match compiled::compile(view, instance.namespace(), instance.name(), port) {
        Ok(policy) => policy,
        Err(refusal) => {
            let says = format!("the control plane has no policy for it: {refusal}");
            steps.push(Step::new(StepName::Server, says).refusing());
            return Err(Verdict::closed("nothing is known of the server"));
        }
    };
    steps.push(server_step(view, instance, port, &policy));
    let arrival = Arrival {
        ip: client_ip(scope, ip),
        identity: scope.source.identity.as_ref().filter(|_| tls.is_some()),
        // Only the header tells a proxy what is within; else it looks for itself.
        carried: match (is_direct, endpoint.protocol_hint) {
            (true, ProtocolHint::Opaque) => Carried::Bytes,
            (true, _) => carried,
            (false, _) => Carried::of(scope.request.speaks),
        },
        is_direct,
        is_request: scope.is_proxied && carried != Carried::Bytes,
    };
    decide(scope, &policy, instance, &arrival, steps)
}

/// `l5d-require-id`: whom the sender wants its server to be.
fn require(
    scope: &Scope<'_, '_>,
    found: Option<&Identity>,
    carried: Carried,
    steps: &mut Vec<Step>,
) -> Result<(), Verdict> {
    let required = scope.request.headers.get("l5d-require-id");
    let Some(required) = required.filter(|_| scope.is_proxied && carried != Carried::Bytes) else {
        return Ok(());
    };
    let required = required.to_str().unwrap_or_default();
    if found.is_some_and(|found| found.as_str() == required) {
        return Ok(());
    }
    let says = format!("l5d-require-id wants {required}, which the endpoint is not");
    steps.push(Step::new(StepName::Identity, says.clone()).refusing());
    Err(Verdict::refused(Refusal::WrongIdentity, scope.request.form(), &says))
}

/// Of the sender's family, as the server's proxy sees it; where nobody runs yet, one in the cluster.
fn client_ip(scope: &Scope<'_, '_>, server: IpAddr) -> IpAddr {
    let ips = &scope.source.ips;
    let same = ips.iter().find(|ip| ip.is_ipv4() == server.is_ipv4());
    let assumed = || {
        let networks = scope.view.mesh.cluster_networks.iter();
        let mut hosts = networks.filter_map(|network| network.hosts().next());
        hosts.find(|ip| ip.is_ipv4() == server.is_ipv4())
    };
    same.or(ips.first()).copied().or_else(assumed).unwrap_or(server)
}

fn identity_step(
    scope: &Scope<'_, '_>,
    endpoint: &Endpoint,
    found: Option<(Instance<'_>, u16)>,
    is_self: bool,
    carried: Carried,
) -> Step {
    let plain = |why: &str| Step::new(StepName::Identity, format!("plaintext: {why}"));
    if is_self {
        return plain("the endpoint is the sender itself, over loopback");
    }
    if !scope.is_proxied {
        return plain("the sender's side has no proxy on the way");
    }
    let Some(tls) = &endpoint.tls else {
        let Some((instance, port)) = found else {
            return plain("nothing is known of the endpoint");
        };
        let view = scope.view;
        let is_meshed = instance.is_meshed(&view.mesh.control_namespace);
        return match is_meshed && protocol::skips_proxy(view, instance, port) {
            true => plain("config.linkerd.io/skip-inbound-ports takes the port past its proxy"),
            false => plain("the endpoint has no proxy"),
        };
    };
    let mut step =
        Step::new(StepName::Identity, format!("mutual TLS: the server must be {}", tls.identity));
    if let Some(port) = endpoint.inbound_port {
        let what = "which port is meant, and what is carried";
        step = step.because(format!("to its proxy's port {port}, with a header that says {what}"));
    }
    if endpoint.protocol_hint == ProtocolHint::Http2 && carried == Carried::Http1 {
        step = step.because("HTTP/1 is carried over HTTP/2 between the proxies");
    }
    step
}

/// Why a connection does not go through the server's proxy, where it does not.
fn past_proxy(
    view: &View<'_>,
    instance: Instance<'_>,
    port: u16,
    is_self: bool,
) -> Option<&'static str> {
    if is_self {
        Some("over loopback, past its own proxy")
    } else if !instance.is_meshed(&view.mesh.control_namespace) {
        Some("it has no proxy, and nobody asks who may")
    } else if protocol::skips_proxy(view, instance, port) {
        Some("past its proxy, by config.linkerd.io/skip-inbound-ports")
    } else if instance.is_proxy_port(port) {
        Some("the proxy itself listens there")
    } else {
        None
    }
}

/// Which policy is of a port, and what says so.
pub(super) fn server_step(
    view: &View<'_>,
    instance: Instance<'_>,
    port: u16,
    policy: &ServerPolicy,
) -> Step {
    let Some(server) = server_of(view, instance, port) else {
        let (default, because) = compiled::default_policy_because(view, instance, port);
        let namespace = cite::find(view, Kind::Namespace, "", instance.namespace());
        let says = format!("no Server selects port {port}: the default policy is {default}");
        let step = Step::new(StepName::Server, says);
        return match because {
            DefaultBecause::Instance => step.because("its own annotation says so"),
            DefaultBecause::Namespace => {
                step.because("its namespace's annotation says so").citing(namespace)
            }
            DefaultBecause::Mesh => step.because("the mesh's default, as nothing else says"),
        };
    };
    let access = server.spec.access_policy.as_deref().unwrap_or("deny");
    let name = policy.server.name();
    let says = format!("Server {}/{name} selects port {port}", instance.namespace());
    let because = format!("what nothing allows follows its accessPolicy: {access}");
    Step::new(StepName::Server, says)
        .because(because)
        .citing([cite::meta(Kind::Server, &server.metadata)])
}

fn decide(
    scope: &Scope<'_, '_>,
    policy: &ServerPolicy,
    instance: Instance<'_>,
    arrival: &Arrival<'_>,
    steps: &mut Vec<Step>,
) -> Result<Verdict, Verdict> {
    let is_meshed = arrival.identity.is_some();
    let told = arrival.carried.told();
    let mismatch = |expected: &str, steps: &mut Vec<Step>| {
        let says = format!("{expected} is expected, and {told} comes");
        steps.push(Step::new(StepName::ServerProtocol, says.clone()).refusing());
        Err(lost(scope, arrival, &says))
    };
    let says = match (&policy.protocol, arrival.carried) {
        (ServerProtocol::Opaque | ServerProtocol::Tls, _) if is_meshed && !arrival.is_direct => {
            // Nobody takes the TLS off that the sender's proxy puts on.
            return mismatch("what the application itself speaks", steps);
        }
        (ServerProtocol::Opaque | ServerProtocol::Tls, _) => {
            return by_bytes(scope, policy, instance, arrival, "opaque: bytes", steps);
        }
        (_, Carried::Bytes) if arrival.is_direct => {
            return by_bytes(scope, policy, instance, arrival, "bytes, as it is told", steps);
        }
        (ServerProtocol::Detect { timeout, .. }, Carried::Bytes) => {
            let says = format!("detected within {}: bytes", words::time(*timeout));
            return by_bytes(scope, policy, instance, arrival, &says, steps);
        }
        (_, carried) if arrival.is_direct => format!("{}, as it is told", carried.told()),
        (ServerProtocol::Detect { timeout, .. }, carried) => {
            format!("detected within {}: {}", words::time(*timeout), carried.told())
        }
        (ServerProtocol::Http1(_), Carried::Http1) => "HTTP/1, by its Server".to_string(),
        (ServerProtocol::Http1(_), Carried::Http2) if is_meshed => "HTTP/2, detected".to_string(),
        (ServerProtocol::Http2(_) | ServerProtocol::Grpc(_), Carried::Http2) => {
            "HTTP/2, by its Server".to_string()
        }
        (ServerProtocol::Http1(_), _) => return mismatch("HTTP/1", steps),
        (ServerProtocol::Http2(_) | ServerProtocol::Grpc(_), _) => {
            return mismatch("HTTP/2", steps);
        }
    };
    steps.push(Step::new(StepName::ServerProtocol, says));
    by_request(scope, policy, instance, arrival, steps)
}

/// What the sender's application sees where the server's proxy closes the connection: its own proxy
/// answers requests that it had sent on it.
fn lost(scope: &Scope<'_, '_>, arrival: &Arrival<'_>, why: &str) -> Verdict {
    match arrival.is_request {
        true => Verdict::refused(Refusal::Closed, scope.request.form(), why),
        false => Verdict::closed(why),
    }
}

fn by_bytes(
    scope: &Scope<'_, '_>,
    policy: &ServerPolicy,
    instance: Instance<'_>,
    arrival: &Arrival<'_>,
    says: &str,
    steps: &mut Vec<Step>,
) -> Result<Verdict, Verdict> {
    steps.push(Step::new(StepName::ServerProtocol, says));
    let who = Who { view: scope.view, instance, client: arrival.client() };
    match authorize(&who, policy, None, steps) {
        Ok(()) => {
            let says = "the connection is carried to the application";
            steps.push(Step::new(StepName::Application, says));
            Ok(Verdict::allowed("allowed: the connection reaches the application"))
        }
        Err(denied) => Err(lost(scope, arrival, &denied.to_string())),
    }
}

fn by_request(
    scope: &Scope<'_, '_>,
    policy: &ServerPolicy,
    instance: Instance<'_>,
    arrival: &Arrival<'_>,
    steps: &mut Vec<Step>,
) -> Result<Verdict, Verdict> {
    let home = instance.namespace();
    let asked = scope.request.selected_by();
    let route = match &policy.protocol {
        ServerProtocol::Grpc(routes) if !routes.is_empty() => {
            let Some(selected) = select::server_grpc(routes, asked) else {
                let all = routes.iter().map(|route| &route.metadata);
                return Err(no_route(scope, StepName::ServerRoute, all, home, steps));
            };
            let at = place(&selected.route.rules, selected.rule);
            let matched = selected.matched.map_or("everything".into(), words::grpc_match);
            steps.push(route_step(scope.view, &selected.route.metadata, at, &matched));
            permit(scope, &selected.rule.filters, steps)?;
            Some((&selected.route.metadata, selected.route.authorizations.as_slice()))
        }
        protocol => match http_routes(protocol) {
            [] => None,
            routes => {
                let Some(selected) = select::server_http(routes, asked) else {
                    let all = routes.iter().map(|route| &route.metadata);
                    return Err(no_route(scope, StepName::ServerRoute, all, home, steps));
                };
                let at = place(&selected.route.rules, selected.rule);
                let matched = selected.matched.map_or("everything".into(), words::http_match);
                steps.push(route_step(scope.view, &selected.route.metadata, at, &matched));
                permit(scope, &selected.rule.filters, steps)?;
                Some((&selected.route.metadata, selected.route.authorizations.as_slice()))
            }
        },
    };
    let who = Who { view: scope.view, instance, client: arrival.client() };
    authorize(&who, policy, route, steps).map_err(|denied| {
        Verdict::refused(Refusal::Unauthorized, scope.request.form(), &denied.to_string())
    })?;
    steps.extend(rate_step(&who, policy));
    steps.push(Step::new(StepName::Application, "the request is handed to the application"));
    Ok(Verdict::allowed("allowed: the application answers"))
}

fn http_routes(protocol: &ServerProtocol) -> &[crate::model::server_policy::ServerHttpRoute] {
    match protocol {
        ServerProtocol::Detect { routes, .. } => routes,
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => &http.routes,
        ServerProtocol::Grpc(_) | ServerProtocol::Opaque | ServerProtocol::Tls => &[],
    }
}

pub(super) fn route_step(view: &View<'_>, route: &Metadata, rule: usize, matched: &str) -> Step {
    let says = match route {
        Metadata::Default(name) if &**name == "probe" => {
            format!("a probe of the kubelet's: {matched}")
        }
        Metadata::Default(_) => "all requests go one way: the port has no routes".to_string(),
        Metadata::Resource(_) => format!("{}, rules[{rule}]: {matched}", named(route)),
    };
    Step::new(StepName::ServerRoute, says).citing(cite::metadata(view, route, ""))
}

/// Whom it is about.
pub(super) struct Who<'w, 'v> {
    pub(super) view: &'w View<'v>,
    pub(super) instance: Instance<'v>,
    pub(super) client: Client<'w>,
}

/// Asks every authorization: those of the route, then the port's; the first that allows decides.
pub(super) fn authorize(
    who: &Who<'_, '_>,
    policy: &ServerPolicy,
    route: Option<(&Metadata, &[Authorization])>,
    steps: &mut Vec<Step>,
) -> Result<(), Denied> {
    let (of_route, client) = (route.map_or(&[][..], |(_, all)| all), who.client);
    let decided = crate::traffic::authorize::authorize(&policy.authorizations, of_route, client);
    let says = match decided {
        Ok(allowed) => format!("{} allows it", named(&allowed.metadata)),
        Err(denied) => format!("denied: {denied}"),
    };
    let mut step = Step::new(StepName::Authorization, says);
    for authorization in of_route.iter().chain(&policy.authorizations) {
        step = step.because(told(authorization, client));
        step = step.citing(cited(who, authorization));
    }
    for (policy, why) in left_out(who, policy, route.map(|(route, _)| route)) {
        let name = policy.metadata.name.as_deref().unwrap_or_default();
        let namespace = who.instance.namespace();
        step = step.because(format!("AuthorizationPolicy {namespace}/{name} is left out: {why}"));
        step = step.citing([cite::meta(Kind::AuthorizationPolicy, &policy.metadata)]);
    }
    match decided {
        Ok(_) => {
            steps.push(step);
            Ok(())
        }
        Err(denied) => {
            steps.push(step.refusing());
            Err(denied)
        }
    }
}

/// What an authorization has to say of a client.
fn told(authorization: &Authorization, client: Client<'_>) -> String {
    let (name, allows) = (named(&authorization.metadata), words::allows(authorization));
    let why = match check(authorization, client) {
        Ok(()) => return format!("{name} allows {allows}: that is it"),
        Err(Denied::Nobody) => "nobody".to_string(),
        Err(Denied::Network) => format!("{} is in none of the networks", client.ip),
        Err(Denied::NoTls) => "it comes without mesh TLS".to_string(),
        Err(Denied::NoIdentity) => "it shows no identity".to_string(),
        Err(Denied::Identity) => match client.tls {
            ClientTls::Identity(identity) => format!("it is {identity}"),
            ClientTls::None | ClientTls::NoIdentity => "it shows no identity".to_string(),
        },
    };
    format!("{name} allows {allows}: {why}")
}

/// The object of an authorization, and those that it requires.
fn cited(who: &Who<'_, '_>, authorization: &Authorization) -> Vec<Cited> {
    let home = who.instance.namespace();
    let own = cite::metadata(who.view, &authorization.metadata, home);
    let name = authorization.metadata.name();
    let policy = who.view.objects(Kind::AuthorizationPolicy).find_map(|object| match object {
        Object::AuthorizationPolicy(policy)
            if policy.metadata.name.as_deref() == Some(name)
                && policy.metadata.namespace.as_deref() == Some(home)
                && authorization.metadata.kind() == "authorizationpolicy" =>
        {
            Some(policy)
        }
        _ => None,
    });
    let required = policy.into_iter().flat_map(|policy| &policy.spec.required_authentication_refs);
    let required = required.filter_map(|required| {
        let namespace = required.namespace.as_deref().unwrap_or(home);
        Kind::named(&required.kind)
            .find_map(|kind| cite::find(who.view, kind, namespace, &required.name))
    });
    own.into_iter().chain(required).collect()
}

/// The policies that are about this port or route, and count for nothing.
fn left_out<'v>(
    who: &Who<'_, 'v>,
    policy: &ServerPolicy,
    route: Option<&Metadata>,
) -> Vec<(&'v AuthorizationPolicy, String)> {
    let namespace = who.instance.namespace();
    let is_server = matches!(policy.server, Metadata::Resource(_));
    let of_server = match is_server {
        true => authorization::policies_of_server(who.view, namespace, policy.server.name()),
        false => Vec::new(),
    };
    let is_of_route = |policy: &&AuthorizationPolicy| {
        let target = &policy.spec.target_ref;
        route.is_some_and(|route| {
            target.kind == route.kind()
                && target.name == route.name()
                && target.group.as_deref().unwrap_or_default() == route.group()
        })
    };
    let of_route = who.view.authorizations(namespace).filter(is_of_route);
    let all = of_server.into_iter().chain(of_route);
    all.filter_map(|policy| {
        Some((policy, authorization::of_policy(who.view, namespace, policy).err()?))
    })
    .collect()
}

/// How many requests the port takes of such a client.
fn rate_step(who: &Who<'_, '_>, policy: &ServerPolicy) -> Option<Step> {
    let limit: &RateLimit = match &policy.protocol {
        ServerProtocol::Detect { rate_limit, .. } => rate_limit.as_ref()?,
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => http.rate_limit.as_ref()?,
        ServerProtocol::Grpc(_) | ServerProtocol::Opaque | ServerProtocol::Tls => return None,
    };
    let own = match who.client.tls {
        ClientTls::Identity(identity) => {
            let mut overrides = limit.overrides.iter();
            let own = overrides.find(|each| each.clients.contains(identity));
            own.map(|each| each.requests_per_second).or(limit.identity)
        }
        ClientTls::None | ClientTls::NoIdentity => limit.identity,
    };
    let total = limit.total.map(|total| format!("{total} requests a second of all clients"));
    let own = own.map(|own| format!("{own} of this one"));
    let says = words::list(total.into_iter().chain(own), "no limit");
    let namespace = who.instance.namespace();
    let found = rate_limit::in_force(who.view, namespace, policy.server.name());
    let step = Step::new(StepName::RateLimit, format!("{says}; beyond, 429"));
    Some(
        step.citing(found.map(|found| cite::meta(Kind::HTTPLocalRateLimitPolicy, &found.metadata))),
    )
}
