use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use crate::{Process, Snapshot, reap_child};

/// How many looks in a row have to find nothing before nothing is left: a look takes its time, and may
/// miss what is forked meanwhile by a process that has ended before its turn comes.
pub const ENOUGH_EMPTY_LOOKS: u32 = 2;
/// When a look at `/proc` failed, such as for want of a descriptor, until the next.
pub const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A proc and everything that it started, however far that has moved away.
///
/// Members are found by parenthood, by session and process group, and by the marker that they
/// inherit in their environment: so a grandchild that made itself a daemon is found too, unless it
/// cleared its environment first.
#[derive(Clone, Debug)]
pub struct Tree {
    leader: u32,
    started: u64,
    marker: String,
    root: Option<u32>,
    /// Sessions that members made, with the start time of whoever made each, if it was seen; what a
    /// killed member leaves behind is found by them.
    sessions: BTreeMap<u32, Option<u64>>,
    /// Pid and start time of all that the last look found. One that is about to end has no
    /// environment any more, and may have lost its parent already; it is a member still.
    seen: BTreeSet<(u32, u64)>,
}

impl Tree {
    /// The tree under `leader`, which leads a session of its own and carries `marker`.
    ///
    /// `started` is the leader's start time ([`Process::started`]). With a `root`, a subreaper
    /// above the leader, nothing outside its descendants is ever looked at.
    pub fn new(leader: u32, started: u64, marker: impl Into<String>, root: Option<u32>) -> Self {
        Self {
            leader,
            started,
            marker: marker.into(),
            root,
            sessions: BTreeMap::from([(leader, Some(started))]),
            seen: BTreeSet::new(),
        }
    }

    /// What carries `marker` and what descends from that, when the leader is not known.
    pub fn marked(marker: impl Into<String>) -> Self {
        Self {
            leader: 0,
            started: 0,
            marker: marker.into(),
            root: None,
            sessions: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Its members in `all`, zombies among them.
    pub fn members<'a>(&mut self, all: &'a Snapshot) -> Vec<&'a Process> {
        let own_session = all.find(std::process::id()).map_or(0, |own| own.session);
        // A stranger that has the leader's pid by now says nothing about groups and sessions; and the
        // number of a session stays taken for as long as it has a member.
        let reused = all.find(self.leader).is_some_and(|found| found.started != self.started);
        self.sessions.retain(|&id, made| all.find(id).is_none_or(|found| *made == Some(found.started)));
        let mut members: BTreeMap<u32, &Process> = BTreeMap::new();
        for process in self.candidates(all) {
            let kin = self.sessions.contains_key(&process.session)
                || (process.group == self.leader && self.leader != 0 && !reused);
            let orphan = self.root.is_none_or(|root| process.parent == root);
            // Reading an environment is dear, and whoever is not an orphan is found by parenthood.
            let marked = (orphan || kin) && process.belongs_to(&self.marker);
            let ours = process.pid == self.leader && !reused;
            let seen = self.seen.contains(&(process.pid, process.started));
            if ours || seen || marked || (kin && process.marker().is_none()) {
                members.insert(process.pid, process);
            }
        }
        let below = all.descendants(members.keys().copied().collect::<Vec<_>>());
        members.extend(below.into_iter().map(|process| (process.pid, process)));
        members.remove(&std::process::id());
        // Without a root above it a member may share its session with strangers, unless a member made it.
        let made = |s: &u32| *s != own_session && *s != 0 && (self.root.is_some() || members.contains_key(s));
        for session in members.values().map(|p| p.session).filter(made) {
            let maker = || all.find(session).map(|found| found.started);
            self.sessions.entry(session).or_insert_with(maker);
        }
        self.seen = members.values().map(|p| (p.pid, p.started)).collect();
        members.into_values().collect()
    }

    /// All that could be members but for having one above them: few, so that many trees in one look cost little.
    fn candidates<'a>(&self, all: &'a Snapshot) -> Vec<&'a Process> {
        let mut found: Vec<_> = self.sessions.keys().flat_map(|&session| all.in_session(session)).collect();
        if self.leader != 0 {
            found.extend(all.in_group(self.leader));
        }
        found.extend(all.find(self.leader));
        found.extend(self.seen.iter().filter_map(|&(pid, _)| all.find(pid)));
        found.extend(all.marked(&self.marker, self.root));
        match self.root {
            Some(root) => found.retain(|process| all.is_below(process, root)),
            None => found.retain(|process| process.pid != std::process::id()),
        }
        found
    }

    /// Sends `signal` to all members in `all` that live; how many there were.
    pub fn signal(&mut self, signal: i32, all: &Snapshot) -> usize {
        let living: Vec<_> = self.members(all).into_iter().filter(|p| p.is_alive()).collect();
        for process in &living {
            process.signal(signal);
        }
        living.len()
    }

    /// Kills all of `trees` until two looks in a row find nothing alive, for `bound` at most; gives what
    /// is left then. One look alone may miss a process whose parent forked it meanwhile and ended.
    ///
    /// Blocks. Members that have ended as children of this process, by birth or adopted, are reaped:
    /// so the leaders' own status has to be taken before, if it matters.
    ///
    /// # Errors
    /// `/proc` could not be read when the time was over, so that what is left is not known.
    pub fn kill(trees: &mut [Self], bound: Duration) -> io::Result<Vec<Process>> {
        let deadline = Instant::now() + bound;
        let mut pause = Duration::from_millis(1);
        let mut empty = 0;
        loop {
            let all = match Snapshot::take() {
                Ok(all) => all,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {
                    thread::sleep(LOOK_AGAIN);
                    continue;
                }
            };
            let mut left = Vec::new();
            let mut waiting = false;
            for process in trees.iter_mut().flat_map(|tree| tree.members(&all)) {
                if process.is_alive() {
                    process.signal(libc::SIGKILL);
                    left.push(process.clone());
                } else {
                    waiting |= reap_or_wait(process, &all);
                }
            }
            empty = if left.is_empty() && !waiting { empty + 1 } else { 0 };
            if empty == ENOUGH_EMPTY_LOOKS || Instant::now() >= deadline {
                return Ok(left);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

/// Reaps a zombie that is ours; true for one that will be, because its own parent has just ended.
fn reap_or_wait(zombie: &Process, all: &Snapshot) -> bool {
    if zombie.parent == std::process::id() {
        // A failure means that somebody else was faster.
        let _ = reap_child(zombie.pid);
        return false;
    }
    all.find(zombie.parent).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: u32 = 1;

    fn pids(tree: &mut Tree, all: &[Process]) -> Vec<u32> {
        let all = Snapshot::of(all.to_vec());
        tree.members(&all).iter().map(|process| process.pid).collect()
    }

    #[test]
    fn a_session_is_a_members_for_as_long_as_its_number_means_the_same_one() {
        let leader = Process::made_up(10, ROOT, 10, 100, Some("launch"));
        let daemon = Process::made_up(20, 10, 20, 200, Some("launch"));
        let left_behind = Process::made_up(21, ROOT, 20, 201, None);
        let mut tree = Tree::new(10, 100, "launch", None);
        assert_eq!(pids(&mut tree, &[leader.clone(), daemon, left_behind.clone()]), [10, 20]);
        assert_eq!(
            pids(&mut tree, &[leader.clone(), left_behind]),
            [10, 21],
            "who made its session was a member"
        );

        let stranger = Process::made_up(20, ROOT, 20, 999, None);
        let its_child = Process::made_up(22, 20, 20, 1000, None);
        assert_eq!(pids(&mut tree, &[leader.clone(), stranger, its_child.clone()]), [10]);
        assert_eq!(pids(&mut tree, &[leader, its_child]), [10], "what was forgotten is not learnt again");
    }

    #[test]
    fn a_stranger_with_the_leaders_number_takes_its_session_and_group_out_of_the_tree() {
        let mut tree = Tree::new(10, 100, "launch", None);
        let stranger = Process::made_up(10, ROOT, 10, 999, None);
        let its_child = Process::made_up(11, 10, 10, 1000, None);
        assert!(pids(&mut tree, &[stranger, its_child.clone()]).is_empty());
        assert!(pids(&mut tree, &[its_child]).is_empty());
    }
}
