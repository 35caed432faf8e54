use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use procession_actor::{Actor, ActorFailure, Handler, Handlers, Instance};
use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{LaunchId, LaunchOptions, ProcExitKind, ProcExitResult};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::line::Line;
use super::message::{
    Beat, Done, End, Ended, Greet, Greeting, How, Launch, Listen, Listening, Machine, Running, ShutDown,
    Started, Undone,
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

impl Handler<Launch> for Desk {
    async fn handle(&mut self, _: &Instance<Self>, launch: Launch) -> Result<(), ActorFailure> {
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
            let undone = |error| match error {
                ProcLauncherError::NotFound(_) => Undone::NotFound,
                ProcLauncherError::Terminate(why) | ProcLauncherError::Kill(why) => Undone::Failed(why),
                error => Undone::Failed(error.to_string()),
            };
            line.answer(done, Done(ended.map_err(undone))).await;
        });
        Ok(())
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
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await;
        let found = listener.and_then(|listener| Ok((listener.local_addr()?.port(), listener)));
        let answer = match found {
            Ok((port, listener)) => {
                self.listening.spawn(relay::accept(self.line.clone(), listener, dialled));
                Ok(port)
            }
            Err(error) => Err(format!("port {port} of the loopback there cannot be listened to: {error}")),
        };
        self.line.answer(listening, Listening(answer)).await;
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
