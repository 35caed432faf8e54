//! What a launcher makes of an API server that fails, and of nodes and people that do as they please.

mod server;

use std::collections::HashMap;
use std::time::Duration;

use procession_launch::{Engine, LaunchResult, Managed, ProcLauncher, Report};
use procession_launch_kube::{Kubernetes, KubernetesConfig};
use procession_model::{BootstrapCommand, HostId, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use serde_json::{Value, json};
use server::{Asked, Fails, Server, until};
use tokio::time::{Instant, sleep, timeout};

async fn launcher(server: &Server) -> Managed<Kubernetes> {
    let kubeconfig = Some(server.kubeconfig.clone());
    let config =
        KubernetesConfig { kubeconfig, bind: Some("127.0.0.1:0".into()), ..KubernetesConfig::new("image:1") };
    Kubernetes::connect(config).await.expect("it answers")
}

fn options(want_stdio: bool) -> LaunchOptions {
    let mut command = BootstrapCommand::new("/bin/true");
    command.env = HashMap::from([("KEY".into(), "canary".into())]);
    LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: "p @ h".into(),
        command,
        want_stdio,
        tail_lines: 1,
        log_channel: None,
        detach: false,
        lease: Duration::from_secs(30),
        output: None,
    }
}

async fn launch(launcher: &Managed<Kubernetes>) -> (ProcId, LaunchResult) {
    let proc_id = ProcId::fresh("w", &HostId::fresh("m")).expect("an id");
    let launched = launcher.launch(&proc_id, options(false)).await.expect("it is asked for");
    (proc_id, launched)
}

async fn exit(launched: LaunchResult) -> ProcExitResult {
    timeout(Duration::from_secs(20), launched.exit_rx).await.expect("in time").expect("it is told")
}

async fn handle(launched: &mut LaunchResult) -> String {
    let reports = launched.reports.as_mut().expect("it reports");
    let told = async {
        loop {
            if let Report::Handle(handle) = reports.next().await.expect("it goes on") {
                return handle;
            }
        }
    };
    timeout(Duration::from_secs(10), told).await.expect("it is there")
}

/// Whether it is the first question of that kind for pods.
fn first(method: &'static str) -> impl FnMut(&Asked) -> bool {
    let mut seen = 0;
    move |asked| {
        seen += usize::from(asked.is(method, "pods"));
        asked.is(method, "pods") && seen == 1
    }
}

fn container(state: Value) -> Value {
    json!({"spec": {"nodeName": "n1"}, "status": {"phase": "Running", "containerStatuses": [{"name": "proc", "image": "image:1",
        "imageID": "", "ready": true, "restartCount": 0, "state": state}]}})
}

fn ended(code: i32) -> Value {
    container(json!({"terminated": {"exitCode": code}, "running": null}))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launcher_whose_procs_have_ended_keeps_no_connection_open() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let (_, launched) = launch(&launcher).await;
    server.change(ended(3)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 3 });
    assert_eq!((server.all("pods").len(), server.all("secrets").len()), (0, 0));
    let told = Instant::now();
    until("no connection is left", || (server.open() == 0).then_some(())).await;
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    let (_, launched) = launch(&launcher).await;
    server.change(ended(0)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 0 }, "it goes on as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_puts_off_is_made_again_and_what_is_there_already_is_taken() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let mut left = HashMap::from([("secrets", 2), ("pods", 2)]);
    server.fails(move |asked| {
        let (_, left) = left.iter_mut().find(|(kind, left)| asked.is("POST", kind) && **left > 0)?;
        *left -= 1;
        Some(Fails::With(409, "Conflict", ""))
    });
    let (_, launched) = launch(&launcher).await;
    server.change(ended(0)).await;
    assert_eq!(server.all("secrets").len(), 1);
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 0 });
    assert_eq!(server.asked("POST", "pods").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_when_to_come_back_is_asked_then() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let mut is_first = first("POST");
    server.fails(move |asked| {
        is_first(asked).then_some(Fails::With(429, "TooManyRequests", "Retry-After: 1\r\n"))
    });
    let began = Instant::now();
    let (_, launched) = launch(&launcher).await;
    server.change(ended(0)).await;
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_that_fails_says_why_and_leaves_neither_pod_nor_secret() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let (_, launched) = launch(&launcher).await;
    server.change(container(json!({"waiting": {"reason": "InvalidImageName", "message": "no name"}}))).await;
    let ProcExitKind::Failed { reason } = exit(launched).await.kind else { panic!("it has not failed") };
    assert!(reason.contains("image:1") && reason.ends_with("InvalidImageName: no name"), "{reason}");
    assert_eq!((server.all("pods").len(), server.all("secrets").len()), (0, 0));
    server.fails(|asked| asked.is("POST", "pods").then_some(Fails::With(500, "InternalError", "")));
    let (_, launched) = launch(&launcher).await;
    let ProcExitKind::Failed { reason } = exit(launched).await.kind else { panic!("it has not failed") };
    assert!(reason.contains("the server says InternalError"), "{reason}");
    assert_eq!(server.all("secrets").len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_failed_launch_has_left_is_taken_away_when_the_server_is_there_again() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    server.fails(|asked| {
        let fails = asked.is("POST", "pods") || asked.method == "DELETE";
        fails.then_some(Fails::With(500, "InternalError", ""))
    });
    let (_, launched) = launch(&launcher).await;
    let ProcExitKind::Failed { reason } = exit(launched).await.kind else { panic!("it has not failed") };
    assert!(reason.ends_with("which is tried again"), "{reason}");
    assert_eq!(server.all("secrets").len(), 1);
    server.fails(|_| None);
    until("it is taken away", || server.all("secrets").is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_always_forgets_where_the_watch_was_is_not_asked_without_a_pause() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let gone = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": "Expired",
        "message": "too old", "code": 410});
    server.fails(move |asked| {
        let event = json!({"type": "ERROR", "object": gone});
        asked.path.contains("watch=true").then_some(Fails::Event(event))
    });
    let (_, launched) = launch(&launcher).await;
    server.pod().await;
    let before = server.asked("GET", "pods").len();
    sleep(Duration::from_secs(1)).await;
    let asked = server.asked("GET", "pods").len() - before;
    assert!(asked <= 8, "{asked} times in a second");
    server.change(ended(4)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 4 }, "each list tells it");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_comes_while_the_watch_is_broken_off_is_seen() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    server.fails(|asked| {
        asked.path.contains("watch=true").then_some(Fails::With(503, "ServiceUnavailable", ""))
    });
    let (_, launched) = launch(&launcher).await;
    server.change(ended(5)).await;
    server.fails(|_| None);
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 5 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_deleted_while_its_node_says_nothing_is_no_longer_about_to_start() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let (_, mut launched) = launch(&launcher).await;
    server.change(container(json!({"waiting": {"reason": "ContainerCreating"}}))).await;
    let meta = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30});
    server.change(json!({"metadata": meta})).await;
    // From then on its time runs, after which it is lost.
    assert!(handle(&mut launched).await.starts_with("w-"));
    server.change(json!({"metadata": {"deletionGracePeriodSeconds": 0}})).await;
    let ProcExitKind::Failed { reason } = exit(launched).await.kind else { panic!("it has not failed") };
    assert!(reason.starts_with("somebody else deleted pod w-"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_that_was_not_answered_may_have_been_done_and_is_not_followed_by_a_deletion_at_once() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    server.fails(|asked| asked.path.contains("/exec?").then_some(Fails::Hangs));
    let (proc_id, mut launched) = launch(&launcher).await;
    server.change(container(json!({"running": {}}))).await;
    handle(&mut launched).await;
    launcher.kill(&proc_id).await.expect("it may be done");
    assert_eq!(server.asked("DELETE", "pods").len(), 0);
    server.change(ended(137)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_that_has_no_effect_is_followed_by_deletions_until_one_is_accepted() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    let mut is_first = first("DELETE");
    server.fails(move |asked| {
        let hangs = asked.path.contains("/exec?").then_some(Fails::Hangs);
        if is_first(asked) { Some(Fails::With(403, "Forbidden", "")) } else { hangs }
    });
    let (proc_id, mut launched) = launch(&launcher).await;
    server.change(container(json!({"running": {}}))).await;
    handle(&mut launched).await;
    launcher.kill(&proc_id).await.expect("it may be done");
    until("it is deleted", || (server.asked("DELETE", "pods").len() == 2).then_some(())).await;
    server.change(ended(137)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_may_not_be_read_is_asked_for_less_and_less_often() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    server.fails(|asked| asked.path.contains("/log?").then_some(Fails::With(403, "Forbidden", "")));
    let (_, mut launched) = launch(&launcher).await;
    server.change(container(json!({"running": {}}))).await;
    handle(&mut launched).await;
    sleep(Duration::from_secs(3)).await;
    let asked = server.asked("GET", "pods").iter().filter(|asked| asked.path.contains("/log?")).count();
    assert!((2..=5).contains(&asked), "{asked} times in three seconds");
    server.change(ended(0)).await;
    assert_eq!(exit(launched).await.kind, ProcExitKind::Exited { code: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_does_not_give_the_output_of_its_pods_keeps_no_other_question_waiting() {
    let server = Server::start().await;
    let launcher = launcher(&server).await;
    server.fails(|asked| asked.path.contains("/log?").then_some(Fails::Hangs));
    let mut launched = Vec::new();
    for _ in 0..40 {
        launched.push(launch(&launcher).await.1);
    }
    until("all are made", || (server.all("pods").len() == 40).then_some(())).await;
    server.change(container(json!({"running": {}}))).await;
    let logs = || server.asked("GET", "pods").iter().filter(|asked| asked.path.contains("/log?")).count();
    until("as many as may are read", || (logs() == 32).then_some(())).await;
    let all = timeout(Duration::from_secs(5), launcher.list()).await.expect("in time");
    assert_eq!(all.expect("it is answered").len(), 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_says_nothing_keeps_no_pod_for_ever_that_somebody_has_left() {
    let server = Server::start().await;
    let made = launcher(&server).await;
    let (_, mut launched) = launch(&made).await;
    server.change(container(json!({"running": {}}))).await;
    let handle = handle(&mut launched).await;
    let meta = json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 1});
    server.change(json!({"metadata": meta})).await;
    launcher(&server).await.remove(&handle).await.expect("it is taken away");
    assert_eq!((server.all("pods").len(), server.all("secrets").len()), (0, 0));
    assert!(matches!(exit(launched).await.kind, ProcExitKind::Lost { .. }));
}
