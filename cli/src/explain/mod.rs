//! `weft explain`: what would become of a request and why, by the policy of a controller or of a
//! directory of manifests; or what a denial was, by its reference.
//!
//! Law: the exit code is the verdict.

mod offline;
mod print;

use std::io::{IsTerminal as _, stdout};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use mesh_core::control::explain::{Asked, ExplainError, Explanation, Outcome, Question};
use mesh_core::control::public_api::query::encode;
use mesh_core::traffic::denial::DenialId;
use serde::Deserialize as _;

use crate::cluster::ClusterArgs;
use crate::mesh::MeshArgs;
use crate::viz::VizClient;
use crate::{Failure, say};

pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0   it is allowed: the application is reached
  1   failed; stderr says why
  2   the command line is wrong
  3   it is refused
  4   it depends: on the backend or endpoint that it goes to
  64  there is nothing of that name, or what is asked for is wrong";

const REFUSED: u8 = 3;
const DEPENDS: u8 = 4;

#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Who sends: deploy/web, po/web-1, NAMESPACE/SERVICEACCOUNT or an address; or alone, the
    /// reference of a denial
    #[arg(value_name = "SRC")]
    from: String,
    /// Where to, with a port where there is more than one: svc/cart, cart.shop:80, po/cart-1:8080 or
    /// 10.0.0.1:80
    #[arg(value_name = "DST[:PORT]")]
    to: Option<String>,
    /// Where names are looked for [default: default for who sends, and the sender's for where to]
    #[arg(long, short, value_name = "NAME")]
    namespace: Option<String>,
    /// Path, with a query where it has one; of gRPC: /package.Service/Method
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Method
    #[arg(long, value_name = "METHOD")]
    method: Option<String>,
    /// A header; more than once for more
    #[arg(long, value_name = "NAME=VALUE")]
    header: Vec<String>,
    /// What the sender's application speaks
    #[arg(long, value_name = "PROTOCOL", value_enum, default_value_t = Protocol::Http1)]
    protocol: Protocol,
    /// The policy of these manifests, without any controller
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
    /// Text, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Text)]
    output: Form,
    #[command(flatten)]
    offline: OfflineArgs,
}

/// What a controller would be told, with `--manifests`.
#[derive(Debug, Args)]
#[command(next_help_heading = "With --manifests")]
pub(crate) struct OfflineArgs {
    /// Suffix of identities
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    trust_domain: String,
    /// Suffix of service names
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local")]
    cluster_domain: String,
    /// Who may use ports that no Server selects
    #[arg(long, value_name = "POLICY", default_value = "all-unauthenticated")]
    default_inbound_policy: String,
    #[command(flatten)]
    mesh: MeshArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Http1,
    Http2,
    Grpc,
    /// Bytes
    Tcp,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    Text,
    Json,
}

/// Asks, prints the answer, and exits by it.
pub(crate) async fn run(args: ExplainArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let asked = asked(&args)?;
    let explanation = match &args.manifests {
        Some(directory) => offline::explain(directory, &asked, &args.offline, cluster).await?,
        None => ask(&asked, &args, cluster).await?,
    };
    match args.output {
        Form::Text => say(print::text(&explanation, stdout().is_terminal()))?,
        Form::Json => {
            let json = serde_json::to_string_pretty(&explanation).map_err(Failure::failed)?;
            say(json + "\n")?;
        }
    }
    match explanation.verdict.outcome {
        Outcome::Allowed => Ok(()),
        Outcome::Refused => Err(Failure::silent(REFUSED)),
        Outcome::Depends => Err(Failure::silent(DEPENDS)),
    }
}

/// What is asked for.
enum Wanted {
    Request(Box<Question>),
    Denial(DenialId),
}

fn asked(args: &ExplainArgs) -> Result<Wanted, Failure> {
    let Some(to) = &args.to else {
        let id = args.from.parse::<DenialId>();
        return id.map(Wanted::Denial).map_err(|error| {
            let from = &args.from;
            let remedy = "give SRC and DST, such as deploy/web svc/cart:80, or a reference alone";
            Failure::misconfigured(format!("{from:?}: {error}; {remedy}"))
        });
    };
    let request = Asked::read(
        Some(args.protocol.name()),
        args.method.as_deref(),
        args.path.as_deref(),
        args.header.iter().map(String::as_str),
    );
    Ok(Wanted::Request(Box::new(Question {
        from: args.from.clone(),
        to: to.clone(),
        namespace: args.namespace.clone(),
        request: request.map_err(failure)?,
    })))
}

fn failure(error: ExplainError) -> Failure {
    Failure::misconfigured(error)
}

/// Of a controller.
async fn ask(
    wanted: &Wanted,
    args: &ExplainArgs,
    cluster: &ClusterArgs,
) -> Result<Explanation, Failure> {
    let path = match wanted {
        Wanted::Denial(id) => format!("/api/v1/explain?reference={id}"),
        Wanted::Request(question) => {
            let mut path = format!(
                "/api/v1/explain?from={}&to={}&protocol={}",
                encode(&question.from),
                encode(&question.to),
                args.protocol.name()
            );
            let given =
                [("namespace", &args.namespace), ("method", &args.method), ("path", &args.path)];
            let given = given.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
            for (name, value) in given.chain(args.header.iter().map(|value| ("header", value))) {
                path += &format!("&{name}={}", encode(value));
            }
            path
        }
    };
    let client = VizClient::open(cluster).await?;
    let answer = client.ask(&path).await?;
    Explanation::deserialize(answer).map_err(|error| {
        Failure::failed(format!("{}: the answer makes no sense: {error}", client.target()))
    })
}
