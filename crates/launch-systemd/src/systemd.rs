use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{
    Capabilities, Confines, Context, Found, Launcher, Managed, Output, ProcLauncherError, Signal, Ticket,
    WaitError,
};
use procession_model::{DialBack, LaunchOptions, ProcExitResult, ProcId};
use tokio::time::timeout;
use zbus::{OwnedObjectPath, Variant};

use crate::bus::{Bus, Failed};
use crate::controllers::Controllers;
use crate::environment::EnvironmentFile;
use crate::outcome::Facts;
use crate::output::{Files, Source, Sources};
use crate::patch::{Types, types};
use crate::unit::{Given, LABELS, NAME, Unit, labels_in, name, nothing, pipe as new_pipe, program_of};
use crate::{SystemdConfig, SystemdError};

/// How often a unit is looked at though nothing was heard of it, so that what the bus has lost keeps nobody waiting.
const LOOK: Duration = Duration::from_secs(30);
/// How long a launch waits for what becomes of it; from then on it can be stopped, though it may still not have begun.
const START: Duration = Duration::from_secs(10);
/// How long the stop of a unit may take in which nothing lives any more, or everything was killed.
const STOP: Duration = Duration::from_secs(5);

/// The answer of ListUnits for one of them.
type Listed = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// Launches each proc as a transient unit of a manager of systemd.
pub struct Systemd {
    config: SystemdConfig,
    bus: Bus,
    types: Types,
    version: String,
    capabilities: Capabilities,
    hears_of_oom: bool,
    sources: Sources,
}

impl fmt::Debug for Systemd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Systemd").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Systemd {
    /// Reaches the manager, and finds out what it can limit.
    ///
    /// # Errors
    /// The configuration is refused, or no manager answers.
    pub async fn connect(config: SystemdConfig) -> Result<Managed<Self>, SystemdError> {
        config.check()?;
        let unreachable =
            |error: Failed| SystemdError::Unreachable { bus: config.bus.clone(), why: error.to_string() };
        let bus = Bus::connect(&config.bus).await.map_err(unreachable)?;
        let version: String = bus.of_manager("Version").await.map_err(unreachable)?;
        let group: String = bus.of_manager("ControlGroup").await.map_err(unreachable)?;
        let (uid, pid) = bus.owner().await.map_err(unreachable)?;
        let types = types(&bus.described().await.map_err(unreachable)?);
        let is_system = pid == 1;
        let controllers = Controllers::of(&group, uid);
        let manager = if is_system { "the system".to_owned() } else { format!("user {uid}") };
        let at_once = config.launches_at_once;
        let systemd = Self {
            config,
            bus,
            types,
            version: format!("systemd {version} of {manager}"),
            capabilities: capabilities(controllers, is_system),
            hears_of_oom: controllers.hears_of_oom,
            sources: Sources::default(),
        };
        Ok(Managed::new(systemd, at_once))
    }

    fn unit(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        given: Given<'_>,
    ) -> Result<Unit, ProcLauncherError> {
        Unit::new(&self.config, &self.types, proc_id, options, given)
    }

    /// What the environment of its manager has, where that matters.
    async fn base(&self, options: &LaunchOptions) -> Result<Vec<String>, Failed> {
        if !options.command.clear_env {
            return Ok(Vec::new());
        }
        let all: Vec<String> = self.bus.of_manager("Environment").await?;
        let name = |text: String| text.split_once('=').map(|(name, _)| name.to_owned());
        Ok(all.into_iter().filter_map(name).collect())
    }

    /// Why the manager has not executed the program of that unit, from what came of its job; none where it has, or may have.
    async fn refusal(&self, unit: &str, program: &str, job: Option<String>) -> Option<String> {
        // Without an answer it is known later, by whoever waits for its end.
        let result = job.filter(|result| result != "done")?;
        match self.facts(unit).await {
            Ok(Some(facts)) if facts.is_over() => Facts { program: program.to_owned(), ..facts }.refusal(),
            Ok(_) => Some(format!("systemd did not start {program:?}: the result of its job is {result}")),
            Err(_) => None,
        }
    }

    /// What is known of a unit; none where there is none.
    async fn facts(&self, unit: &str) -> Result<Option<Facts>, Failed> {
        let (loaded, state, code) = tokio::try_join!(
            self.bus.of_unit::<String>(unit, "Unit", "LoadState"),
            self.bus.of_unit::<String>(unit, "Unit", "ActiveState"),
            self.bus.of_unit::<i32>(unit, "Service", "ExecMainCode"),
        )?;
        if loaded == "not-found" {
            return Ok(None);
        }
        if code == 0 && state != "failed" {
            return Ok(Some(Facts { ran: true, ..Facts::default() }));
        }
        let (status, result, ended, active) = tokio::try_join!(
            self.bus.of_unit::<i32>(unit, "Service", "ExecMainStatus"),
            self.bus.of_unit::<String>(unit, "Service", "Result"),
            self.bus.of_unit::<u64>(unit, "Service", "ExecMainExitTimestamp"),
            self.bus.of_unit::<u64>(unit, "Unit", "ActiveEnterTimestamp"),
        )?;
        let program = unit.to_owned();
        Ok(Some(Facts { ran: active > 0, code, status, result, ended, program }))
    }

    async fn fields(&self, unit: &str) -> Result<Vec<Vec<u8>>, Failed> {
        let fields: Vec<Variant<'static>> = self.bus.of_unit(unit, "Service", LABELS).await?;
        Ok(fields.into_iter().filter_map(|field| field.try_into().ok()).collect())
    }

    /// Of a unit that an earlier process has launched it is known while the manager knows the unit.
    async fn source(&self, unit: &str) -> Result<Arc<Source>, Failed> {
        if let Some(source) = self.sources.get(unit) {
            return Ok(source);
        }
        let fields = self.fields(unit).await?;
        Ok(self.sources.add(unit, Source::of(Files::among(&fields))))
    }

    /// Whether there was something to stop; it goes on.
    async fn stop(&self, unit: &str) -> Result<bool, Failed> {
        match self.bus.manager("StopUnit", &(unit, "replace")).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Stops it, and has the manager forget it.
    async fn collect(&self, unit: &str) -> Result<(), ProcLauncherError> {
        let left = |error: Failed| other(&format!("unit {unit} could not be taken away"), error);
        let job = self.bus.job(unit);
        if !self.stop(unit).await.map_err(left)? {
            return Ok(());
        }
        if timeout(STOP, job.result()).await.is_err() {
            return Err(other(&format!("unit {unit}"), format!("it has not ended within {STOP:?}")));
        }
        // One that has failed is kept until somebody has seen it.
        match self.bus.manager("ResetFailedUnit", &unit).await {
            Err(error) if error.is_missing() => Ok(()),
            done => done.map(drop).map_err(left),
        }
    }

    /// Where it is to write what is read by whichever host there is then.
    fn files(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<Option<Files>, ProcLauncherError> {
        let Some(beside) = options.output.as_ref().filter(|_| options.detach) else { return Ok(None) };
        Files::beside(beside, &name(proc_id)).map(Some).map_err(|error| other("log_dir", error))
    }

    async fn send(&self, unit: &str, signal: Signal) -> Result<(), Failed> {
        match self.bus.manager("KillUnit", &(unit, "all", signal.number())).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_missing() => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn capabilities(controllers: Controllers, is_system: bool) -> Capabilities {
    let confines = Confines {
        memory: controllers.memory,
        pids: controllers.pids,
        cpu: controllers.cpu,
        user: is_system,
        rlimits: true,
        security: true,
        binding: false,
    };
    Capabilities {
        stdio: true,
        tree_kill: true,
        group_kill: true,
        command_attributes: true,
        confines,
        oom_facts: controllers.hears_of_oom,
        adopt: true,
        dial_back: DialBack::Local,
        ..Capabilities::default()
    }
}

fn other(what: &str, error: impl fmt::Display) -> ProcLauncherError {
    ProcLauncherError::Other(format!("{what}: {error}"))
}

#[async_trait]
impl Launcher for Systemd {
    fn name(&self) -> &str {
        "systemd"
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities.clone()
    }

    async fn launch(
        &self,
        proc_id: &ProcId,
        options: &LaunchOptions,
        _context: &Context,
    ) -> Result<String, ProcLauncherError> {
        let name = name(proc_id);
        let failed = |error: &dyn fmt::Display| other(&format!("unit {name} could not be started"), error);
        let no_file =
            |error: io::Error| failed(&format!("the files for its output could not be made: {error}"));
        let no_pipe = |error: io::Error| failed(&format!("{error}; free some file descriptors"));
        let environment = EnvironmentFile::write(&name, &options.variables())
            .map_err(|error| failed(&format!("its environment could not be written to a file: {error}")))?;
        let mut started = Started { sources: &self.sources, name: &name, done: false };
        let files = self.files(proc_id, options)?;
        let (source, output) = match &files {
            Some(files) => (Source::of(Some(files.clone())), Some(files.make().map_err(no_file)?)),
            None if options.detach => (Source::Elsewhere, None),
            None => {
                let (stdout, stdout_in) = new_pipe().map_err(no_pipe)?;
                let (stderr, stderr_in) = new_pipe().map_err(no_pipe)?;
                (Source::Pipes(Mutex::new(Some([stdout, stderr]))), Some([stdout_in, stderr_in]))
            }
        };
        self.sources.add(&name, source);
        self.bus.reach().await.map_err(|error| failed(&error))?;
        let base = self.base(options).await.map_err(|error| failed(&error))?;
        let given = Given { environment: environment.path(), output, files, base };
        let unit = self.unit(proc_id, options, given)?;
        let job = self.bus.job(&name);
        let none: [(&str, Vec<(&str, Variant<'_>)>); 0] = [];
        let answer = self
            .bus
            .manager("StartTransientUnit", &(name.as_str(), "fail", &unit.properties, &none[..]))
            .await;
        // The manager has its own of them now, and that of this process would keep the output open.
        drop(unit);
        let result = match answer {
            Ok(_) => timeout(START, job.result()).await.ok().flatten(),
            Err(error @ Failed::Refused { .. }) => return Err(failed(&error)),
            // It may have been started.
            Err(Failed::Unreachable(_)) => None,
        };
        let program = program_of(&options.command);
        if let Some(refusal) = self.refusal(&name, &program, result).await {
            self.destroy(&name).await?;
            return Err(failed(&refusal));
        }
        started.done = true;
        Ok(name.clone())
    }

    async fn wait(&self, handle: &str) -> Result<ProcExitResult, WaitError> {
        let unreachable = |error: Failed| WaitError::Unreachable(error.to_string());
        loop {
            let watched = self.bus.watch(handle);
            let mut changed = std::pin::pin!(watched.changed.notified());
            // What comes from here on is not missed.
            changed.as_mut().enable();
            let Some(facts) = self.facts(handle).await.map_err(unreachable)? else {
                self.sources.get(handle).inspect(|source| source.end());
                return Err(WaitError::Gone(format!("systemd knows nothing of unit {handle} any more")));
            };
            if facts.is_over() {
                // What the manager says of it goes with it.
                let source = self.source(handle).await.map_err(unreachable)?;
                // With RemainAfterExit the manager leaves what a program that has ended well has started, and keeps its output open.
                self.stop(handle).await.map_err(unreachable)?;
                source.end();
                return Ok(facts.exit(self.hears_of_oom));
            }
            let _or_not = timeout(LOOK, changed).await;
        }
    }

    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError> {
        self.send(handle, signal).await.map_err(|error| {
            let why = format!("unit {handle} did not get {signal}: {error}");
            match signal {
                Signal::Terminate => ProcLauncherError::Terminate(why),
                Signal::Kill => ProcLauncherError::Kill(why),
            }
        })
    }

    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError> {
        let left = |error: &dyn fmt::Display| other(&format!("unit {handle} could not be taken away"), error);
        let source = self.source(handle).await.map_err(|error| left(&error))?;
        self.collect(handle).await?;
        source.remove().map_err(|error| left(&format!("its output is left: {error}")))?;
        self.sources.forget(handle);
        Ok(())
    }

    async fn logs(&self, handle: &str, output: Output) -> Result<(), ProcLauncherError> {
        let unread = |error: &dyn fmt::Display| other("its output could not be read", error);
        let source = self.source(handle).await.map_err(|error| unread(&error))?;
        source.pass_on(output).await.map_err(|error| unread(&error))
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        let failed = |error: Failed| other("the units could not be listed", error);
        let (states, pattern): ([&str; 0], _) = ([], format!("{}*{}", NAME.0, NAME.1));
        let answer = self.bus.manager("ListUnitsByPatterns", &(&states[..], &[pattern.as_str()][..])).await;
        let body = answer.map_err(failed)?.body();
        let all: Vec<Listed> = body.deserialize().map_err(|error| failed(error.into()))?;
        let mut found = Vec::new();
        for (handle, _, _, _, sub, ..) in all {
            match self.fields(&handle).await.map(|fields| labels_in(&fields)) {
                Ok(Some(labels)) => {
                    let running = !matches!(sub.as_str(), "dead" | "exited" | "failed");
                    found.push(Found { handle, labels, running });
                }
                // It is somebody else's, or has gone meanwhile.
                Ok(None) | Err(Failed::Refused { .. }) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(found)
    }

    async fn recover(&self, proc_id: &ProcId) -> Result<Option<Found>, ProcLauncherError> {
        let name = name(proc_id);
        let failed = |error: Failed| other(&format!("unit {name} could not be looked for"), error);
        let fields = self.fields(&name).await.map_err(failed)?;
        let Some(labels) = labels_in(&fields).filter(|labels| labels.proc == proc_id.as_str()) else {
            return Ok(None);
        };
        let running = self.facts(&name).await.map_err(failed)?.is_some_and(|facts| !facts.is_over());
        Ok(Some(Found { handle: name, labels, running }))
    }

    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        let fd = || nothing().map_err(|error| other("/dev/null", error));
        let files = self.files(proc_id, options)?;
        let output = (files.is_some() || !options.detach).then(|| Ok([fd()?, fd()?])).transpose()?;
        let environment = Path::new("/a/file/of/the/launcher");
        let unit = self.unit(proc_id, options, Given { environment, output, files, base: Vec::new() })?;
        Ok(unit.shown(&self.config.bus))
    }

    fn ticket(&self) -> Option<Ticket> {
        Ticket::of("systemd", &self.config)
    }

    async fn probe(&self) -> Result<String, ProcLauncherError> {
        let answer: Result<String, _> = self.bus.of_manager("Version").await;
        answer.map_err(|error| other("systemd was asked whether it is there", error))?;
        Ok(self.version.clone())
    }
}

/// What was made for a launch goes with it when it fails.
struct Started<'a> {
    sources: &'a Sources,
    name: &'a str,
    done: bool,
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        if let Some(Err(error)) = self.sources.get(self.name).map(|source| source.remove()) {
            tracing::warn!(unit = self.name, %error, "the files for its output could not be removed");
        }
        self.sources.forget(self.name);
    }
}
