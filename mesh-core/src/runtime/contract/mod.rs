//! The tests that every runtime passes: what the rest of this crate may rely on, as executable
//! facts. Compiled with the feature `contract`, for the runtimes' own test suites.
//!
//! A runtime's suite implements [`Harness`] and calls [`check`]. On a runtime with real time:
//!
//! ```ignore
//! struct Tokio;
//! impl Harness for Tokio {
//!     fn run(&self, case: &'static Case) {
//!         let tokio = /* a runtime */;
//!         tokio.block_on(async { case.run(Bed::new(Site::new(runtime, ip), Site::new(runtime, ip))).await });
//!     }
//! }
//! #[test] fn tokio_keeps_the_contract() { contract::check(&Tokio) }
//! ```
//!
//! Law: what a host does is done in a task of that host's runtime ([`Site::run`]), because a
//! simulated host is only itself there. Cases sleep only through the doors.

mod clock;
mod cluster;
mod crypto;
mod entropy;
mod files;
mod net;
mod tasks;
mod tls;

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::cluster::ClusterError;
use super::{BoxFuture, Runtime};
use crate::resource::{Object, ObjectRef};

/// A fact about every runtime.
pub struct Case {
    /// The fact, as `door::the_fact`.
    pub name: &'static str,
    run: fn(Bed) -> BoxFuture<'static, ()>,
}

impl Case {
    /// Runs the case to its end. Panics where the fact does not hold. To be polled inside a task
    /// of `bed.near`.
    pub fn run(&self, bed: Bed) -> BoxFuture<'static, ()> {
        (self.run)(bed)
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// Every case, in order of doors.
pub fn cases() -> Vec<&'static Case> {
    [
        clock::CASES,
        tasks::CASES,
        entropy::CASES,
        crypto::CASES,
        net::CASES,
        tls::CASES,
        files::CASES,
        cluster::CASES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Runs cases on one kind of runtime.
pub trait Harness {
    /// Makes a fresh [`Bed`], runs `case` in a task of its near host and returns when it has ended,
    /// letting its panic through. A simulated runtime drives its virtual time here, bounded.
    fn run(&self, case: &'static Case);

    /// Cases that this runtime cannot pass, with the reason, stated where the runtime is documented.
    fn exempt(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }
}

/// Runs every case that is not exempt.
///
/// # Panics
/// After all have run, naming the ones that failed; also where an exemption names no case.
pub fn check(harness: &dyn Harness) {
    let exempt = harness.exempt();
    for (name, _) in exempt {
        assert!(
            cases().iter().any(|case| case.name == *name),
            "exempt from `{name}`, which is no case"
        );
    }
    let failed: Vec<_> = cases()
        .into_iter()
        .filter(|case| !exempt.iter().any(|(name, _)| *name == case.name))
        .filter(|case| catch_unwind(AssertUnwindSafe(|| harness.run(case))).is_err())
        .map(|case| case.name)
        .collect();
    assert!(failed.is_empty(), "the contract is broken: {failed:#?}");
}

/// Two hosts that reach each other (they may be one), and what else a runtime offers for tests.
#[derive(Clone)]
pub struct Bed {
    /// The host that the case runs on.
    pub near: Site,
    /// The other host.
    pub far: Site,
    /// A name that resolves from the near host, and one of its addresses.
    pub name: Option<(String, IpAddr)>,
    /// A redirect rule on the way from the near host to the far one.
    pub redirect: Option<Redirect>,
    /// A directory of the near host, empty or absent, where files may be made.
    pub directory: PathBuf,
    /// Tells the permission bits of a file of the near host, where it has any.
    pub file_mode: Option<fn(&Path) -> u32>,
    /// Changes what the near host's cluster door shows; it shows no ServiceAccount and no
    /// Namespace at first.
    pub cluster: Option<Arc<dyn ClusterEditor>>,
    /// Breaks the watches of the near host's cluster door.
    pub cluster_trouble: Option<Arc<dyn ClusterTrouble>>,
}

impl Bed {
    /// Two hosts without names, rules, files or a cluster: those cases pass unseen until the
    /// fields are set.
    pub fn new(near: Site, far: Site) -> Self {
        Self {
            near,
            far,
            name: None,
            redirect: None,
            directory: PathBuf::new(),
            file_mode: None,
            cluster: None,
            cluster_trouble: None,
        }
    }
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bed").finish_non_exhaustive()
    }
}

/// A host.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its doors.
    pub runtime: Runtime,
    /// The address that it listens on and is reached at.
    pub ip: IpAddr,
}

impl Site {
    /// A host with these doors at this address.
    pub fn new(runtime: Runtime, ip: IpAddr) -> Self {
        Self { runtime, ip }
    }

    /// Runs `work` in a task of this host and returns its result.
    ///
    /// # Panics
    /// Where the task panicked or was ended.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (tell, told) = oneshot::channel();
        self.runtime.spawn("contract", async move {
            let _ = tell.send(work.await);
        });
        told.await.expect("the host's task ended without a result")
    }

    /// Where to listen on this host at a free port.
    pub fn any_port(&self) -> SocketAddr {
        SocketAddr::new(self.ip, 0)
    }
}

/// A rule that brings connections from the near host elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Redirect {
    /// What the near host connects to.
    pub dialled: SocketAddr,
    /// Where a listener of the far host gets the connection.
    pub arrives: SocketAddr,
}

/// Changes the objects behind a cluster door, as its users would.
pub trait ClusterEditor: Send + Sync {
    /// Makes or replaces an object.
    ///
    /// # Errors
    /// As the source's.
    fn apply(&self, object: Object) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// Removes an object.
    ///
    /// # Errors
    /// As the source's.
    fn delete(&self, object: ObjectRef) -> BoxFuture<'static, Result<(), ClusterError>>;
}

/// What befalls a source whose watches go over a network, and whose lists come from replicas.
pub trait ClusterTrouble: Send + Sync {
    /// Watches hear of nothing from now on.
    fn lose_watches(&self);

    /// Watches are there again, and list anew: what happened meanwhile is told by nobody.
    fn relist(&self);

    /// Lists come from a replica that stands so far behind, or no longer.
    fn set_stale(&self, by: Option<Duration>);
}

/// Declares a door's cases: `declare_cases! { "door"; name, name }`.
macro_rules! declare_cases {
    ($door:literal; $($name:ident),* $(,)?) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case {
            name: concat!($door, "::", stringify!($name)),
            run: |bed| Box::pin($name(bed)),
        }),*];
    };
}
use declare_cases;
