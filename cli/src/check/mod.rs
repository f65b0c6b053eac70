//! `weft check`: whether a cluster is fit for a control plane, and whether one works. `facts` says
//! what is looked at, this file looks, `judge` judges, `report` tells.

mod around;
mod facts;
mod identity;
mod judge;
mod report;
#[cfg(test)]
mod tests;
mod workloads;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use http::Method;
use mesh_core::control::public_api::check::{CheckRow, CheckState};
use mesh_core::control::public_api::statistics::Answer;
use runtime_real::kube::ApiClient;
use runtime_real::no_cluster::NoCluster;
use tokio::time::{Instant, sleep};

use self::facts::{Facts, Found, Question, Stage};
use self::identity::Now;
use self::report::{Category, Fault};
use crate::cluster::{ClusterArgs, object};
use crate::viz::VizClient;
use crate::{Failure, duration, say};

const REVIEWS: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// Between two looks, while what needs time is waited for.
const LOOK: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Check whether the control plane can be installed
    #[arg(long, conflicts_with_all = ["crds", "proxy"])]
    pre: bool,
    /// Check the custom resource definitions alone
    #[arg(long, conflicts_with = "proxy")]
    crds: bool,
    /// Also check sidecars
    #[arg(long)]
    proxy: bool,
    /// Check the sidecars of this namespace alone
    #[arg(long, short, value_name = "NAME", requires = "proxy")]
    namespace: Option<String>,
    /// How long to wait for what needs time
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = duration::parse)]
    wait: Duration,
    /// The version that everything is to have [default: this program's]
    #[arg(long, value_name = "VERSION")]
    expected_version: Option<String>,
    /// All checks, those that failed alone, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Table,
    Short,
    Json,
}

/// Checks, waits for what needs time, and tells.
pub(crate) async fn run(args: CheckArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let question = question(&args, cluster);
    let client = cluster.client().await.map_err(|failure| failure.message);
    if question.stage == Stage::After
        && let Some(categories) = of_controller(cluster, client.is_err()).await?
    {
        return conclude(&categories, args.output);
    }
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let until = Instant::now() + args.wait;
    let categories = loop {
        let facts = gather(&question, client.as_ref()).await;
        let now = Now { time: runtime.clock.wall(), crypto: &*runtime.crypto };
        let categories = judge::judge(&question, &facts, &now);
        if !report::may_pass(&categories) || Instant::now() + LOOK >= until {
            break categories;
        }
        sleep(LOOK).await;
    };
    conclude(&categories, args.output)
}

/// Tells, and says by the exit code how it went.
fn conclude(categories: &[Category], form: Form) -> Result<(), Failure> {
    tell(categories, form)?;
    match report::succeeded(categories) {
        true => Ok(()),
        false => Err(Failure::silent(1)),
    }
}

/// What a controller finds out of itself and of its mesh: of the one at `--api-addr`, or of this
/// host's where there is no cluster to ask. None where there is none of these.
async fn of_controller(
    cluster: &ClusterArgs,
    is_alone: bool,
) -> Result<Option<Vec<Category>>, Failure> {
    let is_said = cluster.api_addr.is_some();
    if !is_said && (!is_alone || cluster.kubeconfig.is_some() || cluster.context.is_some()) {
        return Ok(None);
    }
    let client = VizClient::open(cluster).await?;
    let answer = match client.ask("/api/v1/check").await {
        Err(_) if !is_said => return Ok(None),
        answer => answer?,
    };
    let answer: Answer<CheckRow> = serde_json::from_value(answer).map_err(|error| {
        let target = client.target();
        Failure::failed(format!("{target}: the answer is of another version: {error}"))
    })?;
    let mut category = Category::new("control-plane");
    for CheckRow { title, state, text } in answer.rows {
        match state {
            CheckState::Good => category.check(format!("{title}: {text}"), Ok(())),
            CheckState::Warning => category.check(title, Err(Fault::warning(text, ""))),
            CheckState::Bad => category.check(title, Err(Fault::error(text, ""))),
        };
    }
    Ok(Some(vec![category]))
}

/// What stands against an installation, in words; a namespace that is there already does not. Does not
/// wait.
pub(crate) async fn obstacles(cluster: &ClusterArgs) -> Vec<String> {
    let question = Question {
        namespace: cluster.linkerd_namespace.clone(),
        stage: Stage::Before,
        proxies: false,
        workloads: None,
        version: env!("CARGO_PKG_VERSION").to_string(),
    };
    let client = cluster.client().await.map_err(|failure| failure.message);
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let mut facts = gather(&question, client.as_ref()).await;
    facts.found.insert(question.namespace_path(), Found::Absent);
    let now = Now { time: runtime.clock.wall(), crypto: &*runtime.crypto };
    let categories = judge::judge(&question, &facts, &now);
    let checks = categories.into_iter().flat_map(|category| category.checks);
    let faults = checks.filter_map(|check| check.fault).filter(|fault| !fault.is_warning);
    faults.map(|fault| format!("{}; {}", fault.error, fault.hint)).collect()
}

fn question(args: &CheckArgs, cluster: &ClusterArgs) -> Question {
    let stage = match (args.pre, args.crds) {
        (true, _) => Stage::Before,
        (_, true) => Stage::Crds,
        _ => Stage::After,
    };
    let version = args.expected_version.clone();
    Question {
        namespace: cluster.linkerd_namespace.clone(),
        stage,
        proxies: args.proxy,
        workloads: args.namespace.clone(),
        version: version.unwrap_or_else(|| env!("CARGO_PKG_VERSION").to_string()),
    }
}

fn tell(categories: &[Category], form: Form) -> Result<(), Failure> {
    match form {
        Form::Table => say(report::table(categories, false)),
        Form::Short => say(report::table(categories, true)),
        Form::Json => say(format!("{:#}\n", report::json(categories))),
    }
}

/// Asks for everything that the checks look at. Stops where nothing answers.
async fn gather(question: &Question, client: Result<&ApiClient, &String>) -> Facts {
    let mut facts = Facts::default();
    let client = match client {
        Ok(client) => client,
        Err(reason) => {
            facts.no_client = Some(reason.clone());
            return facts;
        }
    };
    for path in [facts::VERSION.to_string()].into_iter().chain(question.paths()) {
        if facts.found.contains_key(&path) {
            continue;
        }
        let found = match object(client, &path).await {
            Ok(Some(object)) => Found::Object(object),
            Ok(None) => Found::Absent,
            Err(error) => Found::Unknown(error.reason),
        };
        let is_silent = path == facts::VERSION && !matches!(found, Found::Object(_));
        facts.found.insert(path, found);
        if is_silent {
            return facts;
        }
    }
    for (name, review) in question.reviews() {
        let body = review.to_string().into_bytes();
        let answer = client.call(Method::POST, REVIEWS, "application/json", body).await;
        let found = match answer.map(|text| serde_json::from_slice(&text)) {
            Ok(Ok(review)) => Found::Object(review),
            Ok(Err(error)) => Found::Unknown(error.to_string()),
            Err(error) => Found::Unknown(error.reason),
        };
        facts.allowed.insert(name, found);
    }
    facts
}
