//! `overlay node`: one process of the configuration, until it is asked to end.

use std::io;
use std::path::{Path, PathBuf};

use file_rotate::compression::Compression;
use file_rotate::suffix::AppendCount;
use file_rotate::{ContentLimit, FileRotate};
use tracing_subscriber::EnvFilter;

use super::arguments::{Common, NodeArgs};
use super::error::{CliError, Exit};
use super::target::Target;
use crate::node::log::{self, LOG_BYTES_MAX, LOGS_KEPT};
use crate::node::{DRAIN_MAX, Node, begin_to_serve, io_threads, os};
use crate::routing::NodeId;

/// Tasks between two looks at what else there is to do, of the threads that pass messages on. Less: more looks, a
/// microsecond each.
const EVENT_INTERVAL: u32 = 8;

/// Runs the node.
pub fn run(common: &Common, arguments: &NodeArgs) -> Result<Exit, CliError> {
    let target = Target::read(common, &arguments.overrides)?;
    let id = target.process(&arguments.id)?;
    let log = (!arguments.log_to_stderr).then(|| log::path_of(&id));
    start_log(log.as_deref()).map_err(|error| {
        let path = log.as_deref().unwrap_or(Path::new("stderr")).display();
        CliError::caused(Exit::FAILED, format!("{path} cannot be written"), &error)
    })?;
    for warning in target.config.warnings() {
        tracing::warn!("{warning}");
        eprintln!("warning: {warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(io_threads(&target.config))
        .thread_name("io")
        .on_thread_start(begin_to_serve)
        // After so many tasks, what arrived in the meantime, and what other threads have ready to be sent, comes in
        // between. The usual 61 is meant for tasks of a microsecond; those that send rows take a hundred.
        .event_interval(EVENT_INTERVAL)
        .global_queue_interval(EVENT_INTERVAL)
        .enable_all()
        .build()
        .map_err(|error| CliError::caused(Exit::FAILED, "the node cannot start its threads", &error))?;
    let ended = runtime.block_on(serve(&target, &id, log, arguments.while_stdin_open));
    runtime.shutdown_background();
    if let Err(error) = &ended {
        tracing::error!("{error:?}");
    }
    ended.map(|()| Exit::OK)
}

async fn serve(target: &Target, id: &NodeId, log: Option<PathBuf>, while_stdin_open: bool) -> Result<(), CliError> {
    let failed = |error: crate::node::NodeError| {
        let hint = error.hint();
        let shown = CliError::of(Exit::FAILED, &error);
        match hint {
            Some(hint) => shown.hint(hint),
            None => shown,
        }
    };
    let mut node = Node::start(std::sync::Arc::clone(&target.config), id).await.map_err(failed)?;
    if let Some(path) = log {
        // Where it stands now, whatever becomes of the current folder.
        node.has_log(std::path::absolute(&path).unwrap_or(path));
    }
    tracing::info!(%id, address = node.address(), "serving");
    eprintln!("{id} serves at {}", node.address());
    if let Some(remark) = node.data_remark() {
        tracing::warn!("{remark}");
        eprintln!("{remark}");
    }
    let graceful = tokio::select! {
        asked = node.run() => asked.map_err(failed)?,
        _ = os::asked_to_end() => true,
        () = stdin_closed(), if while_stdin_open => true,
    };
    tracing::info!(graceful, "draining");
    node.drain(if graceful { DRAIN_MAX } else { std::time::Duration::ZERO }).await;
    tracing::info!("ended");
    Ok(())
}

/// Waits until nobody can write to stdin any more; what is written meanwhile is not looked at.
async fn stdin_closed() {
    let (closed, heard) = tokio::sync::oneshot::channel();
    // A read cannot be broken off: the thread ends with the process.
    std::thread::spawn(move || {
        // An error means as well that nothing will come.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = closed.send(());
    });
    // The sender is dropped only after it has sent, or if the thread failed: then the node goes on to its other ends.
    if heard.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// To a file that is rotated, or to stderr.
fn start_log(path: Option<&Path>) -> io::Result<()> {
    let filter = EnvFilter::try_from_env("OVERLAY_LOG").unwrap_or_else(|_| EnvFilter::new("overlay=info,warn"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false);
    let Some(path) = path else {
        log.with_writer(io::stderr).init();
        return Ok(());
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let kept = AppendCount::new(LOGS_KEPT);
    let limit = ContentLimit::BytesSurpassed(LOG_BYTES_MAX);
    let file = FileRotate::new(path, kept, limit, Compression::None, None);
    log.with_ansi(false).with_writer(std::sync::Mutex::new(file)).init();
    Ok(())
}
