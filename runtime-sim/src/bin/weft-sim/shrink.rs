//! `weft-sim shrink`.

use std::path::{Path, PathBuf};

use runtime_sim::shrink::{Failure, shrink};
use runtime_sim::world::parse::Scenario;
use runtime_sim::world::run::run;

use crate::outcome::{Outcome, Trouble};
use crate::{args, files, print};

/// Makes a failing scenario smaller and writes it.
pub fn one(arguments: &args::Shrink) -> Result<Outcome, Trouble> {
    let scenario = files::read(&arguments.file)?;
    let seed = arguments.seed.or_else(|| scenario.spec.seeds.pinned.first().copied()).unwrap_or(1);
    let engine = arguments.engine.into();
    let unplayable =
        |error| Trouble::bad_scenario(format!("{}: {error}", arguments.file.display()));
    let report = run(&scenario, seed, engine, false).map_err(unplayable)?;
    let Some(failure) = Failure::of(&report) else {
        print::line(&format!("{} passes with seed {seed}: nothing to shrink", scenario.name))?;
        return Ok(Outcome::Passed);
    };
    print::line(&format!("fails by {failure}"))?;
    let mut tell = |step: &str| {
        // What is printed in the end tells whether stdout can be written.
        let _ = print::line(&format!("  {step}"));
    };
    let shrunk = shrink(&scenario, seed, engine, &failure, arguments.runs, &mut tell);
    let path = arguments.out.clone().unwrap_or_else(|| beside(&arguments.file));
    write(&path, &shrunk.scenario)?;
    print::line(&format!(
        "{}, after {} runs: {}",
        size(&shrunk.scenario),
        shrunk.runs,
        path.display()
    ))?;
    let report = shrunk.report.unwrap_or(report);
    print::line(print::human(&report, &path, false).trim_end())?;
    Ok(Outcome::Failed)
}

/// `scenario.yaml` becomes `scenario-shrunk.yaml`.
fn beside(file: &Path) -> PathBuf {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    file.with_file_name(format!("{stem}-shrunk.yaml"))
}

/// Writes a scenario as a file.
pub fn write(path: &Path, scenario: &Scenario) -> Result<(), Trouble> {
    std::fs::write(path, scenario.to_yaml()).map_err(|error| Trouble::unwritable(path, error))
}

/// How large a scenario is, in words.
pub fn size(scenario: &Scenario) -> String {
    let spec = &scenario.spec;
    let replicas = |replicas: Option<i32>| replicas.unwrap_or(1).max(0);
    let pods: i32 = scenario
        .deployments()
        .iter()
        .map(|deployment| replicas(deployment.spec.as_ref().and_then(|spec| spec.replicas)))
        .sum();
    format!(
        "{} faults, {} workloads, {pods} pods, {}",
        spec.faults.len(),
        spec.workloads.len(),
        spec.duration
    )
}
