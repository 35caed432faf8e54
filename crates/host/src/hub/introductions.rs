use std::collections::{HashMap, HashSet};
use std::sync::{MutexGuard, PoisonError};

use procession_model::{Head, Packet, PeerNews, ProcId};

use super::{Hub, Route};

impl Hub {
    fn introduced(&self) -> MutexGuard<'_, HashMap<ProcId, HashSet<ProcId>>> {
        self.introduced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what the proc `from` tells another one of this host about a link of the two.
    pub(super) fn introduce(&self, packet: Packet, from: Option<&ProcId>) {
        let Head::Peer { to, from: said, news } = &packet.head else { return };
        let is_up = |id: &ProcId| matches!(self.routes().get(id), Some(Route::Up(_)));
        let to_itself = matches!(news, PeerNews::Echo { .. });
        if from != Some(said) || (to == said) != to_itself || self.is_host(from) || !is_up(to) || !is_up(said)
        {
            return tracing::debug!(?from, %to, "two procs were not introduced to each other");
        }
        if matches!(news, PeerNews::Asks { .. }) {
            let mut introduced = self.introduced();
            for (one, other) in [(said, to), (to, said)] {
                introduced.entry(one.clone()).or_default().insert(other.clone());
            }
        }
        let to = to.clone();
        let _gone_since = self.hand_over(&to, packet);
    }

    /// Those that are to be told of the end of `dead`, which no longer needs to hear of theirs.
    pub(super) fn part(&self, dead: &ProcId) -> HashSet<ProcId> {
        let mut introduced = self.introduced();
        let others = introduced.remove(dead).unwrap_or_default();
        for other in &others {
            if let Some(rest) = introduced.get_mut(other) {
                rest.remove(dead);
                if rest.is_empty() {
                    introduced.remove(other);
                }
            }
        }
        others
    }
}
