use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_launch::ProcLauncher;
use procession_model::{InvalidArgument, ProcExit, ProcId};
use procession_supervise::{GroupEffect, Readiness};

use crate::group::{Group, Opening};
use crate::history::History;
use crate::observers::{Owner, SlotObserver};
use crate::output::Stream;
use crate::place::Standing;
use crate::proc_ref::{ProcRef, ProcSnapshot};

/// Where a slot stands at one moment.
#[derive(Clone, Debug)]
pub struct SlotSnapshot {
    /// Its last launch: between two launches that is one that has ended.
    pub launch: ProcSnapshot,
    /// How often its policy has launched it again.
    pub restarts: u32,
    /// When its next launch is due; none where none is planned, or others have to end first.
    pub next_launch_at: Option<SystemTime>,
}

/// One place of a group, whose proc is launched again as the group's policy says. Cheap to clone; from any thread.
///
/// It keeps its name; each launch of it is an incarnation with an exit of its own.
#[derive(Clone)]
pub struct Slot {
    pub(crate) group: Arc<Group>,
    pub(crate) index: usize,
}

impl Slot {
    fn standing(&self) -> Standing {
        self.group.places[self.index].standing.borrow().clone()
    }

    /// Its last launch.
    pub fn current(&self) -> ProcRef {
        self.standing().current
    }

    /// Which mesh it belongs to, as its spawner put it.
    pub fn mesh(&self) -> &str {
        &self.group.places[self.index].spec.mesh
    }

    /// Whether its procs call back, and can host actors.
    pub fn calls_back(&self) -> bool {
        self.group.places[self.index].spec.policy.readiness == Readiness::CallBack
    }

    /// Its place in its mesh.
    pub fn rank(&self) -> usize {
        self.current().rank()
    }

    /// Where it stands now.
    pub fn status(&self) -> SlotSnapshot {
        let standing = self.standing();
        SlotSnapshot {
            launch: standing.current.status(),
            restarts: standing.restarts,
            next_launch_at: standing.next.and_then(|next| next.due),
        }
    }

    /// How its last launch ended; none while that lives.
    pub fn exit(&self) -> Option<Arc<ProcExit>> {
        self.current().exit()
    }

    /// How its launches ended.
    pub fn history(&self) -> History {
        self.group.history(self.index)
    }

    /// How it ended for good; none while it lives, or will be launched again.
    pub fn ended_now(&self) -> Option<Arc<ProcExit>> {
        for_good(&self.standing())
    }

    /// Waits until it has ended for good: nothing but [`Self::respawn`] launches it again. Cancel safe.
    pub async fn ended(&self) -> Arc<ProcExit> {
        let mut standing = self.group.places[self.index].standing.subscribe();
        loop {
            if let Some(exit) = for_good(&standing.borrow_and_update()) {
                return exit;
            }
            let changed = standing.changed().await;
            debug_assert!(changed.is_ok(), "the sender lives as long as this reference");
        }
    }

    /// What [`Self::ready`] gives, when it gives it at once.
    pub fn ready_now(&self) -> Option<Result<(), String>> {
        let standing = self.standing();
        let may_go_on = self.group.policy.restarts() && for_good(&standing).is_none();
        standing.current.ready_now().filter(|ready| ready.is_ok() || !may_go_on)
    }

    /// Waits until it is ready, whichever of its launches it is that comes so far. Cancel safe.
    ///
    /// # Errors
    /// It never will: why its last launch was not, with the last lines of stderr.
    pub async fn ready(&self) -> Result<(), String> {
        let mut standing = self.group.places[self.index].standing.subscribe();
        loop {
            let current = standing.borrow_and_update().current.clone();
            let ready = current.ready().await;
            if ready.is_ok() || !self.group.policy.restarts() {
                return ready;
            }
            let next =
                |standing: &Standing| standing.current.id() != current.id() || for_good(standing).is_some();
            let changed = standing.wait_for(next).await;
            if changed.is_ok_and(|standing| standing.current.id() == current.id()) {
                return ready;
            }
        }
    }

    /// As [`ProcRef::stop`], and its policy does not launch it again.
    pub async fn stop(&self, reason: &str, grace: Option<Duration>) -> Arc<ProcExit> {
        self.stay_ended().stop(reason, grace).await;
        self.ended().await
    }

    /// As [`ProcRef::terminate`], and its policy does not launch it again.
    ///
    /// # Errors
    /// The launcher could not be asked, in its own words.
    pub async fn terminate(&self, timeout: Duration, why: &str) -> Result<(), String> {
        self.stay_ended().terminate(timeout, why).await
    }

    /// As [`ProcRef::kill`], and its policy does not launch it again.
    ///
    /// # Errors
    /// The launcher could not be asked, in its own words.
    pub async fn kill(&self, why: &str) -> Result<(), String> {
        self.stay_ended().kill(why).await
    }

    /// From here on nothing launches it again by itself; its last launch.
    pub fn stay_ended(&self) -> ProcRef {
        self.group.stop_requested(vec![self.index]);
        self.current()
    }

    /// What launches it.
    pub fn launcher(&self) -> Arc<dyn ProcLauncher> {
        self.group.launcher(self.index)
    }

    /// Launches it once more when it has ended for good, through another launcher if one is given.
    ///
    /// # Errors
    /// It lives, or its policy launches it again, or another proc has its name.
    pub fn respawn(&self, launcher: Option<Arc<dyn ProcLauncher>>) -> Result<(), InvalidArgument> {
        self.group.respawn(self.index, launcher)
    }

    /// The last lines of a stream so far, of its last launch.
    pub fn output_tail(&self, stream: Stream) -> Vec<String> {
        self.current().output_tail(stream)
    }

    /// The last `count` lines of a stream of the last launch: from its file, where it has one, else as many as are kept.
    /// Blocks as the file system does.
    pub fn last_lines(&self, stream: Stream, count: usize) -> Vec<String> {
        self.current().last_lines(stream, count)
    }

    /// Tells `observer` of everything from now on, for as long as the group exists, and its `owner` where it has one: of this launch and of those to come,
    /// one event after the other, on the host's io thread as a rule; it must not block. Of one that has ended it hears
    /// the exit at once. Gives the lines of stdout and stderr that are kept of before: each line is either among them
    /// or told, and one that has begun is told.
    pub fn watch_with_past(&self, observer: SlotObserver, owner: Option<Owner>) -> [Vec<String>; 2] {
        self.group.follow(self.index, observer, owner).1.map(|(lines, _)| lines)
    }

    /// As [`Self::watch_with_past`] with the last `count` lines of before, as [`Self::last_lines`] has them. Blocks as
    /// the file system does.
    pub fn watch_with_last_lines(
        &self,
        observer: SlotObserver,
        owner: Option<Owner>,
        count: usize,
    ) -> [Vec<String>; 2] {
        let (current, [(stdout, to), (stderr, also_to)]) = self.group.follow(self.index, observer, owner);
        [
            current.further_back(Stream::Stdout, stdout, to, count),
            current.further_back(Stream::Stderr, stderr, also_to, count),
        ]
    }

    /// Where references to actors follow to the next incarnation: each further one is sent what `opening` makes, before
    /// anything else, until its actor `name` has ended regularly. `now` is called meanwhile with the id of the
    /// current one, or of the one that comes next where that is decided, and must not call the slot.
    pub fn open_with<T>(&self, name: &str, opening: Opening, now: impl FnOnce(&ProcId) -> T) -> T {
        self.group.look(self.index, |current, next| {
            self.group.remember(self.index, name.into(), opening);
            now(next.unwrap_or(current.id()))
        })
    }

    pub(crate) fn actor_is_done(&self, name: &str) {
        self.group.actor_is_done(self.index, name);
    }

    pub(crate) fn became_ready(&self, proc_id: &ProcId) {
        self.group.became_ready(self.index, proc_id);
    }

    pub(crate) fn stop_requested_of(&self, proc_id: &ProcId) {
        self.group.stop_requested_of(self.index, proc_id);
    }

    pub(crate) fn ended_so(&self, exit: &mut ProcExit) -> Vec<GroupEffect> {
        self.group.ended(self.index, exit)
    }

    pub(crate) fn published(&self, exit: Arc<ProcExit>, effects: Vec<GroupEffect>) {
        self.group.published(self.index, exit, effects);
    }
}

fn for_good(standing: &Standing) -> Option<Arc<ProcExit>> {
    standing.current.exit().filter(|_| standing.settled && standing.published)
}

/// All slots of a group.
pub(crate) fn slots_of(group: &Arc<Group>) -> Vec<Slot> {
    (0..group.places.len()).map(|index| Slot { group: Arc::clone(group), index }).collect()
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SlotSnapshot { launch, restarts, .. } = self.status();
        write!(f, "Slot({}, {}, {restarts} restarts)", self.current().id(), launch.status)
    }
}
