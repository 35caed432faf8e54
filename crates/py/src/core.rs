use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use procession_actor::{Mailbox, Proc};
use procession_host::{Child, Host, Inherited};
use procession_launch::ProcLauncher;
use procession_model::{ActorId, InvalidArgument};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError};
use pyo3::prelude::*;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::engine_kinds::connect;
use crate::fork::{refuse_in_fork, set_owner};
use crate::inbox::Inbox;
use crate::io_thread::IoThread;
use crate::lead::Lead;
use crate::opened;
use crate::python_actor::PythonActor;
use crate::signals::listen;
use crate::trace;
use crate::waiter::{Once, Outcome, Promise};
use crate::worker::leave_all;

/// The runtime of this process, once it has one.
static CURRENT: OnceLock<Arc<Core>> = OnceLock::new();
/// Held while one is started, so that there is never a second one.
static STARTING: Mutex<()> = Mutex::new(());

/// For the io thread to end after it was asked to.
const END_GRACE: Duration = Duration::from_secs(2);

/// What this process is to its session.
pub(crate) enum Side {
    /// It launches procs.
    Client(Host),
    /// It was launched; and may be a host itself.
    Launched(Arc<Child>, Option<Host>),
    /// It is a Rust program with an interpreter in it, and this is the program's own node.
    Embedded(Proc),
}

impl Side {
    fn proc_(&self) -> &Proc {
        match self {
            Self::Client(host) => host.proc_(),
            Self::Launched(child, _) => child.proc_(),
            Self::Embedded(proc_) => proc_,
        }
    }
}

/// The runtime of one process: the io thread, and what lives on it.
pub(crate) struct Core {
    pub(crate) side: Side,
    pub(crate) proc_: Proc,
    pub(crate) mailbox: Mailbox,
    /// The sender of what no actor sends.
    pub(crate) client: ActorId,
    /// None in an embedding program, whose runtime is its own.
    io: Option<IoThread>,
    pub(crate) handle: Handle,
    /// In a proc: the host's reason to stop it.
    pub(crate) stop_reason: Arc<Once>,
    ending: AtomicBool,
    ended: AtomicBool,
}

/// The runtime of this process.
///
/// # Errors
/// `RuntimeError`: there is none, it was shut down, or this is a forked child.
pub(crate) fn current() -> PyResult<&'static Arc<Core>> {
    let none = || PyRuntimeError::new_err("no Procession runtime was started in this process");
    let core = started()?.ok_or_else(none)?;
    core.refuse_after_end()?;
    Ok(core)
}

/// The runtime of this process, if one was started, even when it was shut down since.
///
/// # Errors
/// `RuntimeError`: this is a forked child of a process that has one.
pub(crate) fn started() -> PyResult<Option<&'static Arc<Core>>> {
    refuse_in_fork()?;
    Ok(CURRENT.get())
}

/// Who runs the runtime of this process, if one was started that is this process's own.
pub(crate) fn lead_of_this_process() -> Option<&'static Arc<Lead>> {
    CURRENT.get().and_then(|core| core.io.as_ref()).map(IoThread::lead)
}

/// Starts the host of this client, or gives the one that runs.
///
/// # Errors
/// `RuntimeError`: it could not be started, was shut down, or this process is a launched proc.
pub(crate) fn start_client() -> PyResult<&'static Arc<Core>> {
    start(|| {
        trace::start();
        let connected = IoThread::start(Host::start).map_err(no_thread)?;
        let (host, handle, io) = connected.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Core::new(Side::Client(host), handle, Some(io)))
    })
}

/// Starts the host of this client in a directory that stays, and gives what it has taken over.
///
/// # Errors
/// `RuntimeError`: it could not be started, or this process has a runtime already.
pub(crate) fn start_client_in(directory: PathBuf) -> PyResult<Inherited> {
    let mut inherited = None;
    start(|| {
        trace::start();
        let connected = IoThread::start(move || async move {
            Host::start_in_with(&directory, |ticket| async move {
                let engine =
                    connect(&ticket.kind, &ticket.config).await.map_err(|refusal| refusal.to_string())?;
                let launcher: Arc<dyn ProcLauncher> = engine;
                Ok(launcher)
            })
            .await
        });
        let connected = connected.map_err(no_thread)?;
        let ((host, past), handle, io) =
            connected.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        inherited = Some(past);
        Ok(Core::new(Side::Client(host), handle, Some(io)))
    })?;
    let started_before = || {
        PyRuntimeError::new_err(
            "this process has a runtime already; give the directory before anything else is done with procession",
        )
    };
    inherited.ok_or_else(started_before)
}

/// Reaches back to the host that launched this process, which becomes a host too where it `is_host`.
///
/// # Errors
/// `ConnectionError`: nobody admits it. `RuntimeError`: the host of this process could not be started.
pub(crate) fn start_proc(payload: String, imports: Duration, is_host: bool) -> PyResult<&'static Arc<Core>> {
    start(|| {
        trace::start();
        let connected = IoThread::start(move || async move {
            let child = Child::dial_back_after(&payload, imports).await;
            let child = child.map_err(|error| PyConnectionError::new_err(error.to_string()))?;
            if !is_host {
                return Ok((child, None));
            }
            let host = Host::start_below(&child).await;
            let host = host.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
            Ok::<_, PyErr>((child, Some(host)))
        });
        let ((child, host), handle, io) = connected.map_err(no_thread)??;
        Ok(Core::new(Side::Launched(Arc::new(child), host), handle, Some(io)))
    })
}

/// Makes `proc_`, the node of the program that embeds this interpreter, the runtime of the process; `handle` is where
/// its actors run.
///
/// # Errors
/// `RuntimeError`: there is another runtime.
pub(crate) fn embed(proc_: &Proc, handle: Handle) -> PyResult<&'static Arc<Core>> {
    let core = start(|| Ok(Core::new(Side::Embedded(proc_.clone()), handle, None)))?;
    if core.proc_.id() != proc_.id() {
        let id = core.proc_.id();
        return Err(PyRuntimeError::new_err(format!(
            "the runtime of this process is proc {id}; it can have no other"
        )));
    }
    Ok(core)
}

pub(crate) fn no_thread(error: io::Error) -> PyErr {
    let text =
        format!("the runtime's thread could not be started: {error}; raise ulimit -u, or end some processes");
    io::Error::new(error.kind(), text).into()
}

fn start(make: impl FnOnce() -> PyResult<Core>) -> PyResult<&'static Arc<Core>> {
    refuse_in_fork()?;
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    if CURRENT.get().is_none() {
        set_owner(true)?;
        match make().and_then(|core| core.hear_signals().map(|()| core).map_err(PyErr::from)) {
            Ok(core) => drop(CURRENT.set(Arc::new(core))),
            Err(error) => {
                set_owner(false)?;
                return Err(error);
            }
        }
    }
    current()
}

impl Core {
    pub(crate) fn new(side: Side, handle: Handle, io: Option<IoThread>) -> Self {
        let proc_ = side.proc_().clone();
        opened::enable(proc_.downgrade());
        let client = proc_.instance().id().clone();
        let (stopped, stop_reason) = Promise::new();
        if let Side::Launched(child, _) = &side {
            let child = Arc::clone(child);
            handle.spawn(async move { stopped.fulfil(Outcome::Text(child.stopped().await)) });
        }
        Self {
            side,
            mailbox: proc_.mailbox(),
            proc_,
            client,
            io,
            handle,
            stop_reason,
            ending: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// Where the runtime is this process's own, and not that of a program which embeds the interpreter.
    fn hear_signals(&self) -> io::Result<()> {
        if self.io.is_some() { listen(&self.handle) } else { Ok(()) }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn refuse_after_end(&self) -> PyResult<()> {
        if self.has_ended() {
            return Err(PyRuntimeError::new_err(
                "ShuttingDown: the Procession runtime of this process was shut down; start a new process to use it again",
            ));
        }
        Ok(())
    }

    /// The host, to launch procs with.
    ///
    /// # Errors
    /// `RuntimeError`: this process is a launched proc, and no host.
    pub(crate) fn host(&self) -> PyResult<&Host> {
        match &self.side {
            Side::Client(host) | Side::Launched(_, Some(host)) => Ok(host),
            Side::Launched(_, None) => Err(PyRuntimeError::new_err(
                "this process is a launched proc; procs are launched by the client that started the session",
            )),
            Side::Embedded(_) => Err(PyRuntimeError::new_err(
                "this interpreter is embedded in a program that has a node of its own; launch procs from there",
            )),
        }
    }

    /// The launched side.
    ///
    /// # Errors
    /// `RuntimeError`: this process is a client.
    pub(crate) fn child(&self) -> PyResult<&Arc<Child>> {
        match &self.side {
            Side::Launched(child, _) => Ok(child),
            Side::Client(_) | Side::Embedded(_) => Err(PyRuntimeError::new_err(
                "this process was not launched; only a launched proc can do this",
            )),
        }
    }

    /// Refuses new launches once the end has begun.
    ///
    /// # Errors
    /// `RuntimeError`, whose text starts with `ShuttingDown`.
    pub(crate) fn refuse_while_ending(&self) -> PyResult<()> {
        if self.ending.load(Ordering::Acquire) {
            return Err(PyRuntimeError::new_err(
                "ShuttingDown: the session is ending, and launches nothing more",
            ));
        }
        Ok(())
    }

    /// Runs `work` on the io thread; its outcome can be waited for.
    pub(crate) fn run(&self, work: impl Future<Output = Outcome> + Send + 'static) -> Arc<Once> {
        self.run_task(work).0
    }

    /// Like [`Self::run`], for work that can be ended when nobody wants its outcome any more.
    pub(crate) fn run_task(
        &self,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) -> (Arc<Once>, AbortHandle) {
        let (promise, once) = Promise::new();
        let task = self.handle.spawn(async move { promise.fulfil(work.await) });
        (once, task.abort_handle())
    }

    /// The inbox of a new actor.
    ///
    /// # Errors
    /// The name is not legal, an actor of that name lives here, or this proc was asked to stop.
    pub(crate) fn register_actor(&self, name: &str) -> Result<Arc<Inbox>, InvalidArgument> {
        let inbox = match opened::take(name) {
            Some(inbox) => inbox,
            None => PythonActor::spawn(&self.proc_, name)?.1,
        };
        // Asked only now, so that a stop which this does not see finds the actor.
        let Side::Launched(child, _) = &self.side else { return Ok(inbox) };
        let Some(reason) = child.stop_asked() else { return Ok(inbox) };
        let rule =
            format!("this proc was asked to stop ({reason:?}) and takes no new actors; spawn it elsewhere");
        inbox.end_uncreated(&rule);
        Err(InvalidArgument::new("actor name", format!("{name:?}"), rule))
    }

    /// The end of everything but the io thread: in a client every proc, with `timeout` before it is killed; in a proc
    /// the connection, once what was posted is written.
    pub(crate) fn begin_end(&self, timeout: Duration) -> Arc<Once> {
        self.ending.store(true, Ordering::Release);
        opened::disable();
        match &self.side {
            Side::Client(host) => {
                let host = host.clone();
                self.run(async move {
                    host.shutdown(timeout).await;
                    leave_all().await;
                    Outcome::Nothing
                })
            }
            Side::Launched(child, host) => {
                let (child, host) = (Arc::clone(child), host.clone());
                self.run(async move {
                    if let Some(host) = host {
                        host.shutdown(timeout).await;
                        leave_all().await;
                    }
                    child.goodbye().await;
                    Outcome::Nothing
                })
            }
            Side::Embedded(_) => Arc::new(Once::new(Some(Outcome::Nothing))),
        }
    }

    /// Ends the io thread; every call after this is refused. Blocks for at most two seconds.
    pub(crate) fn finish_end(&self) {
        self.ended.store(true, Ordering::Release);
        if let Some(io) = &self.io {
            io.stop();
            if !io.join(Instant::now().checked_add(END_GRACE)) {
                tracing::warn!("the io thread is still busy; the process ends without waiting for it");
            }
        }
        self.proc_.close_ports("the Procession runtime of this process was shut down");
    }
}
