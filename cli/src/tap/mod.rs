//! `weft tap`: requests as they pass through the proxies of a resource.
//!
//! Law: events go to stdout. Whom the answer leaves out, and how much, goes to stderr.

mod jsonpath;
mod line;

use std::collections::BTreeMap;
use std::fmt;

use clap::Args;
use mesh_core::control::public_api::query::encode;
use serde_json::Value;

use crate::cluster::ClusterArgs;
use crate::requests::RequestArgs;
use crate::viz::VizClient;
use crate::{Failure, say};
use jsonpath::JsonPath;

#[derive(Debug, Args)]
pub(crate) struct TapArgs {
    #[command(flatten)]
    requests: RequestArgs,
    /// Requests with this header; a * at the end stands for anything. May be repeated
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// Of the pods, those with these labels: app=web,tier!=db
    #[arg(long = "selector", short = 'l', value_name = "SELECTOR")]
    selector: Option<String>,
    /// Show the beginning of bodies, where pods permit it; with -o json
    #[arg(long)]
    bodies: bool,
    /// Lines; wide: with resources; json; or jsonpath={.requestInitEvent.path}
    #[arg(long, short, value_name = "FORM", default_value = "", value_parser = form)]
    output: Form,
}

/// How events are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    Line,
    Wide,
    Json,
    Path(JsonPath),
}

fn form(text: &str) -> Result<Form, String> {
    match (text, text.strip_prefix("jsonpath=")) {
        ("", _) => Ok(Form::Line),
        ("wide", _) => Ok(Form::Wide),
        ("json", _) => Ok(Form::Json),
        (_, Some(template)) => JsonPath::new(template).map(Form::Path),
        _ => Err("give wide, json or jsonpath={.requestInitEvent.path}".to_string()),
    }
}

/// Prints events until there are no more, or nobody reads them.
pub(crate) async fn run(args: TapArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = VizClient::open(cluster).await?;
    let mut events = client.events(&args.path_and_query()?).await?;
    let resource = args.requests.resource();
    let kind = line::kind_of(&resource);
    let mut lost = BTreeMap::new();
    loop {
        let event = events.next().await;
        let broken = |why: &dyn fmt::Display| {
            Failure::failed(format!("{}: the tap broke off: {why}", client.target()))
        };
        let Some(event) = event.map_err(|error| broken(&error))? else {
            return Err(broken(&"the controller ended it"));
        };
        let data: Value = serde_json::from_str(&event.data).map_err(|error| broken(&error))?;
        match event.name.as_str() {
            "" => show(&args.output, kind, &data)?,
            "end" => return Err(Failure::failed(text(&data["reason"]))),
            "lost" => note_lost(&mut lost, &data),
            name => note(name, &data),
        }
    }
}

fn show(form: &Form, kind: &str, event: &Value) -> Result<(), Failure> {
    match form {
        Form::Line => say(line::line(event, None) + "\n"),
        Form::Wide => say(line::line(event, Some(kind)) + "\n"),
        Form::Json => say(format!("{event:#}\n")),
        Form::Path(path) => match path.of(event) {
            Some(text) => say(text + "\n"),
            None => Ok(()),
        },
    }
}

/// Tells what the answer leaves out.
fn note(name: &str, data: &Value) {
    match name {
        "start" => {
            for missing in data["missing"].as_array().into_iter().flatten() {
                eprintln!("{}: not tapped: {}", text(&missing["pod"]), text(&missing["reason"]));
            }
        }
        "missing" => {
            let what = match data["is_final"].as_bool() {
                Some(true) => "no longer tapped",
                _ => "not tapped, for now",
            };
            eprintln!("{}: {what}: {}", text(&data["pod"]), text(&data["reason"]));
        }
        _ => {}
    }
}

/// Tells how much a pod did not, each time that it has doubled. With what was lost is kept what was
/// told.
fn note_lost(lost: &mut BTreeMap<String, (u64, u64)>, data: &Value) {
    let pod = text(&data["pod"]);
    let (all, told) = lost.entry(pod.clone()).or_default();
    *all += data["lost"].as_u64().unwrap_or_default();
    if *all >= 2 * *told {
        eprintln!("{pod}: {all} so far were not shown; see --max-rps");
        *told = *all;
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

impl TapArgs {
    fn path_and_query(&self) -> Result<String, Failure> {
        let mut query = self.requests.path_and_query("tap")?;
        let mut add = |name: &str, value: &str| {
            query.push_str(&format!("&{name}={}", encode(value)));
        };
        if let Some(selector) = &self.selector {
            add("selector", selector);
        }
        for header in &self.headers {
            add("header", header);
        }
        if matches!(self.output, Form::Json | Form::Path(_)) {
            add("extract_headers", "true");
        }
        if self.bodies {
            add("bodies", "true");
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        tap: TapArgs,
    }

    fn query(line: &str) -> Result<String, String> {
        let line = std::iter::once("tap").chain(line.split(' '));
        let parsed = Line::try_parse_from(line).map_err(|error| error.to_string())?;
        parsed.tap.path_and_query().map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn linkerds_flags_and_ours_are_asked_of_the_controller() {
        let asked = query(
            "deploy/web -n shop --to svc/api --to-namespace other --max-rps 5 --scheme https \
             --method POST --authority api:80 --path /v1 -l app=web --header x-user=7 --bodies \
             -o json"
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .as_str(),
        );
        insta::assert_snapshot!(asked.unwrap().replace('&', "\n&"), @r"
        /api/v1/tap?resource=deploy%2Fweb
        &namespace=shop
        &max_rps=5
        &to=svc%2Fapi
        &to_namespace=other
        &scheme=https
        &method=POST
        &authority=api%3A80
        &path=%2Fv1
        &selector=app%3Dweb
        &header=x-user%3D7
        &extract_headers=true
        &bodies=true
        ");
    }

    #[test]
    fn a_resource_is_one_word_or_a_kind_and_a_name() {
        let resource =
            |line: &str| query(line).map(|all| all.split('&').next().unwrap().to_owned());
        assert_eq!(resource("deploy web"), Ok("/api/v1/tap?resource=deploy%2Fweb".into()));
        assert_eq!(resource("deploy"), Ok("/api/v1/tap?resource=deploy".into()));
        assert!(resource("deploy/web deploy/api").unwrap_err().contains("is 2 resources"));
        assert!(query("deploy/web -o yaml").unwrap_err().contains("give wide, json or jsonpath"));
    }
}
