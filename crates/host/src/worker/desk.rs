use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use procession_actor::{Actor, ActorFailure, Handler, Handlers, Instance};
use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{LaunchId, LaunchOptions, ProcExitKind, ProcExitResult};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::inner::{Engines, Inner};
use super::line::Line;
use super::message::{
    Answered, Ask, Beat, Done, End, Ended, Forget, Greet, Greeting, How, Launch, Lead, Listen, Listening,
    Machine, Reached, Running, ShutDown, Started, Through, Undone,
};
use super::pump::pump;
use super::relay;

/// Where one client of a server asks for what it wants.
pub(super) struct Desk {
    pub(super) line: Line,
    /// None: it could not be started, and why.
    pub(super) launcher: Result<Arc<NativeLauncher>, String>,
    pub(super) launching: Arc<Launching>,
    pub(super) interpreter: Option<String>,
    /// How many procs have not told their exit yet.
    pub(super) running: watch::Sender<usize>,
    /// Asks for the end of the server, where clients may.
    pub(super) shut_down: Option<watch::Sender<bool>>,
    /// What listens for procs that reach their host through here.
    pub(super) listening: JoinSet<()>,
    /// The launchers that clients may ask for.
    pub(super) engines: Option<Arc<dyn Engines>>,
    /// The one that a client has asked for.
    pub(super) inner: Arc<OnceLock<Arc<Inner>>>,
}

/// Launches that the launcher may not know of yet: who wants them to end waits until it does.
#[derive(Default)]
pub(super) struct Launching(Mutex<HashMap<LaunchId, watch::Receiver<()>>>);

impl Launching {
    /// Until the sender is dropped.
    fn begin(self: &Arc<Self>, launch: LaunchId) -> Begun {
        let (sender, receiver) = watch::channel(());
        self.all().insert(launch, receiver);
        Begun { all: Arc::clone(self), launch, _until: sender }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<LaunchId, watch::Receiver<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn over(&self, launch: LaunchId) {
        let receiver = self.all().get(&launch).cloned();
        if let Some(mut receiver) = receiver {
            let _over = receiver.changed().await;
        }
    }
}

struct Begun {
    all: Arc<Launching>,
    launch: LaunchId,
    _until: watch::Sender<()>,
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.all.all().remove(&self.launch);
    }
}

/// A proc that has not told its exit yet.
struct Counted(watch::Sender<usize>);

impl Counted {
    fn among(running: &watch::Sender<usize>) -> Self {
        running.send_modify(|count| *count += 1);
        Self(running.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Actor for Desk {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Greet>();
        table.add::<Launch>();
        table.add::<End>();
        table.add::<ShutDown>();
        table.add::<Beat>();
        table.add::<Listen>();
        table.add::<Lead>();
        table.add::<Forget>();
        table.add::<Through>();
        table.add::<Ask>();
    }
}

impl Handler<Greet> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, Greet(answer): Greet) -> Result<(), ActorFailure> {
        let machine = match &self.launcher {
            Ok(launcher) => Ok(Machine::of(&launcher.capabilities(), self.interpreter.clone())),
            Err(why) => Err(why.clone()),
        };
        let greeting = Greeting { version: env!("CARGO_PKG_VERSION").to_owned(), machine };
        self.line.answer(answer, greeting).await;
        Ok(())
    }
}

impl Handler<Through> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, through: Through) -> Result<(), ActorFailure> {
        let Through { kind, config, said, reached } = through;
        let found = match &self.engines {
            Some(engines) => engines.connect(&kind, &config).await,
            None => Err("this agent launches processes of its machine alone; have the one of Python run there, `procession agent --stdio`".to_owned()),
        };
        let machine = found.map(|engine| {
            let inner = Arc::new(Inner::new(engine, self.line.clone(), said));
            let machine = inner.machine(self.interpreter.clone());
            let _the_first_stays = self.inner.set(inner);
            machine
        });
        self.line.answer(reached, Reached(machine)).await;
        Ok(())
    }
}

impl Handler<Ask> for Desk {
    async fn handle(
        &mut self,
        _: &Instance<Self>,
        Ask { question, answer }: Ask,
    ) -> Result<(), ActorFailure> {
        let (line, inner) = (self.line.clone(), self.inner.get().cloned());
        tokio::spawn(async move {
            let answered = match inner {
                Some(inner) => inner.answer(question).await,
                None => Err("it has no launcher of a substrate".to_owned()),
            };
            line.answer(answer, Answered(answered)).await;
        });
        Ok(())
    }
}

impl Handler<Launch> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, launch: Launch) -> Result<(), ActorFailure> {
        if let Some(inner) = self.inner.get() {
            inner.launch(launch);
            return Ok(());
        }
        let launcher = match &self.launcher {
            Ok(launcher) => Arc::clone(launcher),
            Err(why) => {
                self.line.answer(launch.started, Started(Err(why.clone()))).await;
                return Ok(());
            }
        };
        let begun = self.launching.begin(launch.proc_id.launch_id());
        let counted = Counted::among(&self.running);
        let line = self.line.clone();
        tokio::spawn(async move {
            run(&line, launcher.as_ref(), launch, begun).await;
            drop(counted);
        });
        Ok(())
    }
}

/// Starts a proc and tells how it ended; all of its output first.
async fn run(line: &Line, launcher: &NativeLauncher, launch: Launch, begun: Begun) {
    let Launch { proc_id, order, streams, started, ended } = launch;
    let launched = launcher.launch(&proc_id, LaunchOptions::from(order)).await;
    drop(begun);
    let LaunchResult { pid, started_at, stdio, exit_rx, .. } = match launched {
        Ok(launched) => launched,
        Err(error) => return line.answer(started, Started(Err(error.to_string()))).await,
    };
    let over = watch::Sender::new(false);
    let pipes = match stdio {
        StdioHandling::Pipes { stdout, stderr } => Some([stdout, stderr]),
        _ => None,
    };
    let running = Running { pid, started_at, captured: pipes.is_some() };
    line.answer(started, Started(Ok(running))).await;
    let pumps: Vec<_> = pipes
        .into_iter()
        .flatten()
        .zip(streams)
        .map(|(pipe, port)| tokio::spawn(pump(line.clone(), pipe, port, over.subscribe())))
        .collect();
    let result = exit_rx.await.unwrap_or_else(|_| {
        let reason = "its launcher ended without a word".to_owned();
        ProcExitResult::new(ProcExitKind::Lost { reason })
    });
    over.send_replace(true);
    for pump in pumps {
        let _panicked = pump.await;
    }
    line.answer(ended, Ended(result)).await;
}

impl Handler<End> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, end: End) -> Result<(), ActorFailure> {
        let End { proc_id, how, done } = end;
        if let Some(inner) = self.inner.get().cloned() {
            let line = self.line.clone();
            tokio::spawn(async move {
                let ended = inner.end(&proc_id, how).await;
                line.answer(done, Done(ended.map_err(undone))).await;
            });
            return Ok(());
        }
        let Ok(launcher) = &self.launcher else {
            self.line.answer(done, Done(Err(Undone::NotFound))).await;
            return Ok(());
        };
        let (line, launcher, launching) =
            (self.line.clone(), Arc::clone(launcher), Arc::clone(&self.launching));
        tokio::spawn(async move {
            launching.over(proc_id.launch_id()).await;
            let ended = match how {
                How::Terminate => launcher.terminate(&proc_id, NativeLauncher::ANSWER).await,
                How::Kill => launcher.kill(&proc_id).await,
            };
            line.answer(done, Done(ended.map_err(undone))).await;
        });
        Ok(())
    }
}

fn undone(error: ProcLauncherError) -> Undone {
    match error {
        ProcLauncherError::NotFound(_) => Undone::NotFound,
        ProcLauncherError::Terminate(why) | ProcLauncherError::Kill(why) => Undone::Failed(why),
        error => Undone::Failed(error.to_string()),
    }
}

impl Handler<Beat> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, Beat(done): Beat) -> Result<(), ActorFailure> {
        self.line.answer(done, Done(Ok(()))).await;
        Ok(())
    }
}

impl Handler<Listen> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, listen: Listen) -> Result<(), ActorFailure> {
        let Listen { port, dialled, listening } = listen;
        let listener = match self.inner.get().filter(|_| port == 0) {
            Some(inner) => inner.listen().await,
            None => here(port)
                .await
                .map_err(|error| format!("port {port} of the loopback there cannot be listened to: {error}")),
        };
        let answer = listener.map(|(listener, address)| {
            self.listening.spawn(relay::accept(self.line.clone(), listener, dialled));
            address
        });
        self.line.answer(listening, Listening(answer)).await;
        Ok(())
    }
}

/// A listener of the loopback, and its address.
async fn here(port: u16) -> std::io::Result<(TcpListener, String)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

impl Handler<Lead> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, lead: Lead) -> Result<(), ActorFailure> {
        let Lead { proc_id, here, listening } = lead;
        let (line, inner) = (self.line.clone(), self.inner.get().cloned());
        tokio::spawn(async move {
            let led = match inner {
                Some(inner) => inner.lead(&proc_id, here).await,
                None => Err("its procs dial it themselves".to_owned()),
            };
            line.answer(listening, Listening(led)).await;
        });
        Ok(())
    }
}

impl Handler<Forget> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, Forget(proc_id): Forget) -> Result<(), ActorFailure> {
        if let Some(inner) = self.inner.get() {
            inner.forget(&proc_id);
        }
        Ok(())
    }
}

impl Handler<ShutDown> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, ShutDown(done): ShutDown) -> Result<(), ActorFailure> {
        let Some(shut_down) = &self.shut_down else {
            let why = "it serves until its own machine ends it: it was not started to be ended by clients";
            self.line.answer(done, Done(Err(Undone::Failed(why.to_owned())))).await;
            return Ok(());
        };
        self.line.answer(done, Done(Ok(()))).await;
        shut_down.send_replace(true);
        Ok(())
    }
}
