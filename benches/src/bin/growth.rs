//! Prints what proxies and a control plane cost as the work grows. Needs `weft` and `weft-proxy`
//! built beside it.
//!
//! Exit codes: 0 measured, 1 something failed or did not recover, 2 the command line is wrong.

use std::io;
use std::process::ExitCode;

use benches::growth::Table;
use benches::growth::control::{self, Size};
use benches::growth::proxy;

const USAGE: &str = "\
usage: growth [-o json] [--only connections|destinations|endpoints|burst|overload|control] [--small]
  --small  the first of each only, to see that it runs";

fn main() -> ExitCode {
    let (mut json, mut small, mut only) = (false, false, None);
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "-o" => json = given.next().as_deref() == Some("json"),
            "--small" => small = true,
            "--only" => only = given.next(),
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    match run(small, only.as_deref(), json) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("growth: {error}");
            ExitCode::FAILURE
        }
    }
}

type Measure = Box<dyn Fn() -> io::Result<Table>>;

fn run(small: bool, only: Option<&str>, json: bool) -> io::Result<()> {
    let mut told = Vec::new();
    for (name, measure) in parts(small) {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let table = measure().map_err(|error| io::Error::other(format!("{name}: {error}")))?;
        match json {
            true => told.push(table.json()),
            false => print!("{}", table.text()),
        }
    }
    if json {
        println!("{}", serde_json::json!({ "tables": told }));
    }
    Ok(())
}

fn parts(small: bool) -> [(&'static str, Measure); 6] {
    let upto = move |counts: &'static [usize]| if small { &counts[..1] } else { counts };
    [
        ("connections", Box::new(move || proxy::connections(upto(&[1, 100, 1_000, 2_500, 5_000])))),
        ("destinations", Box::new(move || proxy::destinations(upto(&[1, 10, 100, 300, 1_000])))),
        ("endpoints", Box::new(move || proxy::endpoints(upto(&[1, 10, 100, 1_000, 5_000])))),
        ("burst", Box::new(move || proxy::burst(if small { 100 } else { 2_000 }))),
        ("overload", Box::new(proxy::overload)),
        ("control", Box::new(move || control_of_sizes(small))),
    ]
}

fn control_of_sizes(small: bool) -> io::Result<Table> {
    let size = |(services, proxies)| Size { services, pods_each: 10, proxies };
    let sizes = match small {
        true => vec![size((50, 20))],
        false => [(100, 200), (1_000, 200), (1_000, 1_000), (1_000, 2_000)].map(size).to_vec(),
    };
    let mut all: Option<Table> = None;
    for size in sizes {
        let mut table = control::control(size)?;
        eprintln!("controller: {size:?} done");
        match &mut all {
            Some(all) => all.rows.append(&mut table.rows),
            None => all = Some(table),
        }
    }
    all.ok_or_else(|| io::Error::other("no sizes"))
}
