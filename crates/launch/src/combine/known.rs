use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_model::ProcId;
use tokio::sync::watch;

use crate::{ProcLauncher, ProcLauncherError};

/// How many that have ended are told from those that were never launched.
const ENDED: usize = 1024;

/// Which launcher has which proc, of those that were launched here.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Procs>);

#[derive(Debug, Default)]
struct Procs {
    live: HashMap<ProcId, Arc<Entry>>,
    /// The latest that have ended.
    ended: VecDeque<ProcId>,
}

pub(super) struct Entry {
    /// Who has it, or is starting it; none while nobody does.
    at: Mutex<Option<Arc<dyn ProcLauncher>>>,
    asked: watch::Sender<Option<End>>,
}

/// How a proc is asked to end.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Terminate(Duration),
    Kill,
}

impl End {
    pub(super) async fn ask(
        self,
        launcher: &dyn ProcLauncher,
        proc_id: &ProcId,
    ) -> Result<(), ProcLauncherError> {
        match self {
            Self::Terminate(timeout) => launcher.terminate(proc_id, timeout).await,
            Self::Kill => launcher.kill(proc_id).await,
        }
    }
}

impl Known {
    fn lock(&self) -> MutexGuard<'_, Procs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It is here until what this gives is dropped.
    pub(super) fn enter(self: &Arc<Self>, proc_id: &ProcId) -> Here {
        let entry = Arc::new(Entry { at: Mutex::default(), asked: watch::Sender::new(None) });
        self.lock().live.insert(proc_id.clone(), Arc::clone(&entry));
        Here { known: Arc::clone(self), proc_id: proc_id.clone(), entry }
    }

    /// Who has it; none while nobody does.
    pub(super) fn at(&self, proc_id: &ProcId) -> Option<Arc<dyn ProcLauncher>> {
        self.lock().live.get(proc_id)?.at()
    }

    /// Ends it where it is; what nobody has started yet is never started. `parts` are asked for one that was not launched here.
    pub(super) async fn end(
        &self,
        proc_id: &ProcId,
        how: End,
        parts: impl Iterator<Item = &Arc<dyn ProcLauncher>>,
    ) -> Result<(), ProcLauncherError> {
        let entry = self.lock().live.get(proc_id).cloned();
        let Some(entry) = entry else {
            return if self.lock().ended.contains(proc_id) {
                Ok(())
            } else {
                end_elsewhere(proc_id, how, parts).await
            };
        };
        // First this, and then the look who has it: who hands it on does it the other way round.
        entry.asked.send_modify(|asked| {
            if !matches!(asked, Some(End::Kill)) {
                *asked = Some(how);
            }
        });
        match entry.at() {
            Some(launcher) => match how.ask(launcher.as_ref(), proc_id).await {
                // It was not started there after all, and is not started anywhere else.
                Err(_) if entry.at().is_none() => Ok(()),
                answer => answer,
            },
            None => Ok(()),
        }
    }
}

async fn end_elsewhere(
    proc_id: &ProcId,
    how: End,
    parts: impl Iterator<Item = &Arc<dyn ProcLauncher>>,
) -> Result<(), ProcLauncherError> {
    let mut last = Err(ProcLauncherError::NotFound(proc_id.to_string()));
    for part in parts {
        last = how.ask(part.as_ref(), proc_id).await;
        if !matches!(last, Err(ProcLauncherError::NotFound(_))) {
            break;
        }
    }
    last
}

impl Entry {
    fn at(&self) -> Option<Arc<dyn ProcLauncher>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Entry").field(&self.asked).finish_non_exhaustive()
    }
}

/// One proc that is known, for as long as this is not dropped.
#[derive(Debug)]
pub(super) struct Here {
    known: Arc<Known>,
    pub(super) proc_id: ProcId,
    entry: Arc<Entry>,
}

impl Here {
    /// That launcher has it from here on, or nobody has.
    pub(super) fn is_at(&self, launcher: Option<&Arc<dyn ProcLauncher>>) {
        *self.entry.at.lock().unwrap_or_else(PoisonError::into_inner) = launcher.cloned();
    }

    /// How it was asked to end, if it was.
    pub(super) fn asked(&self) -> Option<End> {
        *self.entry.asked.borrow()
    }

    /// What it is asked to do, and was before.
    pub(super) fn asks(&self) -> watch::Receiver<Option<End>> {
        let mut asks = self.entry.asked.subscribe();
        asks.mark_changed();
        asks
    }

    /// Done when it is asked to end.
    pub(super) async fn is_asked(&self) {
        let mut asks = self.asks();
        // The sender is in here.
        let _asked = asks.wait_for(Option::is_some).await;
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        let mut known = self.known.lock();
        known.live.remove(&self.proc_id);
        if known.ended.len() == ENDED {
            known.ended.pop_front();
        }
        known.ended.push_back(self.proc_id.clone());
    }
}
