use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Confinement;

/// The variable that carries [`LaunchOptions::bootstrap_payload`] into the proc.
pub const BOOTSTRAP_ENV: &str = "PROCESSION_BOOTSTRAP";
/// The variable that carries [`LaunchOptions::process_name`] into the proc.
pub const PROCESS_NAME_ENV: &str = "PROCESSION_PROCESS_NAME";
/// The variable that carries [`LaunchOptions::log_channel`] into the proc, when one is set.
pub const LOG_CHANNEL_ENV: &str = "PROCESSION_LOG_CHANNEL";
/// What every variable of ours starts with; users may not set these.
pub const RESERVED_PREFIX: &str = "PROCESSION_";

/// What to run. `Debug` shows the keys of the environment and never a value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootstrapCommand {
    /// The program, absolute or looked up by whoever starts it.
    pub program: PathBuf,
    /// `argv[0]`; none means the last component of `program`.
    pub arg0: Option<String>,
    /// `argv[1..]`.
    pub args: Vec<String>,
    /// What is added to the launcher's own base environment.
    pub env: HashMap<String, String>,
    /// Keys that are removed from the launcher's base environment.
    #[serde(default)]
    pub env_remove: Vec<String>,
    /// Start from an empty environment instead of the launcher's base.
    #[serde(default)]
    pub clear_env: bool,
    /// The working directory; none keeps the launcher's own.
    #[serde(default)]
    pub cwd: Option<PathBuf>,
    /// What it is held to, who it is and what it gives up.
    #[serde(default)]
    pub confinement: Confinement,
    /// Given for a proc of our Python runtime: a launcher may fork it from an interpreter that has these imported, instead of
    /// executing the program.
    #[serde(default)]
    pub preload: Option<Preload>,
}

/// What an interpreter has imported before procs are forked from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preload {
    /// By name, in their order; the runtime's own are imported in any case.
    pub modules: Vec<String>,
    /// Where they are looked for, before the interpreter's own path.
    pub path: Vec<String>,
}

impl BootstrapCommand {
    /// `program` without arguments and with nothing added to the environment.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arg0: None,
            args: Vec::new(),
            env: HashMap::new(),
            env_remove: Vec::new(),
            clear_env: false,
            cwd: None,
            confinement: Confinement::default(),
            preload: None,
        }
    }
}

impl fmt::Debug for BootstrapCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut keys: Vec<_> = self.env.keys().collect();
        keys.sort();
        f.debug_struct("BootstrapCommand")
            .field("program", &self.program)
            .field("arg0", &self.arg0)
            .field("args", &self.args)
            .field("env keys", &keys)
            .field("env_remove", &self.env_remove)
            .field("clear_env", &self.clear_env)
            .field("cwd", &self.cwd)
            .field("confinement", &self.confinement)
            .field("preload", &self.preload)
            .finish()
    }
}

/// Where output can be sent to: the display form of a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChannelAddr(pub String);

impl fmt::Display for ChannelAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything a launcher gets to know about one launch. `Debug` never shows the payload.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchOptions {
    /// Opaque to the launcher; goes into the proc's environment as [`BOOTSTRAP_ENV`].
    pub bootstrap_payload: String,
    /// `<proc> @ <host>`, for people; goes into the environment as [`PROCESS_NAME_ENV`].
    pub process_name: String,
    /// What to run.
    pub command: BootstrapCommand,
    /// The manager wants the output: return it captured, or feed the log channel.
    pub want_stdio: bool,
    /// How many lines of stderr to keep for the exit; 0 keeps none.
    pub tail_lines: usize,
    /// Where a launcher that reads the output itself sends it; goes into the environment as
    /// [`LOG_CHANNEL_ENV`].
    pub log_channel: Option<ChannelAddr>,
    /// It lives on when its host is gone; needs `output`.
    #[serde(default)]
    pub detach: bool,
    /// How long whoever launched it may be out of its reach before it ends.
    #[serde(default)]
    pub lease: Duration,
    /// The files that its output goes to, written by the manager, and by whoever keeps the proc while there is
    /// none.
    #[serde(default)]
    pub output: Option<OutputFiles>,
}

/// Where the output of a proc that outlives its host goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputFiles {
    /// The file of its standard output.
    pub stdout: PathBuf,
    /// The file of its standard error.
    pub stderr: PathBuf,
    /// No file gets longer than that, in bytes; none lets it grow.
    pub max_bytes: Option<u64>,
    /// How many earlier files are kept of each.
    pub keep: u32,
}

/// What stands for a secret.
const HIDDEN: &str = "...";

impl LaunchOptions {
    /// The same, to be shown: without the payload, and of the environment the names alone.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        HIDDEN.clone_into(&mut shown.bootstrap_payload);
        shown.command.env.values_mut().for_each(|value| HIDDEN.clone_into(value));
        shown
    }

    /// The variables that the proc must find in its environment, whoever starts it.
    pub fn variables(&self) -> Vec<(String, String)> {
        let mut all: Vec<_> = self.command.env.iter().map(|(k, v)| (k.clone(), v.clone())).collect();
        all.push((BOOTSTRAP_ENV.to_owned(), self.bootstrap_payload.clone()));
        all.push((PROCESS_NAME_ENV.to_owned(), self.process_name.clone()));
        if let Some(channel) = &self.log_channel {
            all.push((LOG_CHANNEL_ENV.to_owned(), channel.0.clone()));
        }
        all
    }
}

impl fmt::Debug for LaunchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaunchOptions")
            .field("process_name", &self.process_name)
            .field("command", &self.command)
            .field("want_stdio", &self.want_stdio)
            .field("tail_lines", &self.tail_lines)
            .field("log_channel", &self.log_channel)
            .field("detach", &self.detach)
            .field("lease", &self.lease)
            .field("output", &self.output)
            .finish_non_exhaustive()
    }
}

/// Where the procs of a launcher live, and so how they reach back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DialBack {
    /// Same kernel and network namespace: a unix socket.
    #[default]
    Local,
    /// Another network namespace or machine: TCP with TLS.
    Network {
        /// What the host binds: `address:port`, port 0 for any.
        bind: String,
        /// What the procs dial when that differs: `address[:port]`.
        advertise: Option<String>,
    },
    /// Over the proc's own stdin and stdout.
    Stdio,
    /// They do not: they are no processes, as those of a launcher for tests.
    Nowhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_forms_show_no_environment_value_and_no_payload() {
        let mut command = BootstrapCommand::new("/bin/true");
        command.env.insert("KEY".into(), "canary".into());
        let options = LaunchOptions {
            bootstrap_payload: "canary".into(),
            process_name: "p @ h".into(),
            command,
            want_stdio: true,
            tail_lines: 1,
            log_channel: None,
            detach: false,
            lease: Duration::ZERO,
            output: None,
        };
        let text = format!("{options:?}");
        assert!(text.contains("KEY") && !text.contains("canary"), "{text}");
    }
}
