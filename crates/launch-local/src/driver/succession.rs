//! What becomes of procs whose keeper is gone: its guard keeps them on, and without that the host does.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession_model::LaunchId;
use procession_sys::Tree;

use super::{Driver, answer};
use crate::confine::bury_groups;
use crate::failure::LaunchFailure;
use crate::protocol::{Reply, Request};
use crate::survivors::{Asked, Survivor, look_after};

/// How long what a dead keeper was starting is hunted before it is reported.
const SWEEP: Duration = Duration::from_millis(400);

impl Driver {
    /// The keeper is gone, and its guard wants to know what it is to keep. What had not been started for
    /// sure is refused: the guard kills it.
    pub(super) fn hand_over(&mut self) {
        tracing::warn!(keeper = ?self.pair.keeper, procs = self.open.len(), "a keeper ended; its guard takes over");
        self.retire();
        self.replaced = !self.detached;
        // Of these the guard knows no groups.
        let ended: Vec<LaunchId> = self.ended.drain(..).collect();
        drop(tokio::task::spawn_blocking(move || bury_groups(&ended, || ())));
        self.unsent.clear();
        for (id, open) in std::mem::take(&mut self.open) {
            let Some(leader) = &open.leader else {
                self.forget(open.launch);
                let _ = open.started.map(|started| started.send(Err(replaced())));
                continue;
            };
            if self.detached {
                self.open.insert(id, open);
                continue;
            }
            let launch = open.launch.to_bytes();
            let half = |at: usize| launch[at..].iter().take(8).fold(0, |half, &b| half << 8 | u64::from(b));
            let adopt = Request::Adopt { id, pid: leader.pid, started: leader.started };
            let named = Request::Named { id, launch: [half(0), half(8)] };
            self.unsent.extend([(adopt, Vec::new()), (named, Vec::new())]);
            self.open.insert(id, open);
        }
        if self.detached {
            self.seen.clear();
            self.listening = true;
        } else {
            self.resume();
        }
    }

    /// The guard has said what it keeps of what is detached. What is missing there has ended unseen, and what
    /// nobody here knows was being started.
    pub(super) fn go_on_with_guard(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let unseen = self.open.iter().filter(|(id, open)| open.leader.is_some() && !seen.contains(id));
        let gone: Vec<u64> = unseen.map(|(&id, _)| id).collect();
        for id in gone {
            self.hear(Reply::Gone { id }, Vec::new());
        }
        // What else was asked meanwhile is asked again anyway.
        let mut later = std::mem::take(&mut self.unsent);
        later.retain(|(request, _)| matches!(request, Request::Launch { .. }));
        self.listening = false;
        self.resume();
        let unknown = seen.into_iter().filter(|id| !self.open.contains_key(id));
        self.unsent.extend(unknown.map(|id| (Request::Kill { id }, Vec::new())));
        self.unsent.append(&mut later);
    }

    /// From here on what is asked is meant for the guard.
    fn resume(&mut self) {
        let again = (self.terminations.keys().map(|&id| Request::Terminate { id }))
            .chain(self.kills.keys().map(|&id| Request::Kill { id }))
            .chain(self.told.then_some(Request::Shutdown));
        self.unsent.extend([Request::Resume].into_iter().chain(again).map(|request| (request, Vec::new())));
    }

    /// Keeper and guard are gone: what they were starting may not stay, what ran is looked after from
    /// here, and nobody may wait for ever.
    pub(super) async fn bury(&mut self) {
        self.retire();
        self.retired.store(true, Ordering::Release);
        let how = self.pair.how_they_ended().await;
        let (running, starting): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.open).into_iter().partition(|(_, open)| open.leader.is_some());
        let unfinished: Vec<LaunchId> = match self.known.upgrade() {
            Some(known) => {
                let known = known.lock().unwrap_or_else(PoisonError::into_inner);
                let runs = |id: &u64| running.iter().any(|(other, _)| other == id);
                self.kills.keys().filter(|id| !runs(id)).filter_map(|&id| known.launch(id)).collect()
            }
            None => Vec::new(),
        };
        let mut trees: Vec<Tree> = starting
            .iter()
            .map(|(_, open)| open.launch)
            .chain(unfinished)
            .map(|launch| Tree::marked(launch.to_string()))
            .collect();
        let launches: Vec<LaunchId> =
            starting.iter().map(|(_, open)| open.launch).chain(self.ended.iter().copied()).collect();
        if !launches.is_empty() || !trees.is_empty() {
            let kill = move || if trees.is_empty() { Ok(Vec::new()) } else { Tree::kill(&mut trees, SWEEP) };
            let swept = tokio::task::spawn_blocking(move || bury_groups(&launches, kill)).await;
            if !matches!(&swept, Ok(Ok(left)) if left.is_empty()) {
                tracing::warn!(%how, ?swept, "what a keeper was starting or killing could not be swept");
            }
        }
        for (_, open) in starting {
            self.forget(open.launch);
            let failure = LaunchFailure::new(format!("{how} meanwhile; launch again"), libc::EAGAIN);
            let _ = open.started.map(|started| started.send(Err(failure)));
        }
        if !running.is_empty() {
            tracing::warn!(%how, procs = running.len(), "procs have lost their keeper and their guard");
            if !self.detached {
                self.start_another();
            }
            let survivors = running.into_iter().filter_map(|(id, open)| {
                let exit = open.exit?;
                Some(Survivor::new(id, open.launch, open.leader?, exit, self.known.clone()))
            });
            let survivors = survivors.collect();
            let asked = Asked {
                terminations: std::mem::take(&mut self.terminations),
                kills: std::mem::take(&mut self.kills),
                ends: std::mem::take(&mut self.ends),
                told_to_end: self.told,
                detached: self.detached,
            };
            self.ends = look_after(survivors, &mut self.commands, asked, &how).await;
        }
        // From here on nobody can ask here any more. What was asked meanwhile is answered by being dropped.
        self.commands.close();
        answer(std::mem::take(&mut self.ends), ());
    }

    /// Should this process die too, a keeper ends what carries the session's marker.
    fn start_another(&self) {
        let Some(known) = self.known.upgrade() else { return };
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.shut_down
            && let Err(error) = known.keeper(&self.known, false)
        {
            tracing::warn!(%error, "another keeper could not be started yet");
        }
    }
}

pub(super) fn replaced() -> LaunchFailure {
    LaunchFailure::new("the keeper ended meanwhile; launch again", libc::EAGAIN)
}
