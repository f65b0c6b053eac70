//! `weft stat` and its like: what the mesh does, asked of a controller and shown as tables or JSON.
//!
//! Law: what is missing of an answer is told on stderr, and by the exit code 3.

pub(crate) mod args;
mod authz;
mod cells;
mod edges;
mod list;
mod routes;
mod stat;
mod table;
mod top;

use clap::Subcommand;
use mesh_core::control::public_api::query::encode;
use mesh_core::control::public_api::statistics::Answer;
use serde::de::DeserializeOwned;

use crate::cluster::ClusterArgs;
use crate::viz::VizClient;
use crate::{Failure, say};

pub(crate) use authz::AuthzArgs;

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   done
  1   failed, or what was asked for by name is not there; stderr says why
  2   the command line is wrong
  3   done, but something is missing in the answer; stderr says what
  64  the configuration is wrong";

/// Done, but something is missing.
const EXIT_PARTIAL: u8 = 3;

#[derive(Debug, Subcommand)]
pub(crate) enum StatisticsCommand {
    /// Print golden metrics of resources: success, requests, latency, connections.
    ///
    /// weft stat deploy, weft stat -n shop deploy/web --from deploy/front, weft stat all -A
    #[command(after_help = EXIT_CODES)]
    Stat(stat::StatArgs),
    /// Print golden metrics of the routes of servers' ports.
    #[command(after_help = EXIT_CODES)]
    StatInbound(routes::RouteStatArgs),
    /// Print golden metrics of clients' routes, and of the backends that they lead to.
    #[command(after_help = EXIT_CODES)]
    StatOutbound(routes::RouteStatArgs),
    /// Print golden metrics of routes: of a service, of a workload, or of a workload to a service.
    #[command(after_help = EXIT_CODES)]
    Routes(routes::RoutesArgs),
    /// Print who speaks to whom, as whom, and whether it is secured.
    #[command(after_help = EXIT_CODES)]
    Edges(edges::EdgesArgs),
    /// Show what passes right now: who asks whom for what, how often, how fast and how well.
    #[command(after_help = EXIT_CODES)]
    Top(Box<top::TopArgs>),
    /// Print the pods that have a proxy, and whether it is heard.
    #[command(after_help = EXIT_CODES)]
    List(list::ListArgs),
}

/// Asks, and prints the answer.
pub(crate) async fn run(command: StatisticsCommand, cluster: &ClusterArgs) -> Result<(), Failure> {
    match command {
        StatisticsCommand::Stat(args) => stat::run(args, cluster).await,
        StatisticsCommand::StatInbound(args) => routes::inbound(args, cluster).await,
        StatisticsCommand::StatOutbound(args) => routes::outbound(args, cluster).await,
        StatisticsCommand::Routes(args) => routes::routes(args, cluster).await,
        StatisticsCommand::Edges(args) => edges::run(args, cluster).await,
        StatisticsCommand::Top(args) => top::run(*args, cluster).await,
        StatisticsCommand::List(args) => list::run(args, cluster).await,
    }
}

/// Prints the authorizations that there are.
pub(crate) async fn policies(args: AuthzArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    authz::policies(args, cluster).await
}

/// Prints what authorizations let through and refused.
pub(crate) async fn authz(args: AuthzArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    authz::run(args, cluster).await
}

/// What a controller answers to a question.
async fn ask<R: DeserializeOwned>(
    cluster: &ClusterArgs,
    path: &str,
    question: &[(&str, String)],
) -> Result<Answer<R>, Failure> {
    let client = VizClient::open(cluster).await?;
    let pairs = question.iter().map(|(name, value)| format!("{name}={}", encode(value)));
    let query: Vec<_> = pairs.collect();
    let answer = client.ask(&format!("/api/v1/{path}?{}", query.join("&"))).await?;
    serde_json::from_value(answer).map_err(|error| {
        let target = client.target();
        let why = format!("{target}: the answer is of another version: {error}");
        Failure::failed(format!("{why}; see weft version"))
    })
}

/// Prints an answer's text, or that there is nothing, and what is missing.
fn finish<R>(answer: &Answer<R>, text: &str, nothing: &str) -> Result<(), Failure> {
    for reason in &answer.reasons {
        eprintln!("weft: missing: {reason}");
    }
    match answer.rows.is_empty() && !nothing.is_empty() {
        true => eprintln!("{nothing}"),
        false => say(text)?,
    }
    match answer.partial {
        true => Err(Failure::silent(EXIT_PARTIAL)),
        false => Ok(()),
    }
}

/// Rows as JSON, for programs.
fn json(rows: &impl serde::Serialize) -> String {
    let text = serde_json::to_string_pretty(rows).expect("rows have only strings for keys");
    format!("{text}\n")
}
