use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{Confinement, DialBack, InvalidArgument, LaunchOptions, ProcId};

use super::attempts::{Attempt, Attempts};
use super::known::{End, Known};
use super::parts;
use crate::{Capabilities, LaunchResult, ProcLauncher, ProcLauncherError};

/// The first of several launchers that can take a launch takes it.
///
/// One cannot that refuses, or that says to have failed without ever having said that the proc was started. Stops go to the one
/// that has the proc. It can do what all of them can; what one of them would refuse of a confinement is refused.
pub struct Fallback {
    parts: Vec<Arc<dyn ProcLauncher>>,
    name: String,
    plan: Arc<[Attempt]>,
    known: Arc<Known>,
}

impl Fallback {
    /// In that order.
    ///
    /// # Errors
    /// There is none, or they do not all reach back in the same way: which way a proc is told is settled before it is known who takes it.
    pub fn new(parts: Vec<Arc<dyn ProcLauncher>>) -> Result<Self, InvalidArgument> {
        let names = parts.iter().map(|part| part.name()).collect::<Vec<_>>().join(", ");
        let Some(first) = parts.first() else {
            return Err(InvalidArgument::new("launchers", "[]", "give at least one"));
        };
        let back = first.capabilities().dial_back;
        if let Some(other) = parts.iter().find(|part| part.capabilities().dial_back != back) {
            let differ = format!(
                "{} ({back:?}), {} ({:?})",
                first.name(),
                other.name(),
                other.capabilities().dial_back
            );
            let rule = "their procs reach back in different ways, which is settled before it is known who takes a proc; \
                        combine launchers whose dial_back is the same";
            return Err(InvalidArgument::new("launchers", differ, rule));
        }
        if back == DialBack::Stdio && parts.len() > 1 {
            let rule = "each of them leads its procs to their host itself, which is settled before it is known who takes a proc; \
                        combine launchers that reach back over a network";
            return Err(InvalidArgument::new("launchers", names, rule));
        }
        let plan = parts
            .iter()
            .map(|part| Attempt { launcher: Arc::clone(part), pause: Duration::ZERO, admit: true })
            .collect();
        Ok(Self { name: format!("fallback({names})"), parts, plan, known: Arc::default() })
    }
}

#[async_trait]
impl ProcLauncher for Fallback {
    fn name(&self) -> &str {
        &self.name
    }

    /// What all of them can; but nobody writes down for the next host which of them has what.
    fn capabilities(&self) -> Capabilities {
        Capabilities { adopt: false, ..parts::common(&self.parts) }
    }

    fn knows_status_by_parenthood(&self) -> bool {
        self.parts.iter().all(|part| part.knows_status_by_parenthood())
    }

    fn own_proc(&self) -> Option<ProcId> {
        parts::own_proc(&self.parts)
    }

    fn launched_in(&self, proc_id: &ProcId) -> Option<ProcId> {
        self.known.at(proc_id)?.launched_in(proc_id)
    }

    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        parts::check(&self.parts, confinement)
    }

    /// Each launcher admits it when its turn comes: what it waits for there is part of the launch.
    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        Attempts::new(self.known.enter(proc_id), options, Arc::clone(&self.plan)).launch().await
    }

    /// Of the first, which is asked first.
    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        self.parts[0].dry_run(proc_id, options).await
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.known.end(proc_id, End::Terminate(timeout), self.parts.iter()).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.known.end(proc_id, End::Kill, self.parts.iter()).await
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fallback").field(&self.name).finish()
    }
}
