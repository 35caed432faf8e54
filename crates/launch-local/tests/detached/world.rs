//! A state directory, and a host in a process of its own that is killed.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use procession_launch::{LaunchResult, ProcLauncher, StdioHandling};
use procession_launch_local::NativeLauncher;
use procession_model::{LaunchOptions, OutputFiles, ProcExitKind, ProcId};
use procession_sys::{self as sys, LogFile, Process, Rotation, Snapshot};
use tokio::net::unix::pipe::Receiver;

use crate::common::{Running, fresh, lives, members, shell, tries, within};

pub(crate) const BOUND: Duration = Duration::from_secs(30);
pub(crate) const KILLED: ProcExitKind = ProcExitKind::Signaled { signal: libc::SIGKILL, core_dumped: false };
/// Leaves a daemon in a session of its own, and waits for a file called `go`.
pub(crate) const DAEMON: &str = "setsid sh -c 'sleep 1000 &'; ";
pub(crate) const WAITS: &str = "touch up; while [ ! -e go ]; do sleep 0.01; done; ";

/// A state directory, in which procs work too; nothing of it outlives the test.
pub(crate) struct State(tempfile::TempDir);

impl State {
    pub(crate) fn new() -> Self {
        let state = Self(tempfile::tempdir().unwrap());
        fs::set_permissions(state.path(), fs::Permissions::from_mode(0o700)).unwrap();
        state
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn has(&self, name: &str) {
        within(BOUND, name, || self.path().join(name).exists());
    }

    pub(crate) fn put(&self, name: &str) {
        fs::write(self.path().join(name), "").unwrap();
    }

    /// Its keepers and guards that live, by name.
    pub(crate) fn helpers(&self, name: &str) -> Vec<Process> {
        let ours = |p: &&Process| {
            let line = fs::read(format!("/proc/{}/cmdline", p.pid)).unwrap_or_default();
            let mut words = line.split(|&byte| byte == 0);
            words.next() == Some(name.as_bytes())
                && words.any(|word| word == self.path().as_os_str().as_encoded_bytes())
        };
        Snapshot::take().unwrap().all().iter().filter(|p| p.is_alive()).filter(ours).cloned().collect()
    }

    pub(crate) fn helper(&self, name: &str) -> Process {
        let mut found = Vec::new();
        within(BOUND, name, || {
            found = self.helpers(name);
            !found.is_empty()
        });
        found.remove(0)
    }

    pub(crate) fn keeper(&self) -> Process {
        self.helper("procession-keeper")
    }

    pub(crate) fn guard(&self) -> Process {
        self.helper("procession-guard")
    }

    pub(crate) fn has_no_helpers(&self) {
        within(BOUND, "keeper and guard have ended", || {
            self.helpers("procession-keeper").is_empty() && self.helpers("procession-guard").is_empty()
        });
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join("logs").join(name)
    }

    /// A detached launch that works in this directory.
    pub(crate) fn detached(&self, script: &str, rotation: Rotation) -> LaunchOptions {
        let mut options = shell(script);
        options.command.cwd = Some(self.path().to_owned());
        options.detach = true;
        let Rotation { max_bytes, keep } = rotation;
        options.output =
            Some(OutputFiles { stdout: self.file("out"), stderr: self.file("err"), max_bytes, keep });
        options
    }

    pub(crate) fn simple(&self, script: &str) -> LaunchOptions {
        self.detached(script, Rotation { max_bytes: None, keep: 0 })
    }

    /// All of stdout, the earlier files first.
    pub(crate) fn stdout(&self, keep: u32) -> Vec<u8> {
        let earlier = (1..=keep).rev().map(|number| self.file(&format!("out.{number}")));
        earlier.chain([self.file("out")]).filter_map(|path| fs::read(path).ok()).flatten().collect()
    }

    /// The next host's launcher, which it gets once the last one has let go.
    pub(crate) async fn next_launcher(&self) -> NativeLauncher {
        tries(async || NativeLauncher::start_in(self.path(), |_| ())).await
    }

    pub(crate) fn launcher(&self) -> NativeLauncher {
        NativeLauncher::start_in(self.path(), |_| ()).unwrap()
    }

    /// What is launched now is launched as ever.
    pub(crate) async fn launches(&self, launcher: &NativeLauncher) {
        let launched = launcher.launch(&fresh(), self.simple("exit 4")).await.unwrap();
        assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 4 });
    }

    pub(crate) async fn shut_down(&self, launcher: NativeLauncher) {
        launcher.shutdown().await;
        self.has_no_helpers();
    }
}

/// Both at once: each is stopped before the other dies, so that none does anything about it.
pub(crate) fn kill_both(keeper: &Process, guard: &Process) {
    guard.signal(libc::SIGSTOP);
    within(BOUND, "it is stopped", || Process::look(guard.pid).unwrap().state == 'T');
    keeper.signal(libc::SIGKILL);
    guard.signal(libc::SIGKILL);
    within(BOUND, "both are gone", || !lives(keeper) && !lives(guard));
}

impl Drop for State {
    fn drop(&mut self) {
        for name in ["procession-guard", "procession-keeper"] {
            self.helpers(name).iter().for_each(|helper| {
                let all = Snapshot::take().unwrap();
                all.descendants([helper.pid]).iter().for_each(|process| process.signal(libc::SIGKILL));
                helper.signal(libc::SIGKILL);
            });
        }
    }
}

/// What a host does with the output of a proc with files.
pub(crate) fn splice(path: PathBuf, rotation: Rotation, pipe: Receiver) -> std::thread::JoinHandle<()> {
    let pipe = pipe.into_nonblocking_fd().unwrap();
    std::thread::spawn(move || {
        let (mut log, mut buffer) = (LogFile::new(path, rotation), vec![0; 1 << 16]);
        loop {
            sys::poll(&mut [sys::Watch::readable(pipe.as_fd())], None).unwrap();
            match log.take(pipe.as_fd(), &mut buffer) {
                Ok(taken) if taken.bytes == 0 => return,
                Ok(taken) => assert!(taken.failure.is_none()),
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            }
        }
    })
}

pub(crate) fn pipes(stdio: StdioHandling) -> [Receiver; 2] {
    let StdioHandling::Pipes { stdout, stderr } = stdio else { panic!("there are no pipes") };
    [stdout, stderr]
}

pub(crate) async fn end(launched: LaunchResult) -> procession_model::ProcExitResult {
    tokio::time::timeout(BOUND, launched.exit_rx).await.expect("an exit in time").expect("one exit")
}

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_host() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let options: LaunchOptions = options_of(&std::env::var("OPTIONS").unwrap());
    let directory = PathBuf::from(std::env::var("DIRECTORY").unwrap());
    runtime.block_on(async {
        let launcher = NativeLauncher::start_in(&directory, |_| ()).unwrap();
        let mut sibling = Running::start(&launcher, shell("echo up; sleep 1000")).await;
        sibling.line().await;
        let id = fresh();
        let OutputFiles { stdout, max_bytes, keep, .. } = options.output.clone().unwrap();
        let launched = launcher.launch(&id, options).await.unwrap();
        println!("\nsibling {}", sibling.id);
        println!("pid {}", launched.pid.unwrap());
        println!("proc {id}");
        let [out, _err] = pipes(launched.stdio);
        splice(stdout, Rotation { max_bytes, keep }, out);
        let _until_the_test_says_so = std::io::stdin().read_to_end(&mut Vec::new());
        drop(launcher);
    });
}

/// Plain words, so that no format is needed: the script, the directory, the rotation.
fn words_of(options: &LaunchOptions) -> String {
    let output = options.output.as_ref().unwrap();
    format!("{}\n{}\n{}", output.keep, output.max_bytes.unwrap_or(0), options.command.args[1])
}

fn options_of(words: &str) -> LaunchOptions {
    let mut parts = words.splitn(3, '\n');
    let keep = parts.next().unwrap().parse().unwrap();
    let max_bytes = Some(parts.next().unwrap().parse().unwrap()).filter(|&max| max > 0);
    let mut options = shell(parts.next().unwrap());
    let directory = PathBuf::from(std::env::var("DIRECTORY").unwrap());
    let file = |name: &str| directory.join("logs").join(name);
    options.output = Some(OutputFiles { stdout: file("out"), stderr: file("err"), max_bytes, keep });
    options.command.cwd = Some(directory);
    options.detach = true;
    options
}

/// A host in a process of its own that has launched one detached proc, and one that is not.
pub(crate) struct Host {
    child: Child,
    _stdout: BufReader<ChildStdout>,
    pub(crate) id: ProcId,
    sibling: ProcId,
    pub(crate) leader: Process,
}

impl Host {
    pub(crate) fn start(state: &State, options: &LaunchOptions) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "world::role_of_a_host", "--ignored", "--nocapture"])
            .env("OPTIONS", words_of(options))
            .env("DIRECTORY", state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (mut sibling, mut pid, mut id) = (None, None, None);
        for line in stdout.by_ref().lines() {
            let line = line.unwrap();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("sibling", text) => sibling = text.parse().ok(),
                ("pid", text) => pid = text.parse().ok(),
                ("proc", text) => {
                    id = text.parse().ok();
                    break;
                }
                _ => {}
            }
        }
        let leader = Process::look(pid.expect("the host has launched")).unwrap();
        Self { child, _stdout: stdout, id: id.unwrap(), sibling: sibling.unwrap(), leader }
    }

    /// One that was killed once its proc was up.
    pub(crate) fn killed(state: &State, options: &LaunchOptions) -> Self {
        let mut host = Self::start(state, options);
        state.has("up");
        host.kill();
        host
    }

    /// What it launched, as the launcher of the next host takes it over.
    pub(crate) async fn adopted_by(
        &self,
        launcher: &NativeLauncher,
        options: &LaunchOptions,
    ) -> LaunchResult {
        let adopted = launcher.adopt(&self.id, options, self.leader()).await.unwrap();
        assert_eq!(adopted.pid, Some(self.leader.pid));
        adopted
    }

    pub(crate) fn is_the_guards(&self, guard: &Process) {
        within(BOUND, "the proc is the guard's", || {
            Process::look(self.leader.pid).unwrap().parent == guard.pid
        });
    }

    /// SIGKILL; returns when all is gone that is not detached.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        within(BOUND, "what is not detached is gone", || members(&self.sibling).is_empty());
    }

    pub(crate) fn leader(&self) -> Option<(u32, u64)> {
        Some((self.leader.pid, self.leader.started))
    }
}

pub(crate) fn numbers(to: u64) -> Vec<u8> {
    (0..=to).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}
