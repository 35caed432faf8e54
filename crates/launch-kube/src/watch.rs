use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Error;
use kube::api::WatchEvent;
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use crate::cluster::{Cluster, Failure, Which};
use crate::stage::{Stage, has_status};

/// After how much silence the server is asked whether it is there, and how long it may take.
const SILENCE: Duration = Duration::from_secs(5);
/// After how much silence the watch is begun anew: that the server answers says nothing of the connection that the watch has.
const STALE: Duration = Duration::from_secs(60);
/// How long it waits when nobody answers, first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// What was last seen of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) pod: Option<Arc<Pod>>,
    /// Since when it has ended.
    pub(crate) ended: Option<Instant>,
    /// Its program was seen to run.
    pub(crate) ran: bool,
    /// There is none any more.
    pub(crate) gone: bool,
    /// Since when it is known that it was deleted.
    pub(crate) deleted: Option<Instant>,
}

impl Seen {
    pub(crate) fn has_ended(&self) -> bool {
        self.gone || self.pod.as_ref().is_some_and(|pod| Stage::of(pod) == Stage::Ended)
    }
}

/// Sees what becomes of pods, all of them by one watch, as long as somebody wants to know.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    pods: Mutex<HashMap<String, watch::Sender<Seen>>>,
    /// Why nothing can be seen now. It is told anew by each try.
    blind: watch::Sender<Option<String>>,
    /// Somebody wants to know of a pod, or does not any more.
    wanted: Notify,
}

/// One pod that somebody wants to know of.
#[derive(Debug)]
pub(crate) struct Following {
    shared: Arc<Shared>,
    name: String,
    seen: watch::Receiver<Seen>,
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<Seen>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, pod: Pod, gone: bool) {
        let pods = self.pods();
        let Some(told) = pod.metadata.name.as_ref().and_then(|name| pods.get(name)) else { return };
        told.send_modify(|seen| {
            seen.deleted =
                seen.deleted.or_else(|| pod.metadata.deletion_timestamp.as_ref().map(|_| Instant::now()));
            if Stage::of(&pod) == Stage::Ended {
                seen.ended.get_or_insert_with(Instant::now);
            }
            seen.ran |= Stage::of(&pod) == Stage::Runs;
            seen.gone = gone;
            // A kubelet that has tidied up may tell less of an end than it has told before.
            if !seen.pod.as_ref().is_some_and(|known| has_status(known)) || has_status(&pod) {
                seen.pod = Some(Arc::new(pod));
            }
        });
    }

    fn has_nobody(&self) -> bool {
        self.pods().is_empty()
    }
}

impl Watch {
    pub(crate) fn new(runtime: &Handle, cluster: Cluster, which: Which) -> Self {
        let shared = Arc::new(Shared {
            pods: Mutex::default(),
            blind: watch::Sender::new(None),
            wanted: Notify::new(),
        });
        let task = runtime.spawn(run(Arc::clone(&shared), cluster, which));
        Self { shared, task }
    }

    /// Follows the pod of that name, which may not be there yet.
    pub(crate) fn follow(&self, name: &str) -> Following {
        let seen = self.shared.pods().entry(name.to_owned()).or_default().subscribe();
        self.shared.wanted.notify_one();
        Following { shared: Arc::clone(&self.shared), name: name.to_owned(), seen }
    }

    /// Why nothing can be seen, as each try tells.
    pub(crate) fn blind(&self) -> watch::Receiver<Option<String>> {
        self.shared.blind.subscribe()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Following {
    pub(crate) fn seen(&self) -> watch::Receiver<Seen> {
        self.seen.clone()
    }

    /// What was learned in another way, where the watch knows nothing yet.
    pub(crate) fn learn(&self, pod: Pod) {
        if self.seen.borrow().pod.is_none() {
            self.shared.saw(pod, false);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shared.pods().remove(&self.name);
        self.shared.wanted.notify_one();
    }
}

async fn run(shared: Arc<Shared>, cluster: Cluster, which: Which) {
    let mut away = BACK_OFF.0;
    loop {
        while shared.has_nobody() {
            // Nobody looks: what was not seen before says nothing of now.
            shared.blind.send_replace(None);
            shared.wanted.notified().await;
        }
        let began = Instant::now();
        let Err(why) = look(&shared, &cluster, &which).await else { continue };
        // What went well for long is no sign of a server that is away.
        if began.elapsed() > BACK_OFF.1 {
            away = BACK_OFF.0;
        }
        if !why.is_too_old() {
            tracing::debug!(why = why.words(), "the watch of pods has broken off");
            shared.blind.send_replace(Some(why.words().to_owned()));
        }
        sleep(uneven(away)).await;
        away = (away * 2).min(BACK_OFF.1);
    }
}

/// Looks at all pods, and then at what becomes of them, until nobody wants to know.
async fn look(shared: &Shared, cluster: &Cluster, which: &Which) -> Result<(), Failure> {
    let (pods, mut version) = cluster.pods_of(which).await?;
    let known: Vec<String> = pods.iter().filter_map(|pod| pod.metadata.name.clone()).collect();
    for pod in pods {
        shared.saw(pod, false);
    }
    missing(shared, cluster, which, &known).await?;
    shared.blind.send_replace(None);
    while !shared.has_nobody() {
        let mut events = cluster.watch(which, version.clone()).await?;
        // When it has said something last, and when the server has.
        let began = Instant::now();
        let (mut heard, mut answered) = (began, began);
        loop {
            let event = tokio::select! {
                event = timeout_at(answered + SILENCE, events.next()) => event,
                () = shared.wanted.notified() => {
                    if shared.has_nobody() {
                        return Ok(());
                    }
                    continue;
                }
            };
            let event = match event {
                Ok(Some(Ok(event))) => event,
                // It goes on where it broke off.
                Ok(None | Some(Err(Error::ReadEvents(_)))) => break,
                Ok(Some(Err(error))) => return Err(Failure::from(error)),
                Err(_) if heard.elapsed() >= STALE => break,
                // It may be a server that is silent, or a way to it.
                Err(_) => {
                    let asked = timeout(SILENCE, cluster.version()).await;
                    asked.unwrap_or_else(|_| {
                        Err(Failure::Away(format!("{} has not answered within {SILENCE:?}", cluster.server)))
                    })?;
                    answered = Instant::now();
                    continue;
                }
            };
            heard = Instant::now();
            answered = heard;
            match event {
                WatchEvent::Added(pod) | WatchEvent::Modified(pod) => {
                    version = pod.metadata.resource_version.clone().unwrap_or(version);
                    shared.saw(pod, false);
                }
                WatchEvent::Deleted(pod) => {
                    version = pod.metadata.resource_version.clone().unwrap_or(version);
                    shared.saw(pod, true);
                }
                WatchEvent::Bookmark(mark) => version = mark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Failure::from(*status)),
            }
        }
        if began.elapsed() < BACK_OFF.0 {
            sleep(uneven(BACK_OFF.0)).await;
        }
    }
    Ok(())
}

/// What was followed and is not in the list was taken away, unless it was made meanwhile.
async fn missing(shared: &Shared, cluster: &Cluster, which: &Which, known: &[String]) -> Result<(), Failure> {
    let followed: Vec<(String, bool)> = {
        let pods = shared.pods();
        pods.iter().map(|(name, told)| (name.clone(), told.borrow().pod.is_some())).collect()
    };
    for (name, was_there) in followed {
        if known.contains(&name) || !(was_there || matches!(which, Which::Name(_))) {
            continue;
        }
        match cluster.pod(&name).await {
            Ok(pod) => shared.saw(pod, false),
            Err(why) if why.is_missing() => {
                if let Some(told) = shared.pods().get(&name) {
                    told.send_modify(|seen| seen.gone = true);
                }
            }
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// A little more or less, so that many launchers do not ask at the same moment.
pub(crate) fn uneven(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause.mul_f64(0.75 + f64::from(nanos % 1000) / 2000.0)
}
