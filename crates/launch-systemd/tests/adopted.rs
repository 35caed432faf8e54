//! What another process has launched as units, taken over. In the place of a private systemd: make test-systemd.

#![expect(clippy::unwrap_used, reason = "a test fails by it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use procession_launch::{Engine, Managed, ProcLauncher, Report, StdioHandling};
use procession_launch_systemd::{Systemd, SystemdConfig};
use procession_model::{BootstrapCommand, HostId, LaunchOptions, OutputFiles, ProcExitKind, ProcId};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(30);

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("adopted-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn an_id() -> ProcId {
    ProcId::fresh("adopted", &HostId::fresh("machine")).unwrap()
}

/// A shell that is detached, and writes to files in `folder`.
fn options(code: &str, folder: &Folder) -> LaunchOptions {
    let mut command = BootstrapCommand::new("/bin/sh");
    command.args = vec!["-c".to_owned(), code.to_owned()];
    command.env.insert("CANARY".to_owned(), "value of the canary".to_owned());
    let (stdout, stderr) = (folder.file("stdout"), folder.file("stderr"));
    LaunchOptions {
        bootstrap_payload: "secret".to_owned(),
        process_name: "adopted @ machine".to_owned(),
        command,
        want_stdio: true,
        tail_lines: 10,
        log_channel: None,
        detach: true,
        lease: Duration::ZERO,
        output: Some(OutputFiles { stdout, stderr, max_bytes: None, keep: 0 }),
    }
}

async fn connect() -> Managed<Systemd> {
    Systemd::connect(SystemdConfig::default()).await.unwrap()
}

/// Launches them by a launcher that is gone afterwards, with its connection and all of its tasks.
fn launched_elsewhere(launches: Vec<(ProcId, LaunchOptions)>) {
    let work = async {
        let launcher = connect().await;
        for (id, options) in launches {
            let mut launched = launcher.launch(&id, options).await.unwrap();
            let started = launched.reports.as_mut().unwrap().next().await;
            assert!(matches!(started, Some(Report::Handle(_))), "{started:?}");
        }
    };
    thread::spawn(|| Runtime::new().unwrap().block_on(work)).join().unwrap();
}

/// Whether none of them is among all that there is; other tests have theirs.
async fn is_gone(launcher: &Managed<Systemd>, ids: &[ProcId]) -> bool {
    let found = launcher.list().await.unwrap();
    found.iter().all(|found| ids.iter().all(|id| found.labels.proc != id.as_str()))
}

async fn until(path: &Path) {
    let there = async {
        while !path.exists() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap();
}

#[tokio::test]
#[ignore = "needs a manager of systemd: make test-systemd"]
async fn what_another_process_has_launched_is_taken_over_and_its_end_is_told_also_when_it_came_before() {
    let folder = Folder::new("ends");
    let [lives, stopped, ended, failed, never] = [(); 5].map(|()| an_id());
    let waits = |name: &str, code: u8| {
        let wait = format!("while [ ! -e {} ]; do sleep 0.02; done", folder.file(name).display());
        options(&format!("{wait}; echo done >>{}; exit {code}", folder.file("ended").display()), &folder)
    };
    launched_elsewhere(vec![
        (lives.clone(), waits("go", 5)),
        (stopped.clone(), options("sleep 60", &folder)),
        (ended.clone(), waits("early", 0)),
        (failed.clone(), waits("early", 7)),
    ]);
    fs::write(folder.file("early"), "").unwrap();
    until(&folder.file("ended")).await;
    let launcher = connect().await;
    for (id, code) in [(&ended, 0), (&failed, 7)] {
        let adopted = launcher.adopt(id, &options("", &folder), None).await.unwrap();
        let exit = timeout(PATIENCE, adopted.exit_rx).await.unwrap().unwrap();
        assert_eq!(exit.kind, ProcExitKind::Exited { code });
    }
    let mut adopted = launcher.adopt(&lives, &options("", &folder), None).await.unwrap();
    assert!(timeout(Duration::from_millis(200), &mut adopted.exit_rx).await.is_err(), "it lives");
    fs::write(folder.file("go"), "").unwrap();
    let exit = timeout(PATIENCE, adopted.exit_rx).await.unwrap().unwrap();
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 5 });

    let adopted = launcher.adopt(&stopped, &options("", &folder), None).await.unwrap();
    launcher.terminate(&stopped, PATIENCE).await.unwrap();
    let exit = timeout(PATIENCE, adopted.exit_rx).await.unwrap().unwrap();
    assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 15, core_dumped: false });

    let adopted = launcher.adopt(&never, &options("", &folder), None).await.unwrap();
    let exit = timeout(PATIENCE, adopted.exit_rx).await.unwrap().unwrap();
    assert!(matches!(exit.kind, ProcExitKind::Lost { .. }), "{exit:?}");
    let ids = [lives, stopped, ended, failed, never];
    assert!(is_gone(&launcher, &ids).await);
}

#[tokio::test]
#[ignore = "needs a manager of systemd: make test-systemd"]
async fn the_output_of_one_that_outlives_its_host_is_read_from_where_its_files_end() {
    let folder = Folder::new("files");
    let id = an_id();
    launched_elsewhere(vec![(id.clone(), options("sleep 0.2; echo out; echo more; echo err >&2", &folder))]);
    fs::write(folder.file("stdout"), "out\n").unwrap();
    let launcher = connect().await;
    let adopted = launcher.adopt(&id, &options("", &folder), None).await.unwrap();
    let StdioHandling::Captured { mut stdout, mut stderr } = adopted.stdio else { panic!("it has output") };
    let (mut out, mut err) = (String::new(), String::new());
    stdout.read_to_string(&mut out).await.unwrap();
    stderr.read_to_string(&mut err).await.unwrap();
    assert_eq!((out.as_str(), err.as_str()), ("more\n", "err\n"));
    let exit = timeout(PATIENCE, adopted.exit_rx).await.unwrap().unwrap();
    assert_eq!(exit.kind, ProcExitKind::Exited { code: 0 });
    let left = || fs::read_dir(&folder.0).unwrap().map(|file| file.unwrap().file_name()).collect::<Vec<_>>();
    let there = async {
        while left() != ["stdout"] {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, there).await.unwrap_or_else(|_| panic!("left: {:?}", left()));
}

#[tokio::test]
#[ignore = "needs a manager of systemd: make test-systemd"]
async fn a_dry_run_shows_each_property_and_no_value_of_the_environment() {
    let folder = Folder::new("dry");
    let patch = serde_json::json!({"Nice": 5, "Description": null});
    let patch = patch.as_object().unwrap().clone();
    let config = SystemdConfig { slice: Some("training.slice".into()), patch, ..SystemdConfig::default() };
    let launcher = Systemd::connect(config).await.unwrap();
    let mut options = options("true", &folder);
    options.command.confinement.resources.pids = Some(9);
    let id = an_id();
    let shown = launcher.dry_run(&id, &options).await.unwrap();
    let first = format!("systemd-run --user --unit=procession-{}.service\n", id.safe_name());
    assert!(shown.starts_with(&first), "{shown}");
    for line in [
        "--property=Type=exec",
        "--property=KillMode=control-group",
        "--property=TimeoutStopUSec=infinity",
        "--property=Slice=training.slice",
        "--property=TasksMax=9",
        "--property=Nice=5",
        "variables: CANARY PROCESSION_BOOTSTRAP PROCESSION_PROCESS_NAME",
    ] {
        assert!(shown.lines().any(|found| found.trim() == line), "{line}: {shown}");
    }
    for not in ["Description", "value of the canary", "secret"] {
        assert!(!shown.contains(not), "{not}: {shown}");
    }
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 0, "nothing was made");
    assert!(is_gone(&launcher, &[id]).await, "nothing was asked");
}
