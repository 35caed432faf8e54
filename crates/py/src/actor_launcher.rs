use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_actor::{ActorHandle, DROPPED, Instance, Mailbox, MailboxError};
use procession_launch::{
    Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling,
};
use procession_model::{Confinement, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::sync::{Semaphore, oneshot};

use crate::confinement::arguments as confinement_arguments;
use crate::errors::{LAUNCHER_LOST, LAUNCHER_UNAVAILABLE};
use crate::exit_decode::{bounded_tail, convert_py_exit_result, is_pickled, raised_text};
use crate::inbox::NOT_CREATED;
use crate::message::{EitherPortRef, MethodSpecifier, PythonMessage, PythonMessageKind, PythonOncePortRef};
use crate::pickle::Pickle;
use crate::python_actor::PythonActor;

/// How much longer than the timeout it was given a `terminate` may take to be acknowledged.
const TERMINATE_SLACK: Duration = Duration::from_secs(5);
/// How long a `kill` may take to be acknowledged.
const KILL_BOUND: Duration = Duration::from_secs(5);
/// How many launches may wait for its acknowledgement at once; the others wait here.
const LAUNCHES_AT_ONCE: usize = 128;

/// A launcher that hands everything to an actor written in Python.
///
/// Exits come decoded from the launcher's process: neither an exit nor a terminate nor a kill waits for an interpreter
/// of this one.
#[derive(Debug)]
pub struct ActorProcLauncher {
    spawner: ActorHandle<PythonActor>,
    mailbox: Mailbox,
    instance: Instance<()>,
    name: String,
    capabilities: Capabilities,
    own_proc: bool,
    /// The actor lives in this very process, whose own objects can be unpickled here.
    is_here: bool,
    /// Why it takes no launches.
    refusal: Option<String>,
    room: Arc<Semaphore>,
    tracked: Arc<Tracked>,
}

/// What was launched, and whether the end of the launcher was told.
#[derive(Debug, Default)]
struct Tracked {
    procs: Mutex<HashSet<ProcId>>,
    loss_told: AtomicBool,
}

impl Tracked {
    fn lock(&self) -> MutexGuard<'_, HashSet<ProcId>> {
        self.procs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An exit port has closed without an exit. That a launcher has ended is told once, and not for each proc.
    fn tell_closed(&self, launcher: &str, proc_id: &ProcId, why: &str) {
        match code_of(why) {
            PORT_DROPPED => tracing::warn!(
                %proc_id,
                launcher,
                "PortDropped: the launcher let go of its exit port without an answer; send the exit in every case"
            ),
            LAUNCHER_LOST if !self.loss_told.swap(true, Ordering::Relaxed) => tracing::warn!(
                launcher,
                why,
                "LauncherLost: the launcher has ended, and what it had launched ends too"
            ),
            _ => {}
        }
    }
}

const PORT_DROPPED: &str = "PortDropped";

/// What the closing of a launcher's port means.
fn code_of(why: &str) -> &'static str {
    match why {
        DROPPED => PORT_DROPPED,
        why if why.contains(NOT_CREATED) => LAUNCHER_UNAVAILABLE,
        _ => LAUNCHER_LOST,
    }
}

impl ActorProcLauncher {
    /// A launcher that calls `launch`, `terminate` and `kill` of `spawner`, and claims to be able to do nothing special.
    pub fn new(spawner: ActorHandle<PythonActor>, mailbox: Mailbox, instance: Instance<()>) -> Self {
        let name = spawner.id().name.to_string();
        let is_here = spawner.id().proc_id == instance.id().proc_id;
        let capabilities = Capabilities { tail: true, ..Capabilities::default() };
        Self {
            spawner,
            mailbox,
            instance,
            name,
            capabilities,
            own_proc: false,
            is_here,
            refusal: None,
            room: Arc::new(Semaphore::new(LAUNCHES_AT_ONCE)),
            tracked: Arc::default(),
        }
    }

    /// The same launcher, which takes no launches, and why.
    pub fn refusing(self, why: String) -> Self {
        Self { refusal: Some(why), ..self }
    }

    /// The same launcher under another name than its actor's.
    pub fn with_name(self, name: impl Into<String>) -> Self {
        Self { name: name.into(), ..self }
    }

    /// The same launcher, able to do what its actor says.
    pub fn with_capabilities(self, capabilities: Capabilities) -> Self {
        Self { capabilities, ..self }
    }

    /// The same launcher, whose actor has a proc to itself.
    pub fn in_its_own_proc(self) -> Self {
        Self { own_proc: true, ..self }
    }

    /// What it has launched and not heard the exit of; for diagnostics.
    pub fn tracked(&self) -> Vec<ProcId> {
        let mut all: Vec<ProcId> = self.tracked.lock().iter().cloned().collect();
        all.sort();
        all
    }

    fn arguments(&self, proc_id: &ProcId, opts: &LaunchOptions) -> Result<Vec<u8>, ProcLauncherError> {
        let command = &opts.command;
        let text = |field: &str, path: &Path| match path.to_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(ProcLauncherError::Other(format!(
                "{field} {path:?} is not valid UTF-8, and launcher {:?} is written in Python, which takes text; \
                 rename it, or use the native launcher",
                self.name
            ))),
        };
        let mut env: Vec<_> = command.env.iter().collect();
        env.sort();
        let env = env.into_iter().map(|(key, value)| (Pickle::Str(key.clone()), Pickle::Str(value.clone())));
        let mut args = vec![
            Pickle::Str(opts.bootstrap_payload.clone()),
            Pickle::Str(opts.process_name.clone()),
            Pickle::Str(text("program", &command.program)?),
            Pickle::optional(command.arg0.as_deref()),
            Pickle::strings(&command.args),
            Pickle::Dict(env.collect()),
            Pickle::Bool(opts.want_stdio),
            Pickle::Int(opts.tail_lines.try_into().unwrap_or(i64::MAX)),
            Pickle::optional(opts.log_channel.as_ref().map(|channel| channel.0.as_str())),
        ];
        let confined = command.confinement != Confinement::default();
        if self.capabilities.command_attributes || confined {
            let cwd = command.cwd.as_deref().filter(|_| self.capabilities.command_attributes);
            let cwd = cwd.map(|cwd| text("cwd", cwd)).transpose()?;
            args.extend([
                Pickle::optional(cwd.as_deref()),
                Pickle::Bool(command.clear_env),
                Pickle::strings(&command.env_remove),
            ]);
        }
        // Options of older launchers end before these.
        if confined {
            args.extend(confinement_arguments(&command.confinement));
        }
        if !self.capabilities.command_attributes && (command.clear_env || !command.env_remove.is_empty()) {
            return Err(ProcLauncherError::Other(format!(
                "launcher {:?} cannot clear or unset environment variables; leave clear_env and None values out, \
                 or declare command_attributes in its capabilities",
                self.name
            )));
        }
        let opts = Pickle::Call { module: "procession.launch", name: "LaunchOptions", args };
        Ok(call_arguments(vec![Pickle::Str(proc_id.to_string()), opts]))
    }

    /// Calls an endpoint that answers once it has done its work; an error says why it is not known to have.
    async fn ask(&self, method: &str, args: Vec<Pickle>, bound: Duration) -> Result<(), String> {
        let (port, answer) = self.mailbox.open_once_port();
        let kind = PythonMessageKind::CallMethod {
            name: MethodSpecifier::ReturnsResponse { name: method.to_owned() },
            response_port: Some(EitherPortRef::Once(port.bind().into())),
        };
        self.spawner.send(&self.instance, PythonMessage::new(kind, call_arguments(args))).map_err(
            |error| {
                format!(
                    "{LAUNCHER_LOST}: send to spawner failed: {error}; the launcher is gone, start it again"
                )
            },
        )?;
        let read = async {
            match answer.recv().await {
                Ok(message) => acknowledgement(method, message, self.is_here).await,
                Err(MailboxError::Closed(why)) if why == DROPPED => {
                    Err(format!("the spawner let go of the answer to {method}; see what it does"))
                }
                Err(MailboxError::Closed(why)) => {
                    Err(format!("{}: the spawner is gone: {why}; look for its own exit", code_of(&why)))
                }
                Err(MailboxError::Decode(why)) => Err(format!(
                    "the answer to {method} cannot be read: {why}; run one version on both sides"
                )),
            }
        };
        tokio::time::timeout(bound, read).await.unwrap_or_else(|_| {
            Err(format!(
                "the spawner did not answer {method} within {bound:?}; it hangs or is overloaded, look at what it does"
            ))
        })
    }

    /// Like [`Self::ask`]; a failure counts for nothing when the proc has ended meanwhile.
    async fn ask_about(
        &self,
        proc_id: &ProcId,
        method: &str,
        args: Vec<Pickle>,
        bound: Duration,
    ) -> Result<(), String> {
        let lived = self.tracked.lock().contains(proc_id);
        let asked = self.ask(method, args, bound).await;
        if lived && !self.tracked.lock().contains(proc_id) { Ok(()) } else { asked }
    }
}

fn call_arguments(args: Vec<Pickle>) -> Vec<u8> {
    Pickle::Tuple(vec![Pickle::Tuple(args), Pickle::Dict(Vec::new())]).to_vec()
}

#[async_trait]
impl ProcLauncher for ActorProcLauncher {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    fn own_proc(&self) -> Option<ProcId> {
        self.own_proc.then(|| self.spawner.id().proc_id.clone())
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        if let Some(why) = &self.refusal {
            let name = &self.name;
            return Err(ProcLauncherError::Other(format!(
                "{LAUNCHER_UNAVAILABLE}: launcher {name:?}: {why}"
            )));
        }
        // It is never closed.
        let permit = Arc::clone(&self.room).acquire_owned().await;
        Ok(permit.map_or_else(|_| Admission::default(), Admission::from))
    }

    /// Answers once the actor's endpoint runs. Dropping the future gives up on the answer, not on the launch: the proc
    /// stays tracked until its exit comes.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let arguments = self.arguments(proc_id, &opts)?;
        let (exit_port, exit) = self.mailbox.open_once_port();
        let (ack_port, ack) = self.mailbox.open_once_port();
        let mut message = PythonMessage::new(
            PythonMessageKind::CallMethod {
                name: MethodSpecifier::ExplicitPort { name: "launch".to_owned() },
                response_port: Some(EitherPortRef::Once(
                    PythonOncePortRef::from(exit_port.bind()).for_exit(),
                )),
            },
            arguments,
        );
        message.ack_port = Some(ack_port.bind().into());
        let started_at = SystemTime::now();
        self.spawner.send(&self.instance, message).map_err(|error| {
            ProcLauncherError::Other(format!("send to spawner failed: {LAUNCHER_LOST}: {error}"))
        })?;
        self.tracked.lock().insert(proc_id.clone());

        let (exit_tx, exit_rx) = oneshot::channel();
        let (ended_tx, ended) = oneshot::channel::<()>();
        let (tracked, proc_id, keep) = (Arc::clone(&self.tracked), proc_id.clone(), opts.tail_lines);
        let (is_here, name) = (self.is_here, self.name.clone());
        tokio::spawn(async move {
            let received = exit.recv().await;
            if let Err(MailboxError::Closed(why)) = &received {
                tracked.tell_closed(&name, &proc_id, why);
            }
            let mut result = exit_result(received, is_here).await;
            result.stderr_tail = result.stderr_tail.map(|lines| bounded_tail(lines, keep));
            tracked.lock().remove(&proc_id);
            drop(ended_tx);
            if let Err(late) = exit_tx.send(result) {
                tracing::info!(%proc_id, kind = %late.kind, "the exit of a launch that was given up");
            }
        });
        // Without an acknowledgement the exit decides: it comes at once when the actor is gone.
        tokio::select! {
            _ = ack.recv() => {}
            _ = ended => {}
        }
        Ok(LaunchResult {
            pid: None,
            started_at,
            stdio: StdioHandling::ManagedByLauncher,
            exit_rx,
            reports: None,
        })
    }

    /// Cancel safe: dropping the future gives up on the acknowledgement only.
    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        let args = vec![Pickle::Str(proc_id.to_string()), Pickle::Float(timeout.as_secs_f64())];
        self.ask_about(proc_id, "terminate", args, timeout.saturating_add(TERMINATE_SLACK))
            .await
            .map_err(ProcLauncherError::Terminate)
    }

    /// Cancel safe: dropping the future gives up on the acknowledgement only.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let args = vec![Pickle::Str(proc_id.to_string())];
        self.ask_about(proc_id, "kill", args, KILL_BOUND).await.map_err(ProcLauncherError::Kill)
    }
}

/// From another process an exit comes as data, or it is none: nothing of the control plane is unpickled.
async fn exit_result(received: Result<PythonMessage, MailboxError>, is_here: bool) -> ProcExitResult {
    match received {
        Ok(message) if is_pickled(&message) && !is_here => ProcExitResult::failed(
            "failed to decode exit result: protocol error: a pickle came from another process, and exits are not \
             unpickled; send a ProcExitResult to the exit port itself",
        ),
        Ok(message) if is_pickled(&message) => {
            off_thread(move || convert_py_exit_result(message)).await.unwrap_or_else(|| {
                ProcExitResult::failed("failed to decode exit result: the interpreter is shutting down")
            })
        }
        Ok(message) => convert_py_exit_result(message),
        Err(MailboxError::Closed(why)) => {
            let code = code_of(&why);
            ProcExitResult::failed(format!(
                "exit port closed (spawner crashed or forgot to send): {code}: {why}"
            ))
        }
        Err(MailboxError::Decode(why)) => {
            ProcExitResult::failed(format!("failed to decode exit result: protocol error: {why}"))
        }
    }
}

async fn acknowledgement(method: &str, message: PythonMessage, is_here: bool) -> Result<(), String> {
    let raised = |text: &str| Err(format!("the spawner's {method} raised: {text}"));
    match &message.kind {
        // What a launcher raises comes as plain data, like an exit.
        PythonMessageKind::Exit(result) => match &result.kind {
            ProcExitKind::Failed { reason } => Err(reason.clone()),
            kind => {
                Err(format!("protocol error: an exit ({kind}) came where {method} should be acknowledged"))
            }
        },
        PythonMessageKind::Result { .. } => Ok(()),
        PythonMessageKind::Exception { .. } if is_pickled(&message) && !is_here => {
            raised("an exception that came without its text, as a pickle, which is not opened here")
        }
        PythonMessageKind::Exception { .. } if is_pickled(&message) => {
            let text = off_thread(move || raised_text(&message)).await;
            raised(text.as_deref().unwrap_or("an exception that nobody can read any more"))
        }
        PythonMessageKind::Exception { .. } => raised(&raised_text(&message)),
        kind => {
            Err(format!("protocol error: the answer to {method} is {kind:?}; run one version on both sides"))
        }
    }
}

/// Runs what may wait for the interpreter on a thread that nothing else waits for; none when that thread dies.
async fn off_thread<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Option<R> {
    let (tx, rx) = oneshot::channel();
    std::thread::Builder::new()
        .name("procession-decode".to_owned())
        .spawn(move || {
            let _given_up = tx.send(work());
        })
        .ok()?;
    rx.await.ok()
}
