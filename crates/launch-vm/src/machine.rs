use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use procession_host::{AgentStream, Guard, Way};
use procession_launch::ProcLauncherError;
use procession_launch_local::supervised::{Stream, Supervised, SupervisedSpec};
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::console::Console;
use crate::outcome::ended;
use crate::qmp::{Qmp, Told};

/// How often it is tried to reach a QEMU that has just been started.
const TRY: Duration = Duration::from_millis(20);
/// How long what a QEMU has told may take to be heard after its end.
const TELLS: Duration = Duration::from_millis(500);
/// How long a QEMU may take to end once its guest is off.
const ENDING: Duration = Duration::from_secs(2);

/// One QEMU. It dies with this process, and is killed when all who know it are gone.
#[derive(Debug)]
pub(crate) struct Machine {
    qemu: Supervised,
    pub(crate) console: Console,
    told: Arc<Mutex<Told>>,
    /// Closed when all is told.
    telling: OnceLock<watch::Receiver<()>>,
    runtime: tokio::runtime::Handle,
}

impl Machine {
    /// Starts it.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub(crate) async fn start(qemu: &str, arguments: Vec<String>) -> Result<Arc<Self>, String> {
        let console = Console::new();
        let heard = console.clone();
        let env: BTreeMap<OsString, OsString> = std::env::vars_os().collect();
        let spec = SupervisedSpec {
            program: PathBuf::from(qemu),
            args: arguments,
            env,
            sink: Some(Box::new(move |stream, bytes| match stream {
                Stream::Stdout => heard.guest_says(bytes),
                Stream::Stderr => heard.qemu_says(bytes),
            })),
            ..SupervisedSpec::default()
        };
        let started = Supervised::spawn(spec).await;
        let qemu = started.map_err(|error| format!("{error} (Debian: apt-get install qemu-system-x86)"))?;
        let (told, telling) = (Arc::default(), OnceLock::new());
        Ok(Arc::new(Self { qemu, console, told, telling, runtime: tokio::runtime::Handle::current() }))
    }

    /// Follows what happens to it.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) async fn follow(&self, qmp: &Path) -> Result<(), String> {
        let qmp = self.reach(|| Qmp::connect(qmp)).await?;
        let (tells, telling) = watch::channel(());
        let _only_once = self.telling.set(telling);
        let told = Arc::clone(&self.told);
        tokio::spawn(async move {
            let _closed_at_its_end = tells;
            qmp.listen(told).await;
        });
        Ok(())
    }

    /// What leads to the agent in the guest.
    ///
    /// # Errors
    /// It has ended.
    pub(crate) async fn stream(self: &Arc<Self>, port: &Path) -> Result<AgentStream, String> {
        let (reader, writer) = self.reach(|| UnixStream::connect(port)).await?.into_split();
        let guard = Box::new(Running(Arc::clone(self)));
        Ok(AgentStream { reader: Box::new(reader), writer: Box::new(writer), guard })
    }

    /// Tries as long as it lives: its sockets are there soon after its start.
    async fn reach<T, F>(&self, connect: impl Fn() -> F) -> Result<T, String>
    where
        F: Future<Output = std::io::Result<T>>,
    {
        let reached = async {
            loop {
                match connect().await {
                    Ok(reached) => return reached,
                    Err(_) => sleep(TRY).await,
                }
            }
        };
        tokio::select! {
            reached = reached => Ok(reached),
            words = self.last_words() => Err(words),
        }
    }

    /// How it has ended, once it has.
    pub(crate) async fn last_words(&self) -> String {
        let exit = self.qemu.wait().await;
        // It may have told why just before.
        if let Some(mut telling) = self.telling.get().cloned() {
            let _it_is_closed = timeout(TELLS, telling.changed()).await;
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        ended(&told, &exit, &self.console)
    }

    /// At once, whatever its guest does; `Ok` where it has ended.
    pub(crate) async fn kill(&self) -> Result<(), ProcLauncherError> {
        self.qemu.kill().await
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let qemu = self.qemu.clone();
        self.runtime.spawn(async move { qemu.kill().await });
    }
}

/// What a conversation with an agent holds of its machine.
struct Running(Arc<Machine>);

#[async_trait]
impl Guard for Running {
    async fn last_words(&mut self) -> String {
        let ended = timeout(ENDING, self.0.last_words()).await;
        ended.unwrap_or_else(|_| {
            let said = self.0.console.lines().join(" | ");
            format!("the machine still runs, and the last that was said is: {said}")
        })
    }
}

/// The one agent of a machine that runs already.
pub(crate) struct Started {
    pub(crate) place: String,
    pub(crate) command_line: Vec<String>,
    pub(crate) stream: Mutex<Option<AgentStream>>,
}

#[async_trait]
impl Way for Started {
    fn place(&self) -> &str {
        &self.place
    }

    fn command_line(&self) -> Vec<String> {
        self.command_line.clone()
    }

    async fn open(&self) -> Result<AgentStream, String> {
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        stream.ok_or_else(|| format!("{} has ended", self.place))
    }
}
