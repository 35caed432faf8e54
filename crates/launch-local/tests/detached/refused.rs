//! What is not taken over, who is not let in, and what cannot be detached.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use procession_launch::ProcLauncher;
use procession_launch_local::NativeLauncher;
use procession_model::{InvalidArgument, LaunchOptions, ProcExitKind};
use procession_sys::{self as sys, Pidfd, Process};

use crate::common::{fresh, lives};
use crate::world::{BOUND, Host, State, WAITS, end};

mod f20 {
    use super::*;

    #[tokio::test]
    async fn a_process_that_has_the_pid_by_now_is_not_taken_over_and_not_touched() {
        let state = State::new();
        let launcher = state.launcher();
        let stranger = Command::new("sleep").arg("1000").stdout(Stdio::null()).spawn().unwrap();
        let found = Process::look(stranger.id()).unwrap();
        let id = fresh();
        let earlier = Some((found.pid, found.started - 1));
        let adopted = launcher.adopt(&id, &state.simple("exit 0"), earlier).await.unwrap();
        let kind = end(adopted).await.kind;
        assert!(
            matches!(&kind, ProcExitKind::Lost { reason } if reason.contains("another process")),
            "{kind:?}"
        );
        assert!(launcher.kill(&id).await.is_err(), "it is not known, and so cannot be killed by mistake");
        launcher.shutdown().await;
        assert!(lives(&found), "the stranger was not touched");
        Pidfd::open(found.pid).unwrap().signal(libc::SIGKILL).unwrap();
        { stranger }.wait().unwrap();
    }
}

#[tokio::test]
async fn a_second_host_is_refused_while_the_first_one_lives() {
    let state = State::new();
    let options = state.simple(&format!("{WAITS} exit 2"));
    let mut host = Host::start(&state, &options);
    state.has("up");
    let refused = NativeLauncher::start_in(state.path(), |_| ()).err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::AddrInUse);
    assert!(refused.to_string().contains("another host is the owner"), "{refused}");
    host.kill();
    let launcher = state.launcher();
    let adopted = host.adopted_by(&launcher, &options).await;
    state.put("go");
    assert_eq!(end(adopted).await.kind, ProcExitKind::Exited { code: 2 });
    state.shut_down(launcher).await;
}

#[test]
#[ignore = "a role that other tests play in a process of its own"]
fn role_of_a_stranger() {
    let socket = PathBuf::from(std::env::var("DIRECTORY").unwrap()).join("keeper");
    let socket = sys::connect_seqpacket(&socket).unwrap();
    sys::poll(&mut [sys::Watch::readable(socket.as_fd())], Some(BOUND)).unwrap();
    assert_eq!(sys::receive(socket.as_fd(), &mut [0; 64]).unwrap().length, 0, "the keeper hangs up");
}

#[tokio::test]
async fn another_user_is_refused_even_where_the_directory_lets_it_in() {
    if sys::own_ids().0 != 0 {
        println!("skipped: capability: change-user");
        return;
    }
    let state = State::new();
    let launcher = state.launcher();
    let open = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let test = state.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &test).unwrap();
    open(&test, 0o755);
    open(state.path(), 0o755);
    open(&state.path().join("keeper"), 0o777);
    let output = Command::new(&test)
        .args(["--exact", "refused::role_of_a_stranger", "--ignored", "--nocapture"])
        .env("DIRECTORY", state.path())
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let refused = NativeLauncher::start_in(state.path(), |_| ()).err().unwrap();
    assert!(refused.to_string().contains("chmod 0700"), "{refused}");
    state.shut_down(launcher).await;
}

#[tokio::test]
async fn what_cannot_be_detached_is_refused_before_anything_starts() {
    let state = State::new();
    let text = |error: procession_launch::ProcLauncherError| {
        let procession_launch::ProcLauncherError::Launch(error) = error else { panic!("{error}") };
        let inner = error.into_inner().unwrap();
        inner.downcast_ref::<InvalidArgument>().unwrap().to_string()
    };
    let homeless = NativeLauncher::start().unwrap();
    assert!(!homeless.capabilities().adopt);
    let id = fresh();
    let refused = text(homeless.launch(&id, state.simple("exit 0")).await.unwrap_err());
    assert!(refused.contains("detach") && refused.contains("state directory"), "{refused}");
    let refused = homeless.adopt(&id, &state.simple("exit 0"), None).await.unwrap_err().to_string();
    assert!(refused.contains("state directory"), "{refused}");
    homeless.shutdown().await;
    let launcher = state.launcher();
    assert!(launcher.capabilities().adopt);
    let without = LaunchOptions { output: None, ..state.simple("exit 0") };
    let refused = text(launcher.launch(&id, without).await.unwrap_err());
    assert!(refused.contains("output"), "{refused}");
    launcher.shutdown().await;
    for (path, word) in
        [(state.path().join("none"), "make it first"), (state.path().join("keeper"), "not a directory")]
    {
        let refused = NativeLauncher::start_in(&path, |_| ()).err().unwrap().to_string();
        assert!(refused.contains(word), "{refused}");
    }
}
