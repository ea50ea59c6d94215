//! `overlay node`: one process of the configuration, until it is asked to end.

use std::io;
use std::path::Path;

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing_subscriber::EnvFilter;

use super::arguments::{Common, NodeArgs};
use super::error::{CliError, Exit};
use super::target::Target;
use crate::node::{DRAIN_MAX, Node, os};
use crate::routing::NodeId;

/// A log file is set aside at this size; three old ones are kept.
const LOG_BYTES_MAX: usize = 8 << 20;
const LOGS_KEPT: usize = 3;
/// The folder of log files, below the current folder.
const LOG_DIR: &str = "logs";

/// Runs the node.
pub fn run(common: &Common, arguments: &NodeArgs) -> Result<Exit, CliError> {
    let target = Target::read(common, &arguments.overrides)?;
    let id = target.process(&arguments.id)?;
    start_log(&id, arguments.log_to_stderr)
        .map_err(|error| CliError::caused(Exit::FAILED, format!("{LOG_DIR}/{id}.log cannot be written"), &error))?;
    for warning in target.config.warnings() {
        tracing::warn!("{warning}");
        eprintln!("warning: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("io")
        .enable_all()
        .build()
        .map_err(|error| CliError::caused(Exit::FAILED, "the node cannot start its threads", &error))?;
    let ended = runtime.block_on(serve(&target, &id));
    runtime.shutdown_background();
    if let Err(error) = &ended {
        tracing::error!("{error:?}");
    }
    ended.map(|()| Exit::OK)
}

async fn serve(target: &Target, id: &NodeId) -> Result<(), CliError> {
    let failed = |error: crate::node::NodeError| {
        let hint = error.hint();
        let shown = CliError::of(Exit::FAILED, &error);
        match hint {
            Some(hint) => shown.hint(hint),
            None => shown,
        }
    };
    let mut node = Node::start(std::sync::Arc::clone(&target.config), id).await.map_err(failed)?;
    tracing::info!(%id, address = node.address(), "serving");
    eprintln!("{id} serves at {}", node.address());
    if let Some(remark) = node.data_remark() {
        tracing::warn!("{remark}");
        eprintln!("{remark}");
    }
    let graceful = tokio::select! {
        asked = node.run() => asked.map_err(failed)?,
        _ = os::asked_to_end() => true,
    };
    tracing::info!(graceful, "draining");
    node.drain(if graceful { DRAIN_MAX } else { std::time::Duration::ZERO }).await;
    tracing::info!("ended");
    Ok(())
}

fn start_log(id: &NodeId, to_stderr: bool) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("OVERLAY_LOG").unwrap_or_else(|_| EnvFilter::new("overlay=info,warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    if to_stderr {
        log.with_writer(io::stderr).init();
        return Ok(());
    }
    std::fs::create_dir_all(LOG_DIR)?;
    let path = Path::new(LOG_DIR).join(format!("{id}.log"));
    let file = FileRotate::new(
        path,
        AppendCount::new(LOGS_KEPT),
        ContentLimit::BytesSurpassed(LOG_BYTES_MAX),
        Compression::None,
        None,
    );
    log.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init();
    Ok(())
}
