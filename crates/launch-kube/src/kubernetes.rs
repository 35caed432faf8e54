use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};
use procession_launch::{
    Capabilities, Confines, Context, Found, Labels, Launcher, Managed, Output, ProcLauncherError, Signal,
    WaitError,
};
use procession_model::{DialBack, Eviction, LaunchOptions, ProcExitResult, ProcId};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

use crate::client::client;
use crate::cluster::{Cluster, Failure, Which};
use crate::output::follow;
use crate::pod::{Pod, SILENCE};
use crate::reach::dial_back;
use crate::request::{LAUNCHER, Request, request};
use crate::signals::{tellers, whom};
use crate::stage::Stage;
use crate::watch::{Seen, Watch, uneven};
use crate::{KubernetesConfig, KubernetesError};

/// How often a pod that waits says so.
const SAYS: Duration = Duration::from_secs(1);
/// How long the connection to a server may take to be made.
const CONNECTS: Duration = Duration::from_secs(10);
/// The seconds that a pod has which is killed. With none the server would take what its node says later for said already.
const AT_ONCE: u32 = 1;
/// How long a signal may take to be sent by what the image has; hosts wait for its answer.
const TELLS: Duration = Duration::from_secs(4);
/// How often what a failed launch has left is tried to be taken away, over some minutes.
const TRIES: u32 = 8;
/// How long after a kill that has shown no effect the kubelet is asked for one.
const INSISTS: Duration = Duration::from_secs(5);

/// Launches each proc as a pod.
pub struct Kubernetes {
    config: KubernetesConfig,
    cluster: Cluster,
    dial_back: DialBack,
    /// What its pods are known by.
    id: String,
    watch: Watch,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
    /// Which of the commands that send signals its image has.
    teller: AtomicUsize,
    runtime: Handle,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kubernetes")
            .field("config", &self.config)
            .field("server", &self.cluster.server)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Reaches the API server, and finds out how pods reach this machine. What it asks, and its watch, run in the runtime that this
    /// is called in.
    ///
    /// # Errors
    /// The configuration is refused, or no server answers.
    pub async fn connect(config: KubernetesConfig) -> Result<Managed<Self>, KubernetesError> {
        config.check()?;
        let mut access = access(&config).await?;
        access.connect_timeout = Some(CONNECTS);
        let server = access.cluster_url.to_string();
        let namespace = config.namespace.clone().unwrap_or_else(|| access.default_namespace.clone());
        let host = access.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let port = access.cluster_url.port_u16().unwrap_or(443);
        let unreachable = |why: String| KubernetesError::Unreachable { server: server.clone(), why };
        let client = client(access).map_err(unreachable)?;
        let cluster = Cluster::new(client, namespace, server.clone());
        cluster.version().await.map_err(|why| unreachable(why.words().to_owned()))?;
        let dial_back = dial_back(&config, &cluster, (&host, port)).await?;
        let (id, runtime) = (random_id(), Handle::current());
        let watch = Watch::new(&runtime, cluster.clone(), Which::Label(format!("{LAUNCHER}={id}")));
        let (at_once, pods) = (config.launches_at_once, Mutex::default());
        let teller = AtomicUsize::default();
        Ok(Managed::new(Self { config, cluster, dial_back, id, watch, pods, teller, runtime }, at_once))
    }

    fn pods(&self) -> MutexGuard<'_, HashMap<String, Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a pod, also of one that another launcher has made.
    fn pod(&self, name: &str) -> Arc<Pod> {
        let mut pods = self.pods();
        let found = pods.entry(name.to_owned()).or_insert_with(|| {
            let watch = Watch::new(&self.runtime, self.cluster.clone(), Which::Name(name.to_owned()));
            Arc::new(Pod::new(watch.follow(name), Some(watch)))
        });
        Arc::clone(found)
    }

    fn failed(&self, what: &str, why: &Failure) -> ProcLauncherError {
        ProcLauncherError::Other(match why {
            Failure::Refused { why, .. } | Failure::Conflict(why) => format!("{what}: {why}"),
            Failure::Away(why) => {
                format!("{what}: the API server at {} does not answer ({why})", self.cluster.server)
            }
        })
    }

    async fn create(&self, request: Request, pod: &Pod) -> Result<(), ProcLauncherError> {
        let Request { name, pod: object, secret } = request;
        let secret = self.cluster.create_secret(secret).await;
        secret.map_err(|why| self.failed("the secret with its environment could not be made", &why))?;
        let made = self.cluster.create_pod(&name, object).await;
        let made = made.map_err(|why| self.failed("the pod could not be made", &why))?;
        if let Err(why) = self.cluster.own_secret(&name, &made).await {
            tracing::warn!(name, why = why.words(), "its secret would not go with its pod");
        }
        pod.following.learn(made);
        Ok(())
    }

    async fn take_away(&self, name: &str) -> Result<(), ProcLauncherError> {
        let taken = self.cluster.take_away(name, self.config.keep).await;
        taken.map_err(|(what, why)| self.failed(&format!("{what} {name} could not be taken away"), &why))
    }

    /// Takes away later what is left of a launch that has failed, of which nobody else knows.
    fn take_away_later(&self, name: &str) {
        let (cluster, name, keep) = (self.cluster.clone(), name.to_owned(), self.config.keep);
        self.runtime.spawn(async move {
            for pause in (0..TRIES).map(|at| Duration::from_secs(1 << at)) {
                sleep(uneven(pause)).await;
                let Err((what, why)) = cluster.take_away(&name, keep).await else { return };
                tracing::debug!(
                    name,
                    what,
                    why = why.words(),
                    "what a failed launch has left is still there"
                );
            }
            tracing::warn!(name, "what a failed launch has left could not be taken away");
        });
    }

    /// Waits until its program runs, or never will, and says meanwhile what it waits for.
    async fn started(&self, name: &str, pod: &Pod, context: &Context) -> Result<(), String> {
        let (mut seen, blind) = (pod.following.seen(), self.watch.blind());
        let mut stuck_since: Option<Instant> = None;
        let patience = Duration::from_secs_f64(self.config.image_patience);
        loop {
            let now = seen.borrow_and_update().clone();
            let stage = now.pod.as_ref().map(|pod| Stage::of(pod));
            // Who asks for its exit is told; a node may never say that it is done with it.
            if now.gone || now.deleted.is_some() {
                return Ok(());
            }
            let mut said = match stage {
                Some(Stage::Runs | Stage::Ended) => return Ok(()),
                Some(Stage::Stuck { why, hopeless }) => {
                    let since = *stuck_since.get_or_insert_with(Instant::now);
                    if hopeless || since.elapsed() >= patience {
                        return Err(why);
                    }
                    why
                }
                Some(Stage::Waits(what)) => what,
                None => format!("pending: pod {name} was made"),
            };
            if let Some(why) = &*blind.borrow() {
                said = format!("{said} (the API server does not answer now: {why})");
            }
            context.progress(said);
            tokio::select! {
                _ = seen.changed() => {}
                () = sleep(SAYS) => {}
                () = context.cancelled() => return Ok(()),
            }
        }
    }

    /// What others have done to it, where nothing but the events of the cluster tells.
    async fn deleted_by(&self, name: &str) -> Option<(Eviction, String)> {
        let events = self.cluster.events_of(name).await.ok()?;
        events.into_iter().find_map(|event| {
            let why = match event.reason.as_deref()? {
                "Preempted" | "Preempting" => Eviction::Preempted,
                "TaintManagerEviction" | "Evicted" | "NodeShutdown" | "NodeControllerEviction" => {
                    Eviction::Evicted
                }
                _ => return None,
            };
            Some((why, event.message.unwrap_or_default()))
        })
    }
}

/// What says where the cluster is, and who we are there.
async fn access(config: &KubernetesConfig) -> Result<Config, KubernetesError> {
    let no_cluster = |why: String| KubernetesError::NoCluster(why);
    let options = KubeConfigOptions { context: config.context.clone(), ..KubeConfigOptions::default() };
    if let Some(path) = &config.kubeconfig {
        let read = Kubeconfig::read_from(path).map_err(|error| no_cluster(error.to_string()))?;
        let made = Config::from_custom_kubeconfig(read, &options).await;
        return made.map_err(|error| no_cluster(format!("{}: {error}", path.display())));
    }
    if config.context.is_some() {
        return Config::from_kubeconfig(&options).await.map_err(|error| no_cluster(error.to_string()));
    }
    Config::infer().await.map_err(|error| no_cluster(error.to_string()))
}

fn random_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    text.trim().to_owned()
}

/// The labels on what procession has made: those that are too long, or have other letters, are annotations.
fn labels_of(meta: &ObjectMeta) -> Option<Labels> {
    let empty = BTreeMap::new();
    Labels::from_map(meta.annotations.as_ref().unwrap_or(&empty))
}

#[async_trait]
impl Launcher for Kubernetes {
    fn name(&self) -> &str {
        "kubernetes"
    }

    fn capabilities(&self) -> Capabilities {
        let confines = Confines { memory: true, cpu: true, user: true, ..Confines::default() };
        Capabilities {
            stdio: true,
            tree_kill: true,
            group_kill: true,
            confines,
            folds_signals: true,
            one_stream: true,
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
        let request = request(&self.config, &self.id, proc_id, options)?;
        let name = request.name.clone();
        let pod = Arc::new(Pod::new(self.watch.follow(&name), None));
        self.pods().insert(name.clone(), Arc::clone(&pod));
        let started = match self.create(request, &pod).await {
            Ok(()) => self.started(&name, &pod, context).await.map_err(ProcLauncherError::Other),
            Err(why) => Err(why),
        };
        match started {
            Ok(()) => Ok(name),
            Err(why) => {
                let taken_away = self.take_away(&name).await;
                self.pods().remove(&name);
                match taken_away {
                    Ok(()) => Err(why),
                    Err(left) => {
                        self.take_away_later(&name);
                        Err(ProcLauncherError::Other(format!("{why}; then {left}, which is tried again")))
                    }
                }
            }
        }
    }

    async fn wait(&self, handle: &str) -> Result<ProcExitResult, WaitError> {
        let pod = self.pod(handle);
        let mut seen = pod.following.seen();
        let mut blind = pod.own_watch.as_ref().unwrap_or(&self.watch).blind();
        let exit = loop {
            let now = seen.borrow_and_update().clone();
            let again = match pod.exit(&now) {
                Ok(exit) => break exit,
                Err(again) => again,
            };
            if let Some(why) = &*blind.borrow_and_update() {
                return Err(WaitError::Unreachable(format!(
                    "the API server at {}: {why}",
                    self.cluster.server
                )));
            }
            tokio::select! {
                told = seen.changed() => if told.is_err() {
                    return Err(WaitError::Gone("the runtime of the launcher has ended".to_owned()));
                },
                _ = blind.changed() => {}
                () = sleep(again.unwrap_or(Duration::MAX)), if again.is_some() => {}
            }
        };
        let by = match exit.evicted {
            Some(Eviction::Deleted) => self.deleted_by(handle).await,
            _ => None,
        };
        let Some((why, said)) = by else { return Ok(exit) };
        let reported = exit.reported.clone().map(|mut told| {
            told.failed_reason = Some(said);
            told
        });
        Ok(ProcExitResult { evicted: Some(why), reported, ..exit })
    }

    async fn terminate(&self, handle: &str, within: Duration) -> Result<(), ProcLauncherError> {
        let seconds = (within.as_secs_f64().ceil() as u32).max(AT_ONCE);
        let asked = match timeout(TELLS, self.tell(handle, Signal::Terminate)).await {
            Ok(true) => Ok(()),
            _ => self.end(handle, seconds).await,
        };
        asked
            .map_err(|why| self.failed(&format!("pod {handle}"), &why).to_string())
            .map_err(ProcLauncherError::Terminate)
    }

    async fn signal(&self, handle: &str, signal: Signal) -> Result<(), ProcLauncherError> {
        if signal == Signal::Terminate {
            return self.terminate(handle, SILENCE).await;
        }
        // A kubelet would begin with SIGTERM, and old ones forget how the container of a pod has ended that was just deleted.
        // What was not answered may have been done.
        if !matches!(timeout(TELLS, self.tell(handle, signal)).await, Ok(false)) {
            self.insist(handle);
            return Ok(());
        }
        let killed = self.end(handle, AT_ONCE).await;
        killed.map_err(|why| ProcLauncherError::Kill(self.failed(&format!("pod {handle}"), &why).to_string()))
    }

    async fn destroy(&self, handle: &str) -> Result<(), ProcLauncherError> {
        self.take_away(handle).await?;
        self.pods().remove(handle);
        Ok(())
    }

    async fn logs(&self, handle: &str, output: Output) -> Result<(), ProcLauncherError> {
        let seen = self.pod(handle).following.seen();
        follow(&self.cluster, handle, seen, output).await.map_err(ProcLauncherError::Other)
    }

    async fn list(&self) -> Result<Vec<Found>, ProcLauncherError> {
        let which = Which::Label(LAUNCHER.to_owned());
        let pods = self.cluster.pods_of(&which).await;
        let (pods, _) = pods.map_err(|why| self.failed("the pods could not be listed", &why))?;
        let secrets = self.cluster.secrets_of(LAUNCHER).await;
        let secrets = secrets.map_err(|why| self.failed("the secrets could not be listed", &why))?;
        let mut found = BTreeMap::new();
        // A secret whose pod was never made is left over too.
        for (meta, running) in secrets
            .into_iter()
            .map(|secret| (secret.metadata, false))
            .chain(pods.into_iter().map(|pod| (pod.metadata.clone(), Stage::of(&pod) != Stage::Ended)))
        {
            let (Some(labels), Some(handle)) = (labels_of(&meta), meta.name) else { continue };
            found.insert(handle.clone(), Found { handle, labels, running });
        }
        Ok(found.into_values().collect())
    }

    fn interpreter(&self) -> Option<String> {
        Some(self.config.python.clone())
    }

    fn dry_run(&self, proc_id: &ProcId, options: &LaunchOptions) -> Result<String, ProcLauncherError> {
        let Request { pod, mut secret, .. } = request(&self.config, &self.id, proc_id, options)?;
        for value in secret["stringData"].as_object_mut().into_iter().flat_map(|all| all.values_mut()) {
            *value = "...".into();
        }
        let shown = |object| serde_json::to_string_pretty(object);
        let both = shown(&secret).and_then(|secret| Ok(format!("{secret}\n{}", shown(&pod)?)));
        both.map_err(|error| ProcLauncherError::Other(error.to_string()))
    }

    async fn probe(&self) -> Result<String, ProcLauncherError> {
        let mut blind = self.watch.blind();
        if blind.borrow_and_update().is_some() && blind.changed().await.is_ok() {
            // What the watch has found out is not asked for again.
            if let Some(why) = blind.borrow().clone() {
                return Err(self.failed("the cluster was asked whether it is there", &Failure::Away(why)));
            }
        }
        let version = self.cluster.version().await;
        let version = version.map_err(|why| self.failed("the cluster was asked what it is", &why))?;
        let (server, namespace) = (&self.cluster.server, &self.cluster.namespace);
        Ok(format!("Kubernetes {version} at {server}, namespace {namespace}"))
    }
}

impl Kubernetes {
    /// Sends a signal to all that runs in a pod, by what its image has: whether it was sent.
    async fn tell(&self, handle: &str, signal: Signal) -> bool {
        let Some(pod) = self.pods().get(handle).cloned() else { return false };
        let mut seen = pod.following.seen();
        let whom = seen.borrow().pod.as_ref().map(|pod| whom(pod)).unwrap_or_default();
        if whom.is_empty() {
            return false;
        }
        pod.asked.store(true, Ordering::SeqCst);
        let known = self.teller.load(Ordering::Relaxed);
        for (at, command) in tellers(&self.config.python, signal, whom).into_iter().enumerate().skip(known) {
            let done = tokio::select! {
                done = self.cluster.command(handle, command) => done,
                // What ends with its container tells nothing more.
                _ = seen.wait_for(|seen| seen.has_ended()) => return true,
            };
            match done {
                Ok(()) => {
                    self.teller.store(at, Ordering::Relaxed);
                    return true;
                }
                Err(why) => {
                    tracing::debug!(handle, why = why.words(), "it has sent no signal");
                    // The image has no such program, for none of its pods.
                    let ran = seen.borrow().ran;
                    if matches!(why, Failure::Refused { .. }) && at == 0 && ran {
                        self.teller.store(1, Ordering::Relaxed);
                    }
                }
            }
        }
        false
    }

    /// Has a pod deleted that is not seen to end by its signal, and that again until it does.
    fn insist(&self, handle: &str) {
        let Some(pod) = self.pods().get(handle).cloned() else { return };
        let (cluster, name, mut seen) = (self.cluster.clone(), handle.to_owned(), pod.following.seen());
        self.runtime.spawn(async move {
            while timeout(INSISTS, seen.wait_for(Seen::has_ended)).await.is_err() {
                match cluster.delete_pod(&name, AT_ONCE).await {
                    Ok(()) => return,
                    Err(why) => tracing::warn!(
                        name,
                        why = why.words(),
                        "a pod that does not end could not be deleted"
                    ),
                }
            }
        });
    }

    /// Has a pod end: SIGTERM now, SIGKILL in that many seconds.
    async fn end(&self, handle: &str, seconds: u32) -> Result<(), Failure> {
        let pod = self.pods().get(handle).cloned();
        if let Some(pod) = &pod {
            pod.asked.store(true, Ordering::SeqCst);
            *pod.grace.lock().unwrap_or_else(PoisonError::into_inner) = Duration::from_secs(seconds.into());
        }
        self.cluster.delete_pod(handle, seconds).await
    }
}
