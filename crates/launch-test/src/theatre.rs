use std::any::Any;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use procession_host::Host;
use procession_launch::ProcLauncher;
use procession_model::BootstrapCommand;
use tokio::runtime::Builder;
use tokio::sync::{OnceCell, oneshot};
use tokio::time::timeout;

use crate::check::Check;
use crate::deed::Deed;
use crate::fault::Fault;
use crate::kit::Source;
use crate::programs::Programs;
use crate::stage::Stage;
use crate::table::{Outcome, Row};

/// What a check that is over may take to clear the stage; then its thread is given up.
const LEAVING: Duration = Duration::from_secs(25);
/// What the procs of a host may take to end when it does.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// How the checks of one kit are run.
#[derive(Clone)]
pub(crate) struct Theatre {
    pub(crate) source: Source,
    pub(crate) programs: Programs,
    pub(crate) ready_command: Option<BootstrapCommand>,
    pub(crate) patience: Duration,
    pub(crate) deadline: Duration,
    /// The launcher's name, once one check has asked it.
    pub(crate) name: Arc<OnceLock<String>>,
    pub(crate) foundations: Arc<Foundations>,
}

/// Whether the launcher does at all what nearly every check stands on, once one of them wants to know.
#[derive(Default)]
pub(crate) struct Foundations {
    ends: OnceCell<bool>,
    codes: OnceCell<bool>,
}

/// The checks that are about these.
const ENDS: &str = "exit.every-end-is-told";
const CODES: &str = "exit.a-code-is-told-as-it-is";

impl Theatre {
    /// Runs one check in a thread and a runtime of its own, so that a launcher which blocks holds up no other.
    pub(crate) async fn run(&self, check: &'static Check) -> Row {
        let began = Instant::now();
        let (done, outcome) = oneshot::channel();
        let own = self.clone();
        let thread = std::thread::Builder::new().name(format!("check {}", check.name)).spawn(move || {
            let _nobody_waits_any_more = done.send(own.run_here(check));
        });
        let outcome = match thread {
            Err(error) => Outcome::Failed(format!("no thread could be started: {error}")),
            Ok(_) => match timeout(self.deadline + LEAVING, outcome).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Outcome::Failed("the check's thread panicked; see its output".to_owned()),
                Err(_) => Outcome::Failed(format!(
                    "expected an end of the check within {:?}; something blocks its threads: the launcher may wait \
                     without await",
                    self.deadline
                )),
            },
        };
        Row {
            name: check.name.to_owned(),
            promise: check.promise.to_owned(),
            hint: check.hint.to_owned(),
            outcome,
            seconds: began.elapsed().as_secs_f64(),
        }
    }

    fn run_here(&self, check: &'static Check) -> Outcome {
        // As a client runs its host: one thread, for launchers and observers too.
        let runtime = match Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return Outcome::Failed(format!("no runtime could be started: {error}")),
        };
        let own = self.clone();
        // In a task, so that a panic of the launcher's is the check's, and no more.
        let task = runtime.spawn(async move { own.perform(check).await });
        let outcome = runtime.block_on(task).unwrap_or_else(|error| {
            let panic = error.try_into_panic();
            let text = panic.map_or_else(|_| "it was cancelled".to_owned(), |panic| text_of(panic.as_ref()));
            Outcome::Failed(format!("expected no panic; saw {text:?}"))
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
        outcome
    }

    async fn perform(&self, check: &'static Check) -> Outcome {
        let (host, launcher) = match self.set_up().await {
            Ok(made) => made,
            Err(why) => return Outcome::Failed(why),
        };
        let _known_before = self.name.set(launcher.name().to_owned());
        let claimed = launcher.capabilities();
        let calls_back = self.ready_command.is_some();
        let missing = check.needs.iter().find_map(|need| need.missing(&claimed, calls_back));
        let outcome = match missing {
            Some(why) => Outcome::NotCapable(why.to_owned()),
            None => {
                let stage = Stage::new(
                    host.clone(),
                    launcher,
                    self.programs.clone(),
                    self.ready_command.clone(),
                    self.patience,
                );
                let outcome = self.within_deadline(check, &stage).await;
                match (stage.clear().await, outcome) {
                    (Err(left), Outcome::Passed) => {
                        Outcome::Failed(format!("expected nothing to be left; {left}"))
                    }
                    (_, outcome) => outcome,
                }
            }
        };
        if self.source.owns_host() {
            host.shutdown(SHUTDOWN).await;
        }
        outcome
    }

    async fn set_up(&self) -> Result<(Host, Arc<dyn ProcLauncher>), String> {
        let host = match &self.source {
            Source::Within(host, launcher) => return Ok((host.clone(), Arc::clone(launcher))),
            _ => Host::start().await.map_err(|error| format!("no host could be started: {error}"))?,
        };
        let launcher = self.source.launcher(&host);
        Ok((host, launcher))
    }

    async fn within_deadline(&self, check: &Check, stage: &Stage) -> Outcome {
        let Ok(verdict) = timeout(self.deadline, (check.run)(stage)).await else {
            return Outcome::Failed(format!(
                "expected an end of the check within {:?}; saw none",
                self.deadline
            ));
        };
        let why = match &verdict {
            Ok(()) => return Outcome::Passed,
            Err(Fault::NotCapable(why)) => return Outcome::NotCapable(why.clone()),
            Err(Fault::Failed(why) | Fault::NoEnd(why) | Fault::OtherCode(why)) => why.clone(),
        };
        let on_ends = matches!(verdict, Err(Fault::NoEnd(_) | Fault::OtherCode(_))) && check.name != ENDS;
        if on_ends && !self.foundations.tells_ends(stage).await {
            return Outcome::NotCapable(format!("ends are not told; see {ENDS}"));
        }
        let on_codes = matches!(verdict, Err(Fault::OtherCode(_))) && check.name != CODES;
        if on_codes && !self.foundations.tells_codes(stage).await {
            return Outcome::NotCapable(format!("codes are not told as they are; see {CODES}"));
        }
        Outcome::Failed(why)
    }
}

impl Foundations {
    async fn tells_ends(&self, stage: &Stage) -> bool {
        let probe = async {
            let Ok(run) = stage.start(&[Deed::Exit(0)]) else { return false };
            matches!(run.report().await, Ok(Some(_)))
        };
        *self.ends.get_or_init(|| probe).await
    }

    async fn tells_codes(&self, stage: &Stage) -> bool {
        let probe = async {
            let Ok(run) = stage.start(&[Deed::Exit(6)]) else { return false };
            run.ends_with(6).await.is_ok()
        };
        *self.codes.get_or_init(|| probe).await
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic".to_owned())
}
