use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use procession_launch::ProcLauncher;
use procession_model::{ProcExit, ProcId};
use procession_supervise::Fate;
use tokio::sync::watch;

use crate::group::Opening;
use crate::history::History;
use crate::observers::Audience;
use crate::proc_ref::ProcRef;
use crate::spec::SpawnSpec;

/// The next launch of a slot that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Next {
    pub(crate) proc_id: ProcId,
    /// When it is due; none while it waits for others to end.
    pub(crate) due: Option<SystemTime>,
}

/// Where a slot stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    /// The last launch.
    pub(crate) current: ProcRef,
    /// Its exit is told.
    pub(crate) published: bool,
    pub(crate) next: Option<Next>,
    /// How often its policy has launched it again.
    pub(crate) restarts: u32,
    /// Nothing launches it again by itself.
    pub(crate) settled: bool,
    pub(crate) settled_told: bool,
}

pub(crate) struct Place {
    pub(crate) spec: SpawnSpec,
    pub(crate) launcher: Mutex<Arc<dyn ProcLauncher>>,
    pub(crate) audience: Arc<Audience>,
    pub(crate) standing: watch::Sender<Standing>,
    pub(crate) history: Mutex<History>,
    /// By the name of the actor that each makes.
    pub(crate) openings: Mutex<Vec<(Arc<str>, Opening)>>,
    /// As it is written down.
    pub(crate) fate: Mutex<Fate>,
}

impl Place {
    /// Of a launch that goes on, or that `has_ended`.
    pub(crate) fn new(
        spec: SpawnSpec,
        launcher: &Arc<dyn ProcLauncher>,
        audience: Arc<Audience>,
        current: ProcRef,
        has_ended: Option<Arc<ProcExit>>,
    ) -> Self {
        let mut history = History::default();
        let published = has_ended.is_some();
        has_ended.into_iter().for_each(|exit| history.push(exit));
        let standing =
            Standing { current, published, next: None, restarts: 0, settled: false, settled_told: false };
        Self {
            spec,
            launcher: Mutex::new(Arc::clone(launcher)),
            audience,
            standing: watch::channel(standing).0,
            history: Mutex::new(history),
            openings: Mutex::default(),
            fate: Mutex::default(),
        }
    }
}
