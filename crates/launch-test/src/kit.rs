use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use procession_host::Host;
use procession_launch::ProcLauncher;
use procession_model::BootstrapCommand;
use tokio::task::JoinSet;

use crate::check::{Check, checks};
use crate::programs::Programs;
use crate::table::{Row, Table};
use crate::theatre::Theatre;

/// Only what is broken takes as long, on a machine that is slow and busy too.
const PATIENCE: Duration = Duration::from_secs(20);
/// For a whole check: a few steps, each of which may need all of its patience.
const DEADLINE: Duration = Duration::from_secs(90);

/// Makes the launcher under test, on the host of one check and in its runtime.
pub type Factory = Arc<dyn Fn(&Host) -> Arc<dyn ProcLauncher> + Send + Sync>;

/// Where the launcher of a check comes from.
#[derive(Clone)]
pub(crate) enum Source {
    /// One for all checks, each of which has a host of its own.
    Shared(Arc<dyn ProcLauncher>),
    /// One for each check.
    Made(Factory),
    /// One, on a host that somebody else has started and will shut down.
    Within(Host, Arc<dyn ProcLauncher>),
}

impl Source {
    pub(crate) fn owns_host(&self) -> bool {
        !matches!(self, Self::Within(..))
    }

    pub(crate) fn launcher(&self, host: &Host) -> Arc<dyn ProcLauncher> {
        match self {
            Self::Shared(launcher) | Self::Within(_, launcher) => Arc::clone(launcher),
            Self::Made(make) => make(host),
        }
    }
}

/// The conformance checks, as they are to be run on one launcher.
#[derive(Clone)]
pub struct Kit {
    theatre: Theatre,
    only: Vec<String>,
    jobs: usize,
}

impl Kit {
    /// Checks a launcher that `make` makes anew for each check.
    pub fn new(make: impl Fn(&Host) -> Arc<dyn ProcLauncher> + Send + Sync + 'static) -> Self {
        Self::from(Source::Made(Arc::new(make)))
    }

    /// Checks one launcher, which all checks share.
    pub fn of(launcher: Arc<dyn ProcLauncher>) -> Self {
        Self::from(Source::Shared(launcher))
    }

    /// Checks a launcher that belongs to a host which runs already, and goes on.
    pub fn within(host: Host, launcher: Arc<dyn ProcLauncher>) -> Self {
        Self::from(Source::Within(host, launcher))
    }

    fn from(source: Source) -> Self {
        let theatre = Theatre {
            source,
            programs: Programs::Shell,
            ready_command: None,
            patience: PATIENCE,
            deadline: DEADLINE,
            name: Arc::default(),
            foundations: Arc::default(),
        };
        Self { theatre, only: Vec::new(), jobs: 1 }
    }

    /// What the procs of the checks are written in; [`Programs::Shell`] where nothing is said.
    pub fn programs(mut self, programs: Programs) -> Self {
        self.theatre.programs = programs;
        self
    }

    /// A program that calls back, becomes ready and ends when it is told to, such as one whose `main` begins with
    /// `procession::child_main`, or `python -m procession._proc_main`. Without it half of the group `ready` is not tried.
    pub fn ready_command(mut self, command: BootstrapCommand) -> Self {
        self.theatre.ready_command = Some(command);
        self
    }

    /// Runs only what `pattern` means: a check by its name, or a group as `stop.*`. More calls add to it.
    pub fn only(mut self, pattern: impl Into<String>) -> Self {
        self.only.push(pattern.into());
        self
    }

    /// How long each step of a check may take, 20 s where nothing is said; a check in all takes 70 s longer at most.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.theatre.deadline = patience.saturating_add(DEADLINE - PATIENCE);
        self.theatre.patience = patience;
        self
    }

    /// How long a whole check may take before it has failed, 90 s where nothing is said.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.theatre.deadline = deadline;
        self
    }

    /// How many checks run at one moment; 1 where nothing is said, and at least 1.
    pub fn jobs(mut self, jobs: usize) -> Self {
        self.jobs = jobs.max(1);
        self
    }

    /// The checks that would run.
    pub fn selected(&self) -> Vec<&'static Check> {
        let meant = |check: &&Check| {
            self.only.is_empty() || self.only.iter().any(|pattern| check.is_meant_by(pattern))
        };
        checks().iter().filter(meant).collect()
    }

    /// Runs the selected checks. Never panics, and never takes longer than their deadlines together.
    pub async fn run(&self) -> Table {
        let mut waiting = self.selected().into_iter().enumerate();
        let (mut running, mut rows) = (JoinSet::new(), Vec::new());
        loop {
            while running.len() < self.jobs
                && let Some((place, check)) = waiting.next()
            {
                let theatre = self.theatre.clone();
                running.spawn(async move { (place, theatre.run(check).await) });
            }
            match running.join_next().await {
                Some(Ok(row)) => rows.push(row),
                Some(Err(_)) => unreachable!("it waits for a thread, and nobody cancels it"),
                None => break,
            }
        }
        rows.sort_by_key(|(place, _)| *place);
        let launcher = self.theatre.name.get().map_or("unknown", String::as_str).to_owned();
        Table { launcher, rows: rows.into_iter().map(|(_, row)| row).collect() }
    }

    /// Runs the check of that name, whatever is selected; none where there is no such check.
    pub async fn run_one(&self, name: &str) -> Option<Row> {
        let check = checks().iter().find(|check| check.name == name)?;
        Some(self.theatre.run(check).await)
    }
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("programs", &self.theatre.programs)
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}
