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
        match (argument.as_str(), argument.as_str()) {
            ("-o", _) => json = given.next().as_deref() == Some("json"),
            ("--small", _) => small = true,
            ("--only", _) => only = given.next(),
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

fn run(small: bool, only: Option<&str>, json: bool) -> io::Result<()> {
    let upto = |counts: &'static [usize]| if small { &counts[..1] } else { counts };
    let sizes = match small {
        true => vec![Size { services: 50, pods_each: 10, proxies: 20 }],
        false => [(100, 200), (1_000, 200), (1_000, 1_000), (1_000, 2_000)]
            .map(|(services, proxies)| Size { services, pods_each: 10, proxies })
            .to_vec(),
    };
    let parts: [(&str, Box<dyn Fn() -> io::Result<Table>>); 6] = [
        ("connections", Box::new(|| proxy::connections(upto(&[1, 100, 1_000, 2_500, 5_000])))),
        ("destinations", Box::new(|| proxy::destinations(upto(&[1, 10, 100, 300, 1_000])))),
        ("endpoints", Box::new(|| proxy::endpoints(upto(&[1, 10, 100, 1_000, 5_000])))),
        ("burst", Box::new(|| proxy::burst(if small { 100 } else { 2_000 }))),
        ("overload", Box::new(proxy::overload)),
        (
            "control",
            Box::new(|| {
                let tables = sizes.iter().map(|size| control::control(*size));
                let mut tables = tables.collect::<io::Result<Vec<_>>>()?;
                let rows = tables.iter_mut().flat_map(|table| table.rows.drain(..)).collect();
                let mut all = tables.swap_remove(0);
                all.rows = rows;
                Ok(all)
            }),
        ),
    ];
    let mut told = Vec::new();
    for (name, measure) in parts {
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
