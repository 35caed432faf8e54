use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use procession_model::ProcId;
use procession_net::Dial;
use serde::{Deserialize, Serialize};

/// What a launched proc has to know to reach back; opaque to launchers.
///
/// It holds the proc's token, which each host takes once. On this machine it lies in a file of its host, for which a
/// reference stands in the environment; elsewhere it is in the environment itself, from which the proc
/// takes it before user code runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Payload {
    /// Version of this struct; both ends run the same build, and say so when they do not.
    pub(crate) version: String,
    pub(crate) proc_id: ProcId,
    pub(crate) rank: usize,
    /// The id of the host's own node.
    pub(crate) host: ProcId,
    pub(crate) dial: Dial,
    /// The client's module search path, for procs on the same machine.
    pub(crate) sys_path: Vec<String>,
    /// The client's working directory, for procs on the same machine.
    pub(crate) cwd: Option<PathBuf>,
    /// Where it notes what it is busy with, for procs on the same machine.
    pub(crate) flight: Option<PathBuf>,
    /// Whether it lives on without its host, and dials the next one.
    pub(crate) outlives: bool,
}

impl Payload {
    pub(crate) const VERSION: &'static str = env!("CARGO_PKG_VERSION");

    pub(crate) fn encode(&self) -> Result<String, String> {
        rmp_serde::to_vec_named(self).map(|bytes| BASE64.encode(bytes)).map_err(|error| error.to_string())
    }

    pub(crate) fn decode(text: &str) -> Result<Self, String> {
        let bytes = BASE64.decode(text.trim()).map_err(|error| format!("it is not base64: {error}"))?;
        let payload: Self = rmp_serde::from_slice(&bytes)
            .map_err(|error| format!("it was made by another version of procession: {error}"))?;
        if payload.version != Self::VERSION {
            return Err(format!(
                "the host runs procession {}, this proc {}: install the same version on both sides",
                payload.version,
                Self::VERSION
            ));
        }
        Ok(payload)
    }
}
