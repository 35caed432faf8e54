use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use procession_launch::{
    Capabilities, Confines, Context, Found, Launcher, Managed, Output, ProcLauncherError, Signal, Ticket,
    WaitError, follow,
};
use procession_model::{DialBack, Eviction, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;

use crate::cluster::Cluster;
use crate::files::{Files, make_directory};
use crate::gather::Gather;
use crate::outcome::outcome;
use crate::poller::Poller;
use crate::row::{Row, accounted, rows};
use crate::script::NO_COMMANDS;
use crate::submit::{Launch, described, owner_of, submit};
use crate::tools::Tools;
use crate::{SlurmConfig, SlurmError};

/// How often a job that waits says so.
const SAYS: Duration = Duration::from_secs(1);
/// How long a job that runs may take until its commands are seen to be gone.
const BEGINS: Duration = Duration::from_secs(5);
/// How long after a kill that has shown no effect Slurm is asked to cancel the job in its own way.
const INSISTS: Duration = Duration::from_secs(3);

/// One job that was launched, or found.
#[derive(Debug)]
struct Job {
    files: Files,
    ended: watch::Sender<bool>,
    killed: Mutex<Option<Instant>>,
}

/// How jobs are ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// SIGTERM to the program and what it has started.
    Terminate,
    /// SIGKILL to the program; with it Slurm ends what it has started.
    Kill,
    /// Slurm's own: SIGTERM, and SIGKILL after KillWait; out of the queue at once.
    Cancel,
}

/// Launches each proc as a job of Slurm.
pub struct Slurm {
    config: SlurmConfig,
    cluster: Cluster,
    tools: Tools,
    base: PathBuf,
    dial_back: DialBack,
    poller: Poller,
    launches: Gather<Launch, Result<(String, Files), String>>,
    ends: Gather<(Way, String), Result<(), String>>,
    jobs: Mutex<HashMap<String, Arc<Job>>>,
}

impl fmt::Debug for Slurm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slurm")
            .field("config", &self.config)
            .field("cluster", &self.cluster)
            .finish_non_exhaustive()
    }
}

impl Slurm {
    /// Reaches the controller, and finds out what the cluster holds jobs to. What it starts by itself, such as looks at the queue,
    /// runs in the runtime that this is called in.
    ///
    /// # Errors
    /// The configuration is refused, the controller does not answer, or there is no place for files.
    pub async fn connect(config: SlurmConfig) -> Result<Managed<Self>, SlurmError> {
        config.check()?;
        let tools = Tools { conf: config.conf.clone() };
        let cluster = Cluster::ask(&tools).await.map_err(SlurmError::Unreachable)?;
        let dial_back = dial_back(&config).await?;
        let base = match &config.output_dir {
            Some(dir) => dir.clone(),
            None => match std::env::var_os("HOME").filter(|home| !home.is_empty()) {
                Some(home) => PathBuf::from(home).join(".procession/slurm"),
                None => return Err(SlurmError::NoDirectory("HOME is not set".to_owned())),
            },
        };
        make_directory(&base)
            .map_err(|error| SlurmError::NoDirectory(format!("{}: {error}", base.display())))?;
        let runtime = Handle::current();
        let poller = Poller::new(&runtime, tools.clone(), Duration::from_secs_f64(config.poll));
        let launches = {
            let all = Arc::new((config.clone(), cluster.clone(), tools.clone(), base.clone()));
            Gather::new(&runtime, move |batch| {
                let all = Arc::clone(&all);
                async move { submit(&all.0, &all.1, &all.2, &all.3, batch).await }
            })
        };
        let ends = {
            let tools = tools.clone();
            Gather::new(&runtime, move |batch| {
                let tools = tools.clone();
                async move { end(&tools, batch).await }
            })
        };
        let (at_once, jobs) = (config.launches_at_once, Mutex::default());
        let slurm = Self { config, cluster, tools, base, dial_back, poller, launches, ends, jobs };
        Ok(Managed::new(slurm, at_once))
    }

    fn keep(&self, handle: &str, files: Files) -> Arc<Job> {
        let job = Job { files, ended: watch::Sender::new(false), killed: Mutex::default() };
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(jobs.entry(handle.to_owned()).or_insert_with(|| Arc::new(job)))
    }

    /// What is known of a job, also of one that an earlier process has launched; none where it is none of ours.
    async fn job(&self, handle: &str) -> Result<Option<Arc<Job>>, String> {
        let known = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(handle).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let found = rows(&self.tools, true).await?;
        let owner = found.get(handle).and_then(|row| owner_of(handle, &row.comment));
        Ok(owner.map(|(_, files)| self.keep(handle, files)))
    }

    /// Whether the program of a job was started, as its files tell: sooner than Slurm does.
    fn has_begun(&self, job: &Job) -> bool {
        !self.config.requeue && !job.files.commands().exists()
    }

    async fn end(&self, way: Way, handle: &str) -> Result<(), String> {
        let gone = || Err("the runtime that the launcher was made in has ended".to_owned());
        let done = self.ends.ask((way, handle.to_owned())).await.unwrap_or_else(gone);
        self.poller.nudge();
        done
    }

    /// Waits until its program runs, and says meanwhile what it waits for. False when it was cancelled in the queue.
    async fn begun(&self, handle: &str, job: &Job, context: &Context) -> bool {
        let (mut watching, mut said) = (self.poller.watch(), format!("job {handle} was submitted"));
        let mut given_up: Option<Instant> = None;
        while !self.has_begun(job) {
            context.progress(said.clone());
            let told = tokio::select! {
                told = watching.next() => told,
                () = sleep(SAYS) => continue,
                () = context.cancelled(), if given_up.is_none() => {
                    given_up = Some(Instant::now() - SAYS);
                    None
                }
            };
            let found = match told.map(|told| told.found) {
                // Who asks for its exit is told.
                Some(Ok(found)) if !found.contains_key(handle) => break,
                Some(Ok(found)) => found,
                Some(Err(why)) => {
                    said = format!("job {handle}: Slurm does not answer: {why}");
                    continue;
                }
                None => Arc::default(),
            };
            let row = found.get(handle).cloned().or_else(|| self.poller.last(handle));
            let waits = row.as_ref().is_none_or(Row::waits);
            if let Some(row) = &row {
                said = row.shown();
            }
            match given_up {
                // Slurm's own cancel would ask first what it is to kill.
                Some(last) if waits && last.elapsed() >= SAYS && !self.has_begun(job) => {
                    given_up = Some(Instant::now());
                    let _again_in_a_moment = self.end(Way::Cancel, handle).await;
                }
                Some(_) if row.is_some_and(|row| row.is_final() && row.nodes.is_empty()) => return false,
                _ if !waits => break,
                _ => {}
            }
        }
        // Until its commands are read, a signal would find nobody.
        let (until, mut pause) = (Instant::now() + BEGINS, Duration::from_millis(5));
        while !self.has_begun(job) && !self.config.requeue && Instant::now() < until {
            if self.poller.last(handle).is_some_and(|row| row.is_final()) {
                break;
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(200));
        }
        true
    }

    /// Whether its end will be told: it is final, and Slurm will not run it again.
    async fn ended(&self, handle: &str, row: &Row, before: &mut Option<Row>) -> Option<ProcExitResult> {
        if row.restarts > 0 && !self.config.requeue {
            if let Err(error) = self.end(Way::Cancel, handle).await {
                tracing::warn!(handle, error, "a job that was requeued could not be cancelled");
            }
            let reason = "Slurm has put its job back into the queue, from where it was taken".to_owned();
            let lost = ProcExitResult::new(ProcExitKind::Lost { reason });
            return Some(ProcExitResult { evicted: Some(Eviction::Requeued), ..lost });
        }
        // On its way back into the queue a job looks as if it had ended.
        let may_return = self.config.requeue && ["PREEMPTED", "NODE_FAIL"].contains(&row.state.as_str());
        if !row.is_final() || (may_return && before.replace(row.clone()).as_ref() != Some(row)) {
            return None;
        }
        Some(outcome(row, self.cluster.holds_memory))
    }

    /// What of an end the files of the job tell better.
    fn explained(job: &Job, exit: ProcExitResult) -> ProcExitResult {
        let ProcExitKind::Exited { code } = exit.kind else { return exit };
        if code == NO_COMMANDS && job.files.commands().exists() {
            return ProcExitResult::failed(format!(
                "its node could not read {}: output_dir has to be on a file system that this machine and the nodes share",
                job.files.commands().display()
            ));
        }
        match std::fs::read_to_string(job.files.refusal()) {
            Ok(why) if !why.is_empty() => ProcExitResult::failed(why.trim_end()),
            _ => exit,
        }
    }

    /// Sees to it that a kill which came to nothing is not the last.
    async fn insist(&self, handle: &str, job: &Job, row: &Row) {
        let due = {
            let mut killed = job.killed.lock().unwrap_or_else(PoisonError::into_inner);
            let due = row.state == "RUNNING" && killed.is_some_and(|at| at.elapsed() >= INSISTS);
            if due {
                *killed = Some(Instant::now());
            }
            due
        };
        if due && let Err(error) = self.end(Way::Cancel, handle).await {
            tracing::warn!(handle, error, "a job that does not end could not be cancelled");
        }
    }
}

/// How nodes reach this machine: at the address of its name.
async fn dial_back(config: &SlurmConfig) -> Result<DialBack, SlurmError> {
    let advertise = config.advertise.clone();
    if let Some(bind) = config.bind.clone() {
        return Ok(DialBack::Network { bind, advertise });
    }
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let found = tokio::net::lookup_host((name, 0)).await;
    let found =
        found.map_err(|error| SlurmError::NoWayBack(format!("its name {name:?} leads nowhere: {error}")))?;
    let mut outer: Vec<_> = found.filter(|at| !at.ip().is_loopback()).collect();
    outer.sort_by_key(|at| at.is_ipv6());
    match outer.first() {
        Some(at) => Ok(DialBack::Network { bind: at.to_string(), advertise }),
        None => Err(SlurmError::NoWayBack(format!("its name {name:?} leads to the loopback alone"))),
    }
}

/// Ends jobs, with one command for each way: what became of each.
async fn end(tools: &Tools, batch: Vec<(Way, String)>) -> Vec<Result<(), String>> {
    let mut ways: BTreeMap<Way, Vec<usize>> = BTreeMap::new();
    for (at, (way, _)) in batch.iter().enumerate() {
        ways.entry(*way).or_default().push(at);
    }
    let mut answers: Vec<_> = batch.iter().map(|_| Ok(())).collect();
    for (way, places) in ways {
        let mut arguments: Vec<String> = match way {
            Way::Terminate => vec!["--signal=TERM".into(), "--full".into()],
            Way::Kill => vec!["--signal=KILL".into(), "--batch".into()],
            Way::Cancel => Vec::new(),
        };
        arguments.extend(places.iter().map(|&at| batch[at].1.clone()));
        if let Err(said) = tools.run("scancel", &arguments, None).await {
            for at in places {
                answers[at] = refusal(&said, &batch[at].1);
            }
        }
    }
    answers
}

/// What of the complaints of scancel is about that job. One that has ended is unknown to it, or ends already.
fn refusal(said: &str, handle: &str) -> Result<(), String> {
    const JOB: &str = " on job id ";
    let about =
        |line: &&str| line.split_once(JOB).is_some_and(|(_, rest)| rest.split(':').next() == Some(handle));
    let is_done = |line: &str| line.contains("Invalid job id") || line.contains("already complet");
    match said.lines().find(about) {
        Some(line) if is_done(line) => Ok(()),
        Some(line) => Err(line.to_owned()),
        None if said.lines().all(|line| line.contains(JOB)) => Ok(()),
        None => Err(said.to_owned()),
    }
}

#[async_trait]
impl Launcher for Slurm {
    fn name(&self) -> &str {
        "slurm"
    }

    fn capabilities(&self) -> Capabilities {
        let Cluster { holds_trees, holds_memory, .. } = self.cluster;
        Capabilities {
            stdio: true,
            raw_paths: true,
            command_attributes: true,
            tree_kill: holds_trees,
            group_kill: holds_trees,
            confines: Confines { memory: holds_memory, ..Confines::default() },
            oom_facts: holds_memory,
            adopt: true,
            dial_back: self.dial_back.clone(),
            ..Capabilities::default()
        }
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        context: &Context,
    ) -> Result<String, ProcLauncherError> {
        let launch = Launch { proc_id: proc_id.clone(), options: options.clone() };
        // What cannot become a job costs no other launch its array.
        self.dry_run(proc_id, options)?;
        if self.config.requeue && options.command.preload.is_some() {
            let text = "requeue: Slurm would run this proc again, and its host would not know it; leave it out, and use restart=";
            return Err(ProcLauncherError::Other(text.to_owned()));
        }
        let gone = || Err("the runtime that the launcher was made in has ended".to_owned());
        let submitted = self.launches.ask(launch).await.unwrap_or_else(gone);
        let (handle, files) = submitted.map_err(ProcLauncherError::Other)?;
        let job = self.keep(&handle, files);
        if self.begun(&handle, &job, context).await {
            return Ok(handle);
        }
        self.destroy(&handle).await?;
        Err(ProcLauncherError::Other(format!("job {handle} was in the queue")))
    }

    async fn wait(&self, handle: &str) -> Result<ProcExitResult, WaitError> {
        let job = self.job(handle).await.map_err(WaitError::Unreachable)?;
        let (mut watching, mut before) = (self.poller.watch(), None);
        loop {
            let told = watching.next().await;
            let told =
                told.ok_or_else(|| WaitError::Gone("the runtime of the launcher has ended".to_owned()))?;
            let found = told.found.map_err(WaitError::Unreachable)?;
            let exit = match found.get(handle) {
                Some(row) => {
                    if let Some(job) = &job {
                        self.insist(handle, job, row).await;
                    }
                    self.ended(handle, row, &mut before).await.map(Ok)
                }
                None if self.cluster.has_accounting => {
                    let row = accounted(&self.tools, handle).await.map_err(WaitError::Unreachable)?;
                    row.map(|row| Ok(outcome(&row, self.cluster.holds_memory)))
                }
                None => None,
            };
            let exit = match exit {
                Some(exit) => exit,
                None if found.contains_key(handle) => continue,
                None => Err(WaitError::Gone(format!("Slurm knows job {handle} no more"))),
            };
            let Some(job) = &job else { return exit };
            job.ended.send_replace(true);
            return exit.map(|exit| Self::explained(job, exit));
        }
    }

    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError> {
        let known = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).get(handle).cloned();
        if let (Some(job), Signal::Kill) = (&known, signal) {
            *job.killed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        let begun = known.is_some_and(|job| self.has_begun(&job));
        let way = match signal {
            _ if !begun && self.poller.last(handle).is_some_and(|row| row.waits()) => Way::Cancel,
            Signal::Terminate => Way::Terminate,
            Signal::Kill if self.cluster.holds_trees => Way::Kill,
            // What the program has started would be out of reach once that is gone.
            Signal::Kill => Way::Cancel,
        };
        self.end(way, handle).await.map_err(|why| match signal {
            Signal::Terminate => ProcLauncherError::Terminate(why),
            Signal::Kill => ProcLauncherError::Kill(why),
        })
    }

    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError> {
        let job = self.job(handle).await.map_err(ProcLauncherError::Other)?;
        if let Some(job) = job.filter(|_| !self.config.keep) {
            let files = job.files.clone();
            let removed = tokio::task::spawn_blocking(move || files.remove()).await;
            let removed = removed.map_err(|error| ProcLauncherError::Other(error.to_string()))?;
            removed.map_err(|error| {
                ProcLauncherError::Other(format!("the files in {}: {error}", job.files.dir.display()))
            })?;
        }
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).remove(handle);
        Ok(())
    }

    async fn logs(&self, handle: &str, output: Output) -> Result<(), ProcLauncherError> {
        let Some(job) = self.job(handle).await.map_err(ProcLauncherError::Other)? else { return Ok(()) };
        let files = [job.files.stdout(), job.files.stderr()];
        follow(files, output, job.ended.subscribe()).await.map_err(ProcLauncherError::Other)
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        let rows = rows(&self.tools, true).await.map_err(ProcLauncherError::Other)?;
        let found = rows.into_iter().filter_map(|(handle, row)| {
            let (labels, files) = owner_of(&handle, &row.comment)?;
            let running = !row.is_final();
            // Slurm remembers for a while what has ended; what is left of it is its files.
            (running || files.dir.exists()).then_some(Found { handle, labels, running })
        });
        Ok(found.collect())
    }

    fn ticket(&self) -> Option<Ticket> {
        Ticket::of("slurm", &self.config)
    }

    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        described(&self.config, &self.base, &Launch { proc_id: proc_id.clone(), options: options.clone() })
    }

    async fn probe(&self) -> Result<String, ProcLauncherError> {
        let told = self.poller.watch().next().await;
        let gone = || Err("the runtime of the launcher has ended".to_owned());
        let found = told.map_or_else(gone, |told| told.found.map(drop));
        found.map(|()| self.cluster.version.clone()).map_err(ProcLauncherError::Other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_slurm_does_not_end_is_told_by_the_job_that_it_is_about() {
        let said = "scancel: error: Kill job error on job id 9: Invalid job id specified\n\
                    scancel: error: Kill job error on job id 8_2: Access/permission denied";
        assert_eq!(refusal(said, "9"), Ok(()));
        assert_eq!(refusal(said, "10"), Ok(()));
        assert!(refusal(said, "8_2").is_err_and(|why| why.contains("denied")));
        assert!(refusal("slurm_kill_job2 error: Unable to contact slurm controller", "9").is_err());
    }
}
