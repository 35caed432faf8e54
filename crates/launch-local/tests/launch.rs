//! Launching, and what a proc finds when it starts.
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{Running, exit_of, fresh, members, options, shell};
use procession_launch::{ProcLauncher, ProcLauncherError, StdioHandling};
use procession_launch_local::{LaunchFailure, NativeLauncher};
use procession_model::{BootstrapCommand, InvalidArgument, LaunchOptions, ProcExitKind};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn every_exit_code_arrives_as_it_is() {
    let launcher = NativeLauncher::start().unwrap();
    for code in [0, 1, 42, 255] {
        assert_eq!(exit_of(&launcher, &format!("exit {code}")).await, ProcExitKind::Exited { code });
    }
    launcher.shutdown().await;
}

mod f3 {
    use super::*;

    #[tokio::test]
    async fn every_signal_that_kills_arrives_as_it_is() {
        let launcher = NativeLauncher::start().unwrap();
        // Those that stop, continue or are ignored by default do not kill.
        for signal in (1..32).filter(|signal| ![17, 18, 19, 20, 21, 22, 23, 28].contains(signal)) {
            let exit = exit_of(&launcher, &format!("ulimit -c 0; kill -{signal} $$")).await;
            assert_eq!(exit, ProcExitKind::Signaled { signal, core_dumped: false });
        }
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn a_core_is_told_of_only_when_one_was_written() {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let launcher = NativeLauncher::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    for (limit, core_dumped) in [("0", false), ("unlimited", !pattern.starts_with(['|', '/']))] {
        let mut options = shell(&format!("ulimit -c {limit}; kill -ABRT $$"));
        options.command.cwd = Some(directory.path().into());
        let exit = Running::start(&launcher, options).await.exit().await;
        let written = std::fs::read_dir(directory.path()).unwrap().count() > 0;
        assert_eq!(exit, ProcExitKind::Signaled { signal: libc::SIGABRT, core_dumped: written });
        assert!(written || !core_dumped, "with the pattern {pattern:?} and no limit a core is written");
    }
    launcher.shutdown().await;
}

/// The errno, or none for a refused argument, and the text.
async fn refusal(launcher: &NativeLauncher, options: LaunchOptions) -> (Option<i32>, String) {
    let id = fresh();
    let error = launcher.launch(&id, options).await.unwrap_err();
    assert!(members(&id).is_empty(), "nothing was started");
    let text = error.to_string();
    let ProcLauncherError::Launch(error) = error else { panic!("{text}") };
    let inner = error.into_inner().unwrap();
    match inner.downcast::<LaunchFailure>() {
        Ok(failure) => (Some(failure.errno()), text),
        Err(inner) => {
            inner.downcast::<InvalidArgument>().unwrap();
            (None, text)
        }
    }
}

fn file(directory: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    path
}

mod f5 {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_executed_is_refused_with_its_cause() {
        let launcher = NativeLauncher::start().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str, content: &[u8], mode| file(directory.path(), name, content, mode);
        let mut foreign = std::fs::read("/bin/true").unwrap();
        foreign[18] ^= 0x55;
        let mut broken = std::fs::read("/bin/true").unwrap();
        broken[16] = 77;
        let in_a_loop = directory.path().join("loop");
        std::os::unix::fs::symlink(&in_a_loop, &in_a_loop).unwrap();
        let cases = [
            (directory.path().join("missing"), libc::ENOENT, "does not exist"),
            (directory.path().to_owned(), libc::EACCES, "is a directory"),
            (at("plain", b"#!/bin/sh\n", 0o644), libc::EACCES, "not executable"),
            (at("orphan", b"#!/no/such/interpreter -x\n", 0o755), libc::ENOENT, "/no/such/interpreter"),
            (at("strange", b"#!/etc/passwd\n", 0o755), libc::EACCES, "/etc/passwd"),
            (at("no-line", b"echo this must not run\n", 0o755), libc::ENOEXEC, "#!"),
            (at("empty", b"", 0o755), libc::ENOEXEC, "#!"),
            (at("foreign", &foreign, 0o755), libc::ENOEXEC, "another architecture"),
            (at("broken", &broken, 0o755), libc::ENOEXEC, "neither an executable"),
            (PathBuf::from("no-such-name"), libc::ENOENT, "PATH"),
            (PathBuf::from("/etc/passwd/x"), libc::ENOTDIR, "/etc/passwd/x"),
            (in_a_loop, libc::ELOOP, "symbolic links"),
            (directory.path().join("n".repeat(300)), libc::ENAMETOOLONG, "shorten it"),
        ];
        for (program, errno, word) in cases {
            let (found, text) = refusal(&launcher, options(BootstrapCommand::new(&program))).await;
            assert_eq!(found, Some(errno), "{program:?}: {text}");
            assert!(text.contains(word), "{program:?}: {text}");
            assert_eq!(text.matches("errno").count(), 1, "{text}");
        }
        launcher.shutdown().await;
    }
}

mod f76 {
    use super::*;

    #[tokio::test]
    async fn arguments_that_no_machine_takes_are_named() {
        let launcher = NativeLauncher::start().unwrap();
        let mut cases: Vec<(&str, BootstrapCommand)> = Vec::new();
        let mut case = |word, change: &dyn Fn(&mut BootstrapCommand)| {
            let mut command = BootstrapCommand::new("/bin/true");
            change(&mut command);
            cases.push((word, command));
        };
        case("program", &|c| c.program = PathBuf::new());
        case("cwd", &|c| c.program = PathBuf::from("bin/true"));
        case("program", &|c| c.program = PathBuf::from("/bin/\0true"));
        case("arg0", &|c| c.arg0 = Some(String::new()));
        case("arg0", &|c| c.arg0 = Some("a\0b".into()));
        case("args[1]", &|c| c.args = vec!["fine".into(), "a\0b".into()]);
        case("env", &|c| drop(c.env.insert(String::new(), "canary".into())));
        case("A=B", &|c| drop(c.env.insert("A=B".into(), "canary".into())));
        case("env[\"A\"]", &|c| drop(c.env.insert("A".into(), "canary\0".into())));
        case("args[0]", &|c| c.args = vec!["x".repeat(128 * 1024)]);
        case("env[\"BIG\"]", &|c| drop(c.env.insert("BIG".into(), "canary".repeat(30_000))));
        case("together", &|c| c.args = vec!["x".repeat(100_000); 80]);
        case("cwd", &|c| c.cwd = Some(PathBuf::from("/tmp/\0")));
        for (word, command) in cases {
            let (errno, text) = refusal(&launcher, options(command)).await;
            assert_eq!(errno, None, "{text}");
            assert!(text.contains(word), "{word}: {text}");
            assert!(!text.contains("canary"), "{text}");
        }
        launcher.shutdown().await;
    }

    #[tokio::test]
    async fn arguments_as_large_as_the_kernel_takes_arrive_whole() {
        let launcher = NativeLauncher::start().unwrap();
        let mut options = shell("printf %s \"$0$1\" | wc -c");
        options.command.args.extend(["x".repeat(128 * 1024 - 1), "y".repeat(100_000)]);
        let mut proc = Running::start(&launcher, options).await;
        assert_eq!(proc.line().await, (128 * 1024 - 1 + 100_000).to_string());
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn a_bad_cwd_is_told_apart_from_a_bad_program() {
    let launcher = NativeLauncher::start().unwrap();
    for (cwd, errno) in [("/no/such/directory", libc::ENOENT), ("/etc/passwd", libc::ENOTDIR)] {
        let mut options = shell("exit 0");
        options.command.cwd = Some(PathBuf::from(cwd));
        let (found, text) = refusal(&launcher, options).await;
        assert_eq!(found, Some(errno), "{text}");
        assert!(text.contains("cwd") && text.contains(cwd), "{text}");
    }
    launcher.shutdown().await;
}

#[tokio::test]
async fn programs_are_looked_up_as_the_child_would() {
    let launcher = NativeLauncher::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    file(directory.path(), "tool", b"#!/bin/sh\necho $0 in $PWD\n", 0o755);
    let shown = directory.path().canonicalize().unwrap().display().to_string();
    let mut by_path = options(BootstrapCommand::new("tool"));
    by_path.command.env.insert("PATH".into(), format!("/nowhere:{shown}:/bin:/usr/bin"));
    let mut relative = options(BootstrapCommand::new("./tool"));
    relative.command.cwd = Some(directory.path().into());
    for options in [by_path, relative] {
        let mut proc = Running::start(&launcher, options).await;
        let line = proc.line().await;
        assert!(line.starts_with(&shown) && line.contains("/tool in "), "{line}");
    }
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_program_path_that_is_not_utf8_is_passed_as_it_is() {
    let launcher = NativeLauncher::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let name = std::ffi::OsStr::from_bytes(b"b\xffd");
    let path = directory.path().join(name);
    std::fs::write(&path, "#!/bin/sh\nexit 5\n").unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let mut proc = Running::start(&launcher, options(BootstrapCommand::new(&path))).await;
    assert_eq!(proc.exit().await, ProcExitKind::Exited { code: 5 });
    launcher.shutdown().await;
}

#[tokio::test]
async fn a_proc_has_no_descriptors_but_three_a_clean_mask_and_its_own_session() {
    let launcher = NativeLauncher::start().unwrap();
    // Not closed on exec, in this process: none of these may reach a proc.
    let leaky: Vec<_> = (0..5).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let script = "ls -l /proc/$$/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
                  read pid comm state ppid pgrp session rest < /proc/$$/stat; echo $pid $pgrp $session; \
                  cat /proc/$$/oom_score_adj";
    let mut proc = Running::start(&launcher, shell(script)).await;
    let text = proc.rest().await;
    let mut lines = text.lines().skip(1).map(|line| line.rsplit_once(" -> ").map_or(line, |(_, link)| link));
    let mut next = || lines.next().unwrap_or_else(|| panic!("{text}"));
    assert_eq!(next(), "/dev/null", "{text}");
    assert!(next().starts_with("pipe:") && next().starts_with("pipe:"), "{text}");
    assert_eq!(next(), "SigBlk:\t0000000000000000", "{text}");
    assert_eq!(next(), "SigIgn:\t0000000000000000", "{text}");
    let ids: BTreeSet<_> = next().split(' ').collect();
    assert_eq!(ids.len(), 1, "pid, group and session are one: {text}");
    let own = procession_sys::oom_score_adj().unwrap();
    assert_eq!(next(), (own + 500).min(1000).to_string());
    drop(leaky);
    launcher.shutdown().await;
}

#[tokio::test]
async fn the_environment_is_the_hosts_without_ours_and_with_what_was_asked() {
    let launcher = NativeLauncher::start().unwrap();
    let mut asked = options(BootstrapCommand::new("/usr/bin/env"));
    asked.command.env.insert("ADDED".into(), "yes".into());
    asked.command.env_remove = vec!["CARGO_MANIFEST_DIR".into()];
    let mut proc = Running::start(&launcher, asked.clone()).await;
    let text = proc.rest().await;
    let launch = format!("PROCESSION_LAUNCH_ID={}:", proc.id.launch_id());
    let wanted =
        ["ADDED=yes", "PROCESSION_BOOTSTRAP=the payload", "PROCESSION_PROCESS_NAME=p @ here", &launch];
    for entry in wanted {
        let is_there = |line: &str| line == entry || (entry == launch && line.starts_with(entry));
        assert!(text.lines().any(is_there), "{entry}: {text}");
    }
    assert!(text.contains("PATH=") && !text.contains("CARGO_MANIFEST_DIR="), "{text}");
    asked.command.clear_env = true;
    let text = Running::start(&launcher, asked).await.rest().await;
    assert_eq!(text.lines().count(), wanted.len(), "{text}");
    launcher.shutdown().await;
}

#[tokio::test]
async fn argv0_is_the_programs_name_unless_another_is_given() {
    let launcher = NativeLauncher::start().unwrap();
    for (arg0, shown) in [(None, "sh"), (Some("other"), "other")] {
        let mut options = shell("tr '\\0' ' ' < /proc/$$/cmdline");
        options.command.arg0 = arg0.map(str::to_owned);
        let line = Running::start(&launcher, options).await.rest().await;
        assert!(line.starts_with(&format!("{shown} -c")), "{line}");
    }
    launcher.shutdown().await;
}

#[tokio::test]
async fn both_outputs_are_captured_apart() {
    let launcher = NativeLauncher::start().unwrap();
    let mut proc = Running::start(&launcher, shell("echo out; echo err >&2")).await;
    assert_eq!(proc.rest().await, "out\n");
    let mut text = String::new();
    proc.stderr.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "err\n");
    launcher.shutdown().await;
}

#[tokio::test]
async fn an_output_that_nobody_wants_is_the_hosts_own() {
    let launcher = NativeLauncher::start().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link");
    let mut options = shell(&format!("own=$(readlink /proc/$$/fd/1); echo \"$own\" > {}", link.display()));
    options.want_stdio = false;
    let result = launcher.launch(&fresh(), options).await.unwrap();
    assert!(matches!(result.stdio, StdioHandling::Inherited));
    result.exit_rx.await.unwrap();
    let own = std::fs::read_link("/proc/self/fd/1").unwrap();
    assert_eq!(std::fs::read_to_string(&link).unwrap().trim_end(), own.display().to_string());
    launcher.shutdown().await;
}

mod f34 {
    use super::*;

    #[tokio::test]
    async fn five_hundred_launches_at_once_have_five_hundred_exits() {
        let launcher = std::sync::Arc::new(NativeLauncher::start().unwrap());
        let launches: Vec<_> = (0..500)
            .map(|number| {
                let launcher = launcher.clone();
                tokio::spawn(async move {
                    let mut proc = Running::start(&launcher, shell(&format!("exit {}", number % 256))).await;
                    (number, proc.exit().await)
                })
            })
            .collect();
        for launch in launches {
            let (number, exit) = launch.await.unwrap();
            assert_eq!(exit, ProcExitKind::Exited { code: number % 256 });
        }
        launcher.shutdown().await;
    }
}

#[tokio::test]
async fn an_id_serves_for_one_launch_only() {
    let launcher = NativeLauncher::start().unwrap();
    let id = fresh();
    let first = launcher.launch(&id, shell("exit 3")).await.unwrap();
    let again = launcher.launch(&id, shell("exit 4")).await.unwrap_err();
    assert!(again.to_string().contains("already"), "{again}");
    assert_eq!(first.exit_rx.await.unwrap().kind, ProcExitKind::Exited { code: 3 });
    launcher.shutdown().await;
}
