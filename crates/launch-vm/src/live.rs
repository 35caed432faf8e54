use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use procession_host::AgentLauncher;
use procession_model::{LaunchId, ProcId};
use tokio::sync::watch;

use crate::machine::Machine;

/// How many that have ended are told from those that were never launched.
const ENDED: usize = 1024;

/// What was launched here.
#[derive(Default)]
pub(crate) struct Live(Mutex<Known>);

#[derive(Default)]
struct Known {
    live: HashMap<LaunchId, Arc<Guest>>,
    ended: VecDeque<LaunchId>,
    /// Where those that are about to be launched find their hosts.
    hosts: HashMap<LaunchId, SocketAddr>,
}

/// The guest of one launch.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) machine: OnceLock<Arc<Machine>>,
    /// What has launched the proc in there.
    pub(crate) agent: OnceLock<Arc<AgentLauncher>>,
    /// What it is to get as soon as it is launched.
    pub(crate) asked: watch::Sender<Asked>,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Asked {
    #[default]
    Nothing,
    Terminate,
    Kill,
    /// Its agent has not answered, and the machine was turned off.
    Off,
}

impl Guest {
    pub(crate) fn ask(&self, what: Asked) {
        self.asked.send_modify(|asked| *asked = what.max(*asked));
    }

    /// Done when it is to end. Cancel safe.
    pub(crate) async fn is_asked(&self) {
        let mut asked = self.asked.subscribe();
        let _the_sender_is_here = asked.wait_for(|asked| *asked != Asked::Nothing).await;
    }
}

/// What is known of a launch.
pub(crate) enum Found {
    Live(Arc<Guest>),
    Ended,
    Unknown,
}

impl Live {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, launch: LaunchId) -> (Arc<Guest>, Option<SocketAddr>) {
        let guest = Arc::new(Guest {
            machine: OnceLock::new(),
            agent: OnceLock::new(),
            asked: watch::Sender::default(),
        });
        let mut known = self.known();
        known.live.insert(launch, Arc::clone(&guest));
        (guest, known.hosts.remove(&launch))
    }

    pub(crate) fn left(&self, launch: LaunchId) {
        let mut known = self.known();
        known.live.remove(&launch);
        if known.ended.len() == ENDED {
            known.ended.pop_front();
        }
        known.ended.push_back(launch);
    }

    pub(crate) fn find(&self, proc_id: &ProcId) -> Found {
        let (known, launch) = (self.known(), proc_id.launch_id());
        match known.live.get(&launch) {
            Some(guest) => Found::Live(Arc::clone(guest)),
            None if known.ended.contains(&launch) => Found::Ended,
            None => Found::Unknown,
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<Guest>> {
        self.known().live.values().cloned().collect()
    }

    pub(crate) fn reaches(&self, launch: LaunchId, host: SocketAddr) {
        self.known().hosts.insert(launch, host);
    }

    pub(crate) fn forget(&self, launch: LaunchId) {
        self.known().hosts.remove(&launch);
    }
}
