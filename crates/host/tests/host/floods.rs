//! A proc that says more than anybody wants to hear.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use procession_host::{ProcEvent, Stream};
use procession_model::{ProcExitKind, ProcStatus};

use crate::common::{Record, host, program, script, shut_down, soon, spawn, within};

/// What the launched program does: it sends notices for as long as it lives.
pub(crate) fn flood() -> ! {
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(std::env::var_os("NOTIFY_SOCKET").unwrap()).unwrap();
    loop {
        let _full = socket.send("STATUS=again\n".repeat(300).as_bytes());
    }
}

#[tokio::test]
async fn a_proc_that_floods_its_host_with_notices_is_ended_at_its_deadline_all_the_same() {
    let host = host().await;
    let mut spec = program("p", "flood");
    spec.policy.readiness = procession_host::Readiness::None;
    // It hears nothing of a terminate, so that only a deadline of the host's ends it.
    spec.command.args.splice(0..0, ["-c".to_owned(), "trap '' TERM; exec \"$0\" \"$@\"".to_owned()]);
    let own = spec.command.program.to_string_lossy().into_owned();
    spec.command.args.insert(2, own);
    spec.command.program = "/bin/sh".into();
    let proc_ = spawn(&host, spec);
    within(Duration::from_secs(20), "it floods", || proc_.status().progress.as_deref() == Some("again"))
        .await;
    let asked = proc_.clone();
    let stopped = tokio::spawn(async move { asked.stop("enough", Some(Duration::from_millis(100))).await });
    let exit = soon(stopped).await.unwrap();
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
    shut_down(host).await;
}

#[tokio::test]
async fn a_proc_that_was_not_heard_of_for_a_while_is_ready_once_and_not_again() {
    let host = host().await;
    let record = Record::default();
    let proc_ =
        host.spawn_watched(program("p", "proc"), host.native_launcher(), Some(record.observer())).unwrap();
    soon(proc_.ready()).await.unwrap();
    let status = |wanted| {
        let proc_ = proc_.clone();
        within(Duration::from_secs(5), "the status changes", move || proc_.status().status == wanted)
    };
    host.unreachable(proc_.id(), Some("mute".into()));
    status(ProcStatus::Unknown).await;
    host.unreachable(proc_.id(), None);
    status(ProcStatus::Ready).await;
    proc_.stop("done", None).await;
    let told = record.events().iter().filter(|event| matches!(event, ProcEvent::Ready)).count();
    assert_eq!(told, 1);
    shut_down(host).await;
}

#[tokio::test]
async fn whoever_comes_while_a_proc_writes_gets_every_line_once() {
    let host = host().await;
    let mut spec = script("p", "read go < $GATE; seq 1 100000");
    let directory = tempfile::tempdir().unwrap();
    let gate = directory.path().join("gate");
    assert!(std::process::Command::new("mkfifo").arg(&gate).status().unwrap().success());
    spec.command.env.insert("GATE".into(), gate.to_string_lossy().into_owned());
    let proc_ = spawn(&host, spec);
    let comers: Vec<_> = (0..4)
        .map(|_| {
            let proc_ = proc_.clone();
            tokio::task::spawn_blocking(move || {
                let mut all = Vec::new();
                let mut last = None;
                while all.len() < 20 && proc_.exit().is_none() {
                    let now = proc_.output_tail(Stream::Stdout).pop();
                    if now != last {
                        last = now;
                        let record = Record::default();
                        all.push((proc_.watch_with_past(record.observer()), record));
                    }
                    std::thread::yield_now();
                }
                all
            })
        })
        .collect();
    tokio::task::spawn_blocking(move || std::fs::write(gate, "go\n").unwrap()).await.unwrap();
    assert_eq!(soon(proc_.ended()).await.verdict, "clean exit");
    let mut while_it_wrote = 0;
    for comer in comers {
        for ([past, _], record) in soon(comer).await.unwrap() {
            let told = record.events().into_iter().filter_map(|event| match event {
                ProcEvent::Output { line, .. } => Some(line),
                _ => None,
            });
            let all: Vec<usize> = past.into_iter().chain(told).map(|line| line.parse().unwrap()).collect();
            assert!(
                all.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{:?}",
                all.windows(2).find(|p| p[1] != p[0] + 1)
            );
            assert_eq!(all.last(), Some(&100_000));
            while_it_wrote += usize::from(all[0] > 1);
        }
    }
    assert!(while_it_wrote > 0, "nobody came while it wrote");
    shut_down(host).await;
}
