use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_model::{Head, Packet, StopRequest};
use procession_net::{Link, LinkReceiver, LinkSender};
use procession_supervise::{Effect, Event, Readiness, State, StopHow, Timer};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::host::Core;
use crate::launching;
use crate::output::{Pump, Stream};
use crate::proc_ref::{ProcEvent, Shared};
use crate::spec::SpawnSpec;
use crate::witness;

/// How long the driver stays after the exit, for a launcher that answers late.
const LATE: Duration = Duration::from_secs(60);
/// A proc whose connection ended should end too; then it is killed.
const LINK_LOST_GRACE: Duration = Duration::from_secs(5);

/// What reaches the driver of a launch.
pub(crate) enum Input {
    Event(Event),
    Launched(Result<LaunchResult, ProcLauncherError>),
    Link(Link),
    CalledBack { pid: u32 },
    ReportedBy { pid: Option<u32>, handle: Option<String>, progress: Option<String> },
    LinkLost,
    LinkStillLost,
    TaskDone,
    Stop {
        how: StopHow,
        grace: Duration,
        request: StopRequest,
        ack: Option<oneshot::Sender<Result<(), String>>>,
    },
}

/// Feeds the state machine of one launch, and does what comes out of it.
pub(crate) struct Driver {
    pub(crate) core: Arc<Core>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) launcher: Arc<dyn ProcLauncher>,
    pub(crate) state: State,
    pub(crate) timers: BTreeMap<Timer, Instant>,
    pub(crate) inputs: mpsc::UnboundedReceiver<Input>,
    pub(crate) link: Option<LinkSender>,
    pub(crate) pump: Pump,
    pub(crate) acks: Vec<(StopHow, oneshot::Sender<Result<(), String>>)>,
    pub(crate) setup: bytes::Bytes,
    /// The process that a pidfd watches; none where the launcher is the parent itself.
    pub(crate) watched: Option<u32>,
    /// Tasks that may still send something.
    outstanding: usize,
    pub(crate) published: bool,
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
    ) {
        spec.policy.launcher_reports = !launcher.knows_status_by_parenthood();
        let (state, first) = State::start(spec.policy.clone());
        let driver = Self {
            core,
            shared,
            launcher,
            state,
            timers: BTreeMap::new(),
            inputs,
            link: None,
            pump: Pump::new(),
            acks: Vec::new(),
            setup: spec.setup.clone(),
            watched: None,
            outstanding: 1,
            published: false,
            never_calls_back: spec.policy.readiness == Readiness::None,
        };
        let runtime = driver.core.runtime.clone();
        runtime.spawn(driver.run(spec, first));
    }

    async fn run(mut self, spec: SpawnSpec, first: Vec<Effect>) {
        self.apply(first).await;
        let (core, shared, launcher) =
            (Arc::clone(&self.core), Arc::clone(&self.shared), Arc::clone(&self.launcher));
        tokio::spawn(async move {
            let launched = launching::launch(&core, &shared, launcher.as_ref(), &spec).await;
            let _driver_gone = shared.driver.send(Input::Launched(launched));
        });
        let mut last = None;
        while !(self.published && self.outstanding == 0) {
            let deadline = self.timers.iter().min_by_key(|(_, at)| **at).map(|(timer, at)| (*timer, *at));
            if self.published && last.is_none() {
                last = Some(Instant::now() + LATE);
            }
            let wake = deadline.map(|(_, at)| at).or(last);
            tokio::select! {
                biased;
                input = self.inputs.recv() => match input {
                    Some(input) => self.take(input).await,
                    None => return,
                },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => match deadline {
                    Some((timer, _)) => {
                        self.timers.remove(&timer);
                        self.feed(Event::TimerFired(timer, SystemTime::now())).await;
                    }
                    None => return,
                },
            }
        }
    }

    async fn feed(&mut self, event: Event) {
        let effects = self.state.step(event);
        self.apply(effects).await;
    }

    async fn take(&mut self, input: Input) {
        match input {
            Input::Event(event) => {
                self.settle_acks(&event);
                self.feed(event).await;
            }
            Input::Launched(launched) => self.launched(launched).await,
            Input::Link(link) => self.linked(link),
            Input::CalledBack { pid } => {
                if let Some(link) = &self.link {
                    self.core.hub.up(&self.shared.id, link.clone());
                }
                self.shared.snapshot().pid.get_or_insert(pid);
                self.feed(Event::CalledBack { pid: self.watched }).await;
            }
            Input::ReportedBy { pid, handle, progress } => {
                {
                    let mut snapshot = self.shared.snapshot();
                    snapshot.pid = pid.or(snapshot.pid);
                    snapshot.handle = handle.clone().or(snapshot.handle.take());
                    snapshot.progress = progress.clone().or(snapshot.progress.take());
                }
                if let Some(pid) = pid {
                    self.watch(pid);
                }
                self.feed(Event::Reported { pid: self.watched, handle, progress }).await;
            }
            Input::LinkLost => {
                self.outstanding -= 1;
                if !self.published {
                    self.link_lost();
                }
            }
            Input::LinkStillLost => {
                if !self.published {
                    let request = StopRequest {
                        by: "host".to_owned(),
                        at: SystemTime::now(),
                        why: "it lost its connection to the host and did not end by itself".to_owned(),
                    };
                    self.feed(Event::StopAsked { how: StopHow::Kill, grace: Duration::ZERO, request }).await;
                }
            }
            Input::TaskDone => self.outstanding -= 1,
            Input::Stop { how, grace, request, ack } => {
                match ack {
                    Some(ack) if self.published => drop(ack.send(Ok(()))),
                    Some(ack) => self.acks.push((how, ack)),
                    None => {}
                }
                self.feed(Event::StopAsked { how, grace, request }).await;
            }
        }
    }

    /// The launcher's answer to a terminate or a kill is the answer to those who asked for it.
    fn settle_acks(&mut self, event: &Event) {
        let (kill, answer) = match event {
            Event::TerminateAnswered(answer) => (false, answer),
            Event::KillAnswered(answer) => (true, answer),
            _ => return,
        };
        let (settled, open) =
            std::mem::take(&mut self.acks).into_iter().partition(|(how, _)| kill || *how == StopHow::Terminate);
        self.acks = open;
        for (_, ack) in settled {
            let _nobody_waits = ack.send(answer.clone());
        }
    }

    async fn launched(&mut self, launched: Result<LaunchResult, ProcLauncherError>) {
        self.outstanding -= 1;
        match launched {
            Err(error) => self.feed(Event::LaunchRefused { reason: error.to_string() }).await,
            Ok(LaunchResult { pid, stdio, exit_rx, .. }) => {
                if let StdioHandling::Captured { stdout, stderr } = stdio {
                    self.pump.read(&self.shared.output, Stream::Stdout, stdout);
                    self.pump.read(&self.shared.output, Stream::Stderr, stderr);
                }
                let parent = self.launcher.knows_status_by_parenthood();
                self.outstanding += 1;
                let driver = self.shared.driver.clone();
                tokio::spawn(async move {
                    let event = launching::exit_event(exit_rx.await.ok(), parent);
                    let _driver_gone = driver.send(Input::Event(event));
                    let _driver_gone = driver.send(Input::TaskDone);
                });
                if let Some(pid) = pid {
                    self.shared.snapshot().pid = Some(pid);
                    self.watch(pid);
                }
                let watched = if parent { pid } else { self.watched };
                self.feed(Event::LaunchAcknowledged { pid: watched }).await;
            }
        }
    }

    /// Lets the kernel tell when `pid` ends, where the launcher is not its parent itself.
    fn watch(&mut self, pid: u32) {
        let here = matches!(self.launcher.capabilities().dial_back, procession_model::DialBack::Local);
        if self.launcher.knows_status_by_parenthood() || self.watched.is_some() || self.published || !here {
            return;
        }
        match witness::spawn(pid, self.shared.driver.clone()) {
            Ok(()) => self.watched = Some(pid),
            Err(error) => tracing::debug!(proc_id = %self.shared.id, pid, %error, "cannot be watched"),
        }
    }

    fn linked(&mut self, link: Link) {
        if self.published {
            return;
        }
        if let Some(pid) = link.peer.pid {
            self.watch(pid);
        }
        let _ends_with_the_reader =
            link.sender.post(Packet { head: Head::Welcome, parts: vec![self.setup.clone()] });
        self.link = Some(link.sender);
        self.outstanding += 1;
        tokio::spawn(read_link(Arc::clone(&self.core), Arc::clone(&self.shared), link.receiver));
    }

    fn link_lost(&mut self) {
        self.link = None;
        // The kernel's word on the process is on its way, as a rule, and says more than a lost connection.
        let (hub, id, driver) =
            (Arc::clone(&self.core.hub), self.shared.id.clone(), self.shared.driver.clone());
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let mut exit = shared.exit.subscribe();
            let ended = exit.wait_for(Option::is_some);
            if tokio::time::timeout(Duration::from_millis(30), ended).await.is_err() {
                hub.gone(&id, &format!("the connection to proc {id} was lost"));
                tokio::time::sleep(LINK_LOST_GRACE).await;
                let _driver_gone = driver.send(Input::LinkStillLost);
            }
        });
    }
}

async fn read_link(core: Arc<Core>, shared: Arc<Shared>, mut receiver: LinkReceiver) {
    while let Some(received) = receiver.recv().await {
        let packet = match received {
            Ok(packet) => packet,
            Err(error) => {
                tracing::warn!(proc_id = %shared.id, %error, "the connection was closed");
                break;
            }
        };
        match packet.head {
            Head::Ready { pid } => drop(shared.driver.send(Input::CalledBack { pid })),
            Head::Report { proc_id, pid, handle, progress } => core.report(&proc_id, pid, handle, progress),
            Head::ActorEnded { actor, failure } => {
                shared.observers.tell(&ProcEvent::ActorEnded { actor, failure });
            }
            _ => core.hub.forward(packet),
        }
    }
    let _driver_gone = shared.driver.send(Input::LinkLost);
}
