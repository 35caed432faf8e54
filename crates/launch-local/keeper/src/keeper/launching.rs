//! How procs come to be: executed, or forked from an interpreter that has imported what they need.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use procession_sys::{
    self as sys, Child, Orphaned, Pidfd, Process, Program, SpawnError, SpawnSpec, Spawning, Tree,
};

use super::detached::Files;
use super::{Keeper, Phase, Proc};
use crate::asked::{Asked, failed};
use crate::forks::{Fork, News};
use crate::groups::ProcGroup;
use crate::protocol::Reply;

impl Keeper {
    pub(super) fn launch(&mut self, id: u64, captured: bool, fds: Vec<OwnedFd>) -> Result<(), SpawnError> {
        if self.ending {
            return Err(failed(libc::ECANCELED));
        }
        let asked = Asked::take(captured, fds)?;
        match self.forks.take(id, asked, self.open_files, self.oom_score_adj) {
            Ok(()) => Ok(()),
            Err(asked) => self.execute(id, asked, None),
        }
    }

    fn execute(&mut self, id: u64, asked: Asked, group: Option<ProcGroup>) -> Result<(), SpawnError> {
        let group = match group {
            Some(group) => group,
            None => self.groups.make(&asked.strings.order)?,
        };
        let marker = asked.marker();
        let [stdout, stderr] = asked.outputs();
        let strings = &asked.strings;
        let mut spawning = group.or_removed(Spawning::start(&SpawnSpec {
            program: Program::Path(strings.program.clone()),
            argv: strings.argv.clone(),
            envp: strings.envp.clone(),
            cwd: Some(asked.cwd.as_fd()),
            stdout,
            stderr,
            fds: Vec::new(),
            orphaned: Orphaned::DiesUntilExec,
            open_files: Some(self.open_files),
            oom_score_adj: self.oom_score_adj,
            group: group.inner(),
            confinement: strings.order.confinement.clone(),
        }))?;
        let child = &mut spawning.child;
        let files = asked.strings.order.output.map(Files::new);
        let pipes = child.stdout.take().zip(child.stderr.take()).map(|(out, err)| {
            let strings = files.as_ref().map(|_| asked.file);
            Rc::new([out, err].into_iter().chain(strings).collect())
        });
        let pid = child.pid;
        // Even a child that has ended is still there to be looked at, since only we reap it.
        let started = Process::look(pid).map_or(0, |process| process.started);
        let tree = Tree::new(pid, started, marker, Some(std::process::id()));
        self.leaders.insert(pid, id);
        let phase = Phase::Starting(spawning);
        self.procs.insert(id, Proc { phase, tree, group, started, pipes, files, told: false });
        self.tell_guard(id);
        Ok(())
    }

    /// Whatever becomes of it, it is a process from here on, that can be signalled.
    pub(super) fn start_now(&mut self, id: u64) {
        if let Some(news) = self.forks.withdraw(id) {
            self.take(news);
        }
    }

    pub(super) fn look_after_forks(&mut self) {
        if self.ending {
            return;
        }
        for news in self.forks.turn(&mut self.groups) {
            self.take(news);
        }
    }

    pub(super) fn refuse_all_forks(&mut self) {
        for (id, marker, group) in self.forks.withdraw_all() {
            // What is there already ends by itself, and its group goes with the rest.
            if let Some(group) = group {
                self.kills.add_leftover(id, Tree::marked(marker), group);
            }
            let SpawnError { stage, source } = failed(libc::ECANCELED);
            self.refuse(id, stage, &source);
        }
    }

    fn take(&mut self, news: News) {
        match news {
            News::Forked { id, pid, asked, fork } => self.forked(id, pid, asked, fork),
            News::Execute { id, asked, group } => {
                if let Err(SpawnError { stage, source }) = self.execute(id, asked, group) {
                    self.refuse(id, stage, &source);
                }
            }
            News::Warning(text) => {
                if let Ok(file) = sys::sealed_memfd(c"procession-warning", text.as_bytes()) {
                    self.control.send_with(Reply::Warning, Some(Rc::new(vec![file])));
                }
            }
        }
    }

    /// It is told of and let go on once it is sure to be a child of this process.
    fn forked(&mut self, id: u64, pid: u32, asked: Asked, fork: Fork) {
        let found = Process::look(pid).ok().filter(|found| found.parent == std::process::id());
        let (Some(found), Ok(pidfd)) = (found, Pidfd::open(pid)) else {
            return self.take(News::Execute { id, asked, group: Some(fork.group) });
        };
        sys::failpoint!("keeper-forked");
        // Where it has ended meanwhile, that is how the proc ended.
        let _it_has_ended = fork.go();
        let started = found.started;
        let tree = Tree::new(pid, started, asked.marker(), Some(std::process::id()));
        let phase = Phase::Running(Child { pid, pidfd, stdout: None, stderr: None });
        let pipes = fork.pipes.map(|pipes| Rc::new(pipes.into_iter().collect::<Vec<_>>()));
        self.control.send_with(Reply::Started { id, pid, started }, pipes.clone());
        self.leaders.insert(pid, id);
        self.procs
            .insert(id, Proc { phase, tree, group: fork.group, started, pipes, files: None, told: false });
    }
}
