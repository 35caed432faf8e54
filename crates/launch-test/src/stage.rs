use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use procession_host::{Host, ProcRef, Readiness, SpawnSpec};
use procession_launch::{Capabilities, ProcLauncher};
use procession_model::{BootstrapCommand, ProcExit};

use crate::deed::Deed;
use crate::fault::{Fault, Verdict, not_capable};
use crate::heard::Heard;
use crate::programs::Programs;
use crate::recorder::Recorder;
use crate::run::Run;

/// How long all that a check has started may take to end after it, beyond the time after which a host gives it up.
const CLEARING: Duration = Duration::from_secs(10);

/// Where one check runs: a host, the launcher under test, and what was started on it.
pub(crate) struct Stage {
    pub(crate) host: Host,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) programs: Programs,
    pub(crate) ready_command: Option<BootstrapCommand>,
    /// How long one step may take: only what is broken ever takes as long.
    pub(crate) patience: Duration,
    started: Mutex<Vec<ProcRef>>,
}

impl Stage {
    pub(crate) fn new(
        host: Host,
        launcher: Arc<dyn ProcLauncher>,
        programs: Programs,
        ready_command: Option<BootstrapCommand>,
        patience: Duration,
    ) -> Self {
        let recorder = Recorder::new(launcher);
        Self { host, recorder, programs, ready_command, patience, started: Mutex::default() }
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        self.recorder.inner().capabilities()
    }

    /// The launcher itself, with nothing between it and the check.
    pub(crate) fn launcher(&self) -> &Arc<dyn ProcLauncher> {
        self.recorder.inner()
    }

    /// What runs `deeds`, under a name that nothing else has, as a program that never calls back.
    pub(crate) fn spec(&self, deeds: &[Deed]) -> SpawnSpec {
        let mut spec = self.spec_of(self.programs.command(deeds));
        spec.policy.readiness = Readiness::None;
        spec
    }

    /// `command`, under a name that nothing else has; it is expected to call back.
    pub(crate) fn spec_of(&self, command: BootstrapCommand) -> SpawnSpec {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut spec = SpawnSpec::new(format!("check-{}-{number}", std::process::id()), command);
        // What is slow is told by the check's own patience, which says what it waited for.
        spec.policy.launch_ack = self.patience * 4;
        spec.policy.ready_timeout = self.patience * 4;
        spec.policy.kill_gone = self.patience / 2;
        spec
    }

    pub(crate) fn start(&self, deeds: &[Deed]) -> Verdict<Run> {
        self.start_spec(self.spec(deeds))
    }

    pub(crate) fn start_spec(&self, spec: SpawnSpec) -> Verdict<Run> {
        let heard = Heard::new();
        let launcher: Arc<dyn ProcLauncher> = Arc::<Recorder>::clone(&self.recorder);
        let started = self.host.spawn_watched(spec, launcher, Some(heard.observer()));
        let proc_ = started.map_err(|error| Fault::Failed(format!("the launch was refused: {error}")))?;
        self.started.lock().unwrap_or_else(PoisonError::into_inner).push(proc_.clone());
        Ok(Run { proc_, heard, recorder: Arc::clone(&self.recorder), patience: self.patience })
    }

    /// Runs `deeds` to their end: their exit, and the lines of their stdout.
    pub(crate) async fn runs(&self, deeds: &[Deed]) -> Verdict<(Arc<ProcExit>, Vec<String>)> {
        self.runs_spec(self.spec(deeds)).await
    }

    pub(crate) async fn runs_spec(&self, spec: SpawnSpec) -> Verdict<(Arc<ProcExit>, Vec<String>)> {
        let run = self.start_spec(spec)?;
        let exit = run.exit().await?;
        Ok((exit, run.stdout()))
    }

    /// The names in the environment that procs have when nothing is added, but for those that shells make by
    /// themselves; in their order.
    pub(crate) async fn base_names(&self) -> Verdict<BTreeSet<String>> {
        let (_, lines) = self.runs(&[Deed::PrintNames]).await?;
        Ok(names(&lines))
    }

    /// A variable of the launcher's own environment, which procs find where nobody takes it away.
    pub(crate) async fn base_name(&self) -> Verdict<String> {
        let mut names = self.base_names().await?;
        // Shells have one of their own, set or not.
        names.remove("PATH");
        match names.pop_first() {
            Some(name) => Ok(name),
            None => not_capable("its own environment has no variable that could be taken away"),
        }
    }

    /// Ends all that was started here; what does not end is left, and told.
    pub(crate) async fn clear(&self) -> Result<(), String> {
        let started = std::mem::take(&mut *self.started.lock().unwrap_or_else(PoisonError::into_inner));
        let open: Vec<ProcRef> = started.into_iter().filter(|proc_| proc_.exit().is_none()).collect();
        let mut ends = tokio::task::JoinSet::new();
        for proc_ in open.clone() {
            ends.spawn(async move {
                let _ended_anyhow = proc_.kill("its check is over").await;
                proc_.ended().await;
            });
        }
        let all = async { while ends.join_next().await.is_some() {} };
        let bound = self.patience / 2 + CLEARING;
        if tokio::time::timeout(bound, all).await.is_ok() {
            return Ok(());
        }
        let left: Vec<_> = open.iter().filter(|proc_| proc_.exit().is_none()).collect();
        Err(format!("procs of the check did not end within {bound:?} of a kill: {left:?}"))
    }
}

/// The names among `lines`, as [`Deed::PrintNames`] writes them, that are no business of shells or of ours.
pub(crate) fn names(lines: &[String]) -> BTreeSet<String> {
    let usual = |name: &str| {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let own = ["PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "NOTIFY_SOCKET"].contains(&name);
        plain && !name.is_empty() && !own && !name.starts_with("PROCESSION_")
    };
    let names = lines.iter().filter_map(|line| line.strip_prefix("name "));
    names.filter(|name| usual(name)).map(str::to_owned).collect()
}
