//! One launch, from the boot of its guest to the end of it.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession_host::{AgentDial, AgentLauncher};
use procession_launch::{Labels, LaunchResult, ProcLauncher, Report, StdioHandling};
use procession_model::{LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::io::{AsyncRead, AsyncWriteExt, DuplexStream, copy};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::command_line::{Purpose, arguments};
use crate::home::Files;
use crate::live::{Asked, Guest};
use crate::machine::{Machine, Started};
use crate::vm::Shared;

/// How often a guest that boots says how far it is.
const SAYS: Duration = Duration::from_secs(1);
/// Where procs reach their host, in the guest that each has to itself.
pub(crate) const PORT: u16 = 7117;

/// What is known before a guest is there.
pub(crate) struct Launch {
    pub(crate) proc_id: ProcId,
    pub(crate) options: LaunchOptions,
    pub(crate) host: Option<SocketAddr>,
    pub(crate) guest: Arc<Guest>,
    pub(crate) reports: UnboundedSender<Report>,
    /// Standard output and standard error, where they are wanted.
    pub(crate) streams: Option<[DuplexStream; 2]>,
}

impl Launch {
    /// Until nothing of it is left.
    pub(crate) async fn run(mut self, shared: &Shared) -> ProcExitResult {
        let files = shared.home.files(&name_of(&self.proc_id));
        let started = self.start(shared, &files).await;
        let exit = match started {
            Ok(launched) => {
                self.catch_up().await;
                self.follow(launched).await
            }
            Err(why) => ProcExitResult::failed(why),
        };
        if let Some(machine) = self.guest.machine.get()
            && let Err(error) = machine.kill().await
        {
            tracing::warn!(proc_id = %self.proc_id, %error, "its machine could not be ended");
        }
        if let Err(error) = files.remove() {
            tracing::warn!(proc_id = %self.proc_id, %error, "the files of its guest could not be removed");
        }
        exit
    }

    fn report(&self, report: Report) {
        let _nobody_listens = self.reports.send(report);
    }

    /// Boots the guest, and has the proc launched in there; until its end is asked for.
    async fn start(&self, shared: &Shared, files: &Files) -> Result<LaunchResult, String> {
        let cancelled = || "cancelled before it was started".to_owned();
        let words = tokio::select! {
            words = beside(self.prepare(shared, files), self.say()) => words?,
            () = self.guest.is_asked() => return Err(cancelled()),
        };
        // Not given up halfway: what runs is then known, and is ended before the end of the launch is told.
        let machine = Machine::start(&shared.config.qemu, words.clone()).await?;
        let machine = self.guest.machine.get_or_init(|| machine);
        tokio::select! {
            launched = beside(self.boot(shared, files, machine, words), self.say()) => launched,
            () = self.guest.is_asked() => Err(cancelled()),
        }
    }

    /// Says again and again how far it is.
    async fn say(&self) -> Infallible {
        loop {
            let said = self.guest.machine.get().and_then(|machine| machine.console.last_line());
            let said = said.map(|line| format!(": {line}")).unwrap_or_default();
            self.report(Report::Progress(format!("its guest boots{said}")));
            sleep(SAYS).await;
        }
    }

    /// Makes the files of the guest; gives the command line.
    async fn prepare(&self, shared: &Shared, files: &Files) -> Result<Vec<String>, String> {
        let Shared { config, kernel, initramfs, .. } = shared;
        let kvm = shared.with_kvm().await;
        let labels = Labels::of(&self.proc_id, &self.options);
        files.make(Some(&labels), initramfs).map_err(|error| format!("the files of its guest: {error}"))?;
        let size = config.size(&self.options.command.confinement);
        Ok(arguments(config, kernel, files, size, kvm, Purpose::Agent))
    }

    async fn boot(
        &self,
        shared: &Shared,
        files: &Files,
        machine: &Arc<Machine>,
        words: Vec<String>,
    ) -> Result<LaunchResult, String> {
        let reached = timeout(shared.within, async {
            machine.follow(&files.qmp()).await?;
            machine.stream(&files.agent()).await
        });
        let stream = reached.await.unwrap_or_else(|_| {
            let said = machine.console.lines().join(" | ");
            Err(format!(
                "{} has not opened its sockets within {:?}: {said}",
                shared.config.qemu, shared.within
            ))
        })?;
        let place = format!("guest {}", files.name());
        let way = Started { place, command_line: words, stream: Mutex::new(Some(stream)) };
        let how = AgentDial {
            within: shared.within,
            lease: shared.lease,
            one_each: false,
            at_once: 1,
            launcher: None,
        };
        let agent =
            AgentLauncher::connect("vm", Arc::new(way), how).await.map_err(|error| error.to_string())?;
        shared.learn(&agent);
        agent.check(&self.options.command.confinement).map_err(|error| error.to_string())?;
        if let Some(host) = self.host {
            agent.relay_at(PORT, host).await.map_err(|error| error.to_string())?;
        }
        let launched = agent.launch(&self.proc_id, self.options.clone()).await;
        let launched = launched.map_err(|error| error.to_string())?;
        let _only_once = self.guest.agent.set(agent);
        self.report(Report::Handle(files.name().to_owned()));
        Ok(launched)
    }

    /// Does what was asked for while nobody could be asked.
    async fn catch_up(&self) {
        let (asked, agent) = (*self.guest.asked.borrow(), self.guest.agent.get());
        let Some(agent) = agent.filter(|_| asked != Asked::Nothing) else { return };
        let done = match asked {
            Asked::Terminate => agent.terminate(&self.proc_id, Duration::ZERO).await,
            _ => agent.kill(&self.proc_id).await,
        };
        if let Err(error) = done {
            tracing::warn!(proc_id = %self.proc_id, %error, "what was asked for while its guest booted could not be done");
        }
    }

    /// From here on its agent tells what happens to it.
    async fn follow(&mut self, launched: LaunchResult) -> ProcExitResult {
        let LaunchResult { stdio, exit_rx, reports, .. } = launched;
        let mut tasks = JoinSet::new();
        if let (
            Some([stdout, stderr]),
            StdioHandling::Captured { stdout: from_stdout, stderr: from_stderr },
        ) = (self.streams.take(), stdio)
        {
            tasks.spawn(pass_on(from_stdout, stdout));
            tasks.spawn(pass_on(from_stderr, stderr));
        }
        let passing = async {
            if let Some(mut reports) = reports {
                while let Some(report) = reports.next().await {
                    // Its own name for the proc is not ours.
                    if !matches!(report, Report::Handle(_)) {
                        self.report(report);
                    }
                }
            }
            pending().await
        };
        let exit = beside(exit_of(exit_rx), passing).await;
        while tasks.join_next().await.is_some() {}
        match *self.guest.asked.borrow() {
            Asked::Off => crate::outcome::after_kill(exit),
            _ => exit,
        }
    }
}

/// Until `main` is done; `other` goes on meanwhile.
async fn beside<T>(main: impl Future<Output = T>, other: impl Future<Output = Infallible>) -> T {
    tokio::select! {
        done = main => done,
        never = other => match never {},
    }
}

async fn exit_of(exit_rx: oneshot::Receiver<ProcExitResult>) -> ProcExitResult {
    exit_rx.await.unwrap_or_else(|_| {
        let reason = "its agent's launcher ended without a word".to_owned();
        ProcExitResult::new(ProcExitKind::Lost { reason })
    })
}

async fn pass_on(mut from: Box<dyn AsyncRead + Send + Unpin>, mut to: DuplexStream) {
    // Whoever reads may have gone; then it is only read.
    if copy(&mut from, &mut to).await.is_err() {
        let _nobody_hears = copy(&mut from, &mut tokio::io::sink()).await;
    }
    let _nobody_reads = to.shutdown().await;
}

/// The directory of a guest, in 16 digits of its launch.
pub(crate) fn name_of(proc_id: &ProcId) -> String {
    proc_id.launch_id().to_string().chars().filter(char::is_ascii_alphanumeric).take(16).collect()
}
