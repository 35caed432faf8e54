use std::collections::HashMap;
use std::time::{Duration, Instant};

use procession_sys::{ENOUGH_EMPTY_LOOKS, Snapshot, Tree};

use crate::groups::ProcGroup;
use crate::protocol::{PATIENCE, Reply};

/// How long what a leader leaves behind may wait, so that many exits share one look at `/proc`; a look that is taken
/// anyway serves what has waited half of that.
const LEFTOVER_DELAY: Duration = Duration::from_millis(20);
/// How often it is tried to remove a group that is empty, and that the kernel still calls busy.
const REMOVALS: u32 = 20;
/// Between two looks at a tree: the first pause, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(100));

struct Kill {
    tree: Tree,
    group: ProcGroup,
    /// The host waits for an answer.
    asked: Option<Instant>,
    next: Instant,
    pause: Duration,
    /// How many looks in a row have found nothing.
    empty: u32,
}

/// The trees of which nothing may be left.
#[derive(Default)]
pub(crate) struct Kills(HashMap<u64, Kill>);

impl Kills {
    /// Adds what a leader that has just ended may have left.
    pub(crate) fn add_leftover(&mut self, id: u64, tree: Tree, group: ProcGroup) {
        group.kill();
        let next = Instant::now() + LEFTOVER_DELAY;
        self.0.entry(id).or_insert(Kill { tree, group, asked: None, next, pause: PAUSES.0, empty: 0 });
    }

    /// Adds a tree that the host wants dead now.
    pub(crate) fn add_asked(&mut self, id: u64, tree: Tree, group: ProcGroup) {
        self.add_leftover(id, tree, group);
        self.ask(id);
    }

    /// Hurries a kill that is under way; false when there is none.
    pub(crate) fn ask(&mut self, id: u64) -> bool {
        let now = Instant::now();
        self.0.get_mut(&id).is_some_and(|kill| {
            kill.asked = Some(now);
            kill.next = now;
            kill.pause = PAUSES.0;
            true
        })
    }

    /// Kills what is in the groups of all of them.
    pub(crate) fn kill_groups(&self) {
        self.0.values().for_each(|kill| kill.group.kill());
    }

    /// Removes the groups of all of them, once nothing is left.
    pub(crate) fn remove_groups(&self) {
        self.0.values().for_each(|kill| drop(kill.group.remove()));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When [`Self::run`] has something to do next.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.values().map(|kill| kill.next).min()
    }

    /// Nothing is due before `pause` is over.
    pub(crate) fn postpone(&mut self, pause: Duration) {
        let earliest = Instant::now() + pause;
        self.0.values_mut().for_each(|kill| kill.next = kill.next.max(earliest));
    }

    /// One round over the trees that were due when the look at `all` `began`; `leads` says whose leader is not
    /// reaped yet.
    pub(crate) fn run(&mut self, all: &Snapshot, began: Instant, leads: impl Fn(u64) -> bool) -> Vec<Reply> {
        let now = Instant::now();
        let mut replies = Vec::new();
        self.0.retain(|&id, kill| {
            // What has come since it began was not looked for.
            let early = if kill.asked.is_none() { LEFTOVER_DELAY / 2 } else { Duration::ZERO };
            if kill.next > began + early {
                return true;
            }
            let grouped = !kill.group.is_empty();
            if grouped {
                kill.group.kill();
            }
            let living: Vec<_> = kill.tree.members(all).into_iter().filter(|p| p.is_alive()).collect();
            kill.empty = if living.is_empty() && !grouped && !leads(id) { kill.empty + 1 } else { 0 };
            if kill.empty >= ENOUGH_EMPTY_LOOKS {
                replies.extend(kill.asked.take().map(|_| Reply::Killed { id }));
                if kill.group.remove() || kill.empty > REMOVALS {
                    return false;
                }
            }
            for process in &living {
                process.signal(libc::SIGKILL);
            }
            if let Some(asked) = kill.asked
                && now.duration_since(asked) > PATIENCE
                && let Some(pid) = living.first().map(|p| p.pid).or_else(|| kill.group.any_member())
            {
                replies.push(Reply::Stuck { id, pid });
                kill.asked = None;
            }
            if kill.empty > 0 {
                kill.pause = if kill.asked.is_some() { PAUSES.0 } else { LEFTOVER_DELAY };
            }
            kill.next = now + kill.pause;
            kill.pause = (kill.pause * 2).min(PAUSES.1);
            true
        });
        replies
    }
}
