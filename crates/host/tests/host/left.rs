//! What is left when host, keeper and guard are killed together is ended by the next host.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use procession_sys::{Process, Snapshot};

use crate::apart::{Apart, directory, lives, members, until};

/// A program that never calls back, with a daemon in a session of its own.
const SCRIPT: &str = "script setsid sh -c 'sleep 1000 &'; exec sleep 1000";

/// Kills all three in one go; gives the launch that they leave.
fn killed_with_keeper_and_guard(directory: &Path) -> (String, u32, [Process; 3]) {
    let mut apart = Apart::start(directory);
    apart.ask(SCRIPT);
    let launch = apart.hear("launch");
    let pid = apart.hear("ready").parse().unwrap();
    // Not those that are about to execute something: at that moment nobody can tell whose they are.
    until("both sleep", || {
        let all = members(&launch);
        all.len() == 2 && all.iter().all(|process| name(process.pid) == "sleep")
    });
    let three = [apart.own.clone(), apart.guard.clone(), apart.keeper.clone()];
    // None may do anything about the end of the others.
    for signal in [19, 9] {
        three.iter().for_each(|process| process.signal(signal));
        if signal == 19 {
            until("all are stopped", || {
                three.iter().all(|p| Process::look(p.pid).is_ok_and(|now| now.state == 'T'))
            });
        }
    }
    apart.bury();
    until("all three are dead", || !three.iter().any(lives));
    (launch, pid, three)
}

/// What it executes; empty when it is gone.
fn name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}

fn run_dirs(directory: &Path) -> Vec<std::path::PathBuf> {
    std::fs::read_dir(directory.join("run")).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_a_doctor() {
    for host in procession_host::dead_hosts() {
        println!("dead {} {}", host.pid, host.run_dir.display());
        for process in host.processes {
            println!("left {} {}", process.pid, process.command);
        }
    }
}

fn doctor(directory: &Path) -> String {
    let doctor = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "left::role_of_a_doctor", "--ignored", "--nocapture"])
        .env("XDG_RUNTIME_DIR", directory.join("run"))
        .output()
        .unwrap();
    String::from_utf8(doctor.stdout).unwrap()
}

mod f28 {
    use super::*;

    #[test]
    fn the_next_host_ends_what_is_left_and_the_doctor_shows_it_before() {
        let directory = directory();
        let path = directory.path();
        let (launch, pid, [host, ..]) = killed_with_keeper_and_guard(path);
        assert_eq!(members(&launch).len(), 2, "nobody is there to end them");
        let dirs = run_dirs(path);
        assert_eq!(dirs.len(), 1);
        let shown = doctor(path);
        assert!(shown.contains(&format!("dead {} {}\n", host.pid, dirs[0].display())), "{shown}");
        assert!(shown.contains(&format!("left {pid} sleep 1000\n")), "{shown}");
        assert_eq!(shown.matches("left ").count(), 2, "{shown}");

        let next = Apart::start(path);
        let took = until("all is gone", || members(&launch).is_empty() && !dirs[0].exists());
        println!("swept {took:?} after a start of {:?}", next.start);
        assert_eq!(doctor(path).matches("dead ").count(), 0);
        assert_eq!(run_dirs(path).len(), 1, "the living host's own");
        next.end();
        assert_eq!(run_dirs(path).len(), 0);
    }

    #[test]
    fn a_keeper_that_was_only_stopped_is_ended_with_what_it_kept() {
        let directory = directory();
        let mut apart = Apart::start(directory.path());
        apart.ask("script unset PROCESSION_LAUNCH_ID; exec env -i sleep 1000");
        let pid: u32 = apart.hear("ready").parse().unwrap();
        until("it has no marker any more", || {
            std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|found| found.is_empty())
        });
        let (proc_, keeper) = (Process::look(pid).unwrap(), apart.keeper.clone());
        for stopped in [&apart.keeper, &apart.guard] {
            stopped.signal(19);
            until("it is stopped", || Process::look(stopped.pid).unwrap().state == 'T');
        }
        apart.own.signal(9);
        apart.guard.signal(9);
        apart.bury();
        assert!(lives(&keeper) && lives(&proc_));
        let next = Apart::start(directory.path());
        until("all is gone", || !lives(&keeper) && !lives(&proc_) && run_dirs(directory.path()).len() == 1);
        next.end();
    }
}

mod f20 {
    use super::*;

    /// A process that has `pid` and is nobody of ours.
    fn stranger(pid: u32) -> Child {
        for _ in 0..100 {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
            let mut child = Command::new("/bin/sleep").arg("1000").process_group(0).spawn().unwrap();
            if child.id() == pid {
                return child;
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        panic!("no process could be given the pid {pid}: {:?}", Snapshot::take().unwrap().all());
    }

    #[test]
    #[ignore = "a role that another test plays in a pid namespace of its own"]
    fn role_of_a_machine_that_uses_pids_again() {
        procession_sys::become_subreaper().unwrap();
        let directory = directory();
        let (launch, pid, three) = killed_with_keeper_and_guard(directory.path());
        let left = members(&launch);
        left.iter().for_each(|process| process.signal(9));
        // All of them are orphans of this process now, and their pids are free once it has reaped them.
        let gone: Vec<u32> = three.iter().skip(1).map(|p| p.pid).chain([pid]).collect();
        // A number is in use too for as long as it is that of somebody's group or session.
        let named = |process: &Process, pid| [process.pid, process.group, process.session].contains(&pid);
        until("they are reaped", || {
            while let Ok(Some((pid, _))) = procession_sys::next_ended_child() {
                procession_sys::reap_child(pid).unwrap();
            }
            let all = Snapshot::take().unwrap();
            !gone.iter().any(|&pid| all.all().iter().any(|process| named(process, pid)))
        });
        let mut strangers: Vec<Child> = gone.into_iter().map(stranger).collect();
        let next = Apart::start(directory.path());
        until("the sweep is over", || run_dirs(directory.path()).len() == 1);
        for stranger in &mut strangers {
            assert!(stranger.try_wait().unwrap().is_none(), "a stranger was signalled");
        }
        next.end();
        for mut stranger in strangers {
            stranger.kill().unwrap();
            stranger.wait().unwrap();
        }
        println!("spared");
    }

    #[test]
    fn strangers_that_have_the_pids_of_the_dead_are_spared() {
        let may = Command::new("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).output();
        if !may.is_ok_and(|output| output.status.success()) {
            println!("skipped: capability: namespaces");
            return;
        }
        let role = Command::new("unshare")
            .args(["--pid", "--fork", "--mount-proc", "--kill-child"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "left::f20::role_of_a_machine_that_uses_pids_again",
                "--ignored",
                "--nocapture",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&role.stdout);
        assert!(said.contains("spared"), "{said}{}", String::from_utf8_lossy(&role.stderr));
    }
}
