use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bollard::Docker as Client;
use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::models::ContainerSummaryStateEnum as State;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions, InspectNetworkOptions,
    KillContainerOptionsBuilder, ListContainersOptionsBuilder, LogsOptionsBuilder,
    RemoveContainerOptionsBuilder, StartContainerOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use procession_launch::{
    Capabilities, Confines, Context, Found, Labels, Launcher, Managed, Output, ProcLauncherError, Signal,
    Ticket, WaitError,
};
use procession_model::{DialBack, LaunchOptions, ProcExitKind, ProcExitResult, ProcId};
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::config::Pull;
use crate::failure::{has_answered, is_done, is_missing, of_launch, of_wait, words};
use crate::init;
use crate::outcome::outcome;
use crate::request::request;
use crate::{DockerConfig, DockerError};

/// How long the engine may take to answer what it answers at once.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How long after its output broke off it is asked for again.
const AGAIN: Duration = Duration::from_millis(500);
/// No init says more than that of a program that it cannot execute, in bytes.
const LINE: usize = 256;
/// How long that is waited for before it is looked for again.
const LOG_PAUSE: Duration = Duration::from_millis(100);
/// In which state a container has ended, or was never started.
const ENDED: [State; 3] = [State::CREATED, State::EXITED, State::DEAD];
const USUAL_SOCKET: &str = "unix:///var/run/docker.sock";

/// How many bytes of its output were read.
#[derive(Default)]
struct Read {
    stdout: usize,
    stderr: usize,
}

/// Launches each proc as a container of an engine that speaks Docker's API.
pub struct Docker {
    config: DockerConfig,
    client: Client,
    host: String,
    dial_back: DialBack,
    /// Whether it is Podman that answers.
    is_podman: bool,
    version: String,
    pulled: OnceCell<()>,
}

impl fmt::Debug for Docker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Docker")
            .field("config", &self.config)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Docker {
    /// Reaches the engine, and finds out how its containers reach this machine.
    ///
    /// # Errors
    /// The configuration is refused, or the engine does not answer.
    pub async fn connect(config: DockerConfig) -> Result<Managed<Self>, DockerError> {
        config.check()?;
        let host = config
            .host
            .clone()
            .or_else(|| std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()))
            .unwrap_or_else(|| USUAL_SOCKET.to_owned());
        let unreachable = |error: Error| DockerError::Unreachable { host: host.clone(), why: words(&error) };
        let client = Client::connect_with_host(&host).map_err(unreachable)?.with_timeout(TIMEOUT);
        let client = client.negotiate_version().await.map_err(unreachable)?;
        let version = client.version().await.map_err(unreachable)?;
        let components = version.components.unwrap_or_default();
        let is_podman = components.iter().any(|component| component.name.contains("Podman"));
        let name = if is_podman { "Podman" } else { "Docker" };
        let version = format!("{name} {}", version.version.unwrap_or_default());
        let dial_back = dial_back(&config, &client, is_podman).await?;
        let at_once = config.launches_at_once;
        let docker = Self { config, client, host, dial_back, is_podman, version, pulled: OnceCell::new() };
        Ok(Managed::new(docker, at_once))
    }

    fn failed(&self, what: &str, error: &Error) -> ProcLauncherError {
        of_launch(what, error, &self.host)
    }

    async fn create(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<(), ProcLauncherError> {
        let name = proc_id.safe_name();
        let how = CreateContainerOptionsBuilder::new().name(&name).build();
        let request = request(&self.config, proc_id, options)?;
        match self.client.create_container(Some(how), request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failed("the container could not be made", &error)),
        }
    }

    async fn has_image(&self) -> Result<bool, ProcLauncherError> {
        match self.client.inspect_image(&self.config.image).await {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(self.failed("the image could not be looked for", &error)),
        }
    }

    /// Passes its output on, without what was read before.
    async fn pass_on(
        &self,
        handle: &str,
        follow: bool,
        output: &mut Output,
        read: &mut Read,
    ) -> Result<(), Error> {
        let what = LogsOptionsBuilder::new().follow(follow).stdout(true).stderr(true).build();
        let mut pieces = Box::pin(self.client.logs(handle, Some(what)));
        let mut passed = Read::default();
        while let Some(piece) = pieces.next().await {
            let (bytes, passed, read, to) = match piece? {
                LogOutput::StdErr { message } => {
                    (message, &mut passed.stderr, &mut read.stderr, &mut output.stderr)
                }
                LogOutput::StdOut { message } | LogOutput::Console { message } => {
                    (message, &mut passed.stdout, &mut read.stdout, &mut output.stdout)
                }
                LogOutput::StdIn { .. } => continue,
            };
            let known = (*read - *passed).min(bytes.len());
            *passed += bytes.len();
            if to.write_all(&bytes[known..]).await.is_err() {
                // Nobody reads it any more.
                return Ok(());
            }
            *read = (*read).max(*passed);
        }
        Ok(())
    }

    async fn pull(&self, context: &Context) -> Result<(), ProcLauncherError> {
        let image = &self.config.image;
        let wanted = match self.config.pull {
            Pull::Never => false,
            Pull::Always => true,
            Pull::Missing => !self.has_image().await?,
        };
        if !wanted {
            return Ok(());
        }
        context.progress(format!("pulling image {image}"));
        let what = CreateImageOptionsBuilder::new().from_image(image).build();
        let mut pulling = Box::pin(self.client.create_image(Some(what), None, None));
        loop {
            let step = tokio::select! {
                step = pulling.next() => step,
                () = context.cancelled() => {
                    return Err(ProcLauncherError::Other(format!("image {image} was being pulled")));
                }
            };
            match step {
                None => return Ok(()),
                Some(Ok(step)) => {
                    let (id, status) = (step.id.unwrap_or_default(), step.status.unwrap_or_default());
                    context.progress(format!("pulling image {image}: {status} {id}").trim_end());
                }
                Some(Err(error)) => {
                    return Err(self.failed(&format!("image {image} could not be pulled"), &error));
                }
            }
        }
    }

    /// All that a container has said which has ended, where it is no more than one line of an init; as far as its log has it within
    /// half a second.
    async fn only_line(&self, handle: &str) -> Option<String> {
        for _ in 0..5 {
            // From the beginning: of a line that was written in pieces Podman gives the last as its tail.
            let which = LogsOptionsBuilder::new().stdout(true).stderr(true).build();
            let mut pieces = self.client.logs(handle, Some(which));
            let mut said = String::new();
            while let Some(piece) = pieces.next().await {
                said.push_str(&piece.ok()?.to_string());
                if said.len() > LINE {
                    return None;
                }
            }
            if said.ends_with('\n') {
                return Some(said);
            }
            sleep(LOG_PAUSE).await;
        }
        None
    }

    /// It does not say whether memory ran out, and its init that there is no program as if that had ended with 1.
    async fn of_podman(
        &self,
        handle: &str,
        args: Option<Vec<String>>,
        exit: ProcExitResult,
    ) -> ProcExitResult {
        let exit = ProcExitResult { oom: None, ..exit };
        if !self.config.init || exit.kind != (ProcExitKind::Exited { code: 1 }) {
            return exit;
        }
        let Some(said) = self.only_line(handle).await else { return exit };
        let Some(why) = init::refusal(&said) else { return exit };
        let program = args.and_then(|args| args.into_iter().find(|word| word != "--")).unwrap_or_default();
        ProcExitResult {
            kind: ProcExitKind::Failed { reason: format!("{program:?} was not executed: {why}") },
            ..exit
        }
    }
}

/// How containers of the network reach this machine: it listens at the network's gateway.
async fn dial_back(config: &DockerConfig, client: &Client, is_podman: bool) -> Result<DialBack, DockerError> {
    let advertise = config.advertise.clone();
    if let Some(bind) = config.bind.clone() {
        return Ok(DialBack::Network { bind, advertise });
    }
    if config.network == "host" {
        return Ok(DialBack::Network { bind: "127.0.0.1:0".to_owned(), advertise });
    }
    // What Docker calls bridge has that name at Podman.
    let default = is_podman && config.network == "bridge";
    let network = if default { "podman" } else { &config.network };
    let found = client.inspect_network(network, None::<InspectNetworkOptions>).await;
    let no_way = |why: String| DockerError::NoWayBack { network: network.to_owned(), why };
    let found = found.map_err(|error| no_way(words(&error)))?;
    let gateways = found.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    let gateway = gateways.into_iter().find_map(|config| config.gateway);
    let gateway = gateway.ok_or_else(|| no_way("it has no gateway".to_owned()))?;
    let (any, at) =
        if gateway.contains(':') { ("[::]:0", format!("[{gateway}]")) } else { ("0.0.0.0:0", gateway) };
    if is_podman {
        // It makes its bridge with the first container: until then nobody can listen there.
        return Ok(DialBack::Network { bind: any.to_owned(), advertise: advertise.or(Some(at)) });
    }
    Ok(DialBack::Network { bind: format!("{at}:0"), advertise })
}

#[async_trait]
impl Launcher for Docker {
    fn name(&self) -> &str {
        if self.is_podman { "podman" } else { "docker" }
    }

    fn capabilities(&self) -> Capabilities {
        let confines = Confines {
            memory: true,
            pids: true,
            cpu: true,
            user: true,
            rlimits: true,
            ..Confines::default()
        };
        Capabilities {
            stdio: true,
            tree_kill: true,
            group_kill: true,
            confines,
            folds_signals: true,
            // Podman's answer is no, also where it was.
            oom_facts: !self.is_podman,
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
        self.pulled.get_or_try_init(|| self.pull(context)).await?;
        self.create(proc_id, options).await?;
        let name = proc_id.safe_name();
        if let Err(error) = self.client.start_container(&name, None::<StartContainerOptions>).await {
            let refused = self.failed("the container could not be started", &error);
            self.destroy(&name).await?;
            return Err(refused);
        }
        Ok(name)
    }

    async fn wait(&self, handle: &str) -> Result<ProcExitResult, WaitError> {
        loop {
            let mut waiting = Box::pin(self.client.wait_container(handle, None::<WaitContainerOptions>));
            match waiting.next().await {
                // Its code is in what the engine says of it, with the rest.
                None | Some(Ok(_) | Err(Error::DockerContainerWaitError { .. })) => {}
                // Podman says nothing at all until it has ended.
                Some(Err(Error::RequestTimeoutError)) => continue,
                Some(Err(error)) => return Err(of_wait(&error, &self.host)),
            }
            let found = self.client.inspect_container(handle, None::<InspectContainerOptions>).await;
            let found = found.map_err(|error| of_wait(&error, &self.host))?;
            let state = found.state.unwrap_or_default();
            if state.running != Some(true) {
                let exit = outcome(&state);
                return Ok(if self.is_podman {
                    self.of_podman(handle, found.args, exit).await
                } else {
                    exit
                });
            }
        }
    }

    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError> {
        let what = KillContainerOptionsBuilder::new().signal(signal.as_str()).build();
        match self.client.kill_container(handle, Some(what)).await {
            Ok(()) => Ok(()),
            Err(error) if is_done(&error) => Ok(()),
            Err(error) => {
                let why = of_launch(&format!("container {handle} did not get {signal}"), &error, &self.host);
                Err(match signal {
                    Signal::Terminate => ProcLauncherError::Terminate(why.to_string()),
                    Signal::Kill => ProcLauncherError::Kill(why.to_string()),
                })
            }
        }
    }

    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError> {
        if self.config.keep {
            return Ok(());
        }
        let how = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match self.client.remove_container(handle, Some(how)).await {
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(self.failed(&format!("container {handle} could not be removed"), &error)),
        }
    }

    async fn logs(&self, handle: &str, mut output: Output) -> Result<(), ProcLauncherError> {
        let (mut read, mut follow) = (Read::default(), true);
        loop {
            match self.pass_on(handle, follow, &mut output, &mut read).await {
                // The engine may let go of who follows before the last line is there, which has no end maybe.
                Ok(()) if follow => follow = false,
                Ok(()) => return Ok(()),
                Err(error) if has_answered(&error) => {
                    return Err(self.failed("its output could not be read", &error));
                }
                // It comes again from the beginning when the engine does.
                Err(_) => sleep(AGAIN).await,
            }
        }
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        let filters = HashMap::from([("label".to_owned(), vec![Labels::PROC.to_owned()])]);
        let which = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let all = self.client.list_containers(Some(which)).await;
        let all = all.map_err(|error| self.failed("the containers could not be listed", &error))?;
        let found = all.into_iter().filter_map(|container| {
            let labels = container.labels?;
            Some(Found {
                handle: container.names?.first()?.trim_start_matches('/').to_owned(),
                labels: Labels::among(|name| labels.get(name).map(String::as_str))?,
                running: container.state.is_none_or(|state| !ENDED.contains(&state)),
            })
        });
        Ok(found.collect())
    }

    fn ticket(&self) -> Option<Ticket> {
        // The next client may be told of another engine.
        Ticket::of("docker", &DockerConfig { host: Some(self.host.clone()), ..self.config.clone() })
    }

    fn interpreter(&self) -> Option<String> {
        Some(self.config.python.clone())
    }

    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        let request = request(&self.config, proc_id, options)?;
        serde_json::to_string_pretty(&request).map_err(|error| ProcLauncherError::Other(error.to_string()))
    }

    async fn probe(&self) -> Result<String, ProcLauncherError> {
        let answer = self.client.ping().await;
        answer.map_err(|error| self.failed("the engine was asked whether it is there", &error))?;
        Ok(format!("{} at {}", self.version, self.host))
    }
}
