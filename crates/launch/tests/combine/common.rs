use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Admission, Capabilities, FakeEnd, FakeLauncher, FakeStep, LaunchResult, ProcLauncher, ProcLauncherError,
    Report, Reports, Script,
};
use procession_model::{
    BootstrapCommand, DialBack, HostId, LaunchOptions, ProcExitKind, ProcExitResult, ProcId,
};
use tokio::sync::{Semaphore, mpsc, oneshot};

pub(crate) fn proc_id(name: &str) -> ProcId {
    ProcId::fresh(name, &HostId::fresh("here")).unwrap()
}

pub(crate) fn options() -> LaunchOptions {
    let mut command = BootstrapCommand::new("/bin/worker");
    command.args = vec!["--epochs".to_owned(), "3".to_owned()];
    command.env.insert("TOKEN".to_owned(), "canary".to_owned());
    LaunchOptions {
        bootstrap_payload: "canary".to_owned(),
        process_name: "p @ here".to_owned(),
        command,
        want_stdio: true,
        tail_lines: 10,
        log_channel: None,
        detach: false,
        lease: Duration::ZERO,
        output: None,
    }
}

pub(crate) fn exits(code: u8) -> FakeStep {
    FakeStep::Ends(FakeEnd::Exits(code))
}

pub(crate) fn signal_of(exit: &ProcExitResult) -> Option<i32> {
    match exit.kind {
        ProcExitKind::Signaled { signal, .. } => Some(signal),
        _ => None,
    }
}

pub(crate) fn reason_of(exit: &ProcExitResult) -> &str {
    match &exit.kind {
        ProcExitKind::Failed { reason } => reason,
        _ => panic!("{exit:?}"),
    }
}

/// Refuses its first launches of each name, then starts procs that live until they are stopped.
pub(crate) fn refusing(times: u32) -> Arc<FakeLauncher> {
    Arc::new(FakeLauncher::new(move |_, number| {
        if number <= times {
            Script::default().then(Duration::ZERO, FakeStep::FailsToLaunch(format!("refusal {number}")))
        } else {
            Script::boots(Duration::from_secs(1))
        }
    }))
}

/// Answers each launch at once, as launchers of engines do, and says later what became of it: the first `times` of them failed.
pub(crate) struct Late {
    pub(crate) name: &'static str,
    pub(crate) times: usize,
    pub(crate) asked: AtomicUsize,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) exits: Mutex<Vec<oneshot::Sender<ProcExitResult>>>,
    pub(crate) killed: AtomicUsize,
    pub(crate) dial_back: DialBack,
}

impl Late {
    pub(crate) fn new(name: &'static str, times: usize, room: usize) -> Arc<Self> {
        Arc::new(Self {
            name,
            times,
            asked: AtomicUsize::new(0),
            room: Arc::new(Semaphore::new(room)),
            exits: Mutex::default(),
            killed: AtomicUsize::new(0),
            dial_back: DialBack::Local,
        })
    }
}

#[async_trait]
impl ProcLauncher for Late {
    fn name(&self) -> &str {
        self.name
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { stdio: true, dial_back: self.dial_back.clone(), ..Capabilities::default() }
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        Ok(Arc::clone(&self.room).acquire_owned().await.unwrap().into())
    }

    async fn launch(&self, _: &ProcId, _: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let ((said, reports), (exit, exit_rx)) = (mpsc::unbounded_channel(), oneshot::channel());
        let stdio = procession_launch::StdioHandling::Captured {
            stdout: Box::new(std::io::Cursor::new(format!("{} {number}", self.name))),
            stderr: Box::new(tokio::io::empty()),
        };
        said.send(Report::Progress(format!("pulls for {number}"))).unwrap();
        if number <= self.times {
            exit.send(ProcExitResult::failed(format!("no image for {number}"))).unwrap();
        } else {
            said.send(Report::Handle(format!("{}/{number}", self.name))).unwrap();
            self.exits.lock().unwrap().push(exit);
        }
        let started_at = std::time::SystemTime::now();
        Ok(LaunchResult { pid: None, started_at, stdio, exit_rx, reports: Some(Reports::new(reports)) })
    }

    async fn dry_run(&self, proc_id: &ProcId, _: &LaunchOptions) -> Result<String, ProcLauncherError> {
        Ok(format!("{} runs {}", self.name, proc_id.name()))
    }

    async fn terminate(&self, _: &ProcId, _: Duration) -> Result<(), ProcLauncherError> {
        Ok(())
    }

    async fn kill(&self, _: &ProcId) -> Result<(), ProcLauncherError> {
        self.killed.fetch_add(1, Ordering::SeqCst);
        for exit in self.exits.lock().unwrap().drain(..) {
            let kind = ProcExitKind::Signaled { signal: 9, core_dumped: false };
            let _gone = exit.send(ProcExitResult::new(kind));
        }
        Ok(())
    }
}

/// What was reported until the launch was started, or was over.
pub(crate) async fn said(reports: &mut Reports) -> Vec<Report> {
    let mut all = Vec::new();
    while let Some(report) = reports.next().await {
        let is_last = matches!(report, Report::Handle(_));
        all.push(report);
        if is_last {
            break;
        }
    }
    all
}
