//! What several tests share.

use std::future::Future;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use procession_host::{
    Child, Host, Observer, Policy, ProcEvent, ProcRef, Readiness, SpawnSpec, take_bootstrap,
};
use procession_model::{BootstrapCommand, ProcId};
use procession_sys::{Process, Snapshot};

/// A file that keeps the launched program from dialling back.
pub(crate) const HOLD: &str = "TEST_HOLD";

/// What the launched program does.
const ROLE: &str = "TEST_ROLE";

/// A deadline for what should come at once; only a broken host ever waits for it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it should have come at once")
}

/// Asks until `condition` holds; how long that took.
pub(crate) async fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    start.elapsed()
}

/// A script under /bin/sh that is ready when it runs.
pub(crate) fn script(name: &str, text: &str) -> SpawnSpec {
    let mut spec = booting_script(name, text);
    spec.policy.readiness = Readiness::None;
    spec
}

/// A script under /bin/sh that is expected to call back, and never does.
pub(crate) fn booting_script(name: &str, text: &str) -> SpawnSpec {
    let mut command = BootstrapCommand::new("/bin/sh");
    command.args = vec!["-c".into(), text.into()];
    SpawnSpec::new(name, command)
}

/// This very program, as a proc that plays `role`.
pub(crate) fn program(name: &str, role: &str) -> SpawnSpec {
    let mut command = BootstrapCommand::new(std::env::current_exe().unwrap());
    command.args = ["--ignored", "--exact", "common::launched", "--nocapture", "--test-threads=1"]
        .map(Into::into)
        .to_vec();
    command.env.insert(ROLE.into(), role.into());
    SpawnSpec::new(name, command)
}

#[test]
#[ignore = "the program that procs of the other tests run"]
fn launched() {
    let role = std::env::var(ROLE).unwrap_or_default();
    if role == "notifier" {
        let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let path = PathBuf::from(std::env::var_os("NOTIFY_SOCKET").unwrap());
        socket.send_to(b"STATUS=half way\n", &path).unwrap();
        socket.send_to(b"MAINPID=1\nREADY=1\nSTATUS=all the way", &path).unwrap();
        loop {
            std::thread::park();
        }
    }
    if role == "flood" {
        crate::floods::flood();
    }
    if role == "deaf and immune" {
        procession_sys::ignore_signal(15).unwrap();
    }
    // For as long as its test wants it not to have dialled.
    while std::env::var_os(HOLD).is_some_and(|hold| PathBuf::from(hold).exists()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(take_bootstrap().unwrap_err().to_string().contains("first in main"), "tests have threads");
    let payload = std::env::var(procession_model::BOOTSTRAP_ENV).expect("only a host runs this");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let child = Child::dial_back(&payload).await.unwrap();
        if role == "never ready" {
            child.say("waits for ever");
            std::future::pending::<()>().await;
        }
        if role == "zygote" {
            child.serve_launches(None).await.unwrap();
        }
        child.ready();
        match role.as_str() {
            "proc" | "zygote" => {
                child.stopped().await;
                child.goodbye().await;
            }
            "stuck" => crate::certificates::get_stuck(&child).await,
            "deaf" | "deaf and immune" => std::future::pending().await,
            "short" => {
                child.proc_().spawn("short", Short).unwrap().stop("its work is done");
                child.proc_().actors_ended().await;
                child.goodbye().await;
                std::process::exit(3);
            }
            other => panic!("there is no role {other:?}"),
        }
    });
}

/// An actor that only ends.
struct Short;
impl procession_actor::Actor for Short {}

/// A host whose end takes everything with it.
pub(crate) async fn host() -> Host {
    Host::start().await.unwrap()
}

pub(crate) async fn shut_down(host: Host) {
    soon(host.shutdown(Duration::from_secs(5))).await;
}

pub(crate) fn spawn(host: &Host, spec: SpawnSpec) -> ProcRef {
    host.spawn(spec, host.native_launcher()).unwrap()
}

/// Deadlines that a test can wait for.
pub(crate) fn short(policy: &mut Policy) {
    policy.launch_ack = Duration::from_millis(300);
    policy.terminate_ack_slack = Duration::from_millis(200);
    policy.kill_ack = Duration::from_millis(300);
    policy.kill_gone = Duration::from_millis(600);
}

/// What lives of a launch, wherever it went.
pub(crate) fn members(id: &ProcId) -> Vec<Process> {
    let launch = id.launch_id().to_string();
    let all = Snapshot::take().unwrap();
    all.all().iter().filter(|p| p.is_alive() && p.belongs_to(&launch)).cloned().collect()
}

/// Whether a process of this number runs; a zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    Process::look(pid).is_ok_and(|process| process.is_alive())
}

/// The events of a proc, as text.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Vec<ProcEvent>>>);

impl Record {
    pub(crate) fn observer(&self) -> Observer {
        let events = Arc::clone(&self.0);
        Arc::new(move |event| events.lock().unwrap().push(event.clone()))
    }

    pub(crate) fn events(&self) -> Vec<ProcEvent> {
        self.0.lock().unwrap().clone()
    }

    /// The texts of notes.
    pub(crate) fn notes(&self) -> Vec<String> {
        let note = |event| if let ProcEvent::Note(text) = event { Some(text) } else { None };
        self.events().into_iter().filter_map(note).collect()
    }

    pub(crate) fn exits(&self) -> usize {
        self.events().iter().filter(|event| matches!(event, ProcEvent::Exit(_))).count()
    }
}

/// A line that the proc has written to stdout by now or soon, which serves as a barrier.
pub(crate) async fn line(proc_: &ProcRef, index: usize) -> String {
    let mut found = String::new();
    within(Duration::from_secs(20), "a line of output", || {
        let lines = proc_.output_tail(procession_host::Stream::Stdout);
        // The last one may not be whole yet.
        found = lines
            .get(index)
            .filter(|_| lines.len() > index + 1 || proc_.exit().is_some())
            .cloned()
            .unwrap_or_default();
        !found.is_empty()
    })
    .await;
    found
}

/// The directories of hosts of this process.
pub(crate) fn run_dirs() -> Vec<PathBuf> {
    let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let lock_is_ours = |dir: &PathBuf| {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to.starts_with(dir)))
    };
    let all = std::fs::read_dir(base).unwrap().flatten().map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().contains("/procession-")).filter(lock_is_ours).collect()
}
