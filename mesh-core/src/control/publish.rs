//! Answers proxies' questions, and answers again when the index changes: only questions that
//! somebody still asks and whose facts changed are compiled again, and only answers that differ
//! are sent.
//!
//! Laws: what was last sent equals what the index compiles to. A stream holds one unsent answer at
//! most: a slow client skips states, it does not queue them.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::api::server::{Discovery, Refusal};
use crate::api::workload::{ContextToken, Workload};
use crate::model::client_policy::ClientPolicy;
use crate::model::endpoint::EndpointUpdate;
use crate::model::profile::Profile;
use crate::model::server_policy::ServerPolicy;
use crate::model::target::{NameAddr, Target};
use crate::resource::{Kind, Object, ObjectRef};
use crate::runtime::BoxStream;
use crate::runtime::cluster::WatchEvent;
use crate::time::WallTime;

use super::config::MeshConfig;
use super::destination::place::Placed;
use super::destination::{endpoints, profile};
use super::index::{Fact, Index, View};
use super::metrics::ControlMetrics;
use super::policy;
use super::status::board::{Board, ConditionCounts};
use super::streams::{AnswerStream, UpdateStream};

/// Holds the index and everybody who is to hear of its changes. Cloning shares it.
#[derive(Clone)]
pub struct Publisher(Arc<Shared>);

struct Shared {
    mesh: MeshConfig,
    /// Streams, and distinct questions, that are followed at once.
    streams_max: usize,
    metrics: Arc<ControlMetrics>,
    /// Never held across an await.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    index: Index,
    /// Changed, and not yet published.
    changed: BTreeSet<Fact>,
    questions: BTreeMap<Question, Followed>,
    by_fact: BTreeMap<Fact, BTreeSet<Question>>,
    /// Asked before the index was synced; they depend on no fact yet.
    waiting: BTreeSet<Question>,
    /// How many questions there may be before those that nobody asks any more are looked for.
    sweep_at: usize,
    is_draining: bool,
    /// The statuses of objects, where this control plane writes them.
    statuses: Board,
}

/// Below so many questions, those that nobody asks any more are not worth looking for.
const SWEEP_MIN: usize = 64;

/// What a proxy may ask. Clients with the same question share one answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Question {
    ClientPolicy {
        namespace: String,
        target: Target,
    },
    ServerPolicy {
        workload: Workload,
        port: u16,
    },
    /// `namespace` is the client's.
    Profile {
        namespace: String,
        path: NameAddr,
    },
    Endpoints {
        path: NameAddr,
    },
    /// The zone of a node.
    Zone {
        node: String,
    },
}

/// What it is told.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    /// The index has not been filled yet.
    Pending,
    ClientPolicy(Arc<ClientPolicy>),
    ServerPolicy(Arc<ServerPolicy>),
    Profile(Arc<Profile>),
    Endpoints(Arc<Placed>),
    /// Empty where the node has none or is not known.
    Zone(String),
    /// There is none any more; the stream ends and the client asks again.
    Gone(Refusal),
}

struct Followed {
    answers: watch::Sender<Answer>,
    facts: BTreeSet<Fact>,
}

impl Publisher {
    /// A publisher of an empty index. Questions are answered once the index is synced.
    pub fn new(mesh: MeshConfig, streams_max: usize, metrics: Arc<ControlMetrics>) -> Self {
        Self(Arc::new(Shared { mesh, streams_max, metrics, state: Mutex::default() }))
    }

    /// Takes in an event. Nobody is told before [`Publisher::refresh`].
    pub fn apply(&self, kind: Kind, event: WatchEvent) {
        let state = &mut *self.state();
        state.index.apply(kind, event, &mut state.changed);
    }

    /// Whether every kind has been listed once.
    pub fn is_synced(&self) -> bool {
        self.state().index.is_synced()
    }

    /// Whether this kind has been listed once.
    pub(super) fn has_listed(&self, kind: Kind) -> bool {
        self.state().index.has_listed(kind)
    }

    /// Reads the index as it is now.
    pub(super) fn read<T>(&self, read: impl FnOnce(&View<'_>) -> T) -> T {
        let state = self.state();
        read(&View::new(&state.index, &self.0.mesh))
    }

    /// Objects by kind.
    pub fn objects(&self) -> Vec<(Kind, usize)> {
        let state = self.state();
        let count = |kind: &Kind| (*kind, state.index.count(*kind));
        Kind::ALL.iter().map(count).collect()
    }

    /// Compiles again what changed facts can have changed, and tells whoever asked.
    pub fn refresh(&self) {
        let state = &mut *self.state();
        if self.0.streams_max == 0 {
            // Nobody may ask: what changed is nobody's news, and no pile of it grows.
            state.changed.clear();
            return;
        }
        if !state.index.is_synced() {
            return;
        }
        let changed = std::mem::take(&mut state.changed);
        state.statuses.changed(&changed);
        let mut due: BTreeSet<Question> =
            changed.iter().filter_map(|fact| state.by_fact.get(fact)).flatten().cloned().collect();
        due.append(&mut state.waiting);
        if planted!("questions-left-out") {
            due = due.into_iter().step_by(2).collect();
        }
        for question in due {
            self.answer_again(state, &question);
        }
    }

    /// Begins to keep statuses, or ends it. Those of all objects are due at the beginning.
    pub(super) fn keep_statuses(&self, keep: bool) {
        let state = &mut *self.state();
        match keep {
            true => state.statuses.begin(&state.index),
            false => state.statuses.end(),
        }
    }

    /// The next object whose status is to be written, with that status.
    pub(super) fn next_status(&self, now: WallTime) -> Option<Object> {
        let state = &mut *self.state();
        // Before all is listed, what is missing may only be late.
        if !state.index.is_synced() {
            return None;
        }
        state.statuses.next(&state.index, &self.0.mesh, now)
    }

    /// The status of an object is due again.
    pub(super) fn status_put_back(&self, name: &ObjectRef) {
        self.state().statuses.put_back(name);
    }

    /// People were told instead of an object's status.
    pub(super) fn status_told(&self, name: &ObjectRef) {
        self.state().statuses.told(name);
    }

    /// How many conditions say what.
    pub(super) fn condition_counts(&self) -> ConditionCounts {
        self.state().statuses.counts()
    }

    /// Ends every stream and takes no more: clients go to another replica, or come back.
    pub fn drain(&self) {
        let state = &mut *self.state();
        state.is_draining = true;
        state.questions.clear();
        state.by_fact.clear();
        state.waiting.clear();
    }

    fn answer_again(&self, state: &mut State, question: &Question) {
        let Some(followed) = state.questions.get_mut(question) else {
            return;
        };
        if followed.answers.receiver_count() == 0 {
            remove(state, question);
            return;
        }
        let (answer, facts) = compile(&state.index, &self.0.mesh, question);
        let is_gone = matches!(answer, Answer::Gone(_));
        let sent = followed.answers.send_if_modified(|last| {
            let differs = *last != answer;
            if differs {
                *last = answer;
            }
            differs
        });
        if sent {
            self.0.metrics.updates.increment();
        }
        let before = std::mem::replace(&mut followed.facts, facts.clone());
        relink(&mut state.by_fact, question, &before, &facts);
        if is_gone {
            remove(state, question);
        }
    }

    /// Answers to `question`, from now on.
    fn follow(&self, question: Question) -> Result<watch::Receiver<Answer>, Refusal> {
        let state = &mut *self.state();
        if state.is_draining {
            return Err(Refusal::Unavailable("shutting down".to_string()));
        }
        if self.0.metrics.streams.value() >= self.0.streams_max as u64 {
            return Err(too_many());
        }
        if let Some(followed) = state.questions.get(&question) {
            if planted!("first-subscriber-only") {
                let (orphan, receiver) = watch::channel(followed.answers.borrow().clone());
                std::mem::forget(orphan);
                return Ok(receiver);
            }
            return Ok(followed.answers.subscribe());
        }
        if state.questions.len() >= state.sweep_at.max(SWEEP_MIN).min(self.0.streams_max) {
            forget_unasked(state);
            // Twice what is left, so that looking costs each question little.
            state.sweep_at = state.questions.len() * 2;
        }
        if state.questions.len() >= self.0.streams_max {
            return Err(too_many());
        }
        let (answer, facts) = if state.index.is_synced() {
            compile(&state.index, &self.0.mesh, &question)
        } else {
            state.waiting.insert(question.clone());
            (Answer::Pending, BTreeSet::new())
        };
        if let Answer::Gone(refusal) = answer {
            return Err(refusal);
        }
        relink(&mut state.by_fact, &question, &BTreeSet::new(), &facts);
        let (answers, receiver) = watch::channel(answer);
        state.questions.insert(question, Followed { answers, facts });
        Ok(receiver)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while compiling left at worst facts that are still to be published.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stream<T: Send + 'static>(
        &self,
        question: Question,
        pick: fn(&Answer) -> Option<T>,
    ) -> Result<BoxStream<T>, Refusal> {
        let answers = self.follow(question)?;
        let open = self.0.metrics.streams.guard();
        Ok(Box::pin(AnswerStream::new(answers, pick, open)))
    }
}

impl Discovery for Publisher {
    fn client_policy(
        &self,
        workload: &Workload,
        target: &Target,
    ) -> Result<BoxStream<ClientPolicy>, Refusal> {
        let question = Question::ClientPolicy {
            namespace: workload.namespace.clone(),
            target: target.clone(),
        };
        self.stream(question, |answer| match answer {
            Answer::ClientPolicy(policy) => Some(ClientPolicy::clone(policy)),
            _ => None,
        })
    }

    fn server_policy(
        &self,
        workload: &Workload,
        port: NonZeroU16,
    ) -> Result<BoxStream<ServerPolicy>, Refusal> {
        let question = Question::ServerPolicy { workload: workload.clone(), port: port.get() };
        self.stream(question, |answer| match answer {
            Answer::ServerPolicy(policy) => Some(ServerPolicy::clone(policy)),
            _ => None,
        })
    }

    fn profile(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<Profile>, Refusal> {
        let namespace = context.namespace.clone();
        let question = Question::Profile { namespace, path: path.clone() };
        self.stream(question, |answer| match answer {
            Answer::Profile(profile) => Some(Profile::clone(profile)),
            _ => None,
        })
    }

    fn endpoints(
        &self,
        path: &NameAddr,
        context: &ContextToken,
    ) -> Result<BoxStream<EndpointUpdate>, Refusal> {
        let answers = self.follow(Question::Endpoints { path: path.clone() })?;
        let node = context.node.clone();
        let zone = match node.as_str() {
            "" => None,
            _ => Some(self.follow(Question::Zone { node: node.clone() })?),
        };
        let open = self.0.metrics.streams.guard();
        Ok(Box::pin(UpdateStream::new(answers, node, zone, open)))
    }
}

fn too_many() -> Refusal {
    mark!("control-streams-at-bound");
    Refusal::Unavailable("this control plane has as many streams as it may".to_string())
}

fn compile(index: &Index, mesh: &MeshConfig, question: &Question) -> (Answer, BTreeSet<Fact>) {
    let view = View::new(index, mesh);
    let answer = match question {
        Question::ClientPolicy { namespace, target } => {
            policy::client::compile(&view, namespace, target)
                .map(|policy| Answer::ClientPolicy(Arc::new(policy)))
        }
        Question::ServerPolicy { workload, port } => {
            policy::server::compile(&view, &workload.namespace, workload.name(), *port)
                .map(|policy| Answer::ServerPolicy(Arc::new(policy)))
        }
        Question::Profile { namespace, path } => profile::compile(&view, namespace, path)
            .map(|profile| Answer::Profile(Arc::new(profile))),
        Question::Endpoints { path } => {
            endpoints::compile(&view, path).map(|set| Answer::Endpoints(Arc::new(set)))
        }
        Question::Zone { node } => Ok(Answer::Zone(view.zone_of(node).to_string())),
    };
    (answer.unwrap_or_else(Answer::Gone), view.into_facts())
}

fn relink(
    by_fact: &mut BTreeMap<Fact, BTreeSet<Question>>,
    question: &Question,
    before: &BTreeSet<Fact>,
    after: &BTreeSet<Fact>,
) {
    for fact in before.difference(after) {
        if let Some(questions) = by_fact.get_mut(fact) {
            questions.remove(question);
            if questions.is_empty() {
                by_fact.remove(fact);
            }
        }
    }
    for fact in after.difference(before) {
        let questions = by_fact.entry(fact.clone()).or_default();
        questions.insert(question.clone());
    }
}

fn remove(state: &mut State, question: &Question) {
    if let Some(followed) = state.questions.remove(question) {
        let nothing = BTreeSet::new();
        relink(&mut state.by_fact, question, &followed.facts, &nothing);
    }
}

/// Drops questions that nobody asks any more.
fn forget_unasked(state: &mut State) {
    let unasked = |followed: &Followed| followed.answers.receiver_count() == 0;
    let gone = state.questions.iter().filter(|(_, followed)| unasked(followed));
    let gone: Vec<_> = gone.map(|(question, _)| question.clone()).collect();
    for question in gone {
        remove(state, &question);
    }
}

#[cfg(test)]
mod history;
#[cfg(test)]
mod tests;
