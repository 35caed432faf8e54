//! The program that procs and clients of the tests run: this very one.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use procession::{
    ActorHandle, ActorId, BOOTSTRAP_ENV, BootstrapCommand, Capabilities, DialBack, Host, LaunchOptions,
    LaunchResult, LogSpec, OwnerLoss, ProcId, ProcLauncher, ProcLauncherError, ProcStatus, SpawnSpec,
    StdioHandling, child_main, child_main_with,
};

use crate::common::{Block, Worker, script};

const ROLE: &str = "TEST_ROLE";
const GATE: &str = "TEST_GATE";

/// This program's arguments that make it play a role.
pub(crate) fn arguments() -> Vec<String> {
    ["--ignored", "--exact", "program::launched", "--nocapture", "--test-threads=1"].map(Into::into).to_vec()
}

/// A proc that hosts a worker.
pub(crate) fn worker(name: &str) -> SpawnSpec {
    let mut command = BootstrapCommand::new(std::env::current_exe().unwrap());
    command.args = arguments();
    command.env.insert(ROLE.into(), "worker".into());
    SpawnSpec::new(name, command)
}

/// A client that plays `role`.
pub(crate) fn client(role: &str, gate: Option<&Path>) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(arguments()).env(ROLE, role).envs(gate.map(|gate| (GATE, gate)));
    command
}

#[test]
#[ignore = "the program that procs and clients of the other tests run"]
fn launched() {
    let role = std::env::var(ROLE).unwrap();
    if role == "worker" {
        if let Some(gate) = std::env::var_os(GATE) {
            while !Path::new(&gate).exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let payload = std::env::var(BOOTSTRAP_ENV).expect("only a host runs this");
        let refused = child_main(|_| Ok::<_, String>(())).unwrap_err().to_string();
        assert!(refused.contains("do it first in main"), "tests have threads: {refused}");
        return child_main_with(&payload, |proc_| proc_.spawn("worker", Worker::default()).map(drop))
            .unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if role == "leaving client" {
            leaving(Path::new(&std::env::var(GATE).unwrap())).await;
        }
        let host = Host::start().await.unwrap();
        match role.as_str() {
            "native client" => native(&host).await,
            "claiming client" => claiming(&host).await,
            "slow client" => slow(&host).await,
            other => panic!("there is no role {other:?}"),
        }
        std::future::pending::<()>().await;
    });
}

/// Tells the test something.
fn say(text: &str) {
    println!("## {text}");
}

async fn native(host: &Host) {
    let tree = "setsid sh -c 'sleep 300 & sleep 300' & (sh -c 'sleep 300' &); sleep 300";
    let procs = [
        host.spawn(worker("worker"), host.native_launcher()).unwrap(),
        host.spawn(script("tree", tree), host.native_launcher()).unwrap(),
    ];
    for proc_ in procs {
        proc_.ready().await.unwrap();
        say(&format!("launch {}", proc_.id().launch_id()));
    }
    say("up");
}

/// Launches a process of its own, and claims nothing about its end.
struct Claiming;

#[async_trait]
impl ProcLauncher for Claiming {
    fn name(&self) -> &str {
        "claiming"
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            pid: true,
            stdio: false,
            tail: false,
            tree_kill: false,
            raw_paths: true,
            command_attributes: false,
            dial_back: DialBack::Local,
            ..Capabilities::default()
        }
    }

    async fn launch(&self, _: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let mut command = Command::new(&opts.command.program);
        let child = command.args(&opts.command.args).envs(opts.variables()).spawn();
        let pid = Some(child.map_err(ProcLauncherError::Launch)?.id());
        let (exit, exit_rx) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let _never_reported = exit;
            std::future::pending::<()>().await;
        });
        let stdio = StdioHandling::Inherited;
        Ok(LaunchResult { pid, started_at: SystemTime::now(), stdio, exit_rx, reports: None })
    }

    async fn terminate(&self, _: &ProcId, _: Duration) -> Result<(), ProcLauncherError> {
        Err(ProcLauncherError::Terminate("this launcher cannot".into()))
    }

    async fn kill(&self, _: &ProcId) -> Result<(), ProcLauncherError> {
        Err(ProcLauncherError::Kill("this launcher cannot".into()))
    }
}

/// A proc that no keeper keeps, with an actor that never comes to an end.
async fn claiming(host: &Host) {
    let proc_ = host.spawn(worker("worker"), Arc::new(Claiming)).unwrap();
    proc_.ready().await.unwrap();
    say(&format!("pid {}", proc_.status().pid.unwrap()));
    let cx = host.proc_().instance();
    let worker = ActorHandle::<Worker>::attach(host.proc_(), ActorId::new(proc_.id().clone(), "worker"));
    let (port, blocked) = cx.mailbox().open_once_port();
    worker.send(&cx, Block(port.bind())).unwrap();
    blocked.recv().await.unwrap();
    say("up");
}

/// A proc that outlives its client, which waits for its own end in `directory`.
async fn leaving(directory: &Path) -> ! {
    let (host, inherited) = Host::start_in(directory).await.unwrap();
    assert!(inherited.groups.is_empty() && inherited.ended.is_empty());
    let mut spec = worker("worker");
    spec.on_owner_loss = OwnerLoss::Detach;
    spec.log = Some(LogSpec::new(directory.join("out")));
    let proc_ = host.spawn(spec, host.native_launcher()).unwrap();
    proc_.ready().await.unwrap();
    say(&format!("proc {}", proc_.id()));
    say("up");
    std::future::pending().await
}

/// A proc that calls back when its gate opens, and a client with little patience.
async fn slow(host: &Host) {
    let mut spec = worker("worker");
    spec.command.env.insert(GATE.into(), std::env::var(GATE).unwrap());
    spec.policy.ready_timeout = Duration::from_secs(2);
    let proc_ = host.spawn(spec, host.native_launcher()).unwrap();
    while proc_.status().status != ProcStatus::Running {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    say("up");
    match proc_.ready().await {
        Ok(()) => say("ready"),
        Err(why) => say(&format!("failed {}", why.replace('\n', " "))),
    }
    host.shutdown(Duration::from_secs(5)).await;
    say("done");
}
