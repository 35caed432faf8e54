use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession_host::AgentLauncher;
use procession_launch::{
    Admission, Capabilities, Confines, Engine, Found as FoundGuest, LaunchResult, ProcLauncher,
    ProcLauncherError, Relayed, Reports, StdioHandling,
};
use procession_model::{DialBack, InvalidArgument, LaunchId, LaunchOptions, ProcId};
use tokio::io::duplex;
use tokio::process::Command;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, Semaphore, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::accelerator::with_kvm;
use crate::command_line::{Purpose, arguments};
use crate::home::{Files, Home};
use crate::initramfs::initramfs;
use crate::kernel::Kernel;
use crate::launch::{Launch, PORT, name_of};
use crate::live::{Asked, Found, Guest, Live};
use crate::qmp::Qmp;
use crate::{Accelerator, VmConfig};

/// How long an agent may take to kill; then the machine is turned off.
const KILLS: Duration = Duration::from_secs(2);
/// How long a QEMU of somebody else may take to end.
const QUITS: Duration = Duration::from_secs(10);
/// How much of its output a proc may be ahead of whoever reads it, here.
const BUFFER: usize = 64 << 10;

/// Why there is no launcher for virtual machines.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// The configuration was refused.
    #[error(transparent)]
    Invalid(#[from] InvalidArgument),
    /// Something that guests need is not here.
    #[error("{0}")]
    Missing(String),
}

/// Launches each proc in a virtual machine of its own, by an agent in there.
pub struct Vm {
    shared: Arc<Shared>,
    room: Arc<Semaphore>,
    runtime: Handle,
}

/// What all launches need.
pub(crate) struct Shared {
    pub(crate) config: VmConfig,
    pub(crate) kernel: Kernel,
    pub(crate) initramfs: Vec<u8>,
    pub(crate) home: Home,
    pub(crate) within: Duration,
    pub(crate) lease: Duration,
    pub(crate) live: Live,
    kvm: OnceCell<bool>,
    /// What runs Python in the guests, once one has said so.
    interpreter: Mutex<Option<String>>,
}

impl Shared {
    pub(crate) async fn with_kvm(&self) -> bool {
        let found =
            self.kvm.get_or_init(|| with_kvm(&self.config, &self.kernel, &self.home, &self.initramfs));
        *found.await
    }

    pub(crate) fn learn(&self, agent: &AgentLauncher) {
        *self.interpreter.lock().unwrap_or_else(PoisonError::into_inner) = agent.interpreter();
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vm")
            .field("config", &self.shared.config)
            .field("kernel", &self.shared.kernel)
            .finish_non_exhaustive()
    }
}

impl Vm {
    /// Finds a kernel and makes what guests start with; none is started yet. Has to be called inside a runtime with time and I/O
    /// enabled, which runs the guests.
    ///
    /// # Errors
    /// The configuration is refused, or QEMU or a kernel is missing.
    pub async fn connect(config: VmConfig) -> Result<Self, VmError> {
        config.check()?;
        if std::env::consts::ARCH != "x86_64" {
            let why = format!("guests are x86-64 machines, and this is {}", std::env::consts::ARCH);
            return Err(VmError::Missing(why));
        }
        version(&config.qemu).await.map_err(VmError::Missing)?;
        let kernel = Kernel::find(&config).map_err(VmError::Missing)?;
        let home = Home::make(config.state_dir.as_deref()).map_err(VmError::Missing)?;
        let (of, agent) = (kernel.clone(), config.agent.clone());
        // Modules may have to be unpacked, which takes its time.
        let made = spawn_blocking(move || initramfs(&of, &agent)).await;
        let made = made.map_err(|error| VmError::Missing(format!("what guests start with: {error}")))?;
        let initramfs = made.map_err(VmError::Missing)?;
        let room = Arc::new(Semaphore::new(config.launches_at_once.min(Semaphore::MAX_PERMITS)));
        let (within, lease) = (config.within()?, config.lease()?);
        let (live, kvm, interpreter) = (Live::default(), OnceCell::new(), Mutex::default());
        let shared =
            Arc::new(Shared { config, kernel, initramfs, home, within, lease, live, kvm, interpreter });
        Ok(Self { shared, room, runtime: Handle::current() })
    }

    async fn kill_now(&self, guest: &Guest) -> Result<(), ProcLauncherError> {
        guest.ask(Asked::Off);
        match guest.machine.get() {
            Some(machine) => machine.kill().await,
            None => Ok(()),
        }
    }
}

/// The first line of what QEMU says of itself.
async fn version(qemu: &str) -> Result<String, String> {
    let missing = |why: String| {
        format!("{qemu}: {why}; install QEMU (Debian: apt-get install qemu-system-x86), or give qemu=")
    };
    let asked = Command::new(qemu).arg("--version").kill_on_drop(true).output().await;
    let asked = asked.map_err(|error| missing(error.to_string()))?;
    let said = String::from_utf8_lossy(&asked.stdout);
    match said.lines().next().filter(|_| asked.status.success()) {
        Some(line) => Ok(line.to_owned()),
        None => Err(missing("it does not say its version".to_owned())),
    }
}

/// Whether the QEMU of a guest lives.
async fn runs(files: &Files) -> bool {
    tokio::net::UnixStream::connect(files.control()).await.is_ok()
}

#[async_trait]
impl Engine for Vm {
    async fn probe(&self) -> Result<String, ProcLauncherError> {
        let version = version(&self.shared.config.qemu).await.map_err(ProcLauncherError::Other)?;
        let kvm = self.shared.kvm.get().copied().unwrap_or(self.shared.config.accel == Accelerator::Kvm);
        let accelerator = match self.shared.config.accel {
            Accelerator::Auto if self.shared.kvm.get().is_none() => "KVM or TCG",
            _ if kvm => "KVM",
            _ => "TCG",
        };
        Ok(format!("{version}, {accelerator}, kernel {}", self.shared.kernel.image.display()))
    }

    fn interpreter(&self) -> Option<String> {
        self.shared.interpreter.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends all guests.
    async fn close(&self) {
        for guest in self.shared.live.all() {
            guest.ask(Asked::Kill);
            if let Some(machine) = guest.machine.get()
                && let Err(error) = machine.kill().await
            {
                tracing::warn!(%error, "a machine could not be ended");
            }
        }
    }

    async fn list(&self) -> Result<Vec<FoundGuest>, ProcLauncherError> {
        let all = self.shared.home.all().map_err(|error| ProcLauncherError::Other(error.to_string()))?;
        let mut found = Vec::new();
        for (files, labels) in all {
            let running = runs(&files).await;
            found.push(FoundGuest { handle: files.name().to_owned(), labels, running });
        }
        Ok(found)
    }

    async fn remove(&self, handle: &str) -> Result<(), ProcLauncherError> {
        let files = self.shared.home.files(handle);
        if handle.contains('/') || files.read_labels().is_none() {
            return Err(ProcLauncherError::NotFound(handle.to_owned()));
        }
        let quit = async {
            if let Ok(mut qmp) = Qmp::connect(&files.control()).await {
                let _it_ends_just_now = qmp.tell("quit").await;
                qmp.listen(Arc::default()).await;
            }
        };
        if timeout(QUITS, quit).await.is_err() {
            let why = format!(
                "the QEMU of guest {handle} has not ended within {QUITS:?} of being told to; is it stopped?"
            );
            return Err(ProcLauncherError::Kill(why));
        }
        files.remove().map_err(|error| ProcLauncherError::Other(error.to_string()))
    }
}

/// Where a proc finds its host, as long as it is about to be launched.
struct Reaches(Arc<Shared>, LaunchId);

impl Drop for Reaches {
    fn drop(&mut self) {
        self.0.live.forget(self.1);
    }
}

#[async_trait]
impl ProcLauncher for Vm {
    fn name(&self) -> &str {
        "vm"
    }

    /// What a guest's own kernel holds a proc to; an agent that cannot do a part of it fails the launch that asks for that.
    fn capabilities(&self) -> Capabilities {
        let all = Confines {
            memory: true,
            pids: true,
            cpu: true,
            user: true,
            rlimits: true,
            security: true,
            binding: true,
        };
        Capabilities {
            one_stream: false,
            pid: false,
            stdio: true,
            tail: true,
            tree_kill: true,
            raw_paths: true,
            command_attributes: true,
            confines: all,
            group_kill: true,
            oom_facts: true,
            folds_signals: false,
            adopt: false,
            dial_back: DialBack::Stdio,
        }
    }

    /// The keeper in the guest is the parent.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        let permit = Arc::clone(&self.room).acquire_owned().await;
        permit.map(Admission::from).map_err(|error| ProcLauncherError::Other(error.to_string()))
    }

    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        // Of one that launches others in its guest.
        if let Found::Live(guest) = self.shared.live.find(proc_id)
            && let Some(agent) = guest.agent.get()
        {
            return agent.relay(proc_id, host).await;
        }
        let launch = proc_id.launch_id();
        self.shared.live.reaches(launch, host);
        let kept = Box::new(Reaches(Arc::clone(&self.shared), launch));
        Ok(Relayed { address: format!("127.0.0.1:{PORT}"), kept })
    }

    /// Answers before its guest boots: that goes on for as long as it says how far it is.
    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let launch = proc_id.launch_id();
        let (guest, host) = self.shared.live.enter(launch);
        let (reports_tx, reports) = mpsc::unbounded_channel();
        let (exit_tx, exit_rx) = oneshot::channel();
        let (stdio, streams) = if options.want_stdio {
            let [(stdout, to_stdout), (stderr, to_stderr)] = [duplex(BUFFER), duplex(BUFFER)];
            let stdio = StdioHandling::Captured { stdout: Box::new(stdout), stderr: Box::new(stderr) };
            (stdio, Some([to_stdout, to_stderr]))
        } else {
            (StdioHandling::Inherited, None)
        };
        let launching =
            Launch { proc_id: proc_id.clone(), options, host, guest, reports: reports_tx, streams };
        let shared = Arc::clone(&self.shared);
        self.runtime.spawn(async move {
            let exit = launching.run(&shared).await;
            shared.live.left(launch);
            let _host_gone = exit_tx.send(exit);
        });
        let (started_at, reports) = (SystemTime::now(), Some(Reports::new(reports)));
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports })
    }

    /// The command line of QEMU, and what the agent in the guest is asked for. Where it is not known yet whether KVM works, it is
    /// that for TCG.
    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        let Shared { config, kernel, home, kvm, .. } = &*self.shared;
        let kvm = kvm.get().copied().unwrap_or(config.accel == Accelerator::Kvm);
        let (files, size) = (home.files(&name_of(proc_id)), config.size(&options.command.confinement));
        let words = arguments(config, kernel, &files, size, kvm, Purpose::Agent);
        let words = [vec![config.qemu.clone()], words].concat();
        let quote = |word: &String| {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@".contains(c);
            if !word.is_empty() && word.chars().all(plain) {
                word.clone()
            } else {
                format!("'{}'", word.replace('\'', r"'\''"))
            }
        };
        let command = options.without_secrets().command;
        Ok(format!("{}\n{:#?}", words.iter().map(quote).collect::<Vec<_>>().join(" "), command))
    }

    /// SIGTERM to the whole tree in the guest, once.
    async fn terminate(&self, proc_id: &ProcId, within: Duration) -> Result<(), ProcLauncherError> {
        match self.shared.live.find(proc_id) {
            Found::Unknown => Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Found::Ended => Ok(()),
            Found::Live(guest) => match guest.agent.get() {
                Some(agent) => agent.terminate(proc_id, within).await,
                None => {
                    guest.ask(Asked::Terminate);
                    Ok(())
                }
            },
        }
    }

    /// By its agent, whose word for the end is exact, and where that does not answer with its machine.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        let guest = match self.shared.live.find(proc_id) {
            Found::Unknown => return Err(ProcLauncherError::NotFound(proc_id.to_string())),
            Found::Ended => return Ok(()),
            Found::Live(guest) => guest,
        };
        let Some(agent) = guest.agent.get() else {
            guest.ask(Asked::Kill);
            return Ok(());
        };
        match timeout(KILLS, agent.kill(proc_id)).await {
            Ok(Ok(())) => Ok(()),
            _ => self.kill_now(&guest).await,
        }
    }
}
