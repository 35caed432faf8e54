use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::AsyncBufRead;
use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::core::v1::{Event, Node, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{
    Api, ApiResource, AttachParams, AttachedProcess, DeleteParams, DynamicObject, ListParams, LogParams,
    Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::Status;
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::request::{CONTAINER, FINALIZER};
use crate::watch::uneven;

/// How long the API server may take to answer what it answers at once. What it puts off is asked again within that.
const PATIENCE: Duration = Duration::from_secs(20);
/// How many questions are asked at the same time.
const AT_ONCE: usize = 32;
/// How long a command in a container may take.
const COMMAND: Duration = Duration::from_secs(5);
/// How often something is made again that the server has put off, and after how long: longer from time to time.
const TRIES: u32 = 6;
const AGAIN: Duration = Duration::from_millis(100);
/// How many seconds the server keeps a watch open.
const WATCH_SECONDS: u32 = 290;

/// The API server, as one user sees one namespace of it. What is asked goes on in the runtime that this was made in.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    runtime: Handle,
    room: Arc<Semaphore>,
    /// That of those who follow an output, whom a node that is away can keep waiting: nothing else waits for them.
    followers: Arc<Semaphore>,
    pub(crate) namespace: String,
    pub(crate) server: String,
}

/// Why something was not done.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The server has answered, and said no.
    Refused { code: u16, why: String },
    /// It has not answered, or could not.
    Away(String),
    /// Somebody else has changed at the same moment what it had to change, as the count of a quota: it can be asked again at once.
    Conflict(String),
}

impl Failure {
    pub(crate) fn is_missing(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }

    /// Whether a watch has to begin anew.
    pub(crate) fn is_too_old(&self) -> bool {
        matches!(self, Self::Refused { code: 410, .. })
    }

    pub(crate) fn words(&self) -> &str {
        match self {
            Self::Refused { why, .. } | Self::Away(why) | Self::Conflict(why) => why,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Api(status) => Self::from(*status),
            other => Self::Away(chain(&other)),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let Status { code, message, reason, .. } = status;
        let why = if message.is_empty() { format!("{reason} ({code})") } else { message };
        match code {
            429 | 500.. => Self::Away(why),
            409 if reason == "Conflict" => Self::Conflict(why),
            _ => Self::Refused { code, why },
        }
    }
}

/// An error with all that has led to it, each once.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let said = one.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = one.source();
    }
    text
}

/// Which pods are meant.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    /// Those of a label.
    Label(String),
    /// That of a name.
    Name(String),
}

impl Cluster {
    pub(crate) fn new(client: Client, namespace: String, server: String) -> Self {
        let room = || Arc::new(Semaphore::new(AT_ONCE));
        Self { client, runtime: Handle::current(), room: room(), followers: room(), namespace, server }
    }

    /// Connections live in the runtime that they were made in, and are shared.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Failure> {
        self.ask_in(&self.room, question).await
    }

    async fn ask_in<T: Send + 'static>(
        &self,
        room: &Arc<Semaphore>,
        question: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Failure> {
        let (room, server) = (Arc::clone(room), self.server.clone());
        let asked = self.runtime.spawn(async move {
            let _room = room.acquire_owned().await;
            match timeout(PATIENCE, question).await {
                Ok(answer) => answer.map_err(Failure::from),
                Err(_) => Err(Failure::Away(format!("{server} has not answered within {PATIENCE:?}"))),
            }
        });
        asked.await.unwrap_or_else(|error| {
            Err(Failure::Away(format!("the runtime that the launcher was made in has ended: {error}")))
        })
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(crate) async fn version(&self) -> Result<String, Failure> {
        let client = self.client.clone();
        Ok(self.ask(async move { client.apiserver_version().await }).await?.git_version)
    }

    /// Makes an object as it is written. None where there is one of that name: it is that of an earlier try.
    async fn create(&self, kind: ApiResource, object: Value) -> Result<Option<Value>, Failure> {
        let unfit = |error: serde_json::Error| Failure::Refused { code: 0, why: error.to_string() };
        let object: DynamicObject = serde_json::from_value(object).map_err(unfit)?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &self.namespace, &kind);
        let mut tries = 1..TRIES;
        loop {
            let (api, object) = (api.clone(), object.clone());
            let made = self.ask(async move { api.create(&PostParams::default(), &object).await }).await;
            match (made, tries.next()) {
                (Err(Failure::Conflict(_)), Some(at)) => sleep(uneven(AGAIN * at)).await,
                (Ok(made), _) => return Ok(Some(serde_json::to_value(made).map_err(unfit)?)),
                (Err(Failure::Refused { code: 409, .. }), _) => return Ok(None),
                (Err(why), _) => return Err(why),
            }
        }
    }

    pub(crate) async fn create_secret(&self, secret: Value) -> Result<(), Failure> {
        self.create(ApiResource::erase::<Secret>(&()), secret).await.map(drop)
    }

    /// Makes a pod: as the server has it then.
    pub(crate) async fn create_pod(&self, name: &str, pod: Value) -> Result<Pod, Failure> {
        match self.create(ApiResource::erase::<Pod>(&()), pod).await {
            Ok(Some(made)) => {
                serde_json::from_value(made).map_err(|error| Failure::Away(format!("its answer: {error}")))
            }
            Ok(None) => self.pod(name).await,
            // An answer that did not come says nothing of whether it was done.
            Err(Failure::Away(why)) => self.pod(name).await.map_err(|_| Failure::Away(why)),
            Err(why) => Err(why),
        }
    }

    pub(crate) async fn pod(&self, name: &str) -> Result<Pod, Failure> {
        let (pods, name) = (self.pods(), name.to_owned());
        self.ask(async move { pods.get(&name).await }).await
    }

    /// Has a secret go with its pod.
    pub(crate) async fn own_secret(&self, name: &str, pod: &Pod) -> Result<(), Failure> {
        let owner = json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod.metadata.uid});
        let patch = Patch::Merge(json!({"metadata": {"ownerReferences": [owner]}}));
        let (secrets, name) = (self.secrets(), name.to_owned());
        self.ask(async move { secrets.patch(&name, &PatchParams::default(), &patch).await }).await.map(drop)
    }

    /// Has a pod deleted: SIGTERM, and SIGKILL after that many seconds. `Ok` where there is none.
    pub(crate) async fn delete_pod(&self, name: &str, grace: u32) -> Result<(), Failure> {
        let how = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
        let (pods, name) = (self.pods(), name.to_owned());
        or_gone(self.ask(async move { pods.delete(&name, &how).await }).await)
    }

    /// Runs a command in the container of a pod that runs. One that ends its own container may never be heard of again: then this is
    /// given up, and leaves nothing behind.
    pub(crate) async fn command(&self, name: &str, command: Vec<String>) -> Result<(), Failure> {
        let how = AttachParams {
            container: Some(CONTAINER.to_owned()),
            // It has nothing to say; but the server wants to send something.
            stdout: false,
            max_stderr_buf_size: Some(64 << 10),
            ..AttachParams::default()
        };
        let (pods, name) = (self.pods(), name.to_owned());
        let mut running = JoinSet::new();
        let run = async move {
            let mut process = Attached(pods.exec(&name, command, &how).await?);
            let status = process.0.take_status();
            Ok::<_, Error>(match status {
                Some(status) => status.await,
                None => None,
            })
        };
        running.spawn_on(timeout(COMMAND, run), &self.runtime);
        match running.join_next().await {
            Some(Ok(Ok(Ok(Some(status))))) if status.status.as_deref() == Some("Success") => Ok(()),
            Some(Ok(Ok(Ok(Some(status))))) => {
                let why = status.message.or(status.reason).unwrap_or_default();
                Err(Failure::Refused { code: 0, why })
            }
            Some(Ok(Ok(Err(error)))) => Err(Failure::from(error)),
            _ => Err(Failure::Away(format!("a command has not ended within {COMMAND:?}"))),
        }
    }

    /// Nothing keeps the pod any more once it was deleted. `Ok` where there is none.
    pub(crate) async fn release(&self, name: &str) -> Result<(), Failure> {
        let patch =
            Patch::Strategic(json!({"metadata": {"$deleteFromPrimitiveList/finalizers": [FINALIZER]}}));
        let (pods, name) = (self.pods(), name.to_owned());
        or_gone(self.ask(async move { pods.patch(&name, &PatchParams::default(), &patch).await }).await)
    }

    pub(crate) async fn delete_secret(&self, name: &str) -> Result<(), Failure> {
        let (secrets, name) = (self.secrets(), name.to_owned());
        or_gone(self.ask(async move { secrets.delete(&name, &DeleteParams::default()).await }).await)
    }

    /// Takes a pod and its secret away, or the pod's finalizer alone where it is to be kept; fails with what is left, and why.
    pub(crate) async fn take_away(&self, name: &str, keep: bool) -> Result<(), (&'static str, Failure)> {
        self.release(name).await.map_err(|why| ("pod", why))?;
        if !keep {
            self.delete_pod(name, 0).await.map_err(|why| ("pod", why))?;
        }
        self.delete_secret(name).await.map_err(|why| ("secret", why))
    }

    /// All of `which`, and the version of the list.
    pub(crate) async fn pods_of(&self, which: &Which) -> Result<(Vec<Pod>, String), Failure> {
        let how = match which {
            Which::Label(label) => ListParams::default().labels(label),
            Which::Name(name) => ListParams::default().fields(&format!("metadata.name={name}")),
        };
        let pods = self.pods();
        let list = self.ask(async move { pods.list(&how).await }).await?;
        Ok((list.items, list.metadata.resource_version.unwrap_or_default()))
    }

    pub(crate) async fn secrets_of(&self, label: &str) -> Result<Vec<Secret>, Failure> {
        let (secrets, how) = (self.secrets(), ListParams::default().labels(label));
        Ok(self.ask(async move { secrets.list(&how).await }).await?.items)
    }

    pub(crate) async fn nodes(&self) -> Result<Vec<Node>, Failure> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        Ok(self.ask(async move { nodes.list(&ListParams::default()).await }).await?.items)
    }

    pub(crate) async fn events_of(&self, name: &str) -> Result<Vec<Event>, Failure> {
        let events: Api<Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let how = ListParams::default().fields(&format!("involvedObject.name={name}"));
        Ok(self.ask(async move { events.list(&how).await }).await?.items)
    }

    /// What becomes of all of `which` after `version`.
    pub(crate) async fn watch(
        &self,
        which: &Which,
        version: String,
    ) -> Result<BoxStream<'static, Result<WatchEvent<Pod>, Error>>, Failure> {
        let how = WatchParams { timeout: Some(WATCH_SECONDS), bookmarks: true, ..WatchParams::default() };
        let how = match which {
            Which::Label(label) => how.labels(label),
            Which::Name(name) => how.fields(&format!("metadata.name={name}")),
        };
        let pods = self.pods();
        self.ask(async move { Ok(pods.watch(&how, &version).await?.boxed()) }).await
    }

    /// What a proc writes, each line with its time.
    pub(crate) async fn log(
        &self,
        name: &str,
        follow: bool,
        since: Option<Timestamp>,
    ) -> Result<Pin<Box<dyn AsyncBufRead + Send>>, Failure> {
        let how = LogParams {
            container: Some(CONTAINER.to_owned()),
            follow,
            since_time: since,
            timestamps: true,
            ..LogParams::default()
        };
        let (pods, name) = (self.pods(), name.to_owned());
        let room = if follow { &self.followers } else { &self.room };
        self.ask_in(room, async move {
            let log: Pin<Box<dyn AsyncBufRead + Send>> = Box::pin(pods.log_stream(&name, &how).await?);
            Ok(log)
        })
        .await
    }
}

/// Ends the connection to a command when it is dropped.
struct Attached(AttachedProcess);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn or_gone<T>(done: Result<T, Failure>) -> Result<(), Failure> {
    match done {
        Err(why) if !why.is_missing() => Err(why),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_refuses_is_told_in_its_words_and_what_it_cannot_answer_is_asked_again() {
        let forbidden =
            Status::failure("pods is forbidden: User \"a\" cannot create resource \"pods\"", "Forbidden");
        let told = Failure::from(forbidden.with_code(403));
        assert!(matches!(&told, Failure::Refused { code: 403, why } if why.contains("cannot create")));
        let quota = Status::failure("the object has been modified", "Conflict").with_code(409);
        assert!(matches!(Failure::from(quota), Failure::Conflict(_)));
        let exists = Status::failure("", "AlreadyExists").with_code(409);
        assert!(matches!(Failure::from(exists), Failure::Refused { code: 409, .. }));
        for code in [429, 500, 503] {
            assert!(matches!(Failure::from(Status::failure("later", "").with_code(code)), Failure::Away(_)));
        }
        assert!(Failure::from(Status::failure("too old", "Expired").with_code(410)).is_too_old());
        assert!(Failure::from(Status::failure("", "NotFound").with_code(404)).is_missing());
    }
}
