//! `overlay doctor`: looks for whatever could keep the overlay from working, from this host.
//!
//! It only looks: nothing is started, mended or left behind. [`here`] looks at the configuration, ports and disks of this
//! host, [`data`] at its data set and cache, [`probe`] at the nodes that run anywhere, each for two seconds at the most and
//! all at once; [`nodes`], [`links`], [`clocks`] and [`holes`] judge what those say.

mod clocks;
mod data;
mod finding;
mod here;
mod holes;
mod links;
mod nodes;
mod probe;

use std::sync::Arc;

use self::finding::{Finding, Report};
use super::arguments::{Common, DoctorArgs, OverrideArgs};
use super::error::{CliError, Exit};
use super::spawn;
use super::target::{self, Target};
use crate::config::{Config, ConfigError};

/// Looks and reports.
pub fn run(common: &Common, arguments: &DoctorArgs) -> Result<Exit, CliError> {
    let mut report = Report::default();
    match Config::load(&common.config) {
        Err(error) => report.add("configuration", unusable(&error)),
        Ok(_) => examine(common, &mut report)?,
    }
    if arguments.json {
        println!("{}", report.json()?);
    } else {
        report.print();
    }
    Ok(report.exit())
}

/// A file that cannot be used: nothing else can be looked at.
fn unusable(error: &ConfigError) -> Vec<Finding> {
    let hint =
        |hint: &Option<String>| hint.clone().unwrap_or_else(|| "see \"The configuration file\" in README.md".into());
    match error.problems() {
        [] => {
            let shown = CliError::of(Exit::USAGE, error).on_one_line();
            vec![Finding::problem(shown, "run in the project's folder, or name a file with --config")]
        }
        problems => {
            let each = problems.iter();
            each.map(|one| Finding::problem(format!("{}: {}", one.path, one.wrong.what), hint(&one.wrong.hint)))
                .collect()
        }
    }
}

fn examine(common: &Common, report: &mut Report) -> Result<(), CliError> {
    let target = Arc::new(Target::read(common, &OverrideArgs::default())?);
    let flag = target::config_flag(common);
    let local = spawn::local_ids(&target);
    report.add("configuration", here::configuration(common, &target, &local));
    let runtime = target::runtime()?;
    let examined = runtime.block_on(async {
        let data = tokio::task::spawn_blocking({
            let (target, local, flag) = (Arc::clone(&target), local.clone(), flag.clone());
            move || data::data(&target.config, &local, &flag)
        });
        let probes = probe::all(&target, &local).await;
        (probes, data.await)
    });
    let (probes, data) = examined;
    report.add("ports", here::ports(&target, &local, &probes));
    report.add("nodes", nodes::nodes(&target, &probes, &flag));
    report.add("links", links::links(&target.config, &probes));
    report.add("clocks", clocks::clocks(&probes));
    let interrupted = |error: tokio::task::JoinError| {
        vec![Finding::problem(format!("the data could not be looked at: {error}"), "try again")]
    };
    report.add("data", data.unwrap_or_else(interrupted));
    report.add("overlay", holes::holes(&target.config, &probes, &flag));
    report.add("disk", here::disks(&target.config));
    Ok(())
}
