//! What is made of a launcher that knows one substrate: the whole contract of launchers.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Capabilities, Context, Engine, Found, Labels, LaunchResult, Launcher, Managed, Output, ProcLauncher,
    ProcLauncherError, Report, Signal, StdioHandling, WaitError,
};
use procession_model::{BootstrapCommand, HostId, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, Semaphore};

/// A substrate whose every step the test lets go.
#[derive(Clone, Default)]
struct Scripted(Arc<Script>);

struct Script {
    may_start: Semaphore,
    refuses: Mutex<Option<String>>,
    waits: Mutex<VecDeque<Result<ProcExitResult, WaitError>>>,
    more_waits: Notify,
    answers: Semaphore,
    signals: Mutex<Vec<(String, Signal)>>,
    signalled: Notify,
    logs: Mutex<Vec<u8>>,
    destroys_fail: Mutex<u32>,
    destroyed: Mutex<Vec<String>>,
    known: Mutex<Vec<Found>>,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            may_start: Semaphore::new(0),
            refuses: Mutex::default(),
            waits: Mutex::default(),
            more_waits: Notify::new(),
            answers: Semaphore::new(0),
            signals: Mutex::default(),
            signalled: Notify::new(),
            logs: Mutex::default(),
            destroys_fail: Mutex::default(),
            destroyed: Mutex::default(),
            known: Mutex::default(),
        }
    }
}

impl Scripted {
    fn ends(&self, how: Result<ProcExitResult, WaitError>) {
        self.0.waits.lock().unwrap().push_back(how);
        self.0.more_waits.notify_one();
    }

    fn signals(&self) -> Vec<Signal> {
        self.0.signals.lock().unwrap().iter().map(|(_, signal)| *signal).collect()
    }
}

#[async_trait]
impl Launcher for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { stdio: true, adopt: true, ..Capabilities::default() }
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        _options: &LaunchOptions,
        context: &Context,
    ) -> Result<String, ProcLauncherError> {
        context.progress("one step");
        tokio::select! {
            permit = self.0.may_start.acquire() => permit.unwrap().forget(),
            () = context.cancelled() => {}
        }
        match self.0.refuses.lock().unwrap().take() {
            Some(why) => Err(ProcLauncherError::Other(why)),
            None => Ok(format!("handle of {}", proc_id.name())),
        }
    }

    async fn wait(&self, _handle: &str) -> Result<ProcExitResult, WaitError> {
        loop {
            let next = self.0.waits.lock().unwrap().pop_front();
            match next {
                Some(how) => return how,
                None => self.0.more_waits.notified().await,
            }
        }
    }

    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError> {
        self.0.signals.lock().unwrap().push((handle.to_owned(), signal));
        self.0.signalled.notify_one();
        Ok(())
    }

    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError> {
        let mut fails = self.0.destroys_fail.lock().unwrap();
        if *fails > 0 {
            *fails -= 1;
            return Err(ProcLauncherError::Other("busy".to_owned()));
        }
        self.0.destroyed.lock().unwrap().push(handle.to_owned());
        Ok(())
    }

    async fn logs(&self, _handle: &str, mut output: Output) -> Result<(), ProcLauncherError> {
        let bytes = self.0.logs.lock().unwrap().clone();
        output.stdout.write_all(&bytes).await.unwrap();
        output.stderr.write_all(b"last words").await.unwrap();
        Ok(())
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        Ok(self.0.known.lock().unwrap().clone())
    }

    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        Ok(format!("{}: {:?}", proc_id.name(), options.variables()))
    }

    async fn probe(&self) -> Result<String, ProcLauncherError> {
        match self.0.answers.try_acquire() {
            Ok(permit) => {
                permit.forget();
                Ok("scripted 1".to_owned())
            }
            Err(_) => Err(ProcLauncherError::Other("nobody answers".to_owned())),
        }
    }
}

fn options() -> LaunchOptions {
    LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: "p @ h".to_owned(),
        command: BootstrapCommand::new("/bin/true"),
        want_stdio: true,
        tail_lines: 10,
        log_channel: None,
        detach: false,
        lease: std::time::Duration::ZERO,
        output: None,
    }
}

fn an_id() -> ProcId {
    ProcId::fresh("p", &HostId::fresh("machine")).unwrap()
}

fn exited(code: i32) -> ProcExitResult {
    ProcExitResult::new(ProcExitKind::Exited { code })
}

struct World {
    script: Scripted,
    launcher: Managed<Scripted>,
    id: ProcId,
}

impl World {
    fn new() -> Self {
        let script = Scripted::default();
        Self { launcher: Managed::new(script.clone(), 2), script, id: an_id() }
    }

    async fn launch(&self) -> LaunchResult {
        self.launcher.launch(&self.id, options()).await.unwrap()
    }
}

async fn output_of(stdio: StdioHandling) -> [Vec<u8>; 2] {
    let StdioHandling::Captured { mut stdout, mut stderr } = stdio else { panic!("{stdio:?}") };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (first, second) = tokio::join!(stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
    first.unwrap();
    second.unwrap();
    [out, err]
}

#[tokio::test]
async fn a_launch_is_acknowledged_at_once_and_tells_its_steps_its_handle_and_its_one_exit() {
    let world = World::new();
    *world.script.0.logs.lock().unwrap() = vec![b'x'; 1 << 20];
    let LaunchResult { stdio, exit_rx, reports, .. } = world.launch().await;
    let mut reports = reports.unwrap();
    assert_eq!(reports.next().await, Some(Report::Progress("one step".to_owned())));
    world.script.0.may_start.add_permits(1);
    assert_eq!(reports.next().await, Some(Report::Handle("handle of p".to_owned())));
    world.script.ends(Ok(exited(3)));
    let ([out, err], exit) = tokio::join!(output_of(stdio), exit_rx);
    assert_eq!((out.len(), err), (1 << 20, b"last words".to_vec()));
    assert_eq!(exit.unwrap(), exited(3));
    assert_eq!(*world.script.0.destroyed.lock().unwrap(), ["handle of p"]);
    assert_eq!(reports.next().await, None);
}

#[tokio::test]
async fn a_launch_that_is_refused_fails_with_the_reason() {
    let world = World::new();
    *world.script.0.refuses.lock().unwrap() = Some("no such image".to_owned());
    world.script.0.may_start.add_permits(1);
    let exit = world.launch().await.exit_rx.await.unwrap();
    assert_eq!(exit.kind, ProcExitKind::Failed { reason: "no such image".to_owned() });
}

#[tokio::test]
async fn what_is_asked_for_before_it_was_started_is_done_once_it_is_and_a_kill_outranks_a_terminate() {
    let world = World::new();
    let launched = world.launch().await;
    world.launcher.kill(&world.id).await.unwrap();
    world.launcher.terminate(&world.id, Duration::from_secs(1)).await.unwrap();
    world.script.0.signalled.notified().await;
    assert_eq!(world.script.signals(), [Signal::Kill]);
    world.script.ends(Ok(exited(0)));
    assert_eq!(launched.exit_rx.await.unwrap(), exited(0));
    // It has ended, and is asked nothing any more.
    world.launcher.kill(&world.id).await.unwrap();
    assert_eq!(world.script.signals(), [Signal::Kill]);
    let never = world.launcher.kill(&an_id()).await;
    assert!(matches!(never, Err(ProcLauncherError::NotFound(_))), "{never:?}");
}

#[tokio::test]
async fn one_that_gives_up_because_it_was_cancelled_says_so() {
    let world = World::new();
    *world.script.0.refuses.lock().unwrap() = Some("pulling".to_owned());
    let launched = world.launch().await;
    world.launcher.terminate(&world.id, Duration::from_secs(1)).await.unwrap();
    let ProcExitKind::Failed { reason } = launched.exit_rx.await.unwrap().kind else { panic!() };
    assert!(reason.starts_with("cancelled before it was started"), "{reason}");
    assert_eq!(world.script.signals(), []);
}

#[tokio::test]
async fn both_signals_reach_one_that_runs() {
    let world = World::new();
    world.script.0.may_start.add_permits(1);
    let launched = world.launch().await;
    let mut reports = launched.reports.unwrap();
    while !matches!(reports.next().await, Some(Report::Handle(_))) {}
    // The handle is known here a moment after it was told.
    tokio::task::yield_now().await;
    world.launcher.terminate(&world.id, Duration::from_secs(1)).await.unwrap();
    world.launcher.kill(&world.id).await.unwrap();
    world.script.ends(Ok(exited(0)));
    launched.exit_rx.await.unwrap();
    assert_eq!(world.script.signals().last(), Some(&Signal::Kill));
    assert!(world.script.signals().contains(&Signal::Terminate));
}

#[tokio::test(start_paused = true)]
async fn a_substrate_that_does_not_answer_makes_it_unknown_until_it_answers_again() {
    let world = World::new();
    world.script.0.may_start.add_permits(1);
    let LaunchResult { exit_rx, reports, .. } = world.launch().await;
    let mut reports = reports.unwrap();
    while !matches!(reports.next().await, Some(Report::Handle(_))) {}
    world.script.ends(Err(WaitError::Unreachable("no route".to_owned())));
    assert_eq!(reports.next().await, Some(Report::Unreachable("no route".to_owned())));
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.script.0.answers.add_permits(1);
    assert_eq!(reports.next().await, Some(Report::Reachable));
    world.script.ends(Ok(exited(5)));
    assert_eq!(exit_rx.await.unwrap(), exited(5));
}

#[tokio::test]
async fn what_the_substrate_knows_no_more_is_lost_with_its_words() {
    let world = World::new();
    world.script.0.may_start.add_permits(1);
    world.script.ends(Err(WaitError::Gone("removed by hand".to_owned())));
    let exit = world.launch().await.exit_rx.await.unwrap();
    assert_eq!(exit.kind, ProcExitKind::Lost { reason: "removed by hand".to_owned() });
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_taken_away_also_when_that_fails_at_first() {
    let world = World::new();
    *world.script.0.destroys_fail.lock().unwrap() = 3;
    world.script.0.may_start.add_permits(1);
    world.script.ends(Ok(exited(0)));
    let launched = world.launch().await;
    drop(launched.stdio);
    launched.exit_rx.await.unwrap();
    assert_eq!(world.script.0.destroyed.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn output_that_nobody_reads_yet_holds_up_neither_the_exit_for_long_nor_is_it_lost() {
    let world = World::new();
    *world.script.0.logs.lock().unwrap() = vec![b'x'; 1 << 20];
    world.script.0.may_start.add_permits(1);
    let LaunchResult { stdio, exit_rx, .. } = world.launch().await;
    world.script.ends(Ok(exited(0)));
    assert_eq!(exit_rx.await.unwrap(), exited(0));
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(world.script.0.destroyed.lock().unwrap().len(), 0);
    assert_eq!(output_of(stdio).await[0].len(), 1 << 20);
}

#[tokio::test]
async fn the_room_for_launches_is_held_until_one_was_started() {
    let world = World::new();
    let others = [an_id(), an_id()];
    let mut launched = Vec::new();
    for id in &others {
        let admission = world.launcher.admit().await.unwrap();
        let mut one = world.launcher.launch(id, options()).await.unwrap();
        one.reports = one.reports.map(|reports| reports.holding(Some(admission)));
        launched.push(one);
    }
    let mut third = Box::pin(world.launcher.admit());
    assert!(futures_now(&mut third).await.is_none());
    world.script.0.may_start.add_permits(1);
    let reports = launched.iter_mut().map(|one| one.reports.as_mut().unwrap());
    let mut started = tokio::task::JoinSet::new();
    for mut reports in
        reports.map(|reports| std::mem::replace(reports, procession_launch::Reports::new(closed())))
    {
        started.spawn(async move {
            while !matches!(reports.next().await, None | Some(Report::Handle(_))) {}
            reports
        });
    }
    started.join_next().await.unwrap().unwrap();
    third.await.unwrap();
}

fn closed() -> tokio::sync::mpsc::UnboundedReceiver<Report> {
    tokio::sync::mpsc::unbounded_channel().1
}

/// What the future gives without waiting.
async fn futures_now<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::select! {
        biased;
        output = future => Some(output),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn one_that_another_host_has_launched_is_taken_over_where_it_is_known_and_lost_where_not() {
    let world = World::new();
    let exit = world.launcher.adopt(&world.id, &options(), None).await.unwrap().exit_rx.await.unwrap();
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{exit:?}");
    let labels = Labels::of(&world.id, &options());
    let found = Found { handle: "found again".to_owned(), labels, running: true };
    world.script.0.known.lock().unwrap().push(found);
    let adopted = world.launcher.adopt(&world.id, &options(), None).await.unwrap();
    world.script.ends(Ok(exited(4)));
    assert_eq!(adopted.exit_rx.await.unwrap(), exited(4));
    assert_eq!(*world.script.0.destroyed.lock().unwrap(), ["found again"]);
}

#[tokio::test(start_paused = true)]
async fn what_was_found_is_killed_and_taken_away_and_one_that_does_not_end_is_an_error() {
    let world = World::new();
    world.script.ends(Ok(exited(0)));
    world.launcher.remove("some handle").await.unwrap();
    assert_eq!(*world.script.0.destroyed.lock().unwrap(), ["some handle"]);
    assert_eq!(world.script.signals(), [Signal::Kill]);
    let refused = world.launcher.remove("another").await.unwrap_err();
    assert!(refused.to_string().contains("another has not ended"), "{refused}");
}

#[tokio::test]
async fn a_dry_run_is_of_a_launch_without_its_secrets() {
    let mut options = options();
    options.bootstrap_payload = "canary".to_owned();
    options.command.env.insert("TOKEN".to_owned(), "canary".to_owned());
    let id = ProcId::fresh("p", &HostId::fresh("h")).unwrap();
    let shown = Managed::new(Scripted::default(), 1).dry_run(&id, &options).await.unwrap();
    assert!(shown.starts_with("p: ") && shown.contains("TOKEN"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
}
