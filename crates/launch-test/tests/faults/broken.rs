//! Launchers with one fault each, around one that has none.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Capabilities, Confines, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling,
};
use procession_model::{
    Confinement, DialBack, InvalidArgument, LaunchOptions, ProcExitKind, ProcExitResult, ProcId,
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, copy, empty, sink};
use tokio::sync::{oneshot, watch};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    ExitNeverTold,
    ExitDropped,
    ToldAtEndOfOutput,
    ToldAfterEndOfOutput,
    AlwaysCode0,
    SignalAsCode,
    CodeAsSignal,
    StderrSwallowed,
    OutputCut,
    EnvironmentDropped,
    EmptyValuesDropped,
    EnvironmentKept,
    NameDropped,
    ArgumentsJoined,
    DirectoryIgnored,
    TerminateDoesNothing,
    TerminateKills,
    TerminateWaits,
    KillOfEndedErrs,
    KillByName,
    KillsAll,
    RefusedNeverAnswers,
    NameServesOnce,
    MemoryNotLimited,
    ChecksNothing,
    /// No fault: its procs are no processes that anybody here could see.
    Elsewhere,
    /// No fault: each proc is the first of a pid namespace, as in containers.
    Contained,
}

/// Passes all on but for its fault.
pub(crate) struct Broken {
    inner: Arc<dyn ProcLauncher>,
    fault: Fault,
    /// Of all that was launched: the last of each name, and what of it has ended.
    by_name: Mutex<HashMap<String, ProcId>>,
    ended: Arc<watch::Sender<Vec<ProcId>>>,
    kept: Mutex<Vec<oneshot::Sender<ProcExitResult>>>,
    environment: Mutex<HashMap<String, String>>,
}

impl Broken {
    pub(crate) fn new(inner: Arc<dyn ProcLauncher>, fault: Fault) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault,
            by_name: Mutex::default(),
            ended: Arc::new(watch::channel(Vec::new()).0),
            kept: Mutex::default(),
            environment: Mutex::default(),
        })
    }

    fn has_ended(&self, proc_id: &ProcId) -> bool {
        self.ended.borrow().contains(proc_id)
    }

    fn spoil(&self, opts: &mut LaunchOptions) {
        let command = &mut opts.command;
        match self.fault {
            Fault::EnvironmentDropped => command.env.clear(),
            Fault::EmptyValuesDropped => command.env.retain(|_, value| !value.is_empty()),
            Fault::EnvironmentKept => {
                let mut kept = self.environment.lock().unwrap();
                kept.extend(command.env.clone());
                command.env = kept.clone();
            }
            Fault::NameDropped => opts.process_name.clear(),
            // The script is one of them, and would not run.
            Fault::ArgumentsJoined if command.args.len() > 3 => {
                let joined = command.args.split_off(3).join(" ");
                command.args.extend(joined.split_whitespace().map(str::to_owned));
            }
            Fault::DirectoryIgnored => command.cwd = None,
            Fault::Contained => {
                let program = command.program.display().to_string();
                command.args.splice(0..0, ["-pf", "--kill-child", "--", &program].map(str::to_owned));
                command.program = "unshare".into();
            }
            Fault::MemoryNotLimited => command.confinement.resources.memory = None,
            _ => {}
        }
    }
}

fn spoilt(fault: Fault, mut report: ProcExitResult) -> ProcExitResult {
    report.kind = match (fault, report.kind) {
        (Fault::AlwaysCode0, ProcExitKind::Exited { .. }) => ProcExitKind::Exited { code: 0 },
        (Fault::SignalAsCode, ProcExitKind::Signaled { signal, .. }) => {
            ProcExitKind::Exited { code: 128 + signal }
        }
        (Fault::CodeAsSignal, ProcExitKind::Exited { code: code @ 129..=159 }) => {
            ProcExitKind::Signaled { signal: code - 128, core_dumped: false }
        }
        (_, kind) => kind,
    };
    report
}

type Output = Box<dyn AsyncRead + Send + Unpin>;

fn streams(stdio: StdioHandling) -> (Output, Output) {
    match stdio {
        StdioHandling::Captured { stdout, stderr } => (stdout, stderr),
        StdioHandling::Pipes { stdout, stderr } => (Box::new(stdout), Box::new(stderr)),
        other => panic!("the checks that need output ask for it: {other:?}"),
    }
}

/// Tells when there is nothing more to read.
struct Ending(Output, Option<oneshot::Sender<()>>);

impl AsyncRead for Ending {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.0).poll_read(cx, buf);
        if polled.is_ready() && buf.filled().len() == before {
            self.1.take().map(|ended| ended.send(()));
        }
        polled
    }
}

#[async_trait]
impl ProcLauncher for Broken {
    fn name(&self) -> &str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        let claimed = self.inner.capabilities();
        match self.fault {
            Fault::ChecksNothing => Capabilities { confines: Confines::default(), ..claimed },
            Fault::Elsewhere | Fault::Contained => {
                let dial_back = DialBack::Network { bind: "127.0.0.1:0".to_owned(), advertise: None };
                Capabilities { pid: false, dial_back, ..claimed }
            }
            _ => claimed,
        }
    }

    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        if self.fault == Fault::ChecksNothing { Ok(()) } else { self.inner.check(confinement) }
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        mut opts: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let fault = self.fault;
        let before = self.by_name.lock().unwrap().insert(proc_id.name().to_owned(), proc_id.clone());
        if fault == Fault::NameServesOnce && before.is_some() {
            return Err(ProcLauncherError::Other(format!("{} is taken", proc_id.name())));
        }
        let wanted = opts.want_stdio;
        self.spoil(&mut opts);
        let mut inner = match self.inner.launch(proc_id, opts).await {
            Err(_) if fault == Fault::RefusedNeverAnswers => std::future::pending().await,
            launched => launched?,
        };
        let (sender, exit_rx) = oneshot::channel();
        let (ended, over) = oneshot::channel();
        let report = std::mem::replace(&mut inner.exit_rx, exit_rx);
        let stdio = std::mem::replace(&mut inner.stdio, StdioHandling::Inherited);
        if matches!(fault, Fault::Elsewhere | Fault::Contained) {
            inner.pid = None;
        }
        inner.stdio = match fault {
            _ if !wanted => stdio,
            Fault::StderrSwallowed => {
                let (stdout, mut stderr) = streams(stdio);
                tokio::spawn(async move { copy(&mut stderr, &mut sink()).await });
                StdioHandling::Captured { stdout, stderr: Box::new(empty()) }
            }
            Fault::OutputCut => {
                let (mut stdout, stderr) = streams(stdio);
                let (mut begin, cut) = tokio::io::duplex(64 << 10);
                tokio::spawn(async move {
                    let _no_more_is_kept = copy(&mut (&mut stdout).take(64 << 10), &mut begin).await;
                    drop(begin);
                    copy(&mut stdout, &mut sink()).await
                });
                StdioHandling::Captured { stdout: Box::new(cut), stderr }
            }
            Fault::ToldAtEndOfOutput | Fault::ToldAfterEndOfOutput => {
                let (stdout, stderr) = streams(stdio);
                StdioHandling::Captured { stdout: Box::new(Ending(stdout, Some(ended))), stderr }
            }
            _ => stdio,
        };
        let (known, id) = (Arc::clone(&self.ended), proc_id.clone());
        let told = async move {
            let told = report.await;
            known.send_modify(|ended| ended.push(id));
            told.ok().map(|report| spoilt(fault, report))
        };
        match fault {
            Fault::ExitNeverTold => {
                self.kept.lock().unwrap().push(sender);
                tokio::spawn(told);
            }
            Fault::ExitDropped => {
                tokio::spawn(async move {
                    told.await;
                    drop(sender);
                });
            }
            Fault::ToldAtEndOfOutput if wanted => {
                tokio::spawn(async move {
                    tokio::pin!(told);
                    // Where it ends as well it is told as it was.
                    let early = async {
                        let _nobody_reads_any_more = over.await;
                        tokio::time::sleep(Duration::from_millis(700)).await;
                    };
                    let report = tokio::select! {
                        report = &mut told => report,
                        () = early => Some(ProcExitResult::new(ProcExitKind::Exited { code: 0 })),
                    };
                    report.map(|report| sender.send(report).is_ok())
                });
            }
            Fault::ToldAfterEndOfOutput if wanted => {
                tokio::spawn(async move {
                    let report = told.await;
                    let _nobody_reads_any_more = over.await;
                    report.map(|report| sender.send(report).is_ok())
                });
            }
            _ => drop(tokio::spawn(async move { told.await.map(|report| sender.send(report).is_ok()) })),
        }
        Ok(inner)
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        match self.fault {
            Fault::TerminateDoesNothing
                if self.by_name.lock().unwrap().values().any(|known| known == proc_id) =>
            {
                Ok(())
            }
            Fault::TerminateKills => self.inner.kill(proc_id).await,
            Fault::TerminateWaits => {
                self.inner.terminate(proc_id, timeout).await?;
                let mut ended = self.ended.subscribe();
                let _ended = ended.wait_for(|ended| ended.contains(proc_id)).await;
                Ok(())
            }
            _ => self.inner.terminate(proc_id, timeout).await,
        }
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        match self.fault {
            Fault::KillOfEndedErrs if self.has_ended(proc_id) => {
                Err(ProcLauncherError::Kill("no such process".to_owned()))
            }
            Fault::KillsAll if !self.has_ended(proc_id) => {
                let all: Vec<_> = self.by_name.lock().unwrap().values().cloned().collect();
                for other in all {
                    self.inner.kill(&other).await?;
                }
                self.inner.kill(proc_id).await
            }
            Fault::KillByName => {
                let named = self.by_name.lock().unwrap().get(proc_id.name()).cloned();
                self.inner.kill(&named.unwrap_or_else(|| proc_id.clone())).await
            }
            _ => self.inner.kill(proc_id).await,
        }
    }
}
