//! The injector's webhook: what the cluster says of a pod's namespace, the installation's values as
//! their file has them, and events for whoever looks for a sidecar. What a pod gets is
//! [`injector`](crate::control::injector)'s to say.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::control::injector::{self, Decision, Subject, Surrounded};
use crate::control::metrics::ControlMetrics;
use crate::control::pem;
use crate::control::publish::Publisher;
use crate::control::recorder::Recorder;
use crate::control::review::Request;
use crate::manifest::Values;
use crate::runtime::cluster::Event;
use crate::runtime::{BoxStream, Runtime};

const VALUES_BYTES_MAX: usize = 1 << 20;
/// The file is read again at least so often, whatever its watch tells.
const VALUES_INTERVAL: Duration = Duration::from_secs(60);
/// How long a namespace may take to be heard of after something is made in it.
const NAMESPACE_PATIENCE: Duration = Duration::from_secs(2);
const NAMESPACE_INTERVAL: Duration = Duration::from_millis(20);
const COMPONENT: &str = "linkerd-proxy-injector";

/// Answers reviews of pods and services. Cloning shares it.
#[derive(Clone)]
pub(super) struct Injector {
    runtime: Runtime,
    path: PathBuf,
    /// Where the trust anchors are, if not among the values.
    trust_roots: Option<PathBuf>,
    /// The values in force, or why there are none.
    values: Arc<ArcSwap<Result<Values, String>>>,
    publisher: Publisher,
    events: Recorder,
    metrics: Arc<ControlMetrics>,
}

impl Injector {
    pub(super) fn new(
        runtime: &Runtime,
        (path, trust_roots): (PathBuf, Option<PathBuf>),
        publisher: Publisher,
        metrics: Arc<ControlMetrics>,
    ) -> Self {
        let unread = Err(format!("{}: not read yet", path.display()));
        Self {
            runtime: runtime.clone(),
            path,
            trust_roots,
            values: Arc::new(ArcSwap::from_pointee(unread)),
            publisher,
            events: Recorder::new(runtime),
            metrics,
        }
    }

    /// Whether it has values.
    pub(super) fn is_ready(&self) -> bool {
        self.values.load().is_ok()
    }

    /// Reads the values, and again whenever they may have changed. Does not end.
    pub(super) async fn follow_values(self) {
        let mut changes: BoxStream<()> = self.runtime.files.watch(&self.path);
        loop {
            self.read_values().await;
            tokio::select! {
                biased;
                change = poll_fn(|context| changes.as_mut().poll_next(context)) => {
                    if change.is_none() {
                        self.runtime.sleep(VALUES_INTERVAL).await;
                    }
                }
                () = self.runtime.sleep(VALUES_INTERVAL) => {}
            }
        }
    }

    async fn read_values(&self) {
        let path = self.path.display();
        let text = self.read(&self.path).await;
        let values = text.and_then(|text| Values::read(&text).map_err(|error| error.to_string()));
        match values {
            Ok(mut values) => {
                self.read_anchors(&mut values).await;
                let is_new = self.values.load().as_ref().as_ref() != Ok(&values);
                if is_new {
                    tracing::info!(%path, "the installation's values");
                    self.values.store(Arc::new(Ok(values)));
                }
            }
            Err(fault) => {
                self.metrics.reload_errors.increment();
                tracing::error!(%path, fault, "the values in force stay in force");
                if !self.is_ready() {
                    self.values.store(Arc::new(Err(format!("{path}: {fault}"))));
                }
            }
        }
    }

    async fn read(&self, path: &Path) -> Result<String, String> {
        let read = self.runtime.files.read(path, VALUES_BYTES_MAX).await;
        let bytes = read.map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|_| "is no text in UTF-8".to_string())
    }

    /// The anchors of their own file; where it holds none, those that it held last.
    async fn read_anchors(&self, values: &mut Values) {
        let Some(path) = &self.trust_roots else { return };
        let read = self.read(path).await;
        let read = read.and_then(|pem| match pem::certificates(pem.as_bytes()) {
            Some(_) => Ok(pem),
            None => Err("holds no certificates in PEM".to_string()),
        });
        match read {
            Ok(pem) => values.identity_trust_anchors_pem = pem,
            Err(fault) => {
                tracing::error!(path = %path.display(), fault, "the anchors in force stay in force");
                if let Ok(last) = &**self.values.load() {
                    let last = &last.identity_trust_anchors_pem;
                    values.identity_trust_anchors_pem.clone_from(last);
                }
            }
        }
    }

    /// Answers a review; where there are no values to answer with, says why.
    pub(super) async fn answer(&self, request: &Request) -> Result<Vec<u8>, String> {
        let values = self.values.load_full();
        let values = (*values).as_ref().map_err(Clone::clone)?;
        let annotations = self.namespace(&request.namespace).await;
        let known = Known { annotations, publisher: &self.publisher };
        let answer = injector::answer_request(request, values, &known);
        self.metrics.admission.injected(&answer.subject, answer.decision);
        self.tell(&answer.subject, answer.decision);
        Ok(answer.review)
    }

    /// The annotations of a namespace. One that is not known may have been made just now.
    async fn namespace(&self, name: &str) -> BTreeMap<String, String> {
        let deadline = self.runtime.now() + NAMESPACE_PATIENCE;
        loop {
            let found = self.publisher.read(|view| {
                let namespace = view.namespace(name)?;
                Some(namespace.metadata.annotations.clone().unwrap_or_default())
            });
            match found {
                Some(annotations) => return annotations,
                None if self.runtime.now() >= deadline || name.is_empty() => {
                    tracing::warn!(namespace = name, "not known: nothing is asked for there");
                    return BTreeMap::new();
                }
                None => self.runtime.sleep(NAMESPACE_INTERVAL).await,
            }
        }
    }

    /// Records what became of a pod at what owns it.
    fn tell(&self, subject: &Subject, decision: Decision) {
        let (reason, message) = match decision {
            Decision::Injected => ("Injected", "Linkerd sidecar proxy injected".to_string()),
            Decision::Skipped(skip) => {
                ("InjectionSkipped", format!("Linkerd sidecar proxy injection skipped: {skip}"))
            }
            Decision::Annotated | Decision::Ignored => return,
        };
        let Some(owner) = &subject.owner else { return };
        let event = Event {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: subject.namespace.clone(),
            name: owner.name.clone(),
            uid: owner.uid.clone(),
            is_warning: false,
            reason: reason.to_string(),
            message,
            component: COMPONENT.to_string(),
        };
        self.events.record(event);
    }
}

/// What is known of a review's own namespace.
struct Known<'a> {
    annotations: BTreeMap<String, String>,
    publisher: &'a Publisher,
}

impl Surrounded for Known<'_> {
    fn namespace_annotations(&self, _: &str) -> BTreeMap<String, String> {
        self.annotations.clone()
    }

    fn owner_of(&self, namespace: &str, kind: &str, name: &str) -> Option<(String, String)> {
        self.publisher.read(|view| {
            let (kind, name) = view.maker_of(namespace, kind, name)?;
            Some((kind.to_string(), name.to_string()))
        })
    }
}
