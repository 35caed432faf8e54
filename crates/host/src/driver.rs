use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{BootPhase, DialBack, Head, Packet, ProcExitResult, ProcStatus, Secret, StopRequest};
use procession_net::{Link, LinkSender};
use procession_supervise::{CaseFile, Effect, Event, HOST, Readiness, State, StopHow, Timer, is_final_stop};
use procession_sys::Pidfd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use crate::alarms::{Alarm, Alarms};
use crate::boot_clock::BootClock;
use crate::core::Core;
use crate::drain::Drain;
use crate::gate::Gate;
use crate::input::Input;
use crate::launching;
use crate::ledger::Open;
use crate::observers::ProcEvent;
use crate::outliving;
use crate::output::Stream;
use crate::proc_ref::Shared;
use crate::reach;
use crate::recording::Recording;
use crate::slot::Slot;
use crate::small_pipes;
use crate::spec::SpawnSpec;
use crate::watchdog::{Doing, named};
use crate::witness::{self, Watched};

/// How long the word on how a proc ended may take longer than the end of its connection.
const LINK_LOST: Duration = Duration::from_millis(250);
/// How long the end of a process waits for what it has begun to come in.
const ARRIVAL: Duration = Duration::from_millis(200);
/// A proc whose connection ended should end too; then it is killed.
const LINK_LOST_GRACE: Duration = Duration::from_secs(5);

/// Feeds the state machine of one launch, and does what comes out of it.
///
/// It goes on after the exit until the launch can say nothing more, for a minute at most. When it is
/// dropped before the exit, with its runtime or by a panic, that is the exit.
pub(crate) struct Driver {
    pub(crate) core: Arc<Core>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) launcher: Arc<dyn ProcLauncher>,
    /// None for a launch that stands by itself.
    pub(crate) slot: Option<Slot>,
    pub(crate) state: State,
    pub(crate) alarms: Alarms,
    inputs: mpsc::UnboundedReceiver<Input>,
    /// What will have something to say.
    tasks: JoinSet<Input>,
    /// What a task says that panics: launchers are not our code.
    panicked: HashMap<task::Id, fn(String) -> Input>,
    pub(crate) link: Option<LinkSender>,
    pub(crate) drain: Drain,
    acks: Vec<(StopHow, oneshot::Sender<Result<(), String>>)>,
    setup: bytes::Bytes,
    gate: Gate,
    /// What witnesses have said.
    pub(crate) case: CaseFile,
    pub(crate) recording: Arc<Recording>,
    /// What an earlier host has written down about it.
    pub(crate) adopted: Option<Box<Open>>,
    /// What was asked for before it was known what became of it.
    pub(crate) held: Vec<Input>,
    /// None where the launcher is the parent itself.
    pub(crate) watched: Option<Watched>,
    /// The launcher has named the process, as its capabilities may promise.
    pub(crate) told_pid: bool,
    /// When the first word of the end came.
    pub(crate) ended_at: Option<SystemTime>,
    pub(crate) published: bool,
    /// Observers know that it was ready.
    pub(crate) told_ready: bool,
    /// What the files of its output could not take.
    pub(crate) log_dropped_bytes: u64,
    /// Running is its steady state.
    pub(crate) never_calls_back: bool,
}

impl Driver {
    pub(crate) fn start(
        core: Arc<Core>,
        shared: Arc<Shared>,
        launcher: Arc<dyn ProcLauncher>,
        mut spec: SpawnSpec,
        inputs: mpsc::UnboundedReceiver<Input>,
        slot: Option<Slot>,
    ) {
        spec.policy.launcher_reports = !launcher.knows_status_by_parenthood();
        spec.policy.os_tells = Pidfd::tells_status();
        if matches!(launcher.capabilities().dial_back, DialBack::Network { .. }) {
            // It is not given up for being unknown while its connection may come back.
            let with_lease = spec.lease.saturating_add(LINK_LOST_GRACE);
            spec.policy.unknown_budget = spec.policy.unknown_budget.max(with_lease);
        }
        let recording = Recording::of(&spec);
        let adopted = spec.adopted.take();
        if adopted.as_ref().is_some_and(|open| open.ready_at.is_some()) {
            // It was ready in time. Until it has found this host it runs, however long that takes.
            spec.policy.ready_timeout = Duration::MAX;
        }
        if adopted.is_some() {
            // There is nothing left to cancel: a stop waits until the launcher knows of it, and goes there.
            let _is_first = shared.request.may_go_out();
        }
        let (state, first) = State::start(spec.policy.clone());
        let token = adopted.as_ref().map_or_else(Secret::random, |open| open.asked.token.clone());
        // A token that nobody waits for serves nobody.
        if spec.policy.readiness == Readiness::CallBack {
            let driver = shared.driver.clone();
            core.door.expect(shared.id.launch_id(), token.clone(), spec.lease, driver);
        }
        let driver = Self {
            core,
            shared,
            launcher,
            slot,
            state,
            alarms: Alarms::default(),
            inputs,
            tasks: JoinSet::new(),
            panicked: HashMap::new(),
            link: None,
            drain: Drain::new(),
            acks: Vec::new(),
            setup: spec.setup.clone(),
            gate: spec.gate.clone(),
            case: CaseFile::default(),
            recording,
            adopted,
            held: Vec::new(),
            watched: None,
            told_pid: false,
            ended_at: None,
            published: false,
            told_ready: false,
            log_dropped_bytes: 0,
            never_calls_back: spec.policy.readiness == Readiness::None,
        };
        let runtime = driver.core.runtime.clone();
        let doing = Doing::Supervises(driver.shared.id.clone());
        runtime.spawn(named(doing, driver.run(spec, token, first)));
    }

    async fn run(mut self, spec: SpawnSpec, token: Secret, first: Vec<Effect>) {
        self.apply(first).await;
        let (core, shared, launcher) =
            (Arc::clone(&self.core), Arc::clone(&self.shared), Arc::clone(&self.launcher));
        let leader = self.adopted.as_ref().map(|open| outliving::leader(open));
        let launch = async move {
            Input::Launched(match leader {
                Some(leader) => outliving::adopt(&core, &shared, launcher.as_ref(), &spec, leader).await,
                None => launching::launch(&core, &shared, launcher.as_ref(), &spec, token).await,
            })
        };
        self.spawn(launch, |why| Input::Launched(Err(ProcLauncherError::Other(why))));
        while !(self.published && self.tasks.is_empty()) {
            let wake = self.alarms.next();
            tokio::select! {
                // Who floods this with inputs must not keep deadlines and exits waiting.
                biased;
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    // What it waits for may be here already.
                    self.take_waiting().await;
                    match self.alarms.take_due(Instant::now()) {
                        Some(Alarm::Late) => return,
                        Some(alarm) => self.ring(alarm).await,
                        None => {}
                    }
                }
                Some(done) = self.tasks.join_next_with_id() => self.task_done(done).await,
                Some(input) = self.inputs.recv() => self.take(input).await,
            }
        }
    }

    /// Lets `task` say something later; if it panics, `panicked` says what.
    pub(crate) fn spawn(
        &mut self,
        task: impl Future<Output = Input> + Send + 'static,
        panicked: fn(String) -> Input,
    ) {
        let task = named(Doing::AsksLauncher(self.shared.id.clone()), task);
        self.panicked.insert(self.tasks.spawn(task).id(), panicked);
    }

    async fn task_done(&mut self, done: Result<(task::Id, Input), JoinError>) {
        procession_sys::failpoint!("host-task-done");
        let id = done.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let panicked = self.panicked.remove(&id);
        let input = match (done, panicked) {
            (Ok((_, input)), _) => input,
            (Err(_), Some(panicked)) => {
                panicked(format!("launcher {:?} panicked; see the log for where", self.launcher.name()))
            }
            (Err(_), None) => return,
        };
        // The proc of an early report lives, and would end with its connection: as if that were how it ended.
        let early = self.watched.is_some() && matches!(input, Input::Event(Event::LauncherReported(_)));
        if input.is_end() {
            procession_sys::failpoint!("host-before-publishing");
            let ended_at = input.ended_at().unwrap_or_else(|| self.time());
            if !early && self.ended_at.is_none() {
                // It may have said its last words as soon as it was in, and not be in for us yet.
                let settled = self.core.door.settled(self.shared.id.launch_id());
                let _somebody_else_keeps_it_open = timeout(ARRIVAL, settled).await;
                self.take_waiting().await;
            }
            self.ended_at.get_or_insert(ended_at);
            if !early {
                // What it said before its end comes before its end.
                self.drain.finish().await;
            }
            self.take_waiting().await;
            self.look_at_boot().await;
        }
        let gone = matches!(input, Input::Event(Event::OsGone));
        self.take(input).await;
        if let Some(watched) = self.watched.as_ref().filter(|_| gone && !self.published) {
            let status = watched.status();
            self.tasks.spawn(async move { Input::Told(status.await) });
        }
    }

    /// Takes the inputs that are here, and none that come meanwhile.
    async fn take_waiting(&mut self) {
        for _ in 0..self.inputs.len() {
            if let Ok(input) = self.inputs.try_recv() {
                self.take(input).await;
            }
        }
    }

    async fn ring(&mut self, alarm: Alarm) {
        procession_sys::failpoint!("host-alarm");
        match alarm {
            Alarm::State(timer) => {
                if matches!(timer, Timer::Ready | Timer::ReadyCap) {
                    self.look_at_boot().await;
                }
                self.feed(Event::TimerFired(timer, self.time())).await;
            }
            Alarm::LinkLost => {
                let reason = format!("the connection to proc {} was lost", self.shared.id);
                self.core.hub.gone(&self.shared.id, &reason);
                self.alarms.set(Alarm::LinkStillLost, LINK_LOST_GRACE);
            }
            // One that is being stopped has a deadline of its own.
            Alarm::LinkStillLost if self.state.status() != ProcStatus::Stopping => {
                let request = StopRequest {
                    by: HOST.to_owned(),
                    at: self.time(),
                    why: "it lost its connection to the host and did not end by itself".to_owned(),
                };
                self.feed(Event::StopAsked { how: StopHow::Kill, grace: Duration::ZERO, request }).await;
            }
            Alarm::LinkStillLost | Alarm::Late => {}
        }
    }

    /// Tells the state how far the boot has come, as far as the proc itself has noted it.
    async fn look_at_boot(&mut self) {
        if self.shared.boot.ready.get().is_some() || self.published {
            return;
        }
        let noted = self.shared.read_flight().ok();
        let linked = self.shared.boot.linked.get().map(|_| BootPhase::SetUp);
        let said = noted.as_ref().and_then(|noted| noted.said.last()).map(|(_, text)| text.clone());
        let phase = noted.and_then(|noted| noted.booting).map(|(phase, _)| phase).max(linked);
        if let Some(phase) = phase {
            self.feed(Event::Booting { phase, last_word: said }).await;
        }
    }

    /// The time of day.
    pub(crate) fn time(&self) -> SystemTime {
        self.core.clock.time_of_day()
    }

    pub(crate) async fn feed(&mut self, event: Event) {
        let parent = self.launcher.knows_status_by_parenthood();
        self.case.heard(&event, self.time(), parent);
        let effects = self.state.step(event);
        self.apply(effects).await;
        // Who asked for a stop hears what the state says to it by now, whatever led there.
        for (how, ack) in std::mem::take(&mut self.acks) {
            match self.state.answer(how) {
                Some(answer) => drop(ack.send(answer)),
                None => self.acks.push((how, ack)),
            }
        }
    }

    async fn take(&mut self, input: Input) {
        procession_sys::failpoint!("host-input");
        match input {
            Input::Event(event) => self.feed(event).await,
            Input::Launched(launched) => self.launched(launched).await,
            Input::Link(link) => self.linked(link),
            Input::Told(kind) => {
                let told = kind.map_or(Event::OsUntold, |kind| Event::OsExit(ProcExitResult::new(kind)));
                // What is given up with the launcher may be said already.
                if !self.published {
                    self.feed(told).await;
                }
            }
            Input::Booted(own) => drop(self.shared.boot.own.set(own)),
            Input::CalledBack { pid } => {
                BootClock::reached(&self.shared.boot.ready);
                if let Some(link) = &self.link {
                    self.core.hub.up(&self.shared.id, link.clone());
                }
                // In another namespace its own pid means another process here.
                if self.is_local() {
                    self.shared.snapshot().pid.get_or_insert(pid);
                }
                self.feed(Event::CalledBack { pid: self.watched_pid() }).await;
            }
            Input::Unreachable(why) => {
                if !self.published {
                    self.shared.observers.tell(ProcEvent::Note(format!("unreachable: {why}")));
                }
                self.feed(Event::Unreachable { why }).await;
            }
            Input::ReportedBy { pid, handle, progress } => {
                self.told_pid |= pid.is_some();
                let pid = pid.filter(|&pid| self.watch(pid));
                if pid.is_some() {
                    BootClock::reached(&self.shared.boot.running);
                }
                {
                    let mut snapshot = self.shared.snapshot();
                    snapshot.pid = pid.or(snapshot.pid);
                    snapshot.handle = handle.clone().or(snapshot.handle.take());
                    snapshot.progress = progress.clone().or(snapshot.progress.take());
                }
                self.feed(Event::Reported { pid: self.watched_pid(), handle, progress }).await;
            }
            Input::ActorEnded { actor, failure } => {
                let regular = failure.is_none() && self.state.status() != ProcStatus::Stopping;
                if let Some(slot) = self.slot.as_ref().filter(|_| regular) {
                    slot.actor_is_done(&actor.name);
                }
                if let Some(failure) = &failure {
                    self.case.actor_failed(&actor.name, failure, self.time());
                }
                self.shared.observers.tell(ProcEvent::ActorEnded { actor, failure });
            }
            Input::LinkLost(how) => {
                self.link = None;
                if !self.published {
                    self.case.link_lost(&how, self.time());
                }
                // Of one that has ended the exit says more than its connection.
                if self.ended_at.is_none() && !self.published {
                    self.alarms.set(Alarm::LinkLost, LINK_LOST);
                }
            }
            Input::Stop { .. } if self.adopted.is_some() => self.held.push(input),
            Input::Stop { how, grace, request, ack } => {
                self.note_stop(&request);
                self.shared.request.cancel();
                if let Some(slot) = self.slot.as_ref().filter(|_| is_final_stop(&request.by)) {
                    slot.stop_requested_of(&self.shared.id);
                }
                self.acks.extend(ack.map(|ack| (how, ack)));
                self.feed(Event::StopAsked { how, grace, request }).await;
            }
        }
    }

    /// Whether its procs live in this kernel and network namespace.
    fn is_local(&self) -> bool {
        self.launcher.capabilities().dial_back == DialBack::Local
    }

    async fn launched(&mut self, launched: Result<LaunchResult, ProcLauncherError>) {
        procession_sys::failpoint!("host-launched");
        self.shared.request.is_over();
        let adopted = self.adopted.is_some();
        if self.published {
            // It was made while the exit was.
            self.shared.close_flight();
        }
        match launched {
            Err(error) => self.feed(Event::LaunchRefused { reason: error.to_string() }).await,
            Ok(LaunchResult { pid, stdio, mut exit_rx, reports, .. }) => {
                if let Some(reports) = reports {
                    reach::pass_on(&self.shared, reports);
                }
                let streams = [Stream::Stdout, Stream::Stderr];
                match stdio {
                    StdioHandling::Captured { stdout, stderr } => {
                        for (stream, pipe) in streams.into_iter().zip([stdout, stderr]) {
                            self.drain.read_stream(&self.shared, stream, pipe, self.gate.clone());
                        }
                    }
                    StdioHandling::Pipes { stdout, stderr } => {
                        if let Some(text) = small_pipes::warn_once(&stdout) {
                            self.shared.observers.tell(ProcEvent::Note(text));
                        }
                        for (stream, pipe) in streams.into_iter().zip([stdout, stderr]) {
                            self.drain.read_pipe(&self.shared, stream, pipe, self.gate.clone());
                        }
                    }
                    StdioHandling::Inherited | StdioHandling::ManagedByLauncher => {}
                }
                let parent = self.launcher.knows_status_by_parenthood();
                BootClock::reached(&self.shared.boot.acknowledged);
                self.told_pid |= pid.is_some();
                let pid = pid.filter(|&pid| self.watch(pid));
                if pid.is_some() {
                    self.shared.snapshot().pid = pid;
                }
                let watched = if parent { pid } else { self.watched_pid() };
                self.note_start(pid);
                self.feed(Event::LaunchAcknowledged { pid: watched }).await;
                self.go_on().await;
                if !(adopted && self.end_if_over(&mut exit_rx).await) {
                    let exit = async move { Input::Event(launching::exit_event(exit_rx.await.ok(), parent)) };
                    self.tasks.spawn(exit);
                }
            }
        }
        self.adopted = None;
        self.take_held();
    }

    fn watched_pid(&self) -> Option<u32> {
        self.watched.as_ref().map(|watched| watched.pid)
    }

    /// Lets the kernel tell when `pid` ends, unless the launcher is its parent and does; false when it
    /// cannot be the proc's process.
    fn watch(&mut self, pid: u32) -> bool {
        if self.launcher.knows_status_by_parenthood() {
            return true;
        }
        if !self.is_local() {
            // A number of another machine or namespace says nothing here.
            return true;
        }
        if !self.core.may_be_of(&self.shared.id, pid) {
            tracing::warn!(proc_id = %self.shared.id, pid, "cannot be its process; a report was ignored");
            return false;
        }
        if self.watched.is_none() && !self.published {
            match witness::watch(pid) {
                Ok((watched, ended)) => {
                    self.watched = Some(watched);
                    self.tasks.spawn(async move {
                        ended.await;
                        Input::Event(Event::OsGone)
                    });
                }
                Err(error) => tracing::debug!(proc_id = %self.shared.id, pid, %error, "cannot be watched"),
            }
        }
        true
    }

    fn linked(&mut self, link: Link) {
        // Of one that has ended the connection is dropped, which ends whoever is at the other end.
        if self.published || self.ended_at.is_some() {
            return;
        }
        if let Some(pid) = link.peer.pid
            && self.watch(pid)
        {
            self.shared.snapshot().pid.get_or_insert(pid);
        }
        BootClock::reached(&self.shared.boot.linked);
        self.case.linked(self.time());
        procession_sys::failpoint!("host-before-welcome");
        let host = Packet::bare(Head::Host { proc_id: self.core.proc_.id().clone() });
        for packet in [host, Packet { head: Head::Welcome, parts: vec![self.setup.clone()] }] {
            let _ends_with_the_reader = link.sender.post(packet);
        }
        self.core.hub.linked(&self.shared.id, link.sender.clone());
        self.link = Some(link.sender.clone());
        if let Some(reachable) = link.reachable.clone() {
            reach::watch(&self.shared, reachable);
        }
        self.drain.read_link(&self.core, &self.shared, link);
    }
}
