//! Discovery of destinations: policy and profile of each, asked for once however many connections
//! go there, kept while used and for a while after.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::{Clients, News, Standing};
use crate::model::client_policy::{
    Backend, ClientPolicy, ClientProtocol, ConnectionRule, Dispatcher, Distribution, HttpRoute,
    HttpRoutes, Load, OpaqueRoute, OpaqueRoutes, Queue, RouteBackend, Rule,
};
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::metadata::Metadata;
use crate::model::profile::Profile;
use crate::model::route::http::{HttpMatch, Timeouts};
use crate::model::target::Target;
use crate::proxy::config;
use crate::proxy::idle::{Full, IdleTable};
use crate::proxy::routes::Routes;
use crate::proxy::unenforced;
use crate::runtime::{Runtime, TaskGuard};
use crate::telemetry::Telemetry;

/// Destinations discovered at once; more are refused. Each costs about 4 KiB.
pub const DESTINATIONS_MAX: usize = 10_000;

/// What holds for a destination now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// How its traffic is routed.
    pub policy: Arc<ClientPolicy>,
    /// The service's name, where it has one.
    pub authority: Option<Arc<str>>,
}

/// A discovered destination. Held by the connections that go there.
pub struct Destination {
    known: watch::Receiver<Option<Known>>,
    /// What its connections of HTTP share.
    routes: Mutex<Weak<Routes>>,
    /// Of the policy's stream and the profile's.
    standings: [Standing; 2],
    _task: TaskGuard,
}

impl Destination {
    /// What holds now; none until the first answer.
    pub fn known(&self) -> Option<Known> {
        self.known.borrow().clone()
    }

    /// What holds, once the first answer is there. None where discovery was dropped.
    pub async fn wait_known(&self) -> Option<Known> {
        let mut known = self.known.clone();
        let known = known.wait_for(Option::is_some).await.ok()?;
        known.clone()
    }

    /// The routes of what is known, made by the first connection that needs them.
    pub fn routes(&self, known: Known, make: impl FnOnce(Known) -> Routes) -> Arc<Routes> {
        let mut shared = lock(&self.routes);
        if let Some(routes) = shared.upgrade().filter(|routes| routes.are_of(&known)) {
            return routes;
        }
        let routes = Arc::new(make(known));
        *shared = Arc::downgrade(&routes);
        routes
    }

    fn is_irreplaceable(&self) -> bool {
        self.standings.iter().any(Standing::is_irreplaceable)
    }
}

/// All discovered destinations.
pub struct Destinations {
    runtime: Runtime,
    clients: Clients,
    telemetry: Arc<Telemetry>,
    defaults: Defaults,
    table: Arc<IdleTable<Target, Destination>>,
}

/// What is used where the control plane says nothing.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// Time for the first bytes.
    pub detect_timeout: Duration,
    /// Queues of backends.
    pub queue: Queue,
}

impl Destinations {
    /// None yet.
    pub fn new(
        runtime: &Runtime,
        clients: Clients,
        config: &config::Outbound,
        telemetry: &Arc<Telemetry>,
    ) -> Self {
        let queue = Queue {
            capacity: u32::try_from(config.queue_capacity).unwrap_or(u32::MAX),
            failfast_timeout: config.failfast_timeout,
        };
        let idle_timeout = config.discovery_idle_timeout;
        Self {
            runtime: runtime.clone(),
            clients,
            telemetry: telemetry.clone(),
            defaults: Defaults { detect_timeout: config.detect_timeout, queue },
            table: IdleTable::new(
                runtime,
                "sweep-destinations",
                idle_timeout,
                DESTINATIONS_MAX,
                Destination::is_irreplaceable,
            ),
        }
    }

    /// The destination of a target; discovery starts where nobody asked before.
    ///
    /// # Errors
    /// [`Full`] where too many are discovered.
    pub fn find(&self, target: &Target) -> Result<Arc<Destination>, Full> {
        self.table.find(target.clone(), |target| {
            let (publish, known) = watch::channel(None);
            let standings = <[Standing; 2]>::default();
            let follow = follow(
                self.clients.clone(),
                target.clone(),
                self.defaults,
                self.telemetry.clone(),
                standings.clone(),
                publish,
            );
            let task = self.runtime.spawn_guarded("discover-destination", follow);
            Arc::new(Destination { known, routes: Mutex::default(), standings, _task: task })
        })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows a target's policy and profile, and publishes what the two together say.
async fn follow(
    clients: Clients,
    target: Target,
    defaults: Defaults,
    telemetry: Arc<Telemetry>,
    [policy_standing, profile_standing]: [Standing; 2],
    publish: watch::Sender<Option<Known>>,
) {
    let path = target.to_string();
    let asked = match &target {
        Target::Address(address) => clients
            .config
            .profile_networks
            .iter()
            .any(|net| net.contains(&address.ip().to_canonical())),
        Target::Name(_) => true,
    };
    let state = Mutex::new(Halves::default());
    let refresh = |change: &mut dyn FnMut(&mut Halves)| {
        let mut halves = lock(&state);
        change(&mut halves);
        if let Some(known) = halves.combine(&target, defaults) {
            publish.send_if_modified(|current| {
                let changed = current.as_ref() != Some(&known);
                if changed {
                    unenforced::report_client(&known.policy, &telemetry);
                    *current = Some(known);
                }
                changed
            });
        }
    };
    if !asked {
        refresh(&mut |halves| halves.profile = Some(None));
    }
    let policies = clients.follow(
        "client policy",
        &policy_standing,
        || clients.policy.watch_client_policy(&clients.config.workload, &target),
        |news| {
            let policy = match news {
                News::Value { value, .. } => Some(Arc::new(value)),
                News::Absent => None,
                News::Unreachable => return,
            };
            refresh(&mut |halves| halves.policy = Some(policy.clone()));
        },
    );
    let profiles = async {
        if !asked {
            return std::future::pending().await;
        }
        clients
            .follow(
                "profile",
                &profile_standing,
                || clients.destination.watch_profile(&path, &clients.config.context),
                |news| match news {
                    News::Value { value, .. } => {
                        unenforced::report_profile(&value, &telemetry);
                        let mut profile = Some(value);
                        refresh(&mut |halves| halves.profile = Some(profile.take()));
                    }
                    News::Absent => refresh(&mut |halves| halves.profile = Some(None)),
                    // Profiles add to policies: traffic does not wait for them in an outage.
                    News::Unreachable => refresh(&mut |halves| {
                        halves.profile.get_or_insert_default();
                    }),
                },
            )
            .await
    };
    tokio::join!(policies, profiles);
}

/// The two answers as they are known: outer none while unanswered, inner none where absent.
#[derive(Default)]
struct Halves {
    policy: Option<Option<Arc<ClientPolicy>>>,
    profile: Option<Option<Profile>>,
}

impl Halves {
    fn combine(&self, target: &Target, defaults: Defaults) -> Option<Known> {
        let (policy, profile) = (self.policy.as_ref()?, self.profile.as_ref()?);
        let authority = profile
            .as_ref()
            .and_then(|profile| profile.fully_qualified_name.as_deref())
            .filter(|name| !name.is_empty())
            .map(|name| match target {
                Target::Address(address) => format!("{name}:{}", address.port()).into(),
                Target::Name(name) => name.to_string().into(),
            });
        let policy = match (policy, profile) {
            (Some(policy), Some(profile)) if profile.opaque => Arc::new(opaque(policy)),
            (Some(policy), _) => policy.clone(),
            (None, profile) => Arc::new(synthesize(target, profile.as_ref(), defaults)),
        };
        Some(Known { policy, authority })
    }
}

/// The policy with its opaque part alone: a profile's word on opaqueness wins.
fn opaque(policy: &ClientPolicy) -> ClientPolicy {
    match &policy.protocol {
        ClientProtocol::Detect { opaque, .. } => ClientPolicy {
            parent: policy.parent.clone(),
            protocol: ClientProtocol::Opaque(opaque.clone()),
        },
        _ => policy.clone(),
    }
}

/// The policy of a destination that the control plane has none for: the endpoint of its profile,
/// or the address itself, as it is.
fn synthesize(target: &Target, profile: Option<&Profile>, defaults: Defaults) -> ClientPolicy {
    let endpoint = profile.and_then(|profile| profile.endpoint.clone());
    let dispatcher = match (endpoint, target) {
        (Some(endpoint), _) => Dispatcher::Forward(endpoint),
        (None, Target::Address(address)) => Dispatcher::Forward(Endpoint::new(*address)),
        (None, Target::Name(name)) => match name.as_address() {
            Some(address) => Dispatcher::Forward(Endpoint::new(address)),
            None => Dispatcher::Balance {
                path: name.to_string(),
                load: Load::PeakEwma {
                    default_rtt: Duration::from_millis(30),
                    decay: Duration::from_secs(10),
                },
            },
        },
    };
    let parent = Metadata::new_default("unknown");
    let backend = Arc::new(Backend { metadata: parent.clone(), queue: defaults.queue, dispatcher });
    let opaque = OpaqueRoutes {
        routes: vec![OpaqueRoute {
            metadata: Metadata::new_default("opaque"),
            rules: vec![ConnectionRule {
                backends: Distribution::FirstAvailable(vec![route_backend(&backend)]),
                filters: vec![],
            }],
        }],
    };
    let http = HttpRoutes {
        routes: vec![HttpRoute {
            metadata: Metadata::new_default("http"),
            hosts: vec![],
            rules: vec![Rule {
                matches: vec![HttpMatch::default()],
                filters: vec![],
                backends: Distribution::FirstAvailable(vec![route_backend(&backend)]),
                timeouts: Timeouts::default(),
                retry: None,
                allow_l5d_request_headers: false,
            }],
        }],
        breaker: None,
    };
    let protocol = match profile.is_some_and(|profile| profile.opaque) {
        true => ClientProtocol::Opaque(opaque),
        false => ClientProtocol::Detect {
            timeout: defaults.detect_timeout,
            http1: http.clone(),
            http2: http,
            opaque,
        },
    };
    ClientPolicy { parent, protocol }
}

fn route_backend<F>(backend: &Arc<Backend>) -> RouteBackend<F> {
    RouteBackend { backend: backend.clone(), filters: vec![], request_timeout: None }
}

impl Clients {
    /// Follows the endpoints under a path for ever. `None` says that the path is unknown.
    pub async fn follow_endpoints(
        &self,
        path: &str,
        standing: &Standing,
        mut apply: impl FnMut(Option<EndpointUpdate>, bool) + Send,
    ) {
        self.follow(
            "endpoints",
            standing,
            || self.destination.watch_endpoints(path, &self.config.context),
            |news| match news {
                News::Value { value, fresh } => apply(Some(value), fresh),
                News::Absent => apply(None, true),
                News::Unreachable if planted!("outage-clears-endpoints") => apply(None, true),
                News::Unreachable => {}
            },
        )
        .await;
    }
}
