//! What is asked of a tap, as an address says it: Linkerd's flags by their names, and ours.

use ::http::uri::Scheme;
use ::http::{HeaderName, Method};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::control::public_api::ApiError;
use crate::control::public_api::query::Query;
use crate::control::public_api::resource::{ResourceKind, ResourceQuery};
use crate::control::public_api::stat::read_selector;
use crate::model::tap::{
    HEADER_MATCHES_MAX, HeaderMatch, HttpMatch, Label, Match, Observe, StringMatch,
};

/// Requests in a second that all pods together tell of, where nothing else is said.
const MAX_RPS: f64 = 100.0;

/// What is looked for, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct TapQuestion {
    /// Whose pods.
    pub resource: ResourceQuery,
    /// Where the resource is.
    pub namespace: String,
    /// Of the pods, those that this selects.
    pub selector: Option<LabelSelector>,
    /// Requests to this alone, and so as their clients see them.
    pub to: Option<ResourceQuery>,
    /// Where that is.
    pub to_namespace: Option<String>,
    /// Requests in a second, of all pods together.
    pub max_rps: f64,
    /// What a request is to be; all of it.
    pub http: Vec<HttpMatch>,
    /// What headers it is to have.
    pub headers: Vec<HeaderMatch>,
    /// Tell headers.
    pub extract_headers: bool,
    /// Tell bodies, where pods permit it.
    pub bodies: bool,
}

impl TapQuestion {
    /// The question of an address.
    ///
    /// # Errors
    /// [`ApiError`] with what to write instead.
    pub fn read(query: &Query) -> Result<Self, ApiError> {
        query.only(&[
            "resource",
            "namespace",
            "selector",
            "to",
            "to_namespace",
            "max_rps",
            "scheme",
            "method",
            "authority",
            "path",
            "header",
            "extract_headers",
            "bodies",
        ])?;
        let resource = query.value("resource").ok_or_else(|| {
            ApiError::bad("no resource is given", "give resource=deploy/web or resource=ns/shop")
        })?;
        let resource = tappable(ResourceQuery::read_one(resource)?)?;
        let to = query.value("to").map(ResourceQuery::read_one).transpose()?;
        let max_rps: f64 = query.parsed("max_rps", RPS_REMEDY)?.unwrap_or(MAX_RPS);
        if !(max_rps > 0.0 && max_rps <= 1_000_000.0) {
            return Err(ApiError::bad(format!("max_rps={max_rps} cannot be taken"), RPS_REMEDY));
        }
        let question = Self {
            namespace: namespace_of(query, &resource),
            resource,
            selector: query.value("selector").map(read_selector).transpose()?,
            to,
            to_namespace: query.value("to_namespace").map(str::to_string),
            max_rps,
            http: http_of(query)?,
            headers: query.values("header").map(header).collect::<Result<_, _>>()?,
            extract_headers: query.is_set("extract_headers"),
            bodies: query.is_set("bodies"),
        };
        if question.headers.len() > HEADER_MATCHES_MAX {
            let remedy = format!("give {HEADER_MATCHES_MAX} at most");
            return Err(ApiError::bad("too many headers are given", remedy));
        }
        question.labels_of_destination()?;
        Ok(question)
    }

    /// What each of so many pods may tell of in a second; as Linkerd divides it.
    pub fn per_pod(&self, pods: usize) -> u32 {
        (self.max_rps / pods.max(1) as f64).max(1.0) as u32
    }

    /// The question to one proxy.
    pub fn observe(&self, per_second: u32) -> Observe {
        let mut all: Vec<Match> = self.http.iter().cloned().map(Match::Http).collect();
        let labels = self.labels_of_destination().unwrap_or_default();
        all.extend(labels.into_iter().map(Match::DestinationLabel));
        Observe {
            limit: per_second,
            matches: Match::All(all),
            extract_headers: self.extract_headers,
            headers: self.headers.clone(),
            bodies: self.bodies,
            per_second,
        }
    }

    /// What the endpoints of `to` are labelled with.
    fn labels_of_destination(&self) -> Result<Vec<Label>, ApiError> {
        let label = |key: &str, value: &str| Label { key: key.into(), value: value.into() };
        let namespace = self.to_namespace.as_deref();
        let Some(to) = &self.to else {
            return Ok(namespace.map(|name| label("namespace", name)).into_iter().collect());
        };
        if to.kind == ResourceKind::Namespace {
            let name = to.name.as_deref().or(namespace).unwrap_or(&self.namespace);
            return Ok(vec![label("namespace", name)]);
        }
        let of_kind = to.kind.dst_label().strip_prefix("dst_").ok_or_else(|| {
            let remedy = "give a workload, a pod, a service or a namespace, such as to=deploy/web; \
                          for an authority, authority=NAME";
            ApiError::bad(format!("requests are not to a {}", to.kind), remedy)
        })?;
        let name = to.name.as_deref().ok_or_else(|| {
            let remedy = format!("give to={}/NAME", to.kind.short());
            ApiError::bad(format!("to={} names none", to.kind), remedy)
        })?;
        let namespace = namespace.unwrap_or(&self.namespace);
        Ok(vec![label(of_kind, name), label("namespace", namespace)])
    }
}

const RPS_REMEDY: &str = "give requests in a second, such as max_rps=100";

/// A resource that has pods.
fn tappable(resource: ResourceQuery) -> Result<ResourceQuery, ApiError> {
    let has_pods = resource.kind.is_workload()
        || matches!(
            resource.kind,
            ResourceKind::Pod | ResourceKind::Namespace | ResourceKind::Service
        );
    match has_pods {
        true => Ok(resource),
        false => Err(ApiError::bad(
            format!("what is called {} has no pods to tap", resource.kind),
            "give a workload, a pod, a service or a namespace, such as resource=deploy/web",
        )),
    }
}

fn namespace_of(query: &Query, resource: &ResourceQuery) -> String {
    let named = match (resource.kind, &resource.name) {
        (ResourceKind::Namespace, Some(name)) => Some(name.as_str()),
        _ => query.value("namespace"),
    };
    named.unwrap_or("default").to_string()
}

fn http_of(query: &Query) -> Result<Vec<HttpMatch>, ApiError> {
    let mut http = Vec::new();
    let method = query.parsed::<Method>("method", "give a method, such as method=GET")?;
    http.extend(method.map(HttpMatch::Method));
    let scheme = query.parsed::<Scheme>("scheme", "give scheme=http or scheme=https")?;
    http.extend(scheme.map(HttpMatch::Scheme));
    let authority = query.value("authority").map(|text| StringMatch::Exact(text.to_string()));
    http.extend(authority.map(HttpMatch::Authority));
    // As in Linkerd: paths that begin so.
    let path = query.value("path").map(|text| StringMatch::Prefix(text.to_string()));
    http.extend(path.map(HttpMatch::Path));
    Ok(http)
}

/// `NAME=VALUE`, or `NAME=PREFIX*`.
fn header(text: &str) -> Result<HeaderMatch, ApiError> {
    let wrong = || {
        let remedy = "give header=NAME=VALUE, or header=NAME=PREFIX*";
        ApiError::bad(format!("header={text:?} cannot be taken"), remedy)
    };
    let (name, value) = text.split_once('=').ok_or_else(wrong)?;
    let name = name.trim().parse::<HeaderName>().map_err(|_| wrong())?;
    let value = match value.strip_suffix('*') {
        Some(prefix) => StringMatch::Prefix(prefix.to_string()),
        None => StringMatch::Exact(value.to_string()),
    };
    Ok(HeaderMatch { name, value })
}
