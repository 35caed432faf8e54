//! Procs on another machine, which is this one as far as the tests are concerned.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use procession_host::{Host, ProcEvent, ProcRef, SpawnSpec, WorkerDial, WorkerLauncher, WorkerServer};
use procession_launch::ProcLauncher;
use procession_model::{ProcExitKind, ProcId, ProcStatus};
use procession_net::SessionKey;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::common::{Record, host, line, lives, members, program, script, shut_down, soon, within};

const LEASE: Duration = Duration::from_secs(2);

fn key() -> SessionKey {
    SessionKey::from_bytes([7; 32])
}

async fn server() -> WorkerServer {
    server_at("127.0.0.1:0").await
}

async fn server_at(address: &str) -> WorkerServer {
    WorkerServer::listen(address, &key(), LEASE, false, None).await.unwrap()
}

async fn connect(address: &str) -> Arc<WorkerLauncher> {
    let how = WorkerDial { lease: LEASE, ..WorkerDial::default() };
    soon(WorkerLauncher::connect(address, &key(), how)).await.unwrap()
}

/// A client with a worker.
struct Pair {
    host: Host,
    server: WorkerServer,
    launcher: Arc<WorkerLauncher>,
}

impl Pair {
    async fn new() -> Self {
        Self::at("127.0.0.1:0").await
    }

    async fn at(address: &str) -> Self {
        let (host, server) = (host().await, server_at(address).await);
        let launcher = connect(&server.address()).await;
        Self { host, server, launcher }
    }

    fn spawn(&self, spec: SpawnSpec) -> ProcRef {
        let launcher: Arc<WorkerLauncher> = Arc::clone(&self.launcher);
        self.host.spawn(spec, launcher).unwrap()
    }

    async fn end(self) {
        shut_down(self.host).await;
        soon(self.server.shutdown()).await;
    }
}

/// A wire to a server that can be cut: then connections end, and no more are made.
struct Wire {
    address: SocketAddr,
    carrying: JoinHandle<()>,
}

impl Wire {
    async fn to(address: &str) -> Self {
        let (listener, to) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), address.to_owned());
        let address = listener.local_addr().unwrap();
        let carrying = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let to = to.clone();
                connections.spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    let _cut = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { address, carrying }
    }

    fn cut(&self) {
        self.carrying.abort();
    }
}

#[tokio::test]
async fn a_program_runs_there_and_its_exit_and_all_of_its_output_come_back() {
    let it = Pair::new().await;
    let proc_ = it.spawn(script("p", "echo out; echo err >&2; printf last >&2; exit 3"));
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 3 });
    assert_eq!((exit.stdout_tail.join("|"), exit.stderr_tail.join("|")), ("out".into(), "err|last".into()));
    assert_eq!(exit.launcher, format!("worker@{}", it.server.address()));
    let proc_ = it.spawn(script("q", "kill -11 $$"));
    let exit = soon(proc_.ended()).await;
    assert!(matches!(exit.kind, ProcExitKind::Signaled { signal: 11, .. }), "{}", exit.verdict);
    it.end().await;
}

#[tokio::test]
async fn a_process_of_another_machine_is_shown_and_its_number_is_not_taken_for_one_of_here() {
    let it = Pair::new().await;
    let proc_ = it.spawn(script("p", "echo $$; echo; exec sleep 300"));
    let pid = line(&proc_, 0).await;
    assert_eq!(proc_.status().pid, None);
    within(Duration::from_secs(5), "its handle", || proc_.status().handle.is_some()).await;
    assert_eq!(proc_.status().handle, Some(format!("{} pid {pid}", it.server.address())));
    it.end().await;
    assert!(!lives(pid.parse().unwrap()));
}

#[tokio::test]
async fn a_proc_with_actors_reaches_back_over_the_network_and_ends_when_it_is_asked() {
    for address in ["127.0.0.1:0", "tcp://0.0.0.0:0", "[::1]:0"] {
        if address.contains('[') && std::net::TcpListener::bind(address).is_err() {
            continue; // a kernel without IPv6
        }
        let it = Pair::at(address).await;
        let proc_ = it.spawn(program("p", "proc"));
        soon(proc_.ready()).await.unwrap();
        let exit = soon(proc_.stop("test", None)).await;
        assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
        it.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_started_there_is_refused_with_the_name_of_the_worker() {
    let it = Pair::new().await;
    let mut spec = script("p", "");
    spec.command.program = "/no/such/program".into();
    let exit = soon(it.spawn(spec).ended()).await;
    let ProcExitKind::Failed { reason } = &exit.kind else { panic!("{}", exit.verdict) };
    assert!(reason.contains(&it.server.address()) && reason.contains("/no/such/program"), "{reason}");
    it.end().await;
}

#[tokio::test]
async fn everything_that_a_launch_says_arrives() {
    let it = Pair::new().await;
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(OsString::from_vec(b"\xff\xfe".to_vec()));
    std::fs::create_dir(&odd).unwrap();
    let shell = odd.join("sh");
    symlink("/bin/sh", &shell).unwrap();
    let mut spec = script("p", "echo $0 $1 $KEY ${HOME-none}; pwd -P; ulimit -n");
    spec.command.program = shell;
    spec.command.arg0 = Some("sh".into());
    spec.command.args.extend(["zero".into(), "one".into()]);
    spec.command.env.insert("KEY".into(), "value".into());
    spec.command.clear_env = true;
    spec.command.cwd = Some("/usr".into());
    let limits = procession_model::Rlimits { soft: Some(77), hard: Some(77) };
    spec.command.confinement.rlimits.insert("nofile".into(), limits);
    let exit = soon(it.spawn(spec).ended()).await;
    assert_eq!(exit.stdout_tail[..3], ["zero one value none", "/usr", "77"], "{exit:?}");
    it.end().await;
}

#[tokio::test]
async fn a_kill_takes_the_whole_tree_and_a_terminate_reaches_it() {
    let it = Pair::new().await;
    let tree = "setsid sh -c 'setsid sleep 300 & wait' & sleep 300 & echo ready; echo; wait";
    let proc_ = it.spawn(script("p", tree));
    line(&proc_, 0).await;
    let id: ProcId = proc_.id().clone();
    within(Duration::from_secs(5), "the tree", || members(&id).len() >= 4).await;
    soon(proc_.kill("test")).await.unwrap();
    assert!(members(&id).is_empty(), "{:?}", members(&id));
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    // One that has ended needs nothing any more, and of one that never was nothing is known.
    soon(it.launcher.kill(&id)).await.unwrap();
    let stranger = ProcId::fresh("stranger", it.host.id()).unwrap();
    assert!(soon(it.launcher.kill(&stranger)).await.unwrap_err().to_string().contains("no proc"));
    let proc_ = it.spawn(script("q", "trap 'exit 5' TERM; echo armed; echo; while :; do sleep 0.01; done"));
    line(&proc_, 0).await;
    soon(proc_.terminate(Duration::from_secs(9), "test")).await.unwrap();
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 5 });
    it.end().await;
}

#[tokio::test]
async fn a_launch_that_nobody_waits_for_any_more_is_killed() {
    let it = Pair::new().await;
    let id = ProcId::fresh("p", it.host.id()).unwrap();
    let options = procession_model::LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: "p".into(),
        command: script("p", "exec sleep 300").command,
        want_stdio: true,
        tail_lines: 1,
        log_channel: None,
        detach: false,
        lease: std::time::Duration::ZERO,
        output: None,
    };
    {
        let mut launching = it.launcher.launch(&id, options);
        tokio::select! {
            biased;
            _ = &mut launching => panic!("the worker has not answered yet"),
            () = std::future::ready(()) => {}
        }
    }
    // The worker kills only what it knows: this returns behind that.
    soon(it.launcher.kill(&id)).await.unwrap();
    assert!(members(&id).is_empty(), "{:?}", members(&id));
    it.end().await;
}

#[tokio::test]
async fn a_slow_reader_reaches_as_far_as_the_program_and_holds_up_no_exit() {
    let it = Pair::new().await;
    for opens in [true, false] {
        let record = Record::default();
        let spec =
            script("p", "yes 012345678901234567890123456789012345678 | head -c 8000000; echo last >&2");
        let gate = spec.gate.clone();
        gate.set_open(false);
        let launcher: Arc<WorkerLauncher> = Arc::clone(&it.launcher);
        let proc_ = it.host.spawn_watched(spec, launcher, Some(record.observer())).unwrap();
        let seen = || record.events().iter().filter(|it| matches!(it, ProcEvent::Output { .. })).count();
        within(Duration::from_secs(20), "its first words", || seen() > 0).await;
        assert!(seen() < 50_000 && proc_.exit().is_none(), "{}", seen());
        if opens {
            gate.set_open(true);
            assert_eq!(soon(proc_.ended()).await.verdict, "clean exit");
            assert_eq!(seen(), 200_001);
        } else {
            proc_.kill("it waits").await.unwrap();
            let exit = soon(proc_.ended()).await;
            assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
            assert!(!exit.stdout_tail.is_empty());
        }
    }
    it.end().await;
}

#[tokio::test]
async fn a_grandchild_that_keeps_the_pipes_open_does_not_hold_up_the_exit_and_nothing_of_the_tail_is_missing()
{
    let it = Pair::new().await;
    let mut spec = script("p", "seq 1 9000; setsid sleep 300 & exit 6");
    spec.tail_lines = 1;
    let exit = soon(it.spawn(spec).ended()).await;
    let tail = exit.stdout_tail.join("|");
    assert_eq!((exit.kind.clone(), tail), (ProcExitKind::Exited { code: 6 }, "9000".into()));
    it.end().await;
}

#[tokio::test]
async fn clients_are_served_independently() {
    let one = Pair::new().await;
    let launcher = connect(&format!("tcp://{}", one.server.address())).await;
    let here = one.spawn(script("p", "echo here; echo; exec sleep 300"));
    let other: Arc<WorkerLauncher> = Arc::clone(&launcher);
    let there = one.host.spawn(script("q", "echo there; echo; exec sleep 300"), other).unwrap();
    assert_eq!((line(&here, 0).await, line(&there, 0).await), ("here".into(), "there".into()));
    let id = there.id().clone();
    soon(there.kill("test")).await.unwrap();
    assert_eq!(soon(there.ended()).await.kind.status(), ProcStatus::Signaled);
    assert!(members(&id).is_empty() && here.exit().is_none());
    assert_eq!(members(here.id()).len(), 1);
    one.end().await;
}

#[tokio::test]
async fn another_key_opens_nothing_and_whatever_else_comes_to_the_port_is_dropped() {
    let server = server().await;
    let other = SessionKey::from_bytes([8; 32]);
    let refused = soon(WorkerLauncher::connect(&server.address(), &other, WorkerDial::default())).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&server.address()) && text.contains("same session key"), "{text}");
    for garbage in [&b""[..], b"\0", b"GET / HTTP/1.1\r\n\r\n", &[0x16, 3, 1, 2, 0, 1, 0, 1], &[255; 9000]] {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let _hung_up = stream.write_all(garbage).await;
        let _hung_up = stream.shutdown().await;
        let mut rest = Vec::new();
        let _hung_up = soon(stream.read_to_end(&mut rest)).await;
        // An alert of TLS at most.
        assert!(rest.len() < 64, "{rest:?}");
    }
    let _served_all_the_same = connect(&server.address()).await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn where_nobody_serves_the_error_says_where_and_why() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let refused = soon(WorkerLauncher::connect(&free, &key(), WorkerDial::default())).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains(&free) && text.contains("refused"), "{text}");
    // One that listens and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = mute.local_addr().unwrap().to_string();
    let how = WorkerDial { within: Duration::from_millis(200), ..WorkerDial::default() };
    let text = soon(WorkerLauncher::connect(&address, &key(), how)).await.unwrap_err().to_string();
    assert!(text.contains(&address) && text.contains("200ms"), "{text}");
    for bad in ["", "host", "127.0.0.1:x"] {
        assert!(WorkerLauncher::connect(bad, &key(), WorkerDial::default()).await.is_err());
        assert!(WorkerServer::listen(bad, &key(), LEASE, false, None).await.is_err());
    }
}

#[tokio::test]
async fn the_end_of_a_worker_ends_what_it_launched_and_is_told_to_its_clients() {
    let it = Pair::new().await;
    let proc_ = it.spawn(script("p", "echo ready; echo; exec sleep 300"));
    line(&proc_, 0).await;
    soon(it.server.shutdown()).await;
    assert!(members(proc_.id()).is_empty());
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    // The next launch dials again, and finds nobody.
    let again = it.host.spawn(script("q", "true"), it.launcher.clone()).unwrap();
    let exit = soon(again.ended()).await;
    let ProcExitKind::Failed { reason } = &exit.kind else { panic!("{}", exit.verdict) };
    assert!(reason.contains(&it.launcher.address()) && reason.contains("cannot be reached"), "{reason}");
    shut_down(it.host).await;
}

#[tokio::test]
async fn a_worker_that_is_served_anew_is_found_by_the_next_launch() {
    let it = Pair::new().await;
    let address = it.server.address();
    soon(it.launcher.shut_worker_down()).await.expect_err("it was not started to be ended by clients");
    soon(it.server.shutdown()).await;
    let server = soon(WorkerServer::listen(&address, &key(), LEASE, true, None)).await.unwrap();
    let proc_ = it.host.spawn(script("p", "exit 7"), it.launcher.clone()).unwrap();
    assert_eq!(soon(proc_.ended()).await.kind, ProcExitKind::Exited { code: 7 });
    soon(it.launcher.shut_worker_down()).await.unwrap();
    soon(server.asked_to_end()).await;
    shut_down(it.host).await;
    soon(server.shutdown()).await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_back_ends_what_runs_there_and_loses_it_here() {
    let (host, server) = (host().await, server().await);
    let wire = Wire::to(&server.address()).await;
    let launcher = connect(&wire.address.to_string()).await;
    let record = Record::default();
    let spec = script("p", "echo ready; echo; exec sleep 300");
    let proc_ = host.spawn_watched(spec, launcher, Some(record.observer())).unwrap();
    line(&proc_, 0).await;
    wire.cut();
    let exit = soon(proc_.ended()).await;
    let ProcExitKind::Lost { reason } = &exit.kind else { panic!("{}", exit.verdict) };
    assert!(reason.contains("host lost") && reason.contains(&wire.address.to_string()), "{reason}");
    within(LEASE * 5, "what it launched is ended", || members(proc_.id()).is_empty()).await;
    let unknown = |event: &ProcEvent| format!("{event:?}").contains("Unknown");
    assert!(record.events().iter().any(unknown), "{:?}", record.events());
    // It serves on.
    let _another = connect(&server.address()).await;
    shut_down(host).await;
    soon(server.shutdown()).await;
}
