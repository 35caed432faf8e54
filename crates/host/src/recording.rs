use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use procession_model::ProcExit;
use tokio::time::sleep;

use crate::core::Core;
use crate::records::{Promised, Record};
use crate::spec::SpawnSpec;

/// When an end has been told, how long what nobody waits for is put off: whoever was woken has the processor first.
pub(crate) const AFTERWARDS: Duration = Duration::from_millis(2);
/// What is kept of each tail: lines, and bytes of all of them.
const TAIL_LINES: usize = 100;
pub(crate) const TAIL_BYTES: usize = 32 << 10;

/// What a record needs to know of a launch from its beginning.
pub(crate) struct Recording {
    program: PathBuf,
    cwd: Option<PathBuf>,
    env: BTreeMap<String, u64>,
    env_removed: Vec<String>,
}

impl Recording {
    pub(crate) fn of(spec: &SpawnSpec) -> Arc<Self> {
        // A key that never leaves this process: without it a mark says nothing about the value.
        static KEY: OnceLock<RandomState> = OnceLock::new();
        let key = KEY.get_or_init(RandomState::new);
        let command = &spec.command;
        let env = command.env.iter().map(|(name, value)| (name.clone(), key.hash_one((name, value))));
        Arc::new(Self {
            program: command.program.clone(),
            cwd: command.cwd.clone().or_else(|| std::env::current_dir().ok()),
            env: env.collect(),
            env_removed: command.env_remove.clone(),
        })
    }

    pub(crate) fn record(
        &self,
        exit: &ProcExit,
        machine: &str,
        run_dir: &Path,
        handle: Option<String>,
    ) -> Record {
        let mut exit = exit.clone();
        for tail in [&mut exit.stderr_tail, &mut exit.stdout_tail] {
            shorten(tail);
        }
        Record {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            exit,
            machine: machine.to_owned(),
            host_pid: std::process::id(),
            program: self.program.clone(),
            cwd: self.cwd.clone(),
            env: self.env.clone(),
            env_removed: self.env_removed.clone(),
            handle,
            core: None,
            run_dir: run_dir.to_owned(),
        }
    }
}

/// The record of an end that is being told. It is made when this is dropped, wherever that is: so it is with the
/// runtime, should that end first.
pub(crate) struct Owed {
    core: Arc<Core>,
    recording: Arc<Recording>,
    exit: Arc<ProcExit>,
    /// What the launcher called the proc.
    handle: Option<String>,
    promised: Option<Promised>,
}

impl Owed {
    pub(crate) fn new(
        core: &Arc<Core>,
        recording: &Arc<Recording>,
        exit: &Arc<ProcExit>,
        handle: Option<String>,
    ) -> Self {
        let promised = Some(core.records.promise());
        let (core, recording, exit) = (Arc::clone(core), Arc::clone(recording), Arc::clone(exit));
        Self { core, recording, exit, handle, promised }
    }

    /// Those who wait for the exit come first.
    pub(crate) fn pay_soon(self) {
        let runtime = self.core.runtime.clone();
        runtime.spawn(async move {
            sleep(AFTERWARDS).await;
            drop(self);
        });
    }
}

impl Drop for Owed {
    fn drop(&mut self) {
        let (core, handle) = (&self.core, self.handle.take());
        if let Some(promised) = self.promised.take() {
            promised.keep(|| self.recording.record(&self.exit, &core.machine, core.run_dir(), handle));
        }
    }
}

/// Keeps the last lines that fit.
fn shorten(tail: &mut Vec<String>) {
    let mut bytes = 0;
    let fit = tail.iter().rev().take(TAIL_LINES).take_while(|line| {
        bytes += line.len();
        bytes <= TAIL_BYTES
    });
    tail.drain(..tail.len() - fit.count());
}

#[cfg(test)]
mod tests {
    use procession_model::BootstrapCommand;

    use super::*;

    #[test]
    fn equal_values_have_equal_marks_in_one_process_and_others_have_not() {
        let mark = |value: &str| {
            let mut command = BootstrapCommand::new("true");
            command.env.insert("A".to_owned(), value.to_owned());
            Recording::of(&SpawnSpec::new("p", command)).env["A"]
        };
        assert_eq!(mark("one"), mark("one"));
        assert_ne!(mark("one"), mark("two"));
    }
}
