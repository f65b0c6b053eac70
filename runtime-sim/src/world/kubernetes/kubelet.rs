//! What kubelets do for pods: they start, get ready or not, crash and start again, and are ended.

use std::sync::Arc;
use std::time::Duration;

use mesh_core::time::Timestamp;

use super::{Due, Kubernetes, PodEvent, Workload};

/// The first wait before a crashed container starts again; doubles.
const CRASH_BACKOFF_FIRST: Duration = Duration::from_secs(10);
/// The longest of these waits.
const CRASH_BACKOFF_MAX: Duration = Duration::from_secs(300);

impl Kubernetes {
    pub(super) fn started(&mut self, name: &Arc<str>, run: u64) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.run == run) else {
            return;
        };
        pod.condition.started = true;
        pod.fails = self.settings.probed && self.now > Timestamp::ZERO;
        let plan = pod.plan.clone();
        self.events.push(PodEvent::Start(plan));
        self.show(name);
        self.await_readiness(name);
    }

    pub(super) fn await_readiness(&mut self, name: &Arc<str>) {
        let Some(pod) = self.pods.get(name) else {
            return;
        };
        // What a world begins with is ready from its beginning.
        let first = match self.now == Timestamp::ZERO {
            true => Duration::ZERO,
            false => self.settings.ready_after,
        };
        let (at, run) = (self.now + pod.plan.ready_after.unwrap_or(first), pod.run);
        let crash = pod.plan.crash_after.map(|after| self.now + after);
        self.due(at, Due::Ready { pod: name.clone(), run });
        if let Some(at) = crash {
            self.due(at, Due::Crash { pod: name.clone(), run });
        }
    }

    /// A pod's program has ended by itself: it is not ready, and starts again after a while that
    /// doubles (CrashLoopBackOff); the first time at once.
    pub(super) fn crash(&mut self, name: &Arc<str>, run: u64) {
        let Some(pod) = self.pods.get_mut(name).filter(|pod| pod.run == run) else {
            return;
        };
        let wait = match pod.crashes {
            0 => Duration::ZERO,
            crashes => (CRASH_BACKOFF_FIRST * (1 << (crashes - 1).min(8))).min(CRASH_BACKOFF_MAX),
        };
        pod.run += 1;
        pod.crashes += 1;
        let (run, deleted) = (pod.run, pod.condition.deleted.is_some());
        self.events.push(PodEvent::Crash(name.clone()));
        self.set_ready(name, false);
        if !deleted {
            let at = self.now + wait;
            self.due(at, Due::Restart { pod: name.clone(), run, whole: false });
        }
    }

    pub(super) fn set_ready(&mut self, name: &Arc<str>, ready: bool) {
        if let Some(pod) = self.pods.get_mut(name) {
            pod.up = ready;
            self.follow_readiness(name);
        }
    }

    pub(super) fn follow_readiness(&mut self, name: &Arc<str>) {
        let now = self.now;
        let Some(pod) = self.pods.get_mut(name) else {
            return;
        };
        let ready = pod.up && !pod.fails;
        if pod.condition.ready == ready {
            return;
        }
        pod.condition.ready = ready;
        pod.ready_since = ready.then_some(now);
        let key = (pod.plan.namespace.clone(), pod.plan.deployment.clone());
        self.show(name);
        let wait = self.workloads.get(&key).map_or(Duration::ZERO, Workload::min_ready);
        if ready && !wait.is_zero() {
            self.due(now + wait, Due::Look);
        }
    }

    /// All programs of a pod have ended. One that was deleted is gone then, before its grace is over.
    pub(in crate::world) fn ended(&mut self, name: &Arc<str>) {
        let pod = self.pods.get(name).filter(|pod| !pod.silent);
        if pod.is_some_and(|pod| pod.condition.deleted.is_some()) {
            self.kill(name);
        }
    }

    pub(super) fn kill(&mut self, name: &Arc<str>) {
        let Some(pod) = self.pods.remove(name) else {
            return;
        };
        self.events.push(PodEvent::Kill(name.clone()));
        self.addresses.free(pod.plan.ip, pod.plan.meshed);
        self.api.delete(&pod.object_ref());
        self.changed.insert(pod.plan.namespace.clone());
        self.unsettled = true;
    }

    /// Writes a pod's object as it is now.
    pub(super) fn show(&mut self, name: &str) {
        if let Some(pod) = self.pods.get(name) {
            self.api.apply(pod.plan.object(pod.condition, self.api.start()));
            self.changed.insert(pod.plan.namespace.clone());
            self.unsettled = true;
        }
    }
}
