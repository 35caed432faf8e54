//! What a launcher makes of a QEMU that does not do what it should. It is a script here, whose sockets the test has.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use procession_launch::{LaunchResult, ProcLauncher};
use procession_launch_vm::{Accelerator, Vm, VmConfig};
use procession_model::{BootstrapCommand, HostId, LaunchOptions, ProcExitKind, ProcId};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::time::{Instant, sleep, timeout};

/// A launcher whose QEMU does that in the place of running a guest.
async fn launcher(dir: &Path, does: &str, boot_timeout: f64) -> Vm {
    let qemu = dir.join("qemu");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != --version ] || exec echo QEMU\necho $$ >{}/pid\n{does}\n",
        dir.display()
    );
    fs::write(&qemu, script).expect("a file");
    fs::set_permissions(&qemu, PermissionsExt::from_mode(0o755)).expect("it is ours");
    for name in ["root.img", "vmlinuz"] {
        fs::write(dir.join(name), "").expect("a file");
    }
    let config = VmConfig {
        kernel: Some(dir.join("vmlinuz")),
        qemu: qemu.to_string_lossy().into_owned(),
        accel: Accelerator::Tcg,
        state_dir: Some(dir.join("state")),
        boot_timeout,
        ..VmConfig::new(dir.join("root.img"))
    };
    Vm::connect(config).await.expect("all is there")
}

async fn launch(vm: &Vm) -> (ProcId, LaunchResult) {
    let options = LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: "p @ h".into(),
        command: BootstrapCommand::new("/bin/true"),
        want_stdio: true,
        tail_lines: 1,
        log_channel: None,
        detach: false,
        lease: Duration::from_secs(30),
        output: None,
    };
    let proc_id = ProcId::fresh("w", &HostId::fresh("m")).expect("an id");
    let launched = vm.launch(&proc_id, options).await.expect("it is asked for");
    (proc_id, launched)
}

/// Why it has failed; then its QEMU has ended, and its directory is gone.
async fn failure(dir: &Path, launched: LaunchResult) -> String {
    let exit =
        timeout(Duration::from_secs(20), launched.exit_rx).await.expect("in time").expect("it is told");
    let ProcExitKind::Failed { reason } = exit.kind else { panic!("it has not failed: {exit:?}") };
    let pid = fs::read_to_string(dir.join("pid")).expect("it was started");
    assert!(!Path::new(&format!("/proc/{}", pid.trim())).exists(), "QEMU runs on");
    assert_eq!(fs::read_dir(dir.join("state")).expect("it is there").count(), 0);
    reason
}

async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The directory of the one guest, once its QEMU was started.
async fn guest(dir: &Path) -> PathBuf {
    // The shell makes the file first, and may be ended before it writes to it.
    let started = || fs::read_to_string(dir.join("pid")).is_ok_and(|pid| pid.ends_with('\n'));
    until("QEMU is started", || started().then_some(())).await;
    let found = fs::read_dir(dir.join("state")).expect("it is there").next().expect("a guest");
    found.expect("it can be read").path()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_that_ends_at_once_has_failed_in_its_own_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let vm = launcher(dir.path(), "echo no such machine >&2; exit 1", 20.0).await;
    let why = failure(dir.path(), launch(&vm).await.1).await;
    assert_eq!(why, "QEMU has ended: exit code 1, and the last that was said is: no such machine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_that_opens_no_socket_is_given_up_when_its_time_to_boot_is_over() {
    let dir = tempfile::tempdir().expect("a directory");
    let vm = launcher(dir.path(), "echo waiting >&2; exec sleep 600", 1.0).await;
    let why = failure(dir.path(), launch(&vm).await.1).await;
    assert!(why.ends_with("/qemu has not opened its sockets within 1s: waiting"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_ends_a_qemu_that_opens_no_socket() {
    let dir = tempfile::tempdir().expect("a directory");
    let vm = launcher(dir.path(), "exec sleep 600", 600.0).await;
    let (proc_id, launched) = launch(&vm).await;
    guest(dir.path()).await;
    vm.kill(&proc_id).await.expect("it is asked for");
    assert_eq!(failure(dir.path(), launched).await, "cancelled before it was started");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_qemu_tells_of_its_end_is_heard_also_when_it_has_ended_before() {
    let dir = tempfile::tempdir().expect("a directory");
    let waits = format!("until [ -e {}/end ]; do sleep 0.05; done", dir.path().display());
    let vm = launcher(dir.path(), &waits, 20.0).await;
    let (_, launched) = launch(&vm).await;
    let sockets = guest(dir.path()).await;
    let [qmp, agent] = ["qmp", "agent"].map(|name| UnixListener::bind(sockets.join(name)).expect("a socket"));
    let (mut qmp, _) = qmp.accept().await.expect("it is reached");
    qmp.write_all(b"{\"QMP\": {}}\n").await.expect("it is read");
    let (agent, _) = agent.accept().await.expect("it is reached");
    let pid = fs::read_to_string(dir.path().join("pid")).expect("it was started");
    fs::write(dir.path().join("end"), "").expect("a file");
    until("QEMU has ended", || (!Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(())).await;
    drop(agent);
    qmp.write_all(b"{\"event\": \"GUEST_PANICKED\"}\n").await.expect("it is read");
    drop(qmp);
    let why = failure(dir.path(), launched).await;
    assert!(why.ends_with("the guest's kernel has panicked"), "{why}");
}
