//! Explains the reference of a denial: who was denied what, then; and what the same client meets at
//! the same place now.

use std::net::{IpAddr, Ipv6Addr};

use crate::control::destination::endpoints;
use crate::control::index::{Instance, View};
use crate::control::policy;
use crate::model::identity::Identity;
use crate::model::metadata::Metadata;
use crate::model::server_policy::{Authorization, ServerPolicy, ServerProtocol};
use crate::resource::Kind;
use crate::traffic::authorize::{Client, ClientTls};
use crate::traffic::denial::{Denial, DenialId, DeniedWhat, Host, identity_hash, route_hash};

use super::story::{Form, Refusal, Step, StepName, Verdict};
use super::{ExplainError, Explanation, cite, server};

pub(super) fn explain(view: &View<'_>, id: DenialId) -> Result<Explanation, ExplainError> {
    let denial = id.denial();
    let server = at(view, denial.server);
    let server = server.iter().find(|one| one.has_port(denial.port)).or(server.first()).copied();
    let Some(server) = server else {
        return Err(ExplainError::Unknown {
            what: format!("the server of reference {id}, {}:{}", denial.server, denial.port),
            near: Vec::new(),
            known: Vec::new(),
        });
    };
    let client = Found::of(view, &denial);
    let mut steps = vec![denial_step(id, &denial), client.step(&denial)];
    let verdict = now(view, server, &client, &denial, &mut steps);
    let (namespace, name) = (server.namespace(), server.name());
    Ok(Explanation {
        from: client.name(&denial),
        to: format!("{} {namespace}/{name}:{}", server.kind().name(), denial.port),
        request: match denial.what {
            DeniedWhat::Request => "a request".to_string(),
            DeniedWhat::Connection => "a connection".to_string(),
        },
        steps,
        ways: Vec::new(),
        verdict,
    })
}

/// The instances that may be at a host's address.
fn at<'a>(view: &View<'a>, host: Host) -> Vec<Instance<'a>> {
    let is_there = |one: &Instance<'a>| one.addresses().into_iter().any(|ip| host.may_be(ip));
    view.instances().filter(is_there).collect()
}

/// The client, as far as it is found again.
struct Found<'a> {
    instance: Option<Instance<'a>>,
    /// Who it showed to be.
    identity: Option<Identity>,
}

impl<'a> Found<'a> {
    fn of(view: &View<'a>, denial: &Denial) -> Self {
        let identity = |one: &Instance<'a>| Some(endpoints::identity(view, *one)?.identity);
        let fits = |own: &Identity| denial.identity == Some(identity_hash(own));
        let there = at(view, denial.client);
        let same = there.iter().find(|one| identity(one).is_some_and(|own| fits(&own)));
        let instance = match denial.identity {
            Some(_) => same.copied(),
            None => there.first().copied(),
        };
        // Where its address is another's by now, it may still be known who it was.
        let anybody = || {
            let instances = view.instances().filter_map(|one| identity(&one));
            let accounts = view.objects(Kind::ServiceAccount).filter_map(|account| {
                let account = account.object_ref();
                view.mesh.identity(&account.namespace, &account.name).ok()
            });
            instances.chain(accounts).find(|own| fits(own))
        };
        let identity = denial.identity.and_then(|_| same.and_then(identity).or_else(anybody));
        Self { instance, identity }
    }

    fn name(&self, denial: &Denial) -> String {
        match (self.instance, &self.identity) {
            (Some(one), _) => {
                format!("{} {}/{}", one.kind().name(), one.namespace(), one.name())
            }
            (None, Some(identity)) => identity.to_string(),
            (None, None) => denial.client.to_string(),
        }
    }

    fn step(&self, denial: &Denial) -> Step {
        let at = denial.client;
        let says = match (denial.identity, &self.identity) {
            (None, _) => format!("{} at {at} came without an identity", self.name(denial)),
            (Some(_), Some(identity)) => {
                format!("{} at {at} showed {identity}", self.name(denial))
            }
            (Some(_), None) => {
                format!("somebody at {at} showed an identity that nobody has any more")
            }
        };
        Step::new(StepName::Source, says).citing(self.instance.map(cite::instance))
    }

    /// Its address: of IPv6 by whoever has one that fits.
    fn ip(&self, denial: &Denial) -> IpAddr {
        match denial.client {
            Host::V4(ip) => ip.into(),
            Host::V6(_) => {
                let own = self.instance.map(|one| one.addresses()).unwrap_or_default();
                let fits = own.into_iter().find(|ip| denial.client.may_be(*ip));
                fits.unwrap_or(Ipv6Addr::UNSPECIFIED.into())
            }
        }
    }
}

fn denial_step(id: DenialId, denial: &Denial) -> Step {
    let what = match denial.what {
        DeniedWhat::Request => "a request",
        DeniedWhat::Connection => "a connection",
    };
    let Denial { why, client, server, port, .. } = denial;
    let says = format!("{id}: {what} of {client} to {server}:{port} was denied: {why}");
    Step::new(StepName::Denial, says).refusing()
}

/// What the same client meets at the same place now.
fn now(
    view: &View<'_>,
    server: Instance<'_>,
    client: &Found<'_>,
    denial: &Denial,
    steps: &mut Vec<Step>,
) -> Verdict {
    let form = match denial.what {
        DeniedWhat::Request => Form::Http,
        DeniedWhat::Connection => Form::Bytes,
    };
    let then = |why: &str| Verdict::refused(Refusal::Unauthorized, form, why);
    if denial.identity.is_some() && client.identity.is_none() {
        return then("denied then; who it was is not known any more");
    }
    let compiled = policy::server::compile(view, server.namespace(), server.name(), denial.port);
    let Ok(policy) = compiled else {
        return then("denied then; the server is not known any more");
    };
    steps.push(server::server_step(view, server, denial.port, &policy));
    let route = denial.route.and_then(|hash| route_of(&policy, hash));
    match (denial.route, &route) {
        (Some(_), None) => {
            steps.push(Step::new(StepName::ServerRoute, "the route that it took is gone"));
        }
        (_, Some((route, _))) => steps.push(server::route_step(view, route, 0, "as it was then")),
        (None, None) => {}
    }
    let tls = client.identity.as_ref().map_or(ClientTls::None, ClientTls::Identity);
    let who = server::Who { view, instance: server, client: Client { ip: client.ip(denial), tls } };
    match server::authorize(&who, &policy, route, steps) {
        Ok(()) => Verdict::allowed("denied then, and allowed now"),
        Err(denied) => then(&format!("then and now: {denied}")),
    }
}

fn route_of(policy: &ServerPolicy, hash: u16) -> Option<(&Metadata, &[Authorization])> {
    let is_it = |route: &Metadata| route_hash(route) == hash;
    match &policy.protocol {
        ServerProtocol::Detect { routes, .. } => {
            let route = routes.iter().find(|route| is_it(&route.metadata))?;
            Some((&route.metadata, &route.authorizations))
        }
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => {
            let route = http.routes.iter().find(|route| is_it(&route.metadata))?;
            Some((&route.metadata, &route.authorizations))
        }
        ServerProtocol::Grpc(routes) => {
            let route = routes.iter().find(|route| is_it(&route.metadata))?;
            Some((&route.metadata, &route.authorizations))
        }
        ServerProtocol::Opaque | ServerProtocol::Tls => None,
    }
}
