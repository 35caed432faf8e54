//! What several tests share.
#![allow(dead_code, reason = "each test file uses its part")]

use std::time::{Duration, Instant};

use procession_launch::{LaunchResult, ProcLauncher, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{BootstrapCommand, HostId, LaunchOptions, ProcExitKind, ProcId};
use procession_sys::{Process, Snapshot};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe::Receiver;

pub(crate) type Lines = BufReader<Receiver>;

pub(crate) fn fresh() -> ProcId {
    ProcId::fresh("p", &HostId::fresh("here")).unwrap()
}

pub(crate) fn options(command: BootstrapCommand) -> LaunchOptions {
    LaunchOptions {
        bootstrap_payload: "the payload".into(),
        process_name: "p @ here".into(),
        command,
        want_stdio: true,
        tail_lines: 0,
        log_channel: None,
        detach: false,
        lease: std::time::Duration::ZERO,
        output: None,
    }
}

pub(crate) fn shell(script: &str) -> LaunchOptions {
    let mut command = BootstrapCommand::new("/bin/sh");
    command.args = vec!["-c".into(), script.into()];
    options(command)
}

/// A proc that runs, with its output.
pub(crate) struct Running {
    pub(crate) id: ProcId,
    pub(crate) pid: u32,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
    pub(crate) exit: tokio::sync::oneshot::Receiver<procession_model::ProcExitResult>,
}

impl Running {
    pub(crate) async fn start(launcher: &NativeLauncher, options: LaunchOptions) -> Self {
        let id = fresh();
        let LaunchResult { pid, stdio, exit_rx, .. } = launcher.launch(&id, options).await.unwrap();
        let StdioHandling::Pipes { stdout, stderr } = stdio else { panic!("the output is not captured") };
        Self {
            id,
            pid: pid.unwrap(),
            stdout: BufReader::new(stdout),
            stderr: BufReader::new(stderr),
            exit: exit_rx,
        }
    }

    /// The next line of its output, which serves as a barrier.
    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) async fn exit(&mut self) -> ProcExitKind {
        let bound = Duration::from_secs(20);
        tokio::time::timeout(bound, &mut self.exit).await.expect("an exit in time").expect("one exit").kind
    }

    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).await.unwrap();
        rest
    }
}

/// Runs a script to its end; how it ended.
pub(crate) async fn exit_of(launcher: &NativeLauncher, script: &str) -> ProcExitKind {
    Running::start(launcher, shell(script)).await.exit().await
}

/// What lives of a launch, wherever it went.
pub(crate) fn members(id: &ProcId) -> Vec<Process> {
    let launch = id.launch_id().to_string();
    let all = Snapshot::take().unwrap();
    all.all().iter().filter(|p| p.is_alive() && p.belongs_to(&launch)).cloned().collect()
}

/// Whether exactly this process still runs; a zombie that nobody reaps does not.
pub(crate) fn lives(process: &Process) -> bool {
    Process::look(process.pid).is_ok_and(|now| now.started == process.started && now.is_alive())
}

/// Asks until `condition` holds; how long that took.
pub(crate) fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        std::thread::yield_now();
    }
    start.elapsed()
}

/// As `within`, and lets the runtime go on meanwhile.
pub(crate) async fn soon(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Tries again until it works.
pub(crate) async fn tries<T, E: std::fmt::Display>(mut attempt: impl AsyncFnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert!(start.elapsed() < Duration::from_secs(20), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The failpoints of this process and of the keepers that it starts from here on.
pub(crate) struct Failpoints(tempfile::TempDir);

impl Failpoints {
    /// To be called before this process has other threads that look at the environment: at the start of a
    /// test, which has a process of its own.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        procession_sys::set_failpoints(directory.path());
        Self(directory)
    }

    /// From here on whoever comes to `name` waits there.
    pub(crate) fn arm(&self, name: &str) {
        std::fs::write(self.0.path().join(name), "").unwrap();
    }

    /// Waits until somebody waits at `name`; who it is.
    pub(crate) async fn reached(&self, name: &str) -> Process {
        let path = self.0.path().join(format!("{name}.hit"));
        let pid = || std::fs::read_to_string(&path).ok()?.strip_suffix('\n')?.parse().ok();
        let pid = tries(async || pid().ok_or(format!("nobody comes to {name}"))).await;
        Process::look(pid).unwrap()
    }

    /// Lets go who waits at `name`, and stops nobody there any more until it is armed again.
    pub(crate) fn disarm(&self, name: &str) {
        let _nobody_came = std::fs::remove_file(self.0.path().join(format!("{name}.hit")));
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }
}

pub(crate) fn zombies() -> usize {
    let all = Snapshot::take().unwrap();
    all.all().iter().filter(|p| p.parent == std::process::id() && !p.is_alive()).count()
}

pub(crate) fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The living descendants of this process that go by `name`; a name shows a moment after the start.
pub(crate) fn helpers(name: &str) -> Vec<Process> {
    let line = format!("{name}\0");
    let all = Snapshot::take().unwrap();
    let named = |p: &&Process| {
        p.is_alive()
            && std::fs::read(format!("/proc/{}/cmdline", p.pid))
                .is_ok_and(|found| found.starts_with(line.as_bytes()))
    };
    all.descendants([std::process::id()]).into_iter().filter(named).cloned().collect()
}

fn only(name: &str) -> Process {
    let mut found = Vec::new();
    within(Duration::from_secs(10), name, || {
        found = helpers(name);
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "one {name} is enough");
    found.remove(0)
}

/// The keeper of this process.
pub(crate) fn keeper() -> Process {
    only("procession-keeper")
}

/// The guard above it.
pub(crate) fn guard() -> Process {
    only("procession-guard")
}

pub(crate) fn keeper_pid() -> u32 {
    keeper().pid
}
