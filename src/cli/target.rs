//! Which configuration and which node a command means.

use std::path::Path;
use std::sync::Arc;

use tokio::runtime::Runtime;

use super::arguments::{Common, OverrideArgs};
use super::error::{CliError, Exit};
use crate::client::Client;
use crate::config::{Config, Overrides};
use crate::node::{dial_address, fingerprint};
use crate::routing::NodeId;

/// A configuration that was read, with the name of its state folder.
pub struct Target {
    pub config: Arc<Config>,
    pub fingerprint: String,
}

impl Target {
    /// Reads the file of `--config`.
    pub fn read(common: &Common, overrides: &OverrideArgs) -> Result<Target, CliError> {
        Target::read_file(&common.config, overrides)
    }

    /// Reads a file.
    pub fn read_file(path: &Path, overrides: &OverrideArgs) -> Result<Target, CliError> {
        let mut config = Config::load(path).map_err(|error| {
            let error = CliError::of(Exit::USAGE, &error);
            if path.exists() { error } else { error.hint("run in the project's folder, or name a file with --config") }
        })?;
        let overrides = Overrides {
            forwarding_strategy: overrides.forwarding_strategy.clone(),
            async_forwarding: overrides.async_forwarding,
            chunking_strategy: overrides.chunking_strategy.clone(),
            fairness_strategy: overrides.fairness_strategy.clone(),
            chunk_size: overrides.chunk_size,
            result_ttl_s: overrides.result_ttl,
            dataset_root: overrides.dataset_root.clone(),
        };
        config.apply(&overrides).map_err(|error| CliError::of(Exit::USAGE, &error))?;
        let fingerprint = fingerprint(&config).to_string();
        Ok(Target { config: Arc::new(config), fingerprint })
    }

    /// The address of a process, if it is known.
    pub fn address(&self, id: &NodeId) -> Result<String, CliError> {
        dial_address(&self.config, &self.fingerprint, id).ok_or_else(|| {
            CliError::new(Exit::UNREACHABLE, format!("{id} has port 0 and does not run here: its address is not known"))
                .hint("start it with `overlay up`")
        })
    }

    /// A process of the configuration.
    pub fn process(&self, id: &str) -> Result<NodeId, CliError> {
        let node = NodeId::from(id);
        match self.config.process(&node) {
            Some(_) => Ok(node),
            None => {
                let shown: String = id.chars().take(64).collect();
                Err(CliError::new(Exit::USAGE, format!("there is no process {shown:?} in the configuration"))
                    .hint(self.config.suggest_process(id)))
            }
        }
    }
}

/// A client of the Leader: that of `--leader`, else that of the configuration. Its connection lives on the runtime.
pub fn leader(common: &Common, runtime: &Runtime) -> Result<Client, CliError> {
    let _within = runtime.enter();
    if let Some(address) = &common.leader {
        return Ok(Client::new(address));
    }
    let target = Target::read(common, &OverrideArgs::default())?;
    Ok(Client::new(&target.address(&target.config.leader().id)?))
}

/// What has to be typed after `overlay` to mean the same configuration; empty for the default one.
pub fn config_flag(common: &Common) -> String {
    match common.config.to_str() {
        Some("configs/one_host.json") | None => String::new(),
        Some(path) => format!(" --config {path}"),
    }
}

/// The runtime of a command that only talks: one thread beside the one that waits for it. A second one would only be woken
/// to find that the first has done it.
pub fn runtime() -> Result<Runtime, CliError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| CliError::caused(Exit::FAILED, "the program cannot start its threads", &error))
}
