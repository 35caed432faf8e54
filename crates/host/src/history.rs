use std::collections::VecDeque;
use std::sync::Arc;

use procession_model::ProcExit;

/// How many exits of one slot are kept.
const KEPT: usize = 32;

/// How the launches of a slot ended, the oldest that is kept first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    /// The last 32 at most.
    pub exits: VecDeque<Arc<ProcExit>>,
    /// How many there were before these.
    pub dropped: u64,
}

impl History {
    pub(crate) fn push(&mut self, exit: Arc<ProcExit>) {
        self.exits.push_back(exit);
        if self.exits.len() > KEPT {
            self.exits.pop_front();
            self.dropped += 1;
        }
    }
}
