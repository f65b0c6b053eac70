//! What an explanation is made of: steps, the objects that they follow from, ways and verdicts.

use serde::{Deserialize, Serialize};

use crate::model::metadata::Metadata;
use crate::resource::Kind;

/// One step of the way, in the order in which it is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Which.
    pub name: StepName,
    /// Whether it goes on from here.
    pub outcome: Outcome,
    /// What happens, in words.
    pub says: String,
    /// What that follows from, line by line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
    /// The objects that it follows from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<Cited>,
}

/// The steps that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepName {
    /// What a reference says of a denial.
    Denial,
    /// Who sends.
    Source,
    /// What the address or name is.
    Discovery,
    /// What the sender's proxy takes the connection for.
    Protocol,
    /// Which route, and which rule of it.
    Route,
    /// What the rule's filters do.
    Filters,
    /// How long it may take.
    Timeouts,
    /// When it is sent again.
    Retries,
    /// When endpoints that fail are taken out.
    Breaker,
    /// Which backends, by which weights.
    Backends,
    /// The endpoints of a backend.
    Endpoints,
    /// Who the server is, or why nobody knows.
    Identity,
    /// Which policy is of the server's port.
    Server,
    /// What the server's proxy takes the connection for.
    ServerProtocol,
    /// Which route of the Server.
    ServerRoute,
    /// Who may.
    Authorization,
    /// How many requests the port takes.
    RateLimit,
    /// The application.
    Application,
}

impl StepName {
    /// Its name, as a title has it.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Denial => "denial",
            Self::Source => "source",
            Self::Discovery => "discovery",
            Self::Protocol => "protocol",
            Self::Route => "route",
            Self::Filters => "filters",
            Self::Timeouts => "timeouts",
            Self::Retries => "retries",
            Self::Breaker => "breaker",
            Self::Backends => "backends",
            Self::Endpoints => "endpoints",
            Self::Identity => "identity",
            Self::Server => "server",
            Self::ServerProtocol => "server protocol",
            Self::ServerRoute => "server route",
            Self::Authorization => "authorization",
            Self::RateLimit => "rate limit",
            Self::Application => "application",
        }
    }
}

/// Whether something goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It goes on; in a verdict: it reaches the application.
    Allowed,
    /// It ends here.
    Refused,
    /// In a verdict alone: it reaches the application on some ways, and not on others.
    Depends,
}

/// An object that something follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cited {
    /// Kind.
    pub kind: String,
    /// Namespace; empty where the kind has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its generation, where that is known: which version of what it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
    /// Its resource version, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_version: Option<String>,
}

/// One of the ways by which it goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Way {
    /// The backend.
    pub backend: String,
    /// How many of a hundred requests go to that backend.
    pub percent: f64,
    /// The endpoints that are alike, by address and name; none where there is none.
    pub endpoints: Vec<String>,
    /// What happens on it, in order.
    pub steps: Vec<Step>,
    /// The end of it.
    pub verdict: Verdict,
}

/// The end of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Whether the application is reached.
    pub outcome: Outcome,
    /// What the sender's application gets in place of an answer, as an HTTP status; none where it is
    /// answered, or where the connection is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The same as a gRPC status, for gRPC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_status: Option<u16>,
    /// In words.
    pub says: String,
}

/// Why proxies answer themselves, and with what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    NoRoute,
    Forbidden,
    Invalid,
    NoEndpoints,
    Unauthorized,
    WrongIdentity,
    /// The server's proxy closes the connection that a request is on.
    Closed,
}

impl Refusal {
    fn statuses(self) -> (u16, u16) {
        match self {
            Self::NoRoute => (404, 5),
            Self::Forbidden | Self::Unauthorized => (403, 7),
            Self::Invalid => (500, 13),
            Self::NoEndpoints => (504, 14),
            Self::WrongIdentity | Self::Closed => (502, 14),
        }
    }
}

/// In what form the sender's application is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Http,
    Grpc,
    Bytes,
}

impl Verdict {
    pub(super) fn allowed(says: impl Into<String>) -> Self {
        Self { outcome: Outcome::Allowed, status: None, grpc_status: None, says: says.into() }
    }

    pub(super) fn refused(refusal: Refusal, form: Form, why: &str) -> Self {
        let (status, grpc) = refusal.statuses();
        let (status, grpc_status, says) = match form {
            Form::Http => (Some(status), None, format!("refused with {status}: {why}")),
            Form::Grpc => {
                (Some(200), Some(grpc), format!("refused with gRPC status {grpc}: {why}"))
            }
            Form::Bytes => return Self::closed(why),
        };
        Self { outcome: Outcome::Refused, status, grpc_status, says }
    }

    pub(super) fn closed(why: &str) -> Self {
        let says = format!("the connection is closed: {why}");
        Self { outcome: Outcome::Refused, status: None, grpc_status: None, says }
    }

    /// Of several ways: theirs where it is the same.
    pub(super) fn of_ways(ways: &[Way]) -> Self {
        let allowed = ways.iter().filter(|way| way.verdict.outcome == Outcome::Allowed).count();
        let [first, rest @ ..] = ways else {
            return Self::closed("there is no way on");
        };
        if rest.iter().all(|way| way.verdict == first.verdict) {
            return first.verdict.clone();
        }
        if allowed == ways.len() {
            return Self::allowed("the application answers, on every way");
        }
        let says = match allowed {
            0 => "refused on every way".to_string(),
            allowed => format!("allowed on {allowed} of {} ways", ways.len()),
        };
        let outcome = if allowed == 0 { Outcome::Refused } else { Outcome::Depends };
        Self { outcome, status: None, grpc_status: None, says }
    }
}

impl Step {
    pub(super) fn new(name: StepName, says: impl Into<String>) -> Self {
        let (because, objects) = (Vec::new(), Vec::new());
        Self { name, outcome: Outcome::Allowed, says: says.into(), because, objects }
    }

    pub(super) fn because(mut self, line: impl Into<String>) -> Self {
        self.because.push(line.into());
        self
    }

    pub(super) fn because_of(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.because.extend(lines);
        self
    }

    pub(super) fn citing(mut self, objects: impl IntoIterator<Item = Cited>) -> Self {
        for object in objects {
            if !self.objects.contains(&object) {
                self.objects.push(object);
            }
        }
        self
    }

    pub(super) fn refusing(self) -> Self {
        Self { outcome: Outcome::Refused, ..self }
    }
}

/// An object by its metadata in a policy, as people name it. Metrics have some kinds in lower case.
pub(super) fn named(metadata: &Metadata) -> String {
    let Metadata::Resource(resource) = metadata else {
        return format!("the default {}", metadata.name());
    };
    let mut kinds = Kind::ALL.iter().map(|kind| kind.name());
    let kind = kinds.find(|kind| kind.eq_ignore_ascii_case(&resource.kind));
    let kind = kind.unwrap_or_else(|| resource.kind.clone());
    match resource.namespace.as_str() {
        "" => format!("{kind} {}", resource.name),
        namespace => format!("{kind} {namespace}/{}", resource.name),
    }
}
