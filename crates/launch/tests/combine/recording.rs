//! Recording and Replay: what a launcher did is done again without it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use procession_launch::{
    FakeEnd, FakeLauncher, FakeStep, ProcLauncher, Recording, Replay, Report, Script, StdioHandling,
    Terminated,
};
use procession_model::{ProcExitResult, ProcId};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

use crate::common::{options, proc_id, signal_of};

const SECOND: Duration = Duration::from_secs(1);

fn scripted() -> Arc<FakeLauncher> {
    let prints = |text: &str, to_stderr| FakeStep::Prints { text: text.to_owned(), to_stderr };
    Arc::new(FakeLauncher::new(move |proc_id, number| match (proc_id.name(), number) {
        ("w-0", 1) => Script::default()
            .then(SECOND, FakeStep::Progresses("half".to_owned()))
            .then(SECOND, prints("out\n", false))
            .then(SECOND, FakeStep::Unreachable(SECOND * 2, "engine restarts".to_owned()))
            .then(SECOND, prints("caf\u{e9} err\n", true))
            .then(SECOND * 3, FakeStep::Ends(FakeEnd::Oom)),
        ("w-0", _) => Script::default().then(SECOND, FakeStep::FailsToLaunch("full".to_owned())),
        ("slow", _) => Script::default().when_terminated(Terminated::Ends(SECOND * 7, FakeEnd::Exits(4))),
        _ => Script::default().then(SECOND * 100, FakeStep::Ends(FakeEnd::Exits(0))),
    }))
}

type Seen = (Result<(ProcExitResult, String, Vec<Report>), String>, Duration);

/// Launches it and waits for its end; all that was seen of it, and how long it took.
async fn see(launcher: &dyn ProcLauncher, one: &ProcId) -> Seen {
    let start = Instant::now();
    let launched = match launcher.launch(one, options()).await {
        Ok(launched) => launched,
        Err(error) => return (Err(error.to_string()), start.elapsed()),
    };
    let mut text = String::new();
    if let StdioHandling::Captured { mut stdout, mut stderr } = launched.stdio {
        stdout.read_to_string(&mut text).await.unwrap();
        stderr.read_to_string(&mut text).await.unwrap();
    }
    let exit = launched.exit_rx.await.unwrap();
    let took = start.elapsed();
    let (mut reports, mut said) = (launched.reports.unwrap(), Vec::new());
    while let Some(report) = reports.next().await {
        said.push(report);
    }
    (Ok((exit, text, said)), took)
}

fn about(one: Duration, other: Duration) -> bool {
    one.abs_diff(other) < Duration::from_millis(20)
}

async fn recorded(file: &Path) -> Vec<Seen> {
    let record = Recording::new(scripted(), file).unwrap();
    let mut all = Vec::new();
    for _ in 0..2 {
        all.push(see(&record, &proc_id("w-0")).await);
    }
    all
}

#[tokio::test(start_paused = true)]
async fn what_was_recorded_is_replayed_with_its_times() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tape.jsonl");
    let first = recorded(&file).await;
    let replay = Replay::new(&file).unwrap();
    for (answer, took) in first {
        let (again, took_again) = see(&replay, &proc_id("w-0")).await;
        assert_eq!(answer, again);
        assert!(about(took, took_again), "{took:?}, {took_again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_recorded_fails_and_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tape.jsonl");
    recorded(&file).await;
    let replay = Replay::new(&file).unwrap();
    let fails = async |name: &str| replay.launch(&proc_id(name), options()).await.unwrap_err().to_string();
    let unknown = fails("w-1").await;
    assert!(
        unknown.contains("no launch of proc \"w-1\" was recorded") && unknown.contains("w-0"),
        "{unknown}"
    );
    for _ in 0..2 {
        let _seen = see(&replay, &proc_id("w-0")).await;
    }
    let third = fails("w-0").await;
    assert!(third.contains("launch 3 of proc \"w-0\" was not recorded; 2 of it were"), "{third}");
}

#[tokio::test(start_paused = true)]
async fn a_recording_has_no_payload_and_no_value_of_the_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tape.jsonl");
    recorded(&file).await;
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"TOKEN\"") && text.contains("/bin/worker"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_stop_is_answered_as_it_was_and_what_was_not_stopped_then_ends_by_the_signal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tape.jsonl");
    let record = Recording::new(scripted(), &file).unwrap();
    let (slow, ends) = (proc_id("slow"), proc_id("w-1"));
    let launched = record.launch(&slow, options()).await.unwrap();
    let other = record.launch(&ends, options()).await.unwrap();
    sleep(SECOND * 30).await;
    record.terminate(&slow, SECOND).await.unwrap();
    launched.exit_rx.await.unwrap();
    other.exit_rx.await.unwrap();

    let replay = Replay::new(&file).unwrap();
    let launched = replay.launch(&slow, options()).await.unwrap();
    sleep(SECOND).await;
    let asked = Instant::now();
    replay.terminate(&slow, SECOND).await.unwrap();
    let exit = launched.exit_rx.await.unwrap();
    assert!(matches!(exit.kind, procession_model::ProcExitKind::Exited { code: 4 }), "{exit:?}");
    assert!(about(asked.elapsed(), SECOND * 7), "{:?}", asked.elapsed());
    let launched = replay.launch(&ends, options()).await.unwrap();
    replay.kill(&ends).await.unwrap();
    assert_eq!(signal_of(&launched.exit_rx.await.unwrap()), Some(9));
}

#[tokio::test(start_paused = true)]
async fn what_ends_before_its_exit_is_lost_and_what_is_no_recording_is_refused_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tape.jsonl");
    recorded(&file).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let cut: Vec<_> = text.lines().filter(|line| !line.contains("\"exit\"")).collect();
    std::fs::write(&file, cut.join("\n")).unwrap();
    let replay = Replay::new(&file).unwrap();
    let (Ok((exit, ..)), _) = see(&replay, &proc_id("w-0")).await else { panic!("it was answered") };
    assert_eq!(exit.kind.to_string(), "lost: its recording ends before its exit does");

    std::fs::write(&file, format!("{}\nnonsense", cut[0])).unwrap();
    let refused = Replay::new(&file).unwrap_err().to_string();
    assert!(refused.contains(":2: ") && refused.contains("record it again"), "{refused}");
    std::fs::write(&file, "").unwrap();
    assert!(Replay::new(&file).unwrap_err().to_string().contains("no recording of a launcher"));
    assert!(Replay::new(&directory.path().join("missing")).is_err());
}
