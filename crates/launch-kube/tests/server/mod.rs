//! The part of an API server that a launcher speaks with, which can fail as no real one can be told to.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// What was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) method: String,
    /// With all behind the `?`.
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Asked {
    /// Of a kind of objects: `pods`; and of the one of that name.
    fn of(&self) -> (&str, Option<&str>) {
        let path = self.path.split('?').next().unwrap_or_default();
        let mut parts = path.strip_prefix("/api/v1/namespaces/default/").unwrap_or_default().split('/');
        (parts.next().unwrap_or_default(), parts.next())
    }

    pub(crate) fn is(&self, method: &str, kind: &str) -> bool {
        self.method == method && self.of().0 == kind
    }
}

/// What a test has a server do in the place of what it would do.
pub(crate) enum Fails {
    /// This status and reason, with further lines of its head.
    With(u16, &'static str, &'static str),
    /// No answer, as long as this side lives.
    Hangs,
    /// Of a watch: this one event, and its end.
    Event(Value),
}

type Rule = Box<dyn FnMut(&Asked) -> Option<Fails> + Send>;

#[derive(Default)]
struct State {
    objects: BTreeMap<(String, String), Value>,
    /// What became of pods, with the version of each.
    events: Vec<(usize, Value)>,
    asked: Vec<Asked>,
    rule: Option<Rule>,
}

/// One server on the loopback; it ends when it is dropped.
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<()>,
    open: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
    _dir: tempfile::TempDir,
    pub(crate) kubeconfig: PathBuf,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let dir = tempfile::tempdir().expect("a directory");
        let kubeconfig = dir.path().join("config");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "c", "user": {"token": "t"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c", "namespace": "default"}}]});
        fs::write(&kubeconfig, config.to_string()).expect("a file");
        let (state, open) = (Arc::<Mutex<State>>::default(), Arc::<AtomicUsize>::default());
        let (changed, mut serving) = (watch::Sender::new(()), JoinSet::new());
        let (all, counted, changes) = (Arc::clone(&state), Arc::clone(&open), changed.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (all, counted, changes) = (Arc::clone(&all), Arc::clone(&counted), changes.clone());
                connections.spawn(async move {
                    counted.fetch_add(1, Ordering::SeqCst);
                    let _it_may_go_at_any_moment = serve(stream, &all, changes).await;
                    counted.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { state, changed, open, _serving: serving, _dir: dir, kubeconfig }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fails(&self, rule: impl FnMut(&Asked) -> Option<Fails> + Send + 'static) {
        self.state().rule = Some(Box::new(rule));
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// All that was asked of that kind.
    pub(crate) fn asked(&self, method: &str, kind: &str) -> Vec<Asked> {
        self.state().asked.iter().filter(|asked| asked.is(method, kind)).cloned().collect()
    }

    pub(crate) fn all(&self, kind: &str) -> Vec<Value> {
        let state = self.state();
        state.objects.iter().filter(|((of, _), _)| of == kind).map(|(_, object)| object.clone()).collect()
    }

    /// The first pod, once there is one.
    pub(crate) async fn pod(&self) -> Value {
        until("a pod is made", || self.all("pods").pop()).await
    }

    /// Merges that into each pod, as its node or somebody else would do.
    pub(crate) async fn change(&self, change: Value) {
        self.pod().await;
        for mut pod in self.all("pods") {
            merge(&mut pod, &change);
            put(&mut self.state(), &self.changed, pod);
        }
    }
}

/// Waits until something is there.
pub(crate) async fn until<T>(what: &str, look: impl Fn() -> Option<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, change) => *into = change.clone(),
    }
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

fn put(state: &mut State, changed: &watch::Sender<()>, mut pod: Value) {
    let version = state.events.len() + 1;
    pod["metadata"]["resourceVersion"] = json!(version.to_string());
    state.objects.insert(("pods".to_owned(), name(&pod)), pod.clone());
    state.events.push((version, json!({"type": "MODIFIED", "object": pod})));
    changed.send_replace(());
}

/// What is deleted stays as long as something keeps it.
fn remove(state: &mut State, changed: &watch::Sender<()>, key: &(String, String)) {
    let Some(object) = state.objects.remove(key) else { return };
    if key.0 != "pods" {
        return;
    }
    if object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty()) {
        let mut object = object;
        object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        return put(state, changed, object);
    }
    let version = state.events.len() + 1;
    state.events.push((version, json!({"type": "DELETED", "object": object})));
    changed.send_replace(());
}

fn refused(code: u16, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": format!("the server says {reason}"), "code": code})
}

/// What a server does that does not fail.
fn answer(state: &mut State, changed: &watch::Sender<()>, asked: &Asked) -> (u16, Value) {
    let (kind, named) = asked.of();
    let missing = || (404, refused(404, "NotFound"));
    if asked.path == "/version" {
        let version = json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "", "goVersion": "", "compiler": "", "platform": ""});
        return (200, version);
    }
    let key = (kind.to_owned(), named.unwrap_or_default().to_owned());
    match (asked.method.as_str(), named) {
        ("GET", None) => {
            let all = state.objects.iter().filter(|((of, name), _)| {
                of == kind
                    && asked
                        .path
                        .split_once("metadata.name%3D")
                        .is_none_or(|(_, wanted)| wanted.contains(name))
            });
            let items: Vec<_> = all.map(|(_, object)| object.clone()).collect();
            let meta = json!({"resourceVersion": state.events.len().to_string()});
            (200, json!({"kind": "List", "apiVersion": "v1", "metadata": meta, "items": items}))
        }
        ("POST", None) => {
            let key = (kind.to_owned(), name(&asked.body));
            if state.objects.contains_key(&key) {
                return (409, refused(409, "AlreadyExists"));
            }
            let mut object = asked.body.clone();
            object["metadata"]["uid"] = json!("u");
            if kind == "pods" {
                put(state, changed, object);
            } else {
                state.objects.insert(key.clone(), object);
            }
            (201, state.objects[&key].clone())
        }
        ("GET", Some(_)) => state.objects.get(&key).map_or_else(missing, |object| (200, object.clone())),
        ("PATCH", Some(_)) => {
            let Some(object) = state.objects.get_mut(&key) else { return missing() };
            if asked.body["metadata"].get("$deleteFromPrimitiveList/finalizers").is_some() {
                object["metadata"]["finalizers"] = json!([]);
            }
            (200, object.clone())
        }
        ("DELETE", Some(_)) if state.objects.contains_key(&key) => {
            remove(state, changed, &key);
            (200, json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}))
        }
        _ => missing(),
    }
}

async fn serve(stream: TcpStream, all: &Mutex<State>, changed: watch::Sender<()>) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let Some(asked) = read(&mut reader).await? else { return Ok(()) };
        let fails = {
            let mut state = all.lock().unwrap_or_else(PoisonError::into_inner);
            state.asked.push(asked.clone());
            state.rule.as_mut().and_then(|rule| rule(&asked))
        };
        let (code, head, body) = match fails {
            Some(Fails::Hangs) => {
                reader.read_to_end(&mut Vec::new()).await?;
                return Ok(());
            }
            Some(Fails::With(code, reason, head)) => (code, head, refused(code, reason)),
            Some(Fails::Event(event)) => {
                let line = format!("{event}\n");
                writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
                return writer.write_all(format!("{:x}\r\n{line}\r\n0\r\n\r\n", line.len()).as_bytes()).await;
            }
            None if asked.path.contains("watch=true") => {
                return tell(&asked, &mut reader, writer, all, changed).await;
            }
            None => {
                let mut state = all.lock().unwrap_or_else(PoisonError::into_inner);
                let (code, body) = answer(&mut state, &changed, &asked);
                (code, "", body)
            }
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {code} Said\r\n{head}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        writer.write_all(format!("{head}{body}").as_bytes()).await?;
    }
}

async fn read(reader: &mut (impl AsyncBufReadExt + Unpin)) -> std::io::Result<Option<Asked>> {
    let (mut lines, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        let line = field(line.trim());
        if line.is_empty() {
            break;
        }
        if let Some(given) = line.strip_prefix("content-length:") {
            length = given.trim().parse().unwrap_or(0);
        }
        lines.push(line);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await?;
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(Some(Asked { method, path, body: serde_json::from_slice(&body).unwrap_or_default() }))
}

/// The name of a field of the head in small letters; the first line stays as it is.
fn field(line: &str) -> String {
    match line.split_once(": ") {
        Some((name, value)) => format!("{}: {value}", name.to_ascii_lowercase()),
        None => line.to_owned(),
    }
}

/// A watch, until the other side goes.
async fn tell(
    asked: &Asked,
    reader: &mut (impl AsyncReadExt + Unpin),
    mut writer: impl AsyncWriteExt + Unpin,
    all: &Mutex<State>,
    changed: watch::Sender<()>,
) -> std::io::Result<()> {
    let mut seen = changed.subscribe();
    let since =
        asked.path.split("resourceVersion=").nth(1).and_then(|text| text.split('&').next()?.parse().ok());
    let mut since: usize = since.unwrap_or(0);
    writer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
    loop {
        let new: Vec<_> = {
            let state = all.lock().unwrap_or_else(PoisonError::into_inner);
            state.events.iter().filter(|(version, _)| *version > since).cloned().collect()
        };
        for (version, event) in new {
            let line = format!("{event}\n");
            writer.write_all(format!("{:x}\r\n{line}\r\n", line.len()).as_bytes()).await?;
            since = version;
        }
        let mut nothing = [0];
        tokio::select! {
            _ = seen.changed() => {}
            _ = reader.read(&mut nothing) => return Ok(()),
        }
    }
}
