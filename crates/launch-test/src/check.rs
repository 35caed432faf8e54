use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::LazyLock;

use procession_launch::Capabilities;
use procession_model::DialBack;

use crate::fault::Verdict;
use crate::groups;
use crate::stage::Stage;

pub(crate) type Running<'a> = Pin<Box<dyn Future<Output = Verdict> + Send + 'a>>;

/// One promise of a launcher, and the program that finds out whether it is kept.
#[derive(Clone, Copy)]
pub struct Check {
    /// `group.a-sentence-with-dashes`; it stays.
    pub name: &'static str,
    /// What is promised, as a sentence.
    pub promise: &'static str,
    /// What to look at in a launcher that fails it.
    pub hint: &'static str,
    /// What a launcher has to claim for it.
    pub needs: &'static [Need],
    pub(crate) run: for<'a> fn(&'a Stage) -> Running<'a>,
}

impl Check {
    /// The part of its name before the dot.
    pub fn group(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(group, _)| group)
    }

    /// Whether `pattern` means it: its name, or the beginning of one with a `*` after it.
    pub fn is_meant_by(&self, pattern: &str) -> bool {
        match pattern.strip_suffix('*') {
            Some(beginning) => self.name.starts_with(beginning),
            None => self.name == pattern,
        }
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("needs", &self.needs).finish_non_exhaustive()
    }
}

/// All checks, by group.
pub fn checks() -> &'static [Check] {
    static ALL: LazyLock<Vec<Check>> = LazyLock::new(|| groups::ALL.concat());
    &ALL
}

/// What a check needs a launcher to claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// [`Capabilities::pid`].
    Pid,
    /// [`Capabilities::stdio`]: most programs of checks tell by their output what happened to them.
    Output,
    /// [`Capabilities::tree_kill`].
    TreeKill,
    /// [`Capabilities::group_kill`].
    GroupKill,
    /// [`Capabilities::raw_paths`].
    RawPaths,
    /// [`Capabilities::command_attributes`].
    CommandAttributes,
    /// [`Capabilities::adopt`].
    Adopt,
    /// That its procs are processes of this machine: [`DialBack::Local`].
    Local,
    /// A limit on memory.
    Memory,
    /// A limit on processes.
    Pids,
    /// Another user.
    User,
    /// The kernel's limits on each process.
    Rlimits,
    /// What a proc gives up.
    Security,
    /// Where a proc runs.
    Binding,
    /// That not [`Capabilities::folds_signals`].
    CodesApart,
    /// That not [`Capabilities::one_stream`].
    StreamsApart,
    /// A command that calls back, which is an option of the kit.
    CallsBack,
}

impl Need {
    /// What is missing; none where it is there.
    pub(crate) fn missing(self, claimed: &Capabilities, calls_back: bool) -> Option<&'static str> {
        let Capabilities { confines, .. } = claimed;
        let (there, what) = match self {
            Self::Pid => (claimed.pid, "it does not claim to report pids (pid)"),
            Self::Output => (claimed.stdio, "it does not claim to capture output (stdio)"),
            Self::TreeKill => {
                (claimed.tree_kill, "it does not claim that its kill reaches trees (tree_kill)")
            }
            Self::GroupKill => {
                (claimed.group_kill, "it does not claim that its kill reaches what has left (group_kill)")
            }
            Self::RawPaths => {
                (claimed.raw_paths, "it does not claim to pass paths that are no text (raw_paths)")
            }
            Self::CommandAttributes => (
                claimed.command_attributes,
                "it does not claim to honour cwd, clear_env and env_remove (command_attributes)",
            ),
            Self::Adopt => {
                (claimed.adopt, "it does not claim to take over what earlier hosts have left (adopt)")
            }
            Self::Local => (
                claimed.dial_back == DialBack::Local,
                "its procs are no processes of this machine (dial_back)",
            ),
            Self::Memory => (confines.memory, "it does not claim to limit memory (confines.memory)"),
            Self::Pids => (confines.pids, "it does not claim to limit processes (confines.pids)"),
            Self::User => (confines.user, "it does not claim to change the user (confines.user)"),
            Self::Rlimits => {
                (confines.rlimits, "it does not claim to set the kernel's limits (confines.rlimits)")
            }
            Self::Security => {
                (confines.security, "it does not claim to take rights away (confines.security)")
            }
            Self::Binding => (confines.binding, "it does not claim to bind procs (confines.binding)"),
            Self::CodesApart => (
                !claimed.folds_signals,
                "it says that it does not tell a signal from 128 and its number (folds_signals)",
            ),
            Self::StreamsApart => (!claimed.one_stream, "it says that both streams come as one (one_stream)"),
            Self::CallsBack => (calls_back, "no command that calls back was given"),
        };
        (!there).then_some(what)
    }
}
