use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use procession_model::{ProcExitKind, ProcExitResult};

use crate::outcome::{deleted_for, outcome, silent, untold, vanished};
use crate::stage::{Stage, has_status, node};
use crate::watch::{Following, Seen, Watch};

/// How long after a node is done with a pod it may still tell how that has ended.
const SETTLES: Duration = Duration::from_secs(4);
/// How long after its time a node may take to say that a deleted pod has ended.
pub(crate) const SILENCE: Duration = Duration::from_secs(60);

/// One pod that was launched, or found.
pub(crate) struct Pod {
    pub(crate) following: Following,
    /// Sees this one alone, where another launcher has made it.
    pub(crate) own_watch: Option<Watch>,
    /// Whether we have asked for its end.
    pub(crate) asked: AtomicBool,
    /// How long it has from then on.
    pub(crate) grace: Mutex<Duration>,
}

impl Pod {
    pub(crate) fn new(following: Following, own_watch: Option<Watch>) -> Self {
        Self { following, own_watch, asked: AtomicBool::new(false), grace: Mutex::default() }
    }

    /// How it has ended, where that is known; else when it is time to look again.
    pub(crate) fn exit(&self, seen: &Seen) -> Result<ProcExitResult, Option<Duration>> {
        let asked = self.asked.load(Ordering::SeqCst);
        // A node may say that it is done with a deleted pod before it says how that has ended.
        let settles = match (&seen.pod, seen.ended) {
            (Some(pod), Some(since)) if !has_status(pod) && node(pod).is_some() && seen.deleted.is_some() => {
                SETTLES.checked_sub(since.elapsed()).filter(|_| !seen.gone)
            }
            _ => None,
        };
        if settles.is_some() {
            return Err(settles);
        }
        match &seen.pod {
            Some(pod) if seen.ran && !has_status(pod) && Stage::of(pod) == Stage::Ended => {
                Ok(untold(pod, asked))
            }
            Some(pod) if Stage::of(pod) == Stage::Ended => Ok(outcome(pod, asked)),
            Some(pod) if seen.gone => Ok(vanished(pod, asked)),
            None if seen.gone => Ok(ProcExitResult::new(ProcExitKind::Lost {
                reason: "the cluster knows nothing of its pod".to_owned(),
            })),
            Some(pod) => {
                let Some(deleted) = seen.deleted else { return Err(None) };
                let told = pod.metadata.deletion_grace_period_seconds.unwrap_or_default();
                let told = Duration::from_secs(told.try_into().unwrap_or_default());
                let asked = *self.grace.lock().unwrap_or_else(PoisonError::into_inner);
                // What another launcher has made may have been deleted for long.
                let by_the_clock = self.own_watch.as_ref().map(|_| deleted_for(pod, told));
                let since = deleted.elapsed().max(by_the_clock.unwrap_or_default());
                let left = (told.max(asked) + SILENCE).checked_sub(since);
                left.map_or_else(|| Ok(silent(pod)), |left| Err(Some(left)))
            }
            None => Err(None),
        }
    }
}
