//! A launcher as somebody may write it who has no keeper: children of this process, and a walk over their trees.

use std::collections::HashMap;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_launch::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{LaunchId, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use procession_sys::{Process, Snapshot};
use tokio::process::Command;
use tokio::sync::oneshot;

/// What it has launched: the process, and none once it has ended.
pub(crate) type Launched = Arc<Mutex<HashMap<LaunchId, Option<u32>>>>;

#[derive(Default)]
pub(crate) struct Plain {
    pub(crate) launched: Launched,
    /// Its kill means the leader alone.
    pub(crate) leader_only: bool,
}

impl Plain {
    /// The process of a launch; none when it has ended.
    fn find(&self, proc_id: &ProcId) -> Result<Option<u32>, ProcLauncherError> {
        let launched = self.launched.lock().unwrap();
        launched
            .get(&proc_id.launch_id())
            .copied()
            .ok_or_else(|| ProcLauncherError::NotFound(proc_id.to_string()))
    }

    fn signal(&self, pid: u32, signal: i32) -> usize {
        let all = Snapshot::take().unwrap();
        let below = all.descendants([pid]);
        let below = if self.leader_only { Vec::new() } else { below };
        // The leader last: without it nobody knows what it has started.
        let tree = below.into_iter().filter(|process| process.is_alive());
        let count = tree.map(|process| process.signal(signal)).count();
        if let Some(leader) = all.find(pid) {
            leader.signal(signal);
        }
        count
    }
}

#[async_trait]
impl ProcLauncher for Plain {
    fn name(&self) -> &str {
        "plain"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pid: true,
            stdio: true,
            tree_kill: true,
            raw_paths: true,
            command_attributes: true,
            ..Capabilities::default()
        }
    }

    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let asked = &opts.command;
        let mut command = Command::new(&asked.program);
        if asked.clear_env {
            command.env_clear();
        }
        for name in &asked.env_remove {
            command.env_remove(name);
        }
        command.args(&asked.args).envs(opts.variables()).process_group(0);
        if let Some(name) = &asked.arg0 {
            command.arg0(name);
        }
        if let Some(directory) = &asked.cwd {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started_at = SystemTime::now();
        let mut child = command.spawn().map_err(|error| {
            ProcLauncherError::Other(format!("{} could not be started: {error}", asked.program.display()))
        })?;
        let (launch, pid) = (proc_id.launch_id(), child.id());
        self.launched.lock().unwrap().insert(launch, pid);
        let stdio = StdioHandling::Captured {
            stdout: Box::new(child.stdout.take().unwrap()),
            stderr: Box::new(child.stderr.take().unwrap()),
        };
        let (sender, exit_rx) = oneshot::channel();
        let launched = Arc::clone(&self.launched);
        tokio::spawn(async move {
            let status = child.wait().await.unwrap();
            launched.lock().unwrap().insert(launch, None);
            let kind = match (status.code(), status.signal()) {
                (Some(code), _) => ProcExitKind::Exited { code },
                (None, Some(signal)) => ProcExitKind::Signaled { signal, core_dumped: status.core_dumped() },
                (None, None) => ProcExitKind::Lost { reason: format!("{status}") },
            };
            let _host_gone = sender.send(ProcExitResult::new(kind));
        });
        Ok(launched_as(pid, started_at, stdio, exit_rx))
    }

    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        if let Some(pid) = self.find(proc_id)? {
            self.signal(pid, 15);
        }
        Ok(())
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        while let Some(pid) = self.find(proc_id)? {
            // What was forked meanwhile is found by the next walk, for as long as the leader is no more than stopped.
            if !self.leader_only
                && let Ok(leader) = Process::look(pid)
            {
                leader.signal(19);
                while self.below(pid) > 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            self.signal(pid, 9);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }
}

impl Plain {
    /// Kills what is below `pid`, and says how much of it was still there.
    fn below(&self, pid: u32) -> usize {
        let all = Snapshot::take().unwrap();
        let tree = all.descendants([pid]);
        let tree = tree.into_iter().filter(|process| process.is_alive() && process.pid != pid);
        tree.map(|process| process.signal(9)).count()
    }
}

fn launched_as(
    pid: Option<u32>,
    started_at: SystemTime,
    stdio: StdioHandling,
    exit_rx: oneshot::Receiver<ProcExitResult>,
) -> LaunchResult {
    LaunchResult { pid, started_at, stdio, exit_rx, reports: None }
}
