//! Starting a process, and what can be done with it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use procession_sys::*;

fn shell(script: &str) -> SpawnSpec<'static> {
    let argv = vec![c"sh".into(), c"-c".into(), CString::new(script).unwrap()];
    SpawnSpec { stdout: Stdio::Pipe, ..SpawnSpec::new(c"/bin/sh".into(), argv, Vec::new()) }
}

fn output(spec: &SpawnSpec<'_>) -> (String, ExitStatus) {
    let mut child = spawn(spec).unwrap();
    let mut text = String::new();
    File::from(child.stdout.take().unwrap()).read_to_string(&mut text).unwrap();
    (text, child.pidfd.wait().unwrap().unwrap())
}

#[test]
fn a_status_can_be_looked_at_before_it_is_taken_and_is_taken_once() {
    let child = spawn(&shell("exit 7")).unwrap();
    while !child.pidfd.has_ended().unwrap() {}
    let seven = Some(ExitStatus::Exited { code: 7 });
    assert_eq!(child.pidfd.peek().unwrap(), seven);
    assert_eq!(child.pidfd.reap().unwrap(), seven);
    assert_eq!(child.pidfd.peek().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    assert_eq!(child.pidfd.signal(0).unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

#[test]
fn a_running_child_has_no_status_yet() {
    let child = spawn(&shell("exec sleep 1000")).unwrap();
    assert_eq!(child.pidfd.peek().unwrap(), None);
    assert!(!child.pidfd.has_ended().unwrap());
    child.kill_group();
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(child.pidfd.wait().unwrap(), Some(killed));
}

#[test]
fn a_failed_start_names_its_stage_and_leaves_no_zombie() {
    let missing = SpawnSpec::new(c"/no/such/program".into(), vec![c"x".into()], Vec::new());
    let error = spawn(&missing).unwrap_err();
    assert_eq!((error.stage, error.source.raw_os_error()), (Stage::Exec, Some(libc::ENOENT)));
    let not_a_directory = File::open("/dev/null").unwrap();
    let error = spawn(&SpawnSpec { cwd: Some(not_a_directory.as_fd()), ..shell("") }).unwrap_err();
    assert_eq!((error.stage, error.source.raw_os_error()), (Stage::Directory, Some(libc::ENOTDIR)));
    let all = Snapshot::take().unwrap();
    assert!(all.descendants([std::process::id()]).is_empty());
}

#[test]
fn a_start_is_told_at_once_though_a_fork_of_this_process_holds_all_that_it_had() {
    // Forks as fast as it can, from another thread: each holds whatever is open at its moment.
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let forks = scope.spawn(|| {
            let mut forks = Vec::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) && forks.len() < 400 {
                forks.push(Fork::new());
            }
            forks
        });
        for code in 0..200 {
            let child = spawn(&shell(&format!("exit {}", code % 7))).unwrap();
            assert_eq!(child.pidfd.wait().unwrap(), Some(ExitStatus::Exited { code: code % 7 }));
            let missing = SpawnSpec::new(c"/no/such/program".into(), vec![c"x".into()], Vec::new());
            assert_eq!(spawn(&missing).unwrap_err().stage, Stage::Exec);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        drop(forks.join().unwrap());
    });
}

/// A copy of this process that does nothing, until it is dropped.
struct Fork(libc::pid_t);

impl Fork {
    #[expect(unsafe_code, reason = "a test of what happens to descriptors when somebody forks")]
    fn new() -> Self {
        // SAFETY: the copy makes one async-signal-safe call, again and again.
        match unsafe { libc::fork() } {
            0 => loop {
                // SAFETY: as above.
                unsafe { libc::pause() };
            },
            pid => Self(pid),
        }
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        let pidfd = Pidfd::open(self.0 as u32).unwrap();
        pidfd.signal(libc::SIGKILL).unwrap();
        pidfd.wait().unwrap();
    }
}

#[test]
fn a_child_is_seen_to_execute_though_nothing_tells_it() {
    let spawning = Spawning::start(&shell("exec sleep 1000")).unwrap();
    while !spawning.executes() {
        std::thread::yield_now();
    }
    let child = spawning.finish().unwrap();
    assert_eq!(child.pidfd.peek().unwrap(), None);
    child.kill_group();
    child.pidfd.wait().unwrap();
}

#[test]
fn passed_descriptors_arrive_in_order_whatever_numbers_they_had() {
    let files: Vec<OwnedFd> =
        (0..6).map(|n| sealed_memfd(c"x", format!("file {n};").as_bytes()).unwrap()).collect();
    // From high to low, so that each target is some other's source.
    let fds: Vec<_> = files.iter().rev().map(AsFd::as_fd).collect();
    let (text, _) = output(&SpawnSpec { fds, ..shell("for n in 3 4 5 6 7 8; do eval \"cat <&$n\"; done") });
    assert!(text == "file 5;file 4;file 3;file 2;file 1;file 0;", "{text}");
}

#[test]
fn a_program_can_be_executed_from_memory() {
    let program = executable_memfd(c"copy of cat", &std::fs::read("/bin/cat").unwrap()).unwrap();
    let argv = vec![c"cat".into(), c"/proc/self/cmdline".into()];
    let mut spec = SpawnSpec::new(CString::default(), argv, Vec::new());
    spec.program = Program::Fd(program.as_fd());
    spec.stdout = Stdio::Pipe;
    let (text, status) = output(&spec);
    assert_eq!((text.as_str(), status), ("cat\0/proc/self/cmdline\0", ExitStatus::Exited { code: 0 }));
}

#[test]
fn a_sealed_file_can_be_read_and_never_written() {
    let mut file = File::from(sealed_memfd(c"x", b"content").unwrap());
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "content");
    assert_eq!(file.write(b"x").unwrap_err().raw_os_error(), Some(libc::EPERM));
    assert_eq!(file.set_len(0).unwrap_err().raw_os_error(), Some(libc::EPERM));
}

#[test]
fn a_child_of_a_thread_that_ends_dies_with_it_when_so_armed() {
    let spec = || SpawnSpec { orphaned: Orphaned::Dies, ..shell("exec sleep 1000") };
    let child = std::thread::spawn(move || spawn(&spec()).unwrap()).join().unwrap();
    let killed = ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(child.pidfd.wait().unwrap(), Some(killed));
}

#[test]
fn a_child_that_becomes_another_user_dies_with_its_thread_all_the_same() {
    if own_ids().0 != 0 {
        println!("skipped: capability: change-user");
        return;
    }
    let spec = || {
        let identity = Some(Identity { uid: 65_534, gid: 65_534, groups: Vec::new() });
        let confinement = Confinement { identity, ..Confinement::default() };
        SpawnSpec { orphaned: Orphaned::Dies, confinement, ..shell("exec sleep 1000") }
    };
    let (gone, watch) = std::sync::mpsc::channel();
    let child = std::thread::spawn(move || spawn(&spec()).unwrap()).join().unwrap();
    let pid = child.pid;
    std::thread::spawn(move || gone.send(child.pidfd.wait().unwrap()).unwrap());
    let ended = watch.recv_timeout(Duration::from_secs(20));
    if ended.is_err() {
        Process::look(pid).unwrap().signal(libc::SIGKILL);
    }
    assert_eq!(ended, Ok(Some(ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false })));
}

#[test]
fn a_child_that_is_armed_until_it_executes_outlives_the_thread_then() {
    let spec = || SpawnSpec { orphaned: Orphaned::DiesUntilExec, ..shell("exec sleep 1000") };
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let child = std::thread::spawn(move || spawn(&spec()).unwrap()).join().unwrap();
    // Its end is told to its children before it is gone from here.
    while threads() > before {
        std::thread::yield_now();
    }
    child.pidfd.signal(libc::SIGTERM).unwrap();
    let ended = ExitStatus::Signaled { signal: libc::SIGTERM, core_dumped: false };
    assert_eq!(child.pidfd.wait().unwrap(), Some(ended));
}

#[test]
fn the_limit_on_open_files_is_given_back_to_children() {
    let before = raise_open_files().unwrap();
    let (soft, _) = output(&shell("ulimit -Sn"));
    let (hard, _) = output(&shell("ulimit -Hn"));
    assert_eq!(soft, hard, "it is raised here");
    let (back, _) = output(&SpawnSpec { open_files: Some(before), ..shell("ulimit -Sn") });
    assert!(back.trim().parse::<u64>().unwrap() <= soft.trim().parse().unwrap());
}

#[test]
fn messages_keep_their_boundaries_and_carry_descriptors() {
    let (ours, theirs) = seqpacket_pair().unwrap();
    let (read, write) = pipe().unwrap();
    send(ours.as_fd(), b"one", &[write.as_fd(), read.as_fd()]).unwrap();
    send(ours.as_fd(), b"three", &[]).unwrap();
    drop((read, write));
    let mut buffer = [0; 16];
    let first = receive(theirs.as_fd(), &mut buffer).unwrap();
    assert_eq!((&buffer[..first.length], first.fds.len()), (&b"one"[..], 2));
    let mut fds = first.fds.into_iter().map(File::from);
    fds.next().unwrap().write_all(b"through").unwrap();
    let mut pipe = fds.next().unwrap();
    assert_eq!(bytes_waiting(pipe.as_fd()).unwrap(), 7);
    let mut text = [0; 7];
    pipe.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"through");
    let second = receive(theirs.as_fd(), &mut buffer).unwrap();
    assert_eq!((&buffer[..second.length], second.fds.len()), (&b"three"[..], 0));
    let error = receive(theirs.as_fd(), &mut buffer).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    // A duplicate keeps it open, and is shut down all the same.
    let held = ours.try_clone().unwrap();
    shut_down(ours.as_fd());
    assert_eq!(receive(theirs.as_fd(), &mut buffer).unwrap().length, 0);
    drop(held);
}

#[test]
fn a_poll_ends_with_its_time_or_with_what_it_waits_for() {
    let (read, write) = pipe().unwrap();
    let mut watches = [Watch::readable(read.as_fd())];
    poll(&mut watches, Some(Duration::from_nanos(1))).unwrap();
    assert!(!watches[0].is_ready());
    File::from(write).write_all(b"x").unwrap();
    poll(&mut watches, None).unwrap();
    assert!(watches[0].is_ready());
}

#[test]
fn what_this_process_opened_or_never_had_cannot_be_taken_over() {
    let mut file = File::from(sealed_memfd(c"x", b"still mine").unwrap());
    let error = inherited(file.as_raw_fd()).unwrap_err();
    assert!(error.to_string().contains("was opened by this process"), "{error}");
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "still mine");
    assert_eq!(inherited(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(inherited(1).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
}

#[test]
#[ignore = "a role that another test plays in a process of its own"]
fn role_of_an_heir() {
    let mut text = String::new();
    File::from(inherited(9).unwrap()).read_to_string(&mut text).unwrap();
    assert_eq!(text, "left to it");
    assert!(inherited(9).is_err(), "it is taken over once");
}

#[test]
fn what_a_parent_passed_is_taken_over_once() {
    let script = "printf 'left to it' | \"$0\" --exact role_of_an_heir --ignored 9<&0";
    let mut role = std::process::Command::new("/bin/sh");
    let role = role.args(["-c", script]).arg(std::env::current_exe().unwrap()).output().unwrap();
    assert!(role.status.success(), "{}", String::from_utf8_lossy(&role.stdout));
}

#[test]
fn a_stranger_with_a_leaders_pid_is_no_member_of_its_tree() {
    let child = spawn(&shell("exec sleep 1000")).unwrap();
    let real = Process::look(child.pid).unwrap();
    let all = Snapshot::take().unwrap();
    let mut of_a_dead_one =
        Tree::new(child.pid, real.started - 1, "no such launch", Some(std::process::id()));
    assert!(of_a_dead_one.members(&all).is_empty());
    let mut of_this_one = Tree::new(child.pid, real.started, "no such launch", Some(std::process::id()));
    assert_eq!(of_this_one.members(&all).iter().map(|p| p.pid).collect::<Vec<_>>(), [child.pid]);
    assert!(Tree::kill(std::slice::from_mut(&mut of_this_one), Duration::from_secs(5)).unwrap().is_empty());
    assert_eq!(child.pidfd.peek().unwrap_err().raw_os_error(), Some(libc::ECHILD), "it is reaped too");
}

#[test]
fn how_a_process_ended_that_is_no_child_is_told_once_its_parent_has_reaped_it() {
    for (script, expected) in [
        ("exit 7", ExitStatus::Exited { code: 7 }),
        ("kill -9 $$", ExitStatus::Signaled { signal: 9, core_dumped: false }),
    ] {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let pidfd = Pidfd::open(child.id()).unwrap();
        assert_eq!(pidfd.told_status(), None, "it lives");
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(pidfd.told_status(), Pidfd::tells_status().then_some(expected));
    }
}
