//! The runtime contract on the simulated runtimes.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::resource::{Object, ObjectRef};
use mesh_core::runtime::BoxFuture;
use mesh_core::runtime::cluster::ClusterError;
use mesh_core::runtime::contract::{
    Bed, Case, ClusterEditor, ClusterTrouble, Harness, Redirect, Site, check,
};
use mesh_core::time::Timestamp;
use runtime_sim::cluster::{ApiFault, ApiServer};
use runtime_sim::engine::Engine;
use runtime_sim::on_turmoil::Turmoil;
use runtime_sim::topology::{self, HostSpec, Role};
use runtime_sim::trace::Trace;

const NEAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
const FAR: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));
const REDIRECTED: &str = "net::a_redirected_connection_tells_its_original_destination";

/// Longer than any case takes in virtual time.
const LIMIT: Timestamp = Timestamp::from_millis(600_000);

struct Editor(ApiServer);

impl ClusterEditor for Editor {
    fn apply(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.0.apply(object);
        Box::pin(async { Ok(()) })
    }

    fn delete(&self, object: ObjectRef) -> BoxFuture<'static, Result<(), ClusterError>> {
        self.0.delete(&object);
        Box::pin(async { Ok(()) })
    }
}

/// What the simulated API server can do to its clients.
struct Trouble(ApiServer);

impl ClusterTrouble for Trouble {
    fn lose_watches(&self) {
        self.0.set_fault(None, ApiFault::WatchOutage);
    }

    fn relist(&self) {
        self.0.relist(None);
        self.0.clear_fault(None, ApiFault::WatchOutage);
    }

    fn set_stale(&self, by: Option<Duration>) {
        match by {
            Some(by) => self.0.set_fault(None, ApiFault::Stale(by)),
            None => self.0.clear_fault(None, ApiFault::Stale(Duration::ZERO)),
        }
    }
}

/// The engine under a seed; `outbound` tests the near host's own redirect rule, not the far one's.
struct OnEngine {
    seed: u64,
    outbound: bool,
}

impl Harness for OnEngine {
    fn run(&self, case: &'static Case) {
        let api = ApiServer::default();
        let mut engine = Engine::new(self.seed, Trace::new(false), api.clone());
        let mut near = HostSpec::new("near", NEAR);
        let mut far = HostSpec::new("far", FAR);
        if case.name == REDIRECTED {
            let host = if self.outbound { &mut near } else { &mut far };
            host.redirect = Some(topology::Redirect::default());
        }
        let (near, far) = (engine.add_host(near), engine.add_host(far));
        let near_site = Site::new(engine.start(near, "near", Role::App), NEAR);
        let (far_host, far_ip, arrives) = match self.outbound {
            true => (near, NEAR, SocketAddr::from(([127, 0, 0, 1], 4140))),
            false => (far, FAR, SocketAddr::new(FAR, 4143)),
        };
        let far_site = Site::new(engine.start(far_host, "far", Role::Proxy), far_ip);
        let runtime = near_site.runtime.clone();
        let mut bed = Bed::new(near_site, far_site);
        bed.name = Some(("far".to_owned(), FAR));
        bed.redirect = Some(Redirect { dialled: SocketAddr::new(FAR, 8080), arrives });
        bed.directory = "/contract".into();
        bed.cluster = Some(Arc::new(Editor(api.clone())));
        bed.cluster_trouble = Some(Arc::new(Trouble(api)));
        engine.block_on(&runtime, LIMIT, case.run(bed));
    }

    fn exempt(&self) -> &'static [(&'static str, &'static str)] {
        match self.outbound {
            true => &[("entropy::hosts_draw_differently", "both sites are one host")],
            false => &[],
        }
    }
}

struct OnTurmoil;

impl Harness for OnTurmoil {
    fn run(&self, case: &'static Case) {
        let api = ApiServer::default();
        let mut turmoil = Turmoil::new(7, Trace::new(false), api.clone());
        let mut far = HostSpec::new("far", FAR);
        if case.name == REDIRECTED {
            far.redirect = Some(topology::Redirect::default());
        }
        let near = turmoil.add_host(HostSpec::new("near", NEAR));
        let far = turmoil.add_host(far);
        let near = Site::new(turmoil.start(near, "near", Role::App), NEAR);
        let far = Site::new(turmoil.start(far, "far", Role::App), FAR);
        let runtime = near.runtime.clone();
        let mut bed = Bed::new(near, far);
        bed.name = Some(("far".to_owned(), FAR));
        bed.redirect = Some(Redirect {
            dialled: SocketAddr::new(FAR, 8080),
            arrives: SocketAddr::new(FAR, 4143),
        });
        bed.directory = "/contract".into();
        bed.cluster = Some(Arc::new(Editor(api.clone())));
        bed.cluster_trouble = Some(Arc::new(Trouble(api)));
        turmoil.block_on(&runtime, LIMIT, case.run(bed));
    }

    fn exempt(&self) -> &'static [(&'static str, &'static str)] {
        &[
            (
                "net::a_full_backlog_holds_further_connections_back",
                "turmoil holds as many as its own setting says, and panics beyond",
            ),
            (
                "net::what_a_peer_does_not_take_breaks_the_connection_after_the_user_timeout",
                "turmoil's sockets have no user timeout",
            ),
        ]
    }
}

#[test]
fn turmoil_keeps_the_contract() {
    check(&OnTurmoil);
}

#[test]
fn the_engine_keeps_the_contract() {
    for seed in 0..5 {
        check(&OnEngine { seed, outbound: false });
    }
}

#[test]
fn the_engine_keeps_the_contract_on_one_host() {
    check(&OnEngine { seed: 7, outbound: true });
}
