//! Resources by the names that people type: `deploy/web`, `sts`, `all`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ApiError;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $name:literal, $plural:literal $(, $short:literal)?;)*) => {
        /// What statistics can be about.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ResourceKind {
            $($(#[$doc])* $kind,)*
        }

        /// Each kind, with what people call it, shortest first.
        const KINDS: &[Row] = &[$(Row {
            kind: ResourceKind::$kind,
            name: $name,
            dst_label: concat!("dst_", $name),
            called: &[$($short,)? $plural, $name],
        },)*];

        impl ResourceKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];
        }
    };
}

struct Row {
    kind: ResourceKind,
    name: &'static str,
    dst_label: &'static str,
    called: &'static [&'static str],
}

kinds! {
    /// A namespace: all of its workloads.
    Namespace: "namespace", "namespaces", "ns";
    /// A deployment.
    Deployment: "deployment", "deployments", "deploy";
    /// A stateful set.
    StatefulSet: "statefulset", "statefulsets", "sts";
    /// A daemon set.
    DaemonSet: "daemonset", "daemonsets", "ds";
    /// A replica set that no deployment made.
    ReplicaSet: "replicaset", "replicasets", "rs";
    /// A replication controller.
    ReplicationController: "replicationcontroller", "replicationcontrollers", "rc";
    /// A job that no cron job made.
    Job: "job", "jobs";
    /// A cron job.
    CronJob: "cronjob", "cronjobs", "cj";
    /// A pod, or an instance on a plain host.
    Pod: "pod", "pods", "po";
    /// A service, as its clients see it.
    Service: "service", "services", "svc";
    /// A name that clients ask for, as they see it.
    Authority: "authority", "authorities", "au";
    /// A Server: a port, as a policy sees it.
    Server: "server", "servers", "srv";
}

impl ResourceKind {
    /// Kinds that make pods.
    pub const WORKLOADS: [Self; 7] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Job,
        Self::CronJob,
    ];

    /// What `all` stands for.
    pub const OF_ALL: [Self; 9] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::Job,
        Self::CronJob,
        Self::Pod,
        Self::Service,
    ];

    /// Its name: `deployment`.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// As people call it for short: `deploy`.
    pub fn short(self) -> &'static str {
        self.row().called[0]
    }

    /// The label of what is scraped of it; empty where nothing is scraped of such a thing.
    pub fn label(self) -> &'static str {
        match self {
            // Prometheus has another use for `job`.
            Self::Job => "k8s_job",
            Self::Service => "",
            Self::Server => "srv_name",
            kind => kind.name(),
        }
    }

    /// The label of a destination that is of it; empty where none can be.
    pub fn dst_label(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Server => "",
            kind => kind.row().dst_label,
        }
    }

    /// Whether it makes pods.
    pub fn is_workload(self) -> bool {
        Self::WORKLOADS.contains(&self)
    }

    fn row(self) -> &'static Row {
        KINDS.iter().find(|row| row.kind == self).expect("every kind is in the table")
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for ResourceKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ResourceKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for ResourceKind {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let lower = text.to_ascii_lowercase();
        let found = KINDS.iter().find(|row| row.called.contains(&lower.as_str()));
        found.map(|row| row.kind).ok_or_else(|| {
            let all: Vec<_> = KINDS.iter().map(|row| row.name).collect();
            let nearest = KINDS.iter().flat_map(|row| row.called);
            let nearest = nearest.min_by_key(|name| strsim::levenshtein(name, &lower));
            let nearest = nearest.filter(|name| strsim::levenshtein(name, &lower) <= 2);
            let remedy = match nearest {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("there are {}, and all", all.join(", ")),
            };
            ApiError::bad(format!("there is no kind of resource {text:?}"), remedy)
        })
    }
}

/// A kind of resources, or one of them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResourceQuery {
    /// The kind.
    pub kind: ResourceKind,
    /// The one; else all of the kind.
    pub name: Option<String>,
}

impl ResourceQuery {
    /// All of a kind.
    pub fn all(kind: ResourceKind) -> Self {
        Self { kind, name: None }
    }

    /// `deploy/web`, `deploy`, `deploy,sts`, or `all`.
    ///
    /// # Errors
    /// [`ApiError`] for what is none.
    pub fn read(text: &str) -> Result<Vec<Self>, ApiError> {
        let (kind, name) = match text.split_once('/') {
            Some((kind, name)) if !name.is_empty() => (kind, Some(name)),
            Some((kind, _)) => (kind, None),
            None => (text, None),
        };
        match (kind, name) {
            ("all", None) => Ok(ResourceKind::OF_ALL.map(Self::all).to_vec()),
            ("all", Some(name)) => Err(ApiError::bad(
                format!("all/{name} names nothing"),
                format!("write deploy/{name} or another kind, or all alone"),
            )),
            (kinds, None) if kinds.contains(',') => {
                kinds.split(',').map(|kind| Ok(Self::all(kind.parse()?))).collect()
            }
            (kind, name) => Ok(vec![Self { kind: kind.parse()?, name: name.map(str::to_string) }]),
        }
    }

    /// One that has to be there: `deploy/web`, `ns/shop`.
    ///
    /// # Errors
    /// [`ApiError`] for what is none.
    pub fn read_one(text: &str) -> Result<Self, ApiError> {
        match Self::read(text)?.as_slice() {
            [one] => Ok(one.clone()),
            _ => {
                Err(ApiError::bad(format!("{text} is many kinds"), "give one, such as deploy/web"))
            }
        }
    }
}

/// Names a resource in answers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resource {
    /// The kind.
    pub kind: ResourceKind,
    /// Its namespace; a namespace's own name is here as well.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_by_their_long_and_short_names() {
        let read = |text: &str| ResourceQuery::read(text).map(|all| all[0].clone());
        let deployment = |name: Option<&str>| ResourceQuery {
            kind: ResourceKind::Deployment,
            name: name.map(str::to_string),
        };
        assert_eq!(read("deploy/web"), Ok(deployment(Some("web"))));
        assert_eq!(read("deployments"), Ok(deployment(None)));
        assert_eq!(read("Deployment/"), Ok(deployment(None)));
        assert_eq!(ResourceQuery::read("all").unwrap().len(), 9);
        let of_two = [ResourceKind::Deployment, ResourceKind::StatefulSet].map(ResourceQuery::all);
        assert_eq!(ResourceQuery::read("deploy,sts").unwrap(), of_two);
        assert!(ResourceQuery::read("deploy,sts/web").is_err());
        let labels = |kind: ResourceKind| (kind.label(), kind.dst_label());
        assert_eq!(labels(ResourceKind::Deployment), ("deployment", "dst_deployment"));
        assert_eq!(labels(ResourceKind::Job), ("k8s_job", "dst_job"));
        assert_eq!(labels(ResourceKind::Service), ("", "dst_service"));
        assert_eq!(labels(ResourceKind::Authority), ("authority", "authority"));
        assert_eq!(labels(ResourceKind::Server), ("srv_name", ""));
        for kind in ResourceKind::ALL.iter().copied() {
            assert_eq!(kind.name().parse(), Ok(kind));
            assert_eq!(kind.short().parse(), Ok(kind));
            assert_eq!(format!("{}s", kind.name()).replace("ys", "ies").parse(), Ok(kind));
        }
    }

    #[test]
    fn what_is_no_resource_is_told_what_is() {
        let fault = |text: &str| ResourceQuery::read(text).unwrap_err().to_string();
        assert_eq!(
            fault("deploymnt"),
            "there is no kind of resource \"deploymnt\"; did you mean deployment?"
        );
        assert!(fault("gateway/x").contains("there are namespace, deployment"));
        assert!(fault("all/web").contains("write deploy/web"));
    }
}
