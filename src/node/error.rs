//! Why a node ends, and what its user can do about it.

use std::io;

use super::{loading, state_dir};
use crate::routing::NodeId;
use crate::transport::server;

/// Why a node could not start or go on. All of it needs a person.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error("there is no process {id} in the configuration; there are {known}")]
    UnknownProcess { id: NodeId, known: String },
    #[error("{id} cannot listen on {address}")]
    Listen { id: NodeId, address: String, source: io::Error },
    #[error("the data of {team} cannot be used")]
    Data { team: String, source: overlay_ingest::Error },
    #[error(transparent)]
    State(#[from] state_dir::StateError),
    #[error("the engine cannot start: {0}")]
    Engine(String),
    #[error("loading failed")]
    Load(#[from] loading::LoadError),
    #[error("serving failed")]
    Serve(#[source] server::ServeError),
}

impl NodeError {
    /// What to type or change next, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            NodeError::Data { source, .. } | NodeError::Load(loading::LoadError::Data(source)) => {
                source.hint().map(str::to_owned)
            }
            NodeError::Load(loading::LoadError::TooLarge { .. }) => {
                let hint =
                    "run overlay-ingest: what does not fit is then read from its cache; or raise limits.data_bytes_max";
                Some(hint.to_owned())
            }
            NodeError::Listen { id, .. } => {
                Some(format!("{id} or another program uses that port; see `overlay status`, or change the port"))
            }
            _ => None,
        }
    }
}
