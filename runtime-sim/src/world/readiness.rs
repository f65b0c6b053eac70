//! Kubelets look at their pods once a second: what has ended is not ready, nor what answers no probe.
//!
//! Law: a pod is ready as long as its program listens and its proxy is certified, give or take a
//! second; a tenth of one after its start. What hangs is found out by probes that fail, three of them
//! ten seconds apart; what lost its power is found out as a lost node is. A pod that was told to finish
//! is gone within a second of its programs' end. A scenario may say that nobody looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use mesh_core::telemetry::Telemetry;
use mesh_core::time::Timestamp;

use super::kubernetes::NODE_GRACE;
use super::oracle::metrics::Selector;
use super::scenario::{CrashKind, Readiness, Target};
use super::{Pod, Simulator, World, scene};

/// From one look to the next: kubelet's own list of what runs, and probes of what is not ready.
pub(super) const LOOKS: Duration = Duration::from_secs(1);
/// From one look to the next at what has just started, and for how long.
const FIRST_LOOKS: Duration = Duration::from_millis(100);
const EAGER_FOR: Duration = Duration::from_secs(2);
/// Probes every ten seconds of which three fail, as Kubernetes has it where nothing is said.
const PROBES_FAIL: Duration = Duration::from_secs(30);
const CERTIFIED: &str = "control_identity_cert_refreshes_total{result=\"ok\"}";

/// What kubelet knows of a pod.
pub(super) struct Health {
    /// Whether its program is ready.
    program: watch::Receiver<bool>,
    /// Its proxy has its certificate.
    certified: bool,
    /// It was told to finish, and all its programs have.
    pub(super) ended: Arc<AtomicBool>,
    /// It does nothing any more, which is noticed then.
    frozen: Option<Timestamp>,
    /// Probes succeeded once. What a world begins with is ready until then.
    succeeded: bool,
    /// They succeeded at the last look.
    ready: bool,
    /// Until when it is looked at more often while it is not ready.
    eager_until: Timestamp,
}

impl Health {
    pub(super) fn new(program: watch::Receiver<bool>) -> Self {
        let eager_until = Timestamp::ZERO;
        let (certified, succeeded, ready) = (false, false, false);
        let ended = Arc::default();
        Self { program, certified, ended, frozen: None, succeeded, ready, eager_until }
    }

    /// Its programs start.
    pub(super) fn started(&mut self, now: Timestamp) {
        (self.frozen, self.ready) = (None, false);
        self.eager_until = now + EAGER_FOR;
    }

    /// Its proxy starts.
    pub(super) fn proxy_started(&mut self) {
        self.certified = false;
    }
}

impl<S: Simulator> World<S> {
    /// When kubelets look next; never where the scenario says so.
    pub(super) fn next_look(&self) -> Option<Timestamp> {
        (self.readiness == Readiness::Probed).then_some(self.next_look)
    }

    /// Looks at every pod, and at the controllers.
    pub(super) fn look_at_pods(&mut self) {
        let now = self.simulator.now();
        if self.next_look().is_none_or(|at| at > now) {
            return;
        }
        let mut eager = false;
        for (name, pod) in &mut self.pods {
            if pod.health.frozen.is_none() && pod.health.ended.swap(false, Ordering::Relaxed) {
                self.kubernetes.ended(name);
                continue;
            }
            if let Some(ready) = pod.probe(now) {
                self.kubernetes.probed(name, ready);
            }
            eager |= !pod.gone && !pod.health.ready && now < pod.health.eager_until;
        }
        self.next_look = now + if eager { FIRST_LOOKS } else { LOOKS };
        self.probe_controllers(now);
    }

    /// Has a pod that starts now looked at soon.
    pub(super) fn look_soon(&mut self) {
        self.next_look = self.next_look.min(self.simulator.now() + FIRST_LOOKS);
    }

    /// Notes that hosts do nothing any more, or go on.
    pub(super) fn set_frozen(&mut self, target: &Target, how: Option<CrashKind>) {
        let now = self.simulator.now();
        let frozen = match how {
            Some(CrashKind::Power) => Some(now + NODE_GRACE),
            Some(CrashKind::Hang) => Some(now + PROBES_FAIL),
            Some(CrashKind::Process) | None => None,
        };
        for name in self.pods_of(target) {
            if let Some(pod) = self.pods.get_mut(&name) {
                pod.health.frozen = frozen;
            }
        }
        for index in self.controllers_of(target) {
            self.controllers[index].frozen = frozen;
        }
    }
}

impl Pod {
    /// What kubelet finds; nothing where it cannot tell yet.
    fn probe(&mut self, now: Timestamp) -> Option<bool> {
        if self.gone {
            return None;
        }
        if let Some(noticed) = self.health.frozen {
            return (now >= noticed).then_some(false);
        }
        let ready = *self.health.program.borrow() && self.proxy_is_ready(now);
        self.health.succeeded |= ready;
        self.health.ready = ready;
        (ready || self.health.succeeded || self.made_late).then_some(ready)
    }

    fn proxy_is_ready(&mut self, now: Timestamp) -> bool {
        if !self.plan.meshed {
            return true;
        }
        let telemetry = self.telemetry.last().and_then(|slot| slot.get());
        // That of a proxy that was ended is held by this world alone.
        let running = |telemetry: &&Arc<Telemetry>| Arc::strong_count(telemetry) > 1;
        let Some(telemetry) = telemetry.filter(running) else {
            return false;
        };
        if !self.health.certified {
            let selector = Selector::read(CERTIFIED).expect("a selector written here");
            let certificates = scene::read(telemetry, now).sum(&selector);
            self.health.certified = certificates.is_some_and(|count| count > 0.0);
        }
        self.health.certified
    }
}
