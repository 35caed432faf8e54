//! The output of procs without a host is whole, in the files that it would be in.

use std::fs;
use std::time::Duration;

use procession_launch::ProcLauncher;
use procession_model::ProcExitKind;
use procession_sys::Rotation;

use crate::common::{fresh, lives, members, within};
use crate::world::{BOUND, Host, State, WAITS, end, numbers, pipes, splice};

#[tokio::test]
async fn output_is_whole_though_the_host_is_killed_in_the_middle_of_a_flood_and_another_takes_over() {
    let state = State::new();
    let options = state.simple(
        "seq 0 400000; touch written; while [ ! -e go ]; do sleep 0.01; done; seq 400001 400100; exit 7",
    );
    let mut host = Host::start(&state, &options);
    within(BOUND, "the flood has begun", || {
        fs::metadata(state.file("out")).is_ok_and(|meta| meta.len() > 100_000)
    });
    host.kill();
    assert!(lives(&host.leader), "what is detached lives on");
    state.has("written");
    let launcher = state.launcher();
    let adopted = host.adopted_by(&launcher, &options).await;
    assert!(adopted.started_at.elapsed().unwrap() < Duration::from_secs(120));
    let [out, _err] = pipes(adopted.stdio);
    let reader = splice(state.file("out"), Rotation { max_bytes: None, keep: 0 }, out);
    state.put("go");
    let exit = tokio::time::timeout(BOUND, adopted.exit_rx).await.unwrap().unwrap();
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 7 });
    reader.join().unwrap();
    assert!(state.stdout(0) == numbers(400_100), "every line once, in order");
    state.shut_down(launcher).await;
}

#[tokio::test]
async fn files_are_rotated_while_no_host_lives_as_before() {
    let state = State::new();
    let rotation = Rotation { max_bytes: Some(4000), keep: 100 };
    let options = state
        .detached(&format!("seq 0 1000; {WAITS} seq 1001 20000; touch written; exec sleep 1000"), rotation);
    let host = Host::killed(&state, &options);
    state.put("go");
    state.has("written");
    within(BOUND, "it is all in the files", || state.stdout(100).len() == numbers(20_000).len());
    assert!(state.stdout(100) == numbers(20_000), "every line once, in order");
    assert!((0..=9).all(|number| {
        fs::metadata(state.file(&format!("out.{}", number + 1))).is_ok_and(|meta| meta.len() == 4000)
    }));
    state.launcher().shutdown().await;
    assert!(members(&host.id).is_empty(), "a shutdown ends what is detached too");
    state.has_no_helpers();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_full_disk_holds_up_nothing_and_what_fits_again_is_written_again() {
    let state = State::new();
    let logs = state.path().join("logs");
    // A file where the directory has to be is as good as a disk without room.
    fs::write(&logs, "").unwrap();
    let script = format!(
        "{WAITS} seq 0 100000; touch written; while [ ! -e room ]; do sleep 0.01; done; echo again; exit 1"
    );
    let options = state.simple(&script);
    let launcher = state.launcher();
    let id = fresh();
    let launched = launcher.launch(&id, options.clone()).await.unwrap();
    let pid = launched.pid;
    drop((launcher, launched));
    state.put("go");
    state.has("written");
    fs::remove_file(&logs).unwrap();
    state.put("room");
    state.has_no_helpers();
    assert!(state.stdout(0).ends_with(b"again\n"));
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &options, None).await.unwrap();
    assert_eq!(adopted.pid, pid);
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 1 });
    launcher.shutdown().await;
}
