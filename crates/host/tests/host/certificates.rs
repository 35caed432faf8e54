//! What is known of an end beside how it ended: the proc's own notes, its boot, who asked, what is missing.

use std::time::Duration;

use procession_actor::{Actor, ActorFailure, Handler, Instance, Message};
use procession_host::Child;
use procession_model::{BootPhase, ExitClass, Rung, Source, StopIntent, Verdict};

use crate::common::{host, lives, program, run_dirs, script, shut_down, soon, spawn, within};

/// An actor that never finishes its only message.
pub(crate) struct Stuck;

impl Actor for Stuck {}

pub(crate) struct Begin;

impl Message for Begin {}

impl Handler<Begin> for Stuck {
    async fn handle(&mut self, _: &Instance<Self>, _: Begin) -> Result<(), ActorFailure> {
        println!("begun\n");
        std::future::pending().await
    }
}

/// What the launched program does as "stuck": it is in the middle of a message for ever.
pub(crate) async fn get_stuck(child: &Child) {
    let stuck = child.proc_().spawn("stuck", Stuck).unwrap();
    assert!(stuck.send(&child.proc_().instance(), Begin).is_ok());
    child.say("the last word");
    std::future::pending().await
}

fn kill(pid: u32) {
    let done = std::process::Command::new("/bin/kill").args(["-9", &pid.to_string()]).status().unwrap();
    assert!(done.success());
}

#[tokio::test]
async fn a_killed_proc_leaves_what_its_actor_was_handling_and_what_it_said_last() {
    let host = host().await;
    let proc_ = spawn(&host, program("p", "stuck"));
    soon(proc_.ready()).await.unwrap();
    within(Duration::from_secs(20), "the message is being handled", || {
        proc_.output_tail(procession_host::Stream::Stdout).iter().any(|line| line.ends_with("begun"))
    })
    .await;
    let pid = proc_.status().pid.unwrap();
    kill(pid);
    let exit = soon(proc_.ended()).await;
    assert!(!lives(pid));
    let certificate = &exit.certificate;
    assert_eq!(certificate.verdict, Verdict::Killed { signal: 9 });
    let flight = certificate.flight.as_ref().unwrap();
    let [busy] = &flight.in_progress[..] else { panic!("{flight:?}") };
    assert_eq!((busy.actor.as_str(), busy.number), ("stuck", 1));
    assert!(busy.endpoint.ends_with("::Begin"), "{}", busy.endpoint);
    assert!(busy.sender.starts_with("p/client:"), "{}", busy.sender);
    assert!(exit.started_at < busy.since && busy.since <= exit.ended_at);
    assert_eq!(flight.said.last().unwrap().1, "the last word");
    assert_eq!((flight.pid, flight.booting, flight.torn), (pid, None, 0));
    // Not every machine can tell.
    let unseen = |missing: &String| missing == "nobody could see whether it ran out of memory";
    assert!(certificate.missing.iter().all(unseen), "{:?}", certificate.missing);
    let sources = certificate.evidence.iter().map(|witness| witness.source);
    let sources: Vec<Source> = sources.filter(|source| *source != Source::ControlGroup).collect();
    assert_eq!(sources, [Source::Connection, Source::Connection, Source::Parent]);
    let name = format!("flight-{}", exit.proc_id.launch_id());
    assert!(run_dirs().iter().all(|dir| !dir.join(&name).exists()), "it is read once, and taken away");
    shut_down(host).await;
}

#[tokio::test]
async fn the_boot_of_a_rust_program_is_timed_in_fewer_phases() {
    let host = host().await;
    let proc_ = spawn(&host, program("p", "proc"));
    soon(proc_.ready()).await.unwrap();
    let exit = soon(proc_.stop("enough", None)).await;
    // A launcher may say that it runs after the proc has called back.
    let boot = proc_.status().boot;
    assert_eq!(exit.certificate.boot, boot);
    assert_eq!(boot.imports, None, "it has the runtime built in");
    for took in [boot.queue, boot.exec, boot.interpreter, boot.dial, boot.ready] {
        assert!(took.is_some(), "{boot:?}");
    }
    let whole = exit.ready_at.unwrap().duration_since(exit.started_at).unwrap();
    assert!(boot.total().unwrap() <= whole + Duration::from_secs(1), "{boot:?} of {whole:?}");
    let StopIntent { request, from } = &exit.certificate.stops[0];
    assert_eq!((request.by.as_str(), request.why.as_str(), *from), ("stop", "enough", Rung::Agent));
    assert_eq!(exit.certificate.rung(), Some(Rung::Agent));
    shut_down(host).await;
}

#[tokio::test]
async fn a_program_that_hangs_after_it_has_dialled_back_misses_its_deadline_while_setting_up() {
    let host = host().await;
    let mut spec = program("p", "never ready");
    spec.policy.ready_timeout = Duration::from_secs(3);
    spec.policy.stop_grace = Duration::from_millis(100);
    let proc_ = spawn(&host, spec);
    let text = soon(proc_.ready()).await.unwrap_err();
    assert!(text.contains("not ready within 3s, last word: waits for ever (while setting up)"), "{text}");
    let exit = soon(proc_.ended()).await;
    assert_eq!(exit.certificate.verdict, Verdict::BootFailed { phase: BootPhase::SetUp });
    assert_eq!(exit.certificate.verdict.class(), ExitClass::Boot);
    assert_eq!(exit.certificate.flight.as_ref().unwrap().booting.unwrap().0, BootPhase::SetUp);
    shut_down(host).await;
}

#[tokio::test]
async fn a_program_without_our_runtime_has_no_flight_record_and_the_certificate_says_so() {
    let host = host().await;
    let exit = soon(spawn(&host, script("p", "seq 1 20; echo gone >&2; exit 3")).ended()).await;
    let certificate = &exit.certificate;
    assert_eq!((certificate.verdict, &certificate.flight), (Verdict::AppError { code: 3 }, &None));
    let why = "nobody saw what it was busy with: a program without our runtime notes nothing";
    assert_eq!(certificate.missing.last().unwrap(), why);
    assert_eq!((certificate.stdout_head.len(), certificate.stdout_head[0].as_str()), (10, "1"));
    assert_eq!(certificate.stderr_head, ["gone"]);
    shut_down(host).await;
}

#[tokio::test]
async fn a_launch_that_was_refused_has_a_certificate_with_the_launchers_word() {
    let host = host().await;
    let mut spec = script("p", "true");
    spec.command.program = "/no/such/program".into();
    let exit = soon(spawn(&host, spec).ended()).await;
    assert_eq!(exit.certificate.verdict, Verdict::LauncherFailed);
    let [refused] = &exit.certificate.evidence[..] else { panic!("{:?}", exit.certificate) };
    assert!(refused.source == Source::Launcher && refused.says.starts_with("refused the launch: "));
    assert_eq!(exit.certificate.missing, Vec::<String>::new());
    shut_down(host).await;
}
