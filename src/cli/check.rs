//! `overlay check`: the Leader's queue and what every team got of it.

use std::time::Duration;

use super::arguments::{Common, ListArgs, ListFormat};
use super::error::{CliError, Exit};
use super::table::{TextTable, grouped};
use super::target;
use crate::node::status::{FlowMetrics, Metrics};

/// Shows it.
pub fn run(common: &Common, arguments: &ListArgs) -> Result<Exit, CliError> {
    let runtime = target::runtime()?;
    let client = target::leader(common, &runtime)?;
    let metrics = runtime
        .block_on(client.metrics(Duration::from_secs(5)))
        .map_err(|failure| CliError::from_failure(&failure, client.address()))?;
    match arguments.format.unwrap_or(ListFormat::Table) {
        ListFormat::Json => {
            let json = serde_json::to_string_pretty(&metrics)
                .map_err(|error| CliError::caused(Exit::FAILED, "no JSON could be made", &error))?;
            println!("{json}");
        }
        ListFormat::Csv => {
            println!("team,running,queued,admitted,refused,displaced,wait_p50_us,wait_p99_us,charged_us");
            for flow in &metrics.flows {
                let FlowMetrics { flow: team, active, queued, admitted, refused, displaced, charged_us, .. } = flow;
                let wait = |us: Option<u64>| us.map(|us| us.to_string()).unwrap_or_default();
                let (p50, p99) = (wait(flow.wait_p50_us), wait(flow.wait_p99_us));
                println!("{team},{active},{queued},{admitted},{refused},{displaced},{p50},{p99},{charged_us}");
            }
        }
        ListFormat::Table => print!("{}", render(&metrics)),
    }
    Ok(if metrics.is_healthy { Exit::OK } else { Exit::FAILED })
}

fn render(metrics: &Metrics) -> String {
    let Metrics { process_id, role, state, fairness_strategy, .. } = metrics;
    let mut text = format!("{process_id}, {role}, is {state}; fairness_strategy {fairness_strategy}\n");
    text.push_str(&format!(
        "queue    {} of {} places taken, {} at the most\nrunning  {} of {} permits taken, {} at the most; one takes {:.1} ms\n",
        metrics.queue_size,
        metrics.queue_capacity,
        metrics.queue_peak,
        metrics.active_requests,
        metrics.max_capacity,
        metrics.active_peak,
        metrics.avg_processing_time_ms,
    ));
    if metrics.flows.is_empty() {
        text.push_str("nobody has asked yet\n");
        return text;
    }
    let mut table = TextTable::new(&[
        "team",
        ">running",
        ">queued",
        ">admitted",
        ">refused",
        ">displaced",
        ">wait p50",
        ">wait p99",
        ">charged",
    ]);
    for flow in &metrics.flows {
        let wait = |us: Option<u64>| us.map(|us| format!("{:.1} ms", us as f64 / 1e3)).unwrap_or_default();
        table.row(vec![
            flow.flow.clone(),
            flow.active.to_string(),
            flow.queued.to_string(),
            grouped(flow.admitted),
            grouped(flow.refused),
            grouped(flow.displaced),
            wait(flow.wait_p50_us),
            wait(flow.wait_p99_us),
            format!("{:.3} s", flow.charged_us as f64 / 1e6),
        ]);
    }
    text + &table.render()
}
