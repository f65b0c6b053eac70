//! `weft top`: what passes right now, on a terminal that is drawn again each second.

use std::time::Duration;

use clap::Args;
use mesh_core::control::public_api::query::encode;
use mesh_core::control::public_api::top::TopRow;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::args::Form;
use super::cells::{latency, percent};
use super::json;
use super::table::{Column, cut, fitted, left, render, right};
use crate::cluster::ClusterArgs;
use crate::demo::keys::{Key, Terminal};
use crate::requests::RequestArgs;
use crate::viz::VizClient;
use crate::{Failure, duration, say};

#[derive(Debug, Args)]
#[command(
    mut_arg("resource", |arg| {
        arg.help("Whose pods: deploy/web, po/web-1, svc/api, ns/shop, or a kind and a name")
    }),
    mut_arg("max_rps", |arg| {
        arg.help("Requests in a second that are looked at, of all pods together")
    })
)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    requests: RequestArgs,
    /// Of the pods, those with these labels: app=web,tier!=db
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    /// Do not tell requests apart by who asks
    #[arg(long)]
    hide_sources: bool,
    /// Tell requests apart by route, and not by method and path
    #[arg(long)]
    routes: bool,
    /// A table, or JSON: printed once at the end
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// End after this time [default: 5s with -o json or where stdout is no terminal; else never]
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse)]
    run_for: Option<Duration>,
}

/// How long is looked where nobody watches.
const LOOKS: Duration = Duration::from_secs(5);
/// Far enough away.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Rows that are drawn at most, and notes that are kept.
const LINES_MAX: usize = 200;
/// What a narrow screen does without, the first first.
const SPARED: [&str; 5] = ["Best", "Worst", "Last", "Method", "Source"];
/// Of names, so much is kept before columns are left out; and where nothing more can be.
const NAME_MIN: usize = 12;
const NAME_LEAST: usize = 6;

/// A controller's `rows`.
#[derive(Debug, Default, Deserialize)]
struct Rows {
    rows: Vec<TopRow>,
    left_out: u64,
}

/// Draws until it is interrupted, or the time is over.
pub(crate) async fn run(args: TopArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = VizClient::open(cluster).await?;
    let mut events = client.events(&args.path_and_query()?).await?;
    let terminal = if args.output == Form::Json { None } else { Terminal::take() };
    let run_for = args.run_for.unwrap_or(if terminal.is_some() { FOR_EVER } else { LOOKS });
    let until = Instant::now() + run_for;
    let (mut last, mut notes) = (Rows::default(), Vec::new());
    let draw = |last: &Rows, notes: &[String]| {
        if let Some(terminal) = &terminal {
            terminal.show(&frame(&args, last, notes, terminal.size().1));
        }
    };
    draw(&last, &notes);
    loop {
        let event = tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => break,
            () = quit(terminal.as_ref()) => break,
            event = timeout_at(until, events.next()) => event,
        };
        let Ok(event) = event else { break };
        let Some(event) = event.map_err(Failure::failed)? else {
            return Err(Failure::failed(format!("{} ended it", client.target())));
        };
        let data: Value = serde_json::from_str(&event.data).map_err(Failure::failed)?;
        match event.name.as_str() {
            "rows" => {
                last = serde_json::from_value(data).map_err(Failure::failed)?;
                draw(&last, &notes);
            }
            "end" => return Err(Failure::failed(data["reason"].as_str().unwrap_or_default())),
            name => note(&mut notes, name, &data),
        }
    }
    let was_drawn = terminal.is_some();
    drop(terminal);
    for note in &notes {
        eprintln!("weft: {note}");
    }
    match args.output {
        Form::Json => say(json(&last.rows)),
        _ if was_drawn => Ok(()),
        _ => say(table(&args, &last.rows)),
    }
}

/// Completes when somebody at the terminal wants to end it.
async fn quit(terminal: Option<&Terminal>) {
    match terminal {
        None => std::future::pending().await,
        Some(terminal) => while !matches!(terminal.key().await, Key::Quit) {},
    }
}

/// What a tap leaves out.
fn note(notes: &mut Vec<String>, name: &str, data: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let missing =
        |one: &Value| format!("not seen: {}: {}", text(&one["pod"]), text(&one["reason"]));
    match name {
        "start" => notes.extend(data["missing"].as_array().into_iter().flatten().map(missing)),
        "missing" => notes.push(missing(data)),
        _ => return,
    }
    notes.sort();
    notes.dedup();
    notes.truncate(LINES_MAX);
}

/// What a screen of some width shows.
fn frame(args: &TopArgs, rows: &Rows, notes: &[String], width: usize) -> String {
    let RequestArgs { namespace, .. } = &args.requests;
    let mut text = format!("q to end   weft top {} in {namespace}\n", args.requests.resource());
    let hidden = rows.rows.len().saturating_sub(LINES_MAX) as u64 + rows.left_out;
    if hidden > 0 {
        text.push_str(&format!("{hidden} requests are in no row\n"));
    }
    for note in notes.iter().take(3) {
        text.push_str(&format!("{note}\n"));
    }
    text.push('\n');
    let shown = &rows.rows[..rows.rows.len().min(LINES_MAX)];
    match shown {
        [] => text.push_str("No request has ended yet.\n"),
        shown => text.push_str(&narrowed(args, shown, width)),
    }
    text.lines().map(|line| cut(line, width) + "\n").collect()
}

/// The table in a width: names are cut, then columns are left out.
fn narrowed(args: &TopArgs, rows: &[TopRow], width: usize) -> String {
    let spared = (0..=SPARED.len()).map(|count| (&SPARED[..count], NAME_MIN));
    let mut tried = spared.chain([(&SPARED[..], NAME_LEAST)]);
    let fit = tried.find_map(|(spared, name_min)| {
        let (columns, cells) = columns_and_cells(args, rows, spared);
        fitted(&columns, &cells, width, name_min)
    });
    fit.unwrap_or_else(|| table(args, rows))
}

fn table(args: &TopArgs, rows: &[TopRow]) -> String {
    let (columns, cells) = columns_and_cells(args, rows, &[]);
    render(&columns, &cells)
}

/// The table, without the columns that are spared.
fn columns_and_cells(
    args: &TopArgs,
    rows: &[TopRow],
    spared: &[&str],
) -> (Vec<Column>, Vec<Vec<String>>) {
    let mut columns = Vec::new();
    columns.extend((!args.hide_sources).then(|| left("Source")));
    columns.push(left("Destination"));
    match args.routes {
        true => columns.push(left("Route")),
        false => columns.extend([left("Method"), left("Path")]),
    }
    columns.extend(["Count", "Best", "Worst", "Last", "Success Rate"].map(right));
    let cells = |row: &TopRow| {
        let mut cells = Vec::new();
        cells.extend((!args.hide_sources).then(|| printable(&row.source)));
        cells.push(printable(&row.destination));
        match args.routes {
            true => cells.push(printable(&row.route)),
            false => cells.extend([printable(&row.method), printable(&row.path)]),
        }
        cells.push(row.count.to_string());
        cells.extend([row.best_ms, row.worst_ms, row.last_ms].map(|ms| latency(Some(ms))));
        cells.push(percent(Some(row.success_rate)));
        cells
    };
    let is_kept: Vec<bool> = columns.iter().map(|column| !spared.contains(&column.head)).collect();
    let kept = |cells: Vec<String>| {
        let cells = cells.into_iter().zip(&is_kept).filter(|(_, is_kept)| **is_kept);
        cells.map(|(cell, _)| cell).collect()
    };
    let cells = rows.iter().map(cells).map(kept).collect();
    columns.retain(|column| !spared.contains(&column.head));
    (columns, cells)
}

/// What clients choose must not drive the terminal, nor take all of its width.
fn printable(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl TopArgs {
    fn path_and_query(&self) -> Result<String, Failure> {
        let mut query = self.requests.path_and_query("top")?;
        if let Some(selector) = &self.selector {
            query.push_str(&format!("&selector={}", encode(selector)));
        }
        for (name, is_set) in [("hide_sources", self.hide_sources), ("by_route", self.routes)] {
            if is_set {
                query.push_str(&format!("&{name}=true"));
            }
        }
        Ok(query)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: TopArgs,
    }

    fn args(line: &str) -> TopArgs {
        Line::parse_from(["top"].into_iter().chain(line.split(' '))).args
    }

    fn row(path: &str, count: u64) -> TopRow {
        TopRow {
            source: "web-1".into(),
            destination: "api-1".into(),
            method: "GET".into(),
            path: path.into(),
            route: "all".into(),
            count,
            best_ms: 0.5,
            worst_ms: 120.0,
            last_ms: 3.0,
            success_rate: 0.975,
        }
    }

    #[test]
    fn rows_have_linkerds_columns() {
        let rows = [row("/books", 12), row("/\x1b[2J", 3)];
        insta::assert_snapshot!(table(&args("deploy/web"), &rows), @r#"
        Source   Destination   Method   Path     Count    Best   Worst    Last   Success Rate
        web-1    api-1         GET      /books      12   0.5ms   120ms   3.0ms         97.50%
        web-1    api-1         GET      /?[2J        3   0.5ms   120ms   3.0ms         97.50%
        "#);
        insta::assert_snapshot!(table(&args("deploy/web --hide-sources --routes"), &rows), @r#"
        Destination   Route   Count    Best   Worst    Last   Success Rate
        api-1         all        12   0.5ms   120ms   3.0ms         97.50%
        api-1         all         3   0.5ms   120ms   3.0ms         97.50%
        "#);
    }

    #[test]
    fn what_is_not_seen_stands_above_the_rows() {
        let rows = Rows { rows: vec![row("/", 1)], left_out: 2 };
        let notes = ["not seen: shop/x: no proxy".to_string()];
        insta::assert_snapshot!(frame(&args("deploy/web"), &rows, &notes, 80), @r#"
        q to end   weft top deploy/web in default
        2 requests are in no row
        not seen: shop/x: no proxy

        Source  Destination  Method  Path  Count   Best  Worst   Last  Success Rate
        web-1   api-1        GET     /         1  0.5ms  120ms  3.0ms        97.50%
        "#);
    }

    #[test]
    fn before_the_first_request_the_screen_says_so() {
        insta::assert_snapshot!(frame(&args("deploy/web"), &Rows::default(), &[], 80), @r#"
        q to end   weft top deploy/web in default

        No request has ended yet.
        "#);
    }

    #[test]
    fn a_screen_shows_what_it_has_room_for() {
        let rows = Rows { rows: vec![row("/demo.Api/Greet", 12), row("/", 3)], left_out: 0 };
        let at = |line: &str, width| frame(&args(line), &rows, &[], width);
        insta::assert_snapshot!(at("deploy/web", 200), @r#"
        q to end   weft top deploy/web in default

        Source   Destination   Method   Path              Count    Best   Worst    Last   Success Rate
        web-1    api-1         GET      /demo.Api/Greet      12   0.5ms   120ms   3.0ms         97.50%
        web-1    api-1         GET      /                     3   0.5ms   120ms   3.0ms         97.50%
        "#);
        insta::assert_snapshot!(at("deploy/web", 80), @r#"
        q to end   weft top deploy/web in default

        Source  Destination  Method  Path             Count  Worst   Last  Success Rate
        web-1   api-1        GET     /demo.Api/Greet     12  120ms  3.0ms        97.50%
        web-1   api-1        GET     /                    3  120ms  3.0ms        97.50%
        "#);
        insta::assert_snapshot!(at("deploy/web", 40), @r#"
        q to end   weft top deploy/web in defau…

        Destinat…  Path      Count  Success Rate
        api-1      /demo.A…     12        97.50%
        api-1      /             3        97.50%
        "#);
        insta::assert_snapshot!(at("deploy/web --routes --hide-sources", 40), @r#"
        q to end   weft top deploy/web in defau…

        Destination  Route  Count  Success Rate
        api-1        all       12        97.50%
        api-1        all        3        97.50%
        "#);
        for width in 1..120 {
            let lines = at("deploy/web", width);
            assert!(lines.lines().all(|line| line.chars().count() <= width), "{width}: {lines}");
        }
    }

    #[test]
    fn flags_are_handed_on() {
        let query = args("deploy web -n shop --path /a?b --routes").path_and_query().unwrap();
        assert_eq!(
            query,
            "/api/v1/top?resource=deploy%2Fweb&namespace=shop&max_rps=100&path=%2Fa%3Fb&by_route=true"
        );
        assert!(args("deploy/a deploy/b").path_and_query().is_err());
    }
}
