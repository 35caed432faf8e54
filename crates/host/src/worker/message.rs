//! What the two ends say to each other.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use procession_actor::{OncePortRef, PortRef, wire_message};
use procession_launch::{Capabilities, Confines, Found, Report};
use procession_model::{
    BootstrapCommand, Confinement, LaunchOptions, PortId, Preload, ProcExitResult, ProcId,
};
use serde::{Deserialize, Serialize};

/// The actor of the server with which a client speaks.
pub(crate) const DESK: &str = "worker";
/// What listens at the end that serves; who dials it knows it by this and by the key.
pub(super) const SERVER_NAME: &str = "worker";
/// The tag of a piece of output; an empty one is the last.
pub(super) const OUTPUT_TAG: &str = "worker.output";

/// First: who is there?
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greet(pub(super) OncePortRef<Greeting>);
wire_message!(Greet, "worker.greet");

/// The machine; or why nothing can be launched on it. The only thing that ends of any two versions understand.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Greeting {
    pub(super) version: String,
    pub(super) machine: Result<Machine, String>,
}
wire_message!(Greeting, "worker.greeting");

/// What its launcher can do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// memory, pids, cpu, user, rlimits, security, binding.
    confines: [bool; 7],
    group_kill: bool,
    oom_facts: bool,
    /// What runs Python there.
    pub(crate) interpreter: Option<String>,
    /// Of an agent that launches through another launcher.
    engine: Option<EngineClaims>,
}

/// What that other launcher says of itself.
#[derive(Debug, Serialize, Deserialize)]
struct EngineClaims {
    name: String,
    capabilities: Capabilities,
    by_parenthood: bool,
}

impl Machine {
    pub(super) fn of(capabilities: &Capabilities, interpreter: Option<String>) -> Self {
        let Confines { memory, pids, cpu, user, rlimits, security, binding } = capabilities.confines;
        Self {
            confines: [memory, pids, cpu, user, rlimits, security, binding],
            group_kill: capabilities.group_kill,
            oom_facts: capabilities.oom_facts,
            interpreter,
            engine: None,
        }
    }

    pub(super) fn of_engine(
        name: &str,
        capabilities: &Capabilities,
        by_parenthood: bool,
        interpreter: Option<String>,
    ) -> Self {
        let engine =
            EngineClaims { name: name.to_owned(), capabilities: capabilities.clone(), by_parenthood };
        Self { engine: Some(engine), ..Self::of(capabilities, interpreter) }
    }

    /// The name of the launcher that launches there in the place of its own.
    pub(super) fn engine(&self) -> Option<&str> {
        self.engine.as_ref().map(|engine| engine.name.as_str())
    }

    /// Whether exits that it tells are what a parent has read from the kernel.
    pub(super) fn knows_status_by_parenthood(&self) -> bool {
        self.engine.as_ref().is_none_or(|engine| engine.by_parenthood)
    }

    /// Whether each proc there is led to its host by the launcher that launches it.
    pub(super) fn leads(&self) -> bool {
        let back = self.engine.as_ref().map(|engine| &engine.capabilities.dial_back);
        back == Some(&procession_model::DialBack::Stdio)
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        if let Some(engine) = &self.engine {
            return Capabilities { pid: false, adopt: false, ..engine.capabilities.clone() };
        }
        let [memory, pids, cpu, user, rlimits, security, binding] = self.confines;
        Capabilities {
            // That of another machine: to the host it would be one of the numbers of this one.
            pid: false,
            stdio: true,
            tail: false,
            tree_kill: true,
            raw_paths: true,
            command_attributes: true,
            confines: Confines { memory, pids, cpu, user, rlimits, security, binding },
            group_kill: self.group_kill,
            oom_facts: self.oom_facts,
            folds_signals: false,
            one_stream: false,
            adopt: false,
            dial_back: procession_model::DialBack::Local,
        }
    }
}

/// Start a proc.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) proc_id: ProcId,
    pub(super) order: Order,
    /// Where its standard output and its standard error go, if it is captured.
    pub(super) streams: [PortId; 2],
    pub(super) started: OncePortRef<Started>,
    pub(super) ended: OncePortRef<Ended>,
}
wire_message!(Launch, "worker.launch");

/// [`LaunchOptions`] as they travel: paths are bytes.
#[derive(Serialize, Deserialize)]
pub(super) struct Order {
    bootstrap_payload: String,
    process_name: String,
    program: Vec<u8>,
    arg0: Option<String>,
    args: Vec<String>,
    env: std::collections::HashMap<String, String>,
    env_remove: Vec<String>,
    clear_env: bool,
    cwd: Option<Vec<u8>>,
    confinement: Confinement,
    preload: Option<Preload>,
    want_stdio: bool,
    tail_lines: usize,
    lease: Duration,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order").field("process_name", &self.process_name).finish_non_exhaustive()
    }
}

impl From<LaunchOptions> for Order {
    fn from(options: LaunchOptions) -> Self {
        let LaunchOptions { bootstrap_payload, process_name, command, want_stdio, tail_lines, lease, .. } =
            options;
        let BootstrapCommand { program, arg0, args, env, env_remove, clear_env, cwd, confinement, preload } =
            command;
        let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
        Self {
            bootstrap_payload,
            process_name,
            program: bytes(&program),
            arg0,
            args,
            env,
            env_remove,
            clear_env,
            cwd: cwd.as_deref().map(bytes),
            confinement,
            preload,
            want_stdio,
            tail_lines,
            lease,
        }
    }
}

impl From<Order> for LaunchOptions {
    fn from(order: Order) -> Self {
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        Self {
            bootstrap_payload: order.bootstrap_payload,
            process_name: order.process_name,
            command: BootstrapCommand {
                program: path(order.program),
                arg0: order.arg0,
                args: order.args,
                env: order.env,
                env_remove: order.env_remove,
                clear_env: order.clear_env,
                cwd: order.cwd.map(path),
                confinement: order.confinement,
                preload: order.preload,
            },
            want_stdio: order.want_stdio,
            tail_lines: order.tail_lines,
            log_channel: None,
            detach: false,
            lease: order.lease,
            output: None,
        }
    }
}

/// It runs; or why nothing was started.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Started(pub(super) Result<Running, String>);
wire_message!(Started, "worker.started");

/// A process of the server's machine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Running {
    pub(super) pid: Option<u32>,
    pub(super) started_at: SystemTime,
    pub(super) captured: bool,
}

/// How it ended. All of its output comes before.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended(pub(super) ProcExitResult);
wire_message!(Ended, "worker.ended");

/// End a proc.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) proc_id: ProcId,
    pub(super) how: How,
    pub(super) done: OncePortRef<Done>,
}
wire_message!(End, "worker.end");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum How {
    Terminate,
    Kill,
}

/// Why that was not done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Undone {
    NotFound,
    Failed(String),
}

/// That it was done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Done(pub(super) Result<(), Undone>);
wire_message!(Done, "worker.done");

/// End the server, where it may be ended by clients.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShutDown(pub(super) OncePortRef<Done>);
wire_message!(ShutDown, "worker.shut down");

/// Whether this end is there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Beat(pub(super) OncePortRef<Done>);
wire_message!(Beat, "worker.beat");

/// Listen for procs there that want to reach this end, and tell of each that dials.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listen {
    /// At that port of the loopback; 0 is whichever is free.
    pub(super) port: u16,
    pub(super) dialled: PortRef<Dialled>,
    pub(super) listening: OncePortRef<Listening>,
}
wire_message!(Listen, "worker.listen");

/// At which address, as procs there dial it; or why not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listening(pub(super) Result<String, String>);
wire_message!(Listening, "worker.listening");

/// Where procs are led by the launcher that launches them: have it lead one to `here`, an address of the machine that listens.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lead {
    pub(super) proc_id: ProcId,
    pub(super) here: SocketAddr,
    pub(super) listening: OncePortRef<Listening>,
}
wire_message!(Lead, "worker.lead");

/// That proc needs not be led any more, unless it was launched.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Forget(pub(super) ProcId);
wire_message!(Forget, "worker.forget");

/// Launch through the launcher of that kind from now on, which has this configuration, in JSON.
#[derive(Serialize, Deserialize)]
pub(super) struct Through {
    pub(super) kind: String,
    pub(super) config: String,
    /// Where what it says goes.
    pub(super) said: PortRef<Said>,
    pub(super) reached: OncePortRef<Reached>,
}
wire_message!(Through, "worker.through");

impl std::fmt::Debug for Through {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Through").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What that can do; or why it cannot be used.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reached(pub(super) Result<Machine, String>);
wire_message!(Reached, "worker.reached");

/// What it says of a proc.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Said {
    pub(super) proc_id: ProcId,
    pub(super) word: Word,
}
wire_message!(Said, "worker.said");

/// A [`Report`] as it travels.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    Progress(String),
    Handle(String),
    Unreachable(String),
    Reachable,
}

impl Word {
    /// None of what says nothing on another machine.
    pub(super) fn of(report: Report) -> Option<Self> {
        match report {
            Report::Progress(text) => Some(Self::Progress(text)),
            Report::Handle(text) => Some(Self::Handle(text)),
            Report::Unreachable(why) => Some(Self::Unreachable(why)),
            Report::Reachable => Some(Self::Reachable),
            _ => None,
        }
    }
}

impl From<Word> for Report {
    fn from(word: Word) -> Self {
        match word {
            Word::Progress(text) => Self::Progress(text),
            Word::Handle(text) => Self::Handle(text),
            Word::Unreachable(why) => Self::Unreachable(why),
            Word::Reachable => Self::Reachable,
        }
    }
}

/// Ask the launcher for something beside launches.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) question: Question,
    pub(super) answer: OncePortRef<Answered>,
}
wire_message!(Ask, "worker.ask");

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Question {
    Probe,
    List,
    Remove(String),
    DryRun(ProcId, Box<Order>),
}

/// What it said, or why it did not.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answered(pub(super) Result<Reply, String>);
wire_message!(Answered, "worker.answered");

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    Text(String),
    Found(Vec<Found>),
    Done,
}

/// Somebody has dialled: where what he is to read goes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Dialled {
    pub(super) to_him: PortId,
    pub(super) taken: OncePortRef<Taken>,
}
wire_message!(Dialled, "worker.dialled");

/// Where what he sends goes; or why he is not taken.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Taken(pub(super) Result<PortId, String>);
wire_message!(Taken, "worker.taken");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_travel_whole_with_paths_that_are_no_text_and_show_no_secret() {
        let mut command = BootstrapCommand::new(OsString::from_vec(b"/bin/\xff".to_vec()));
        command.args = vec!["a".into()];
        command.arg0 = Some("zero".into());
        command.env.insert("KEY".into(), "canary".into());
        command.env_remove = vec!["GONE".into()];
        command.clear_env = true;
        command.cwd = Some(OsString::from_vec(b"/\xfe".to_vec()).into());
        command.confinement.resources.pids = Some(7);
        command.preload = Some(Preload { modules: vec!["m".into()], path: vec!["/p".into()] });
        let options = LaunchOptions {
            bootstrap_payload: "canary".into(),
            process_name: "p @ h".into(),
            command,
            want_stdio: true,
            tail_lines: 3,
            log_channel: None,
            detach: false,
            lease: Duration::from_secs(7),
            output: None,
        };
        let order = Order::from(options.clone());
        assert!(!format!("{order:?}").contains("canary"));
        assert_eq!(LaunchOptions::from(order), options);
    }
}
