//! How procs ended while no host lived, and how the next one ends them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::SystemTime;

use procession_launch::ProcLauncher;
use procession_model::ProcExitKind;

use crate::common::{fresh, members, within};
use crate::world::{BOUND, DAEMON, Host, KILLED, State, WAITS, end, pipes};

#[tokio::test]
async fn how_a_proc_ended_is_known_that_died_while_no_host_lived() {
    for (last, kind) in [
        ("exit 3", ProcExitKind::Exited { code: 3 }),
        ("kill -USR1 $$", ProcExitKind::Signaled { signal: libc::SIGUSR1, core_dumped: false }),
    ] {
        let state = State::new();
        let options = state.simple(&format!("{DAEMON}{WAITS} echo last; {last}"));
        let host = Host::killed(&state, &options);
        let before = SystemTime::now();
        state.put("go");
        state.has_no_helpers();
        let after = SystemTime::now();
        assert!(members(&host.id).is_empty(), "what it left is ended");
        assert_eq!(state.stdout(0), b"last\n");
        let mode = fs::metadata(state.path().join("exits")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let launcher = state.launcher();
        let adopted = host.adopted_by(&launcher, &options).await;
        let exit = end(adopted).await;
        assert_eq!(exit.kind, kind);
        assert!((before..=after).contains(&exit.ended_at.unwrap()));
        assert_ne!(exit.oom, Some(true));
        launcher.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_end_is_written_down_also_while_a_host_lives() {
    let state = State::new();
    let launcher = state.launcher();
    let id = fresh();
    let launched = launcher.launch(&id, state.simple("exit 5")).await.unwrap();
    let pid = launched.pid;
    assert_eq!(end(launched).await.kind, ProcExitKind::Exited { code: 5 });
    drop(launcher);
    state.has_no_helpers();
    let launcher = state.launcher();
    let adopted = launcher.adopt(&id, &state.simple("exit 5"), None).await.unwrap();
    assert_eq!(adopted.pid, pid);
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 5 });
    launcher.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn that_a_proc_ran_out_of_memory_is_known_though_no_host_lived() {
    let state = State::new();
    let launcher = state.launcher();
    // It keeps all that it reads until a line ends.
    let (mut options, id) = (state.simple(&format!("{WAITS} exec tail /dev/zero")), fresh());
    options.command.confinement.resources.memory = Some(64 << 20);
    if launcher.check(&options.command.confinement).is_err() {
        println!("skipped: capability: memory-limit");
        return launcher.shutdown().await;
    }
    let launched = launcher.launch(&id, options.clone()).await.unwrap();
    state.has("up");
    drop((launcher, launched));
    state.put("go");
    state.has_no_helpers();
    let launcher = state.launcher();
    let exit = end(launcher.adopt(&id, &options, None).await.unwrap()).await;
    assert_eq!((exit.kind, exit.oom), (KILLED, Some(true)));
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_proc_that_was_taken_over_is_terminated_and_killed_with_its_tree() {
    for kill in [false, true] {
        let state = State::new();
        let options = state.simple(&format!("trap 'exit 9' TERM; {DAEMON}{WAITS}"));
        let host = Host::killed(&state, &options);
        let launcher = state.launcher();
        let adopted = host.adopted_by(&launcher, &options).await;
        assert!(members(&host.id).len() >= 2, "its daemon lives too");
        if kill {
            launcher.kill(&host.id).await.unwrap();
            assert!(members(&host.id).is_empty());
        } else {
            launcher.terminate(&host.id, BOUND).await.unwrap();
        }
        let expected = if kill { KILLED } else { ProcExitKind::Exited { code: 9 } };
        assert_eq!(end(adopted).await.kind, expected);
        within(BOUND, "nothing of it is left", || members(&host.id).is_empty());
        state.launches(&launcher).await;
        state.shut_down(launcher).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn all_of_many_procs_are_handed_over() {
    let state = State::new();
    let launcher = state.launcher();
    let options = state.simple("exec sleep 1000");
    let mut procs = Vec::new();
    for _ in 0..100 {
        let id = fresh();
        let launched = launcher.launch(&id, options.clone()).await.unwrap();
        procs.push((id, launched.pid));
    }
    drop(launcher);
    let start = std::time::Instant::now();
    let launcher = state.next_launcher().await;
    for (id, pid) in &procs {
        let adopted = launcher.adopt(id, &options, None).await.unwrap();
        assert_eq!(adopted.pid, *pid);
        let [_stdout, _stderr] = pipes(adopted.stdio);
    }
    println!("{} procs taken over within {:?}", procs.len(), start.elapsed());
    launcher.shutdown().await;
    assert!(procs.iter().all(|(id, _)| members(id).is_empty()));
    state.has_no_helpers();
}
