//! Procs that agents launch, each at the other end of a command's stdin and stdout.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession_host::{AgentLauncher, FarLauncher, Host, ProcEvent, Readiness, SpawnSpec};
use procession_launch::{Engine, ProcLauncher};
use procession_launch_command::{CommandConfig, CommandError, connect};
use procession_launch_test::Kit;
use procession_model::{BootstrapCommand, HostId, LaunchOptions, ProcExitKind, ProcId};
use procession_sys::Process;

#[path = "../../launch-test/tests/caller/mod.rs"]
mod caller;

const AGENT: &str = env!("CARGO_BIN_EXE_procession-agent");

fn config(command: &str) -> CommandConfig {
    CommandConfig { agent: vec![AGENT.into(), "--stdio".into()], ..CommandConfig::new(command) }
}

fn script(name: &str, text: &str) -> SpawnSpec {
    let mut command = BootstrapCommand::new("/bin/sh");
    command.args = vec!["-c".into(), text.into()];
    let mut spec = SpawnSpec::new(name, command);
    spec.policy.readiness = Readiness::None;
    spec
}

/// Runs the kit and says how many checks passed; none may fail.
async fn kit(launcher: Arc<AgentLauncher>) -> usize {
    let table = Kit::of(launcher).ready_command(caller::command()).jobs(4).run().await;
    println!("{table}");
    assert_eq!(table.failed(), Vec::<String>::new());
    table.passed().len()
}

#[tokio::test]
async fn one_agent_for_all_keeps_the_promises_of_launchers() {
    let launcher = connect(CommandConfig { shared: true, ..config("{argv}") }).await.unwrap();
    let passed = kit(Arc::clone(&launcher)).await;
    assert!(passed > 80, "{passed}");
    launcher.close().await;
}

#[tokio::test]
async fn an_agent_for_each_proc_keeps_the_promises_of_launchers() {
    let launcher = connect(config("{argv}")).await.unwrap();
    let passed = kit(Arc::clone(&launcher)).await;
    assert!(passed > 80, "{passed}");
    launcher.close().await;
}

fn chained(inner: &str) -> CommandConfig {
    let config = serde_json::to_string(&config(inner)).unwrap();
    through("command", config)
}

/// A first command, whose agent launches through that launcher.
fn through(kind: &str, inner: String) -> CommandConfig {
    let launcher = Some(FarLauncher { kind: kind.to_owned(), config: inner });
    CommandConfig { launcher, ..config("env FIRST=1 {argv}") }
}

#[tokio::test]
async fn a_launcher_that_an_agent_has_keeps_the_promises_of_launchers() {
    let launcher = connect(chained("env SECOND=1 {argv}")).await.unwrap();
    assert_eq!(launcher.name(), "command/command");
    let passed = kit(Arc::clone(&launcher)).await;
    assert!(passed > 80, "{passed}");
    launcher.close().await;
}

#[tokio::test]
async fn a_launcher_that_cannot_be_used_there_is_told_of_with_its_place_and_the_reason() {
    let said = refused(chained("sh -c 'echo no such host >&2; exit 3 # {argv}'")).await;
    assert!(
        said.starts_with("the launcher command cannot be used at env FIRST=1 …: no agent answers at"),
        "{said}"
    );
    assert!(said.contains("exit status: 3, and had said: no such host"), "{said}");
    let said = refused(through("docker", "{\"image\": \"trainer:7\"}".to_owned())).await;
    assert!(
        said.contains("the launcher docker cannot be used") && said.contains("procession agent --stdio"),
        "{said}"
    );
}

#[tokio::test]
async fn what_was_to_be_led_there_and_is_never_launched_leaves_its_agent_to_the_next() {
    let started = tempfile::NamedTempFile::new().unwrap();
    let inner = format!("sh -c 'echo >> {}; exec {{argv}}'", started.path().display());
    let launcher = connect(chained(&inner)).await.unwrap();
    for _ in 0..3 {
        let proc_id = ProcId::fresh("p", &HostId::fresh("h")).unwrap();
        let relayed = launcher.relay(&proc_id, ([127, 0, 0, 1], 9).into()).await.unwrap();
        assert!(relayed.address.starts_with("127.0.0.1:"), "{relayed:?}");
    }
    assert_eq!(std::fs::read_to_string(started.path()).unwrap(), "\n");
    launcher.close().await;
}

/// A proc, and everything that happens to it.
struct Watched {
    proc_: procession_host::ProcRef,
    events: Arc<Mutex<Vec<String>>>,
}

impl Watched {
    fn launch(host: &Host, spec: SpawnSpec, launcher: &Arc<AgentLauncher>) -> Self {
        let events = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&events);
        let observer = Arc::new(move |event: &ProcEvent| heard.lock().unwrap().push(format!("{event:?}")));
        let launcher: Arc<dyn procession_launch::ProcLauncher> = Arc::<AgentLauncher>::clone(launcher);
        let proc_ = host.spawn_watched(spec, launcher, Some(observer)).unwrap();
        Self { proc_, events }
    }

    fn saw(&self, text: &str) -> bool {
        self.events.lock().unwrap().iter().any(|event| event.contains(text))
    }

    async fn sees(&self, text: &str) {
        let seen = async {
            while !self.saw(text) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let in_time = tokio::time::timeout(Duration::from_secs(20), seen).await;
        assert!(in_time.is_ok(), "no {text:?} in {:?}", self.events.lock().unwrap());
    }

    /// The pid that it has printed as `pid <number>`.
    fn pid(&self) -> u32 {
        let events = self.events.lock().unwrap();
        let said = events.iter().find_map(|event| event.split_once("\"pid ")?.1.split_once('"')).unwrap();
        said.0.parse().unwrap()
    }
}

/// A command that notes the pid of its agent, and what is to be started by it.
fn noting(file: &std::path::Path) -> String {
    format!("sh -c 'echo $$ >> {} && exec {{argv}}'", file.display())
}

/// The agents that were started, in their order.
fn agents(file: &std::path::Path) -> Vec<Process> {
    let noted = std::fs::read_to_string(file).unwrap();
    noted.lines().map(|pid| Process::look(pid.parse().unwrap()).unwrap()).collect()
}

fn lives(pid: u32) -> bool {
    Process::look(pid).is_ok_and(|process| process.is_alive())
}

async fn gone(pid: u32) {
    let gone = async {
        while lives(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), gone).await.is_ok(), "{pid} lives");
}

const SLEEPER: &str = "echo pid $$; exec sleep 300";

#[tokio::test]
async fn with_an_agent_that_is_killed_all_that_it_launched_ends_and_the_next_launch_starts_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agents");
    let launcher = connect(CommandConfig { shared: true, ..config(&noting(&file)) }).await.unwrap();
    let host = Host::start().await.unwrap();
    let procs = ["a", "b"].map(|name| Watched::launch(&host, script(name, SLEEPER), &launcher));
    for one in &procs {
        one.sees("\"pid ").await;
    }
    agents(&file)[0].signal(9);
    for one in &procs {
        let exit = one.proc_.ended().await;
        let ProcExitKind::Lost { reason } = &exit.kind else { panic!("{exit:?}") };
        assert!(reason.contains("the command ended with signal: 9"), "{reason}");
        gone(one.pid()).await;
    }
    let next = Watched::launch(&host, script("c", "exit 7"), &launcher);
    assert_eq!(next.proc_.ended().await.kind, ProcExitKind::Exited { code: 7 });
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 2);
    launcher.close().await;
    host.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn where_each_has_its_own_agent_the_end_of_one_is_nothing_to_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agents");
    let launcher = connect(config(&noting(&file))).await.unwrap();
    let host = Host::start().await.unwrap();
    let first = Watched::launch(&host, script("a", SLEEPER), &launcher);
    first.sees("\"pid ").await;
    let second = Watched::launch(&host, script("b", SLEEPER), &launcher);
    second.sees("\"pid ").await;
    let found = agents(&file);
    assert_eq!(found.len(), 2);
    found[0].signal(9);
    let exit = first.proc_.ended().await;
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{exit:?}");
    gone(first.pid()).await;
    assert!(lives(second.pid()));
    second.proc_.kill("the test is over").await.unwrap();
    let exit = second.proc_.ended().await;
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    gone(found[1].pid).await;
    host.shutdown(Duration::from_secs(2)).await;
}

#[tokio::test]
async fn an_agent_that_does_not_answer_makes_its_procs_unreachable_and_loses_them_after_the_lease() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agents");
    let lease = 6.0;
    let launcher = connect(CommandConfig { shared: true, lease, ..config(&noting(&file)) }).await.unwrap();
    let host = Host::start().await.unwrap();
    let one = Watched::launch(&host, script("a", SLEEPER), &launcher);
    one.sees("\"pid ").await;
    let agent = agents(&file).remove(0);
    agent.signal(19);
    one.sees("has not answered for 2s").await;
    agent.signal(18);
    one.sees("Status(Running").await;
    assert!(one.proc_.exit().is_none());
    agent.signal(19);
    let exit = one.proc_.ended().await;
    let ProcExitKind::Lost { reason } = &exit.kind else { panic!("{exit:?}") };
    assert!(reason.contains("it has not answered for 6s"), "{reason}");
    gone(one.pid()).await;
    host.shutdown(Duration::from_secs(2)).await;
}

async fn refused(config: CommandConfig) -> String {
    match connect(config).await {
        Err(CommandError::Agent(error)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn where_no_agent_speaks_the_error_has_what_the_command_said_and_how_it_ended() {
    let said = refused(config("sh -c 'echo no such host >&2; exit 3 # {argv}'")).await;
    assert!(said.contains("exit status: 3, and had said: no such host"), "{said}");
    let said = refused(config("/no/such/program {argv}")).await;
    assert!(said.contains("/no/such/program cannot be started"), "{said}");
    let silent = "sh -c 'exec sleep 300 # {argv}'";
    let said = refused(CommandConfig { timeout: 0.2, ..config(silent) }).await;
    assert!(said.contains("no agent has spoken within 200ms"), "{said}");
    let noise = refused(config("sh -c 'echo Welcome; exec true # {argv}'")).await;
    assert!(noise.contains("what came instead is \"Welcome\""), "{noise}");
}

#[tokio::test]
async fn a_dry_run_has_the_command_line_and_starts_nothing() {
    let launcher = connect(config("env GREETING=hello {argv}")).await.unwrap();
    let spec = script("a", "exit 0");
    let options = LaunchOptions {
        bootstrap_payload: "canary".into(),
        process_name: "a @ h".into(),
        command: spec.command,
        want_stdio: false,
        tail_lines: 0,
        log_channel: None,
        detach: false,
        lease: Duration::ZERO,
        output: None,
    };
    let text = launcher.dry_run(&ProcId::fresh("a", &HostId::fresh("h")).unwrap(), &options).await.unwrap();
    assert!(text.starts_with("\"env\" \"GREETING=hello\"") && text.contains("exit 0"), "{text}");
    assert!(!text.contains("canary"));
    launcher.close().await;
}
