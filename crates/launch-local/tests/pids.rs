//! A pid that is used again while its first owner is still being dealt with.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

mod f19 {
    use std::process::{Child, Command};
    use std::time::Duration;

    use procession_launch::ProcLauncher;
    use procession_launch_local::NativeLauncher;
    use procession_model::ProcExitKind;

    use crate::common::{Failpoints, Running, shell};

    const ROUNDS: usize = 1000;
    const REAPED: &str = "keeper-after-reaping";

    /// A process that has `pid`, in a session of that number, and is nobody of ours.
    fn stranger(pid: u32) -> Child {
        for _ in 0..100 {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut child = Command::new("setsid").args(["sleep", "1000"]).spawn().unwrap();
            if child.id() == pid {
                return child;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        panic!("no process could be given the pid {pid}");
    }

    #[tokio::test]
    #[ignore = "a role that another test plays in a pid namespace of its own"]
    async fn role_of_a_machine_that_uses_pids_at_once_again() {
        let failpoints = Failpoints::new();
        let launcher = NativeLauncher::start().unwrap();
        for round in 0..ROUNDS {
            failpoints.arm(REAPED);
            let mut proc = Running::start(&launcher, shell("exit 7")).await;
            failpoints.reached(REAPED).await;
            let mut stranger = stranger(proc.pid);
            let ask = async {
                let minute = Duration::from_secs(60);
                let asked = tokio::join!(launcher.terminate(&proc.id, minute), launcher.kill(&proc.id));
                assert!(asked.0.is_ok() && asked.1.is_ok(), "{asked:?}");
            };
            let let_go = async { failpoints.disarm(REAPED) };
            tokio::join!(ask, let_go);
            assert_eq!(proc.exit().await, ProcExitKind::Exited { code: 7 });
            assert!(stranger.try_wait().unwrap().is_none(), "the stranger was signalled in round {round}");
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
        launcher.shutdown().await;
        println!("{ROUNDS} spared");
    }

    #[test]
    fn a_stranger_that_has_the_pid_of_a_proc_that_was_just_reaped_is_spared_always() {
        let own_pids = || {
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
            command
        };
        if !own_pids().arg("true").output().is_ok_and(|output| output.status.success()) {
            println!("skipped: capability: namespaces");
            return;
        }
        let role = "f19::role_of_a_machine_that_uses_pids_at_once_again";
        let done = own_pids()
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", role, "--ignored", "--nocapture"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            said.contains(&format!("{ROUNDS} spared")),
            "{said}{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}
