use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use procession_launch_local::check_user_environment;
use procession_model::{BootstrapCommand, InvalidArgument, RESERVED_PREFIX, check_name};
use procession_supervise::Policy;
use serde::{Deserialize, Serialize};

use crate::gate::Gate;
use crate::ledger::{At, Open};

/// Above this a tail is cut, so that a report stays small.
const TAIL_LIMIT: usize = 10_000;
/// Long enough for a network to be mended by itself, short enough for people who wait.
const LEASE: Duration = Duration::from_secs(10);

/// The least that a file may be limited to, in bytes: rotation must stay rare.
const LEAST_FILE: u64 = 4096;
/// The most files of one stream that are kept beside the one that is written.
const MOST_KEPT: u32 = 1000;

/// Where the output of a proc is written to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Where the files are, `<name>.<incarnation>.out` and `.err`; made, for its user alone, when it is missing.
    pub directory: PathBuf,
    /// A file that would get longer, in bytes, is put aside; none never is.
    pub max_bytes: Option<u64>,
    /// How many that were put aside are kept of each stream.
    pub keep: u32,
}

impl LogSpec {
    /// Files in `directory` that are never put aside.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), max_bytes: None, keep: 3 }
    }

    fn check(&self) -> Result<(), InvalidArgument> {
        if !self.directory.is_absolute() {
            let given = format!("{:?}", self.directory.to_string_lossy());
            return Err(InvalidArgument::new("log_dir", given, "give an absolute path"));
        }
        no_nul("log_dir", self.directory.as_os_str().as_encoded_bytes())?;
        if let Some(bytes) = self.max_bytes.filter(|&bytes| bytes < LEAST_FILE) {
            let rule = format!("at least {LEAST_FILE} bytes; leave it out for files without a limit");
            return Err(InvalidArgument::new("log_max_bytes", bytes.to_string(), rule));
        }
        if self.keep > MOST_KEPT {
            let rule = format!("at most {MOST_KEPT}; raise log_max_bytes to keep more");
            return Err(InvalidArgument::new("log_keep", self.keep.to_string(), rule));
        }
        Ok(())
    }
}

/// What becomes of a proc when its host ends without having stopped it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OwnerLoss {
    /// It ends too.
    #[default]
    Kill,
    /// It lives on, for the next host of the same directory.
    Detach,
}

/// Everything that is asked for about one proc.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SpawnSpec {
    /// The slot's name.
    pub name: String,
    /// Its place in its mesh.
    pub rank: usize,
    /// Which launch of the slot this is; 0 takes the next one that this host knows of.
    pub incarnation: u32,
    /// What to run.
    pub command: BootstrapCommand,
    /// Deadlines, and what makes it ready.
    pub policy: Policy,
    /// How long a proc that is reached over TCP may be without a connection before it has ended.
    pub lease: Duration,
    /// Sent with the welcome, for the proc to run before anything else; empty for nothing.
    pub setup: Bytes,
    /// The client's module search path; empty for programs that are not Python.
    pub sys_path: Vec<String>,
    /// How many lines of each stream to keep for the exit; 0 keeps none.
    pub tail_lines: usize,
    /// Whether anybody wants the output while the proc runs.
    pub want_stdio: bool,
    /// Whether it lives on without its host.
    pub on_owner_loss: OwnerLoss,
    /// What its spawner wants to find again after the host was started anew: which mesh it belongs to. Opaque here.
    pub mesh: String,
    /// Files that all of its output goes to; none writes none.
    pub log: Option<LogSpec>,
    /// It was launched by an earlier host, and is taken over.
    #[serde(skip)]
    pub(crate) adopted: Option<Box<Open>>,
    /// Where it stands in the journal.
    #[serde(skip)]
    pub(crate) at: Option<At>,
    /// What holds up the reading of its output, where the launcher hands that over as streams.
    #[serde(skip)]
    pub gate: Gate,
}

impl SpawnSpec {
    /// `command` under `name`, with the defaults of everything else.
    pub fn new(name: impl Into<String>, command: BootstrapCommand) -> Self {
        Self {
            name: name.into(),
            rank: 0,
            incarnation: 0,
            command,
            policy: Policy::default(),
            lease: LEASE,
            setup: Bytes::new(),
            sys_path: Vec::new(),
            tail_lines: 100,
            want_stdio: true,
            on_owner_loss: OwnerLoss::Kill,
            mesh: String::new(),
            adopted: None,
            at: None,
            log: None,
            gate: Gate::default(),
        }
    }

    /// Refuses what can be refused before anything starts.
    ///
    /// # Errors
    /// Names the field, what was given (never an environment value) and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        check_name("name", &self.name)?;
        let command = &self.command;
        if command.program.as_os_str().is_empty() {
            return Err(InvalidArgument::new("program", "\"\"", "give the path or the name of a program"));
        }
        no_nul("program", command.program.as_os_str().as_encoded_bytes())?;
        if let Some(arg0) = &command.arg0 {
            if arg0.is_empty() {
                return Err(InvalidArgument::new("arg0", "\"\"", "leave it out for the program's own name"));
            }
            no_nul("arg0", arg0.as_bytes())?;
        }
        for (index, arg) in command.args.iter().enumerate() {
            no_nul(&format!("args[{index}]"), arg.as_bytes())?;
        }
        for (key, value) in &command.env {
            check_key("env", key)?;
            no_nul(&format!("env[{key:?}]"), value.as_bytes())?;
        }
        for key in &command.env_remove {
            check_key("env", key)?;
        }
        if let Some(cwd) = &command.cwd {
            no_nul("cwd", cwd.as_os_str().as_encoded_bytes())?;
        }
        command.confinement.check()?;
        check_user_environment(command)?;
        if let Some(log) = &self.log {
            log.check()?;
        }
        if self.tail_lines > TAIL_LIMIT {
            return Err(InvalidArgument::new(
                "tail_lines",
                self.tail_lines.to_string(),
                format!("at most {TAIL_LIMIT}; read the output with logs() for more"),
            ));
        }
        Ok(())
    }
}

fn check_key(field: &str, key: &str) -> Result<(), InvalidArgument> {
    let refuse = |rule: &str| Err(InvalidArgument::new(format!("{field}[{key:?}]"), "a key", rule));
    if key.is_empty() || key.contains(['=', '\0']) {
        return refuse("a variable's name is not empty and has neither '=' nor NUL in it");
    }
    if key.starts_with(RESERVED_PREFIX) {
        return refuse("names that start with PROCESSION_ are the runtime's own; choose another");
    }
    Ok(())
}

fn no_nul(field: &str, bytes: &[u8]) -> Result<(), InvalidArgument> {
    match bytes.iter().position(|&byte| byte == 0) {
        None => Ok(()),
        Some(index) => Err(InvalidArgument::new(
            field,
            format!("{} bytes", bytes.len()),
            format!("NUL at index {index}; the kernel's strings end at a NUL, take it out"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut SpawnSpec)) -> String {
        let mut spec = SpawnSpec::new("p", BootstrapCommand::new("/bin/true"));
        change(&mut spec);
        spec.check().expect_err("it must be refused").to_string()
    }

    #[test]
    fn a_good_spec_passes() {
        SpawnSpec::new("p", BootstrapCommand::new("true")).check().expect("nothing is wrong with it");
    }

    #[test]
    fn bad_input_is_refused_by_field_and_never_shows_a_value() {
        for (text, field) in [
            (refused(|s| s.name = "a/b".into()), "name"),
            (refused(|s| s.command.program = "".into()), "program"),
            (refused(|s| s.command.arg0 = Some(String::new())), "arg0"),
            (refused(|s| s.command.args = vec!["ok".into(), "b\0d".into()]), "args[1]"),
            (refused(|s| drop(s.command.env.insert("A=B".into(), "canary".into()))), "env[\"A=B\"]"),
            (refused(|s| drop(s.command.env.insert("A".into(), "canary\0".into()))), "env[\"A\"]"),
            (refused(|s| drop(s.command.env.insert("PROCESSION_X".into(), "canary".into()))), "env"),
            (refused(|s| s.command.env_remove = vec![String::new()]), "env"),
            (refused(|s| s.command.cwd = Some("a\0".into())), "cwd"),
            (refused(|s| s.tail_lines = 10_001), "tail_lines"),
            (refused(|s| s.log = Some(LogSpec::new("logs"))), "log_dir"),
            (
                refused(|s| s.log = Some(LogSpec { max_bytes: Some(1), ..LogSpec::new("/a") })),
                "log_max_bytes",
            ),
            (refused(|s| s.log = Some(LogSpec { keep: 1001, ..LogSpec::new("/a") })), "log_keep"),
        ] {
            assert!(text.starts_with(field), "{text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
