use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use procession_model::{Confinement, InvalidArgument, LaunchOptions, ProcId};
use tokio::io::AsyncReadExt;
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::attempts::{Attempt, Attempts};
use super::known::{End, Known};
use super::later::{self, Stream};
use super::odds::Odds;
use crate::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError, Relayed, StdioHandling};

/// How much goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChaosRates {
    /// The share of launches that are refused, from 0 to 1.
    pub launch_fails: f64,
    /// The share of procs that are killed, from 0 to 1.
    pub exits_early: f64,
    /// Those are killed at some time from their start to this long after it.
    pub early_within: Duration,
    /// Each launch waits for some time up to this.
    pub delay: Duration,
}

impl Default for ChaosRates {
    fn default() -> Self {
        Self {
            launch_fails: 0.0,
            exits_early: 0.0,
            early_within: Duration::from_secs(1),
            delay: Duration::ZERO,
        }
    }
}

/// Has launches of another launcher fail, be late, or end early, on purpose.
///
/// What happens to a launch depends on the seed, the name of the proc and how often one of that name was launched here: so it
/// is the same in each run, whatever else is launched. What is injected says so: the reason of a launch that fails, the last
/// line of stderr (where the launcher hands it over) and the log for a proc that was killed.
pub struct Chaos {
    inner: Arc<dyn ProcLauncher>,
    name: String,
    seed: u64,
    rates: ChaosRates,
    plan: Arc<[Attempt]>,
    known: Arc<Known>,
    launches: Mutex<HashMap<String, u32>>,
}

/// What happens to one launch.
struct Fate {
    delay: Duration,
    fails: bool,
    killed_after: Option<Duration>,
}

impl Chaos {
    /// # Errors
    /// A share is none.
    pub fn new(inner: Arc<dyn ProcLauncher>, seed: u64, rates: ChaosRates) -> Result<Self, InvalidArgument> {
        for (name, share) in [("launch_fails", rates.launch_fails), ("exits_early", rates.exits_early)] {
            if !(0.0..=1.0).contains(&share) {
                let rule = "has to be a share from 0.0 to 1.0";
                return Err(InvalidArgument::new(name, share.to_string(), rule));
            }
        }
        let plan = [Attempt { launcher: Arc::clone(&inner), pause: Duration::ZERO, admit: false }];
        let name = format!("chaos({})", inner.name());
        let (known, launches) = (Arc::default(), Mutex::default());
        Ok(Self { inner, name, seed, rates, plan: Arc::new(plan), known, launches })
    }

    fn fate(&self, proc_id: &ProcId) -> Fate {
        let number = {
            let mut launches = self.launches.lock().unwrap_or_else(PoisonError::into_inner);
            let number = launches.entry(proc_id.name().to_owned()).or_default();
            *number += 1;
            *number
        };
        let mut odds = Odds::of(self.seed, proc_id.name(), number);
        let rates = &self.rates;
        Fate {
            delay: rates.delay.mul_f64(odds.share()),
            fails: odds.share() < rates.launch_fails,
            killed_after: Some(odds.share())
                .filter(|share| *share < rates.exits_early)
                .map(|_| rates.early_within.mul_f64(odds.share())),
        }
    }

    fn says(&self, what: &str) -> String {
        format!("injected by chaos (seed {}): {what}", self.seed)
    }

    /// The same launch, whose proc is killed then.
    fn killed(&self, proc_id: &ProcId, launched: LaunchResult, after: Duration) -> LaunchResult {
        let (stdio, last_word) = with_last_word(launched.stdio);
        let (exit_tx, exit) = oneshot::channel();
        let (inner, proc_id, mut exit_rx) = (Arc::clone(&self.inner), proc_id.clone(), launched.exit_rx);
        let text = self.says(&format!("killed {:.3} s after its launch", after.as_secs_f64()));
        tokio::spawn(async move {
            let exit = tokio::select! {
                biased;
                exit = &mut exit_rx => exit,
                () = sleep(after) => {
                    match inner.kill(&proc_id).await {
                        Ok(()) => {
                            tracing::warn!(%proc_id, "{text}");
                            let line: Stream = Box::new(std::io::Cursor::new(format!("{text}\n")));
                            let _nobody_reads = last_word.send(line);
                        }
                        Err(error) => tracing::warn!(%proc_id, %error, "{text}: could not be done"),
                    }
                    exit_rx.await
                }
            };
            if let Ok(exit) = exit {
                let _host_gone = exit_tx.send(exit);
            }
        });
        LaunchResult { stdio, exit_rx: exit, ..launched }
    }
}

/// The same output, at the end of whose stderr something may be put.
fn with_last_word(stdio: StdioHandling) -> (StdioHandling, oneshot::Sender<Stream>) {
    let (last, last_tx) = later::stream();
    let stdio = match later::streams(stdio) {
        Ok((stdout, stderr)) => StdioHandling::Captured { stdout, stderr: Box::new(stderr.chain(last)) },
        Err(none) => none,
    };
    (stdio, last_tx)
}

#[async_trait]
impl ProcLauncher for Chaos {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn knows_status_by_parenthood(&self) -> bool {
        self.inner.knows_status_by_parenthood()
    }

    fn own_proc(&self) -> Option<ProcId> {
        self.inner.own_proc()
    }

    fn launched_in(&self, proc_id: &ProcId) -> Option<ProcId> {
        self.inner.launched_in(proc_id)
    }

    fn check(&self, confinement: &Confinement) -> Result<(), InvalidArgument> {
        self.inner.check(confinement)
    }

    async fn relay(&self, proc_id: &ProcId, host: SocketAddr) -> Result<Relayed, ProcLauncherError> {
        self.inner.relay(proc_id, host).await
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        self.inner.admit().await
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: LaunchOptions,
    ) -> Result<LaunchResult, ProcLauncherError> {
        let (here, fate) = (self.known.enter(proc_id), self.fate(proc_id));
        if !fate.delay.is_zero() {
            tokio::select! {
                () = sleep(fate.delay) => {}
                // Which the attempt below finds, too.
                () = here.is_asked() => {}
            }
        }
        if fate.fails {
            return Err(ProcLauncherError::Other(self.says("this launch fails")));
        }
        let launched = Attempts::new(here, options, Arc::clone(&self.plan)).launch().await?;
        Ok(match fate.killed_after {
            Some(after) => self.killed(proc_id, launched, after),
            None => launched,
        })
    }

    async fn adopt(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        pid: Option<(u32, u64)>,
    ) -> Result<LaunchResult, ProcLauncherError> {
        self.inner.adopt(proc_id, options, pid).await
    }

    async fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        self.inner.dry_run(proc_id, options).await
    }

    async fn terminate(&self, proc_id: &ProcId, timeout: Duration) -> Result<(), ProcLauncherError> {
        self.known.end(proc_id, End::Terminate(timeout), std::iter::once(&self.inner)).await
    }

    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.known.end(proc_id, End::Kill, std::iter::once(&self.inner)).await
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chaos").field(&self.name).field(&self.seed).field(&self.rates).finish()
    }
}
