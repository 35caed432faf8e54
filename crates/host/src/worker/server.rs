use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_model::{HostId, LaunchId, Secret};
use procession_net::{Crowd, Doorkeeper, Link, Listener, Serving, SessionCa, SessionKey};
use tokio::sync::watch;
use tokio::time::timeout;

use super::address::{parse, shown};
use super::counter::{Counter, FAREWELL};
use super::error::WorkerError;
use super::line::Line;
use super::message::SERVER_NAME;

/// Has this machine launch procs for everybody who has the session key. Each client has a keeper of its own.
///
/// When it is dropped no more clients are taken in; what runs goes on until [`Self::shutdown`], or the end of the process.
pub struct WorkerServer {
    serving: Serving,
    clients: Arc<Clients>,
}

struct Clients {
    host: HostId,
    token: Secret,
    lease: Duration,
    /// Those whose connection has not ended.
    known: Mutex<HashSet<LaunchId>>,
    /// How many have something that runs here, or may have.
    present: watch::Sender<usize>,
    closing: watch::Sender<bool>,
    asked: Option<watch::Sender<bool>>,
    interpreter: Option<String>,
}

struct Door(Arc<Clients>);

impl WorkerServer {
    /// How long a client may be without a connection before what it has launched is ended.
    pub const LEASE: Duration = Duration::from_secs(30);

    /// Serves at `bind`: `HOST:PORT`, `tcp:HOST:PORT` or `tcp://HOST:PORT`, with port 0 for any that is free. Whoever
    /// dials needs `key`, so that an address which everybody can reach is as good as any. With `until_asked` a client
    /// can end it. `interpreter` is what runs Python here, for clients who ask. Has to be called inside a runtime with time and I/O enabled.
    ///
    /// # Errors
    /// The address is none, is none of this machine, or is taken.
    pub async fn listen(
        bind: &str,
        key: &SessionKey,
        lease: Duration,
        until_asked: bool,
        interpreter: Option<String>,
    ) -> Result<Self, WorkerError> {
        let (host, port) = parse(bind)?;
        let ca = SessionCa::from_key(key, SERVER_NAME)?;
        let listener = Listener::tcp(&shown(&host, port), &ca).await?;
        let clients = Arc::new(Clients {
            host: HostId::fresh("worker"),
            token: key.token(),
            lease,
            known: Mutex::default(),
            present: watch::Sender::new(0),
            closing: watch::Sender::new(false),
            asked: until_asked.then(|| watch::Sender::new(false)),
            interpreter,
        });
        let serving = listener.serve(Arc::new(Door(Arc::clone(&clients))), &Crowd::default());
        Ok(Self { serving, clients })
    }

    /// Where it listens, with the port that was bound: `HOST:PORT`.
    pub fn address(&self) -> String {
        let text = self.serving.local_address().to_string();
        text.strip_prefix("tcp:").unwrap_or(&text).to_owned()
    }

    /// Waits until a client has asked for its end, which only one that was started so takes. Cancel safe.
    pub fn asked_to_end(&self) -> impl Future<Output = ()> + Send + use<> {
        let asked = self.clients.asked.as_ref().map(watch::Sender::subscribe);
        async move {
            match asked {
                Some(mut asked) => drop(asked.wait_for(|asked| *asked).await),
                None => std::future::pending().await,
            }
        }
    }

    /// Takes in nobody any more and kills all that was launched; its clients hear of each exit. Returns when nothing is left.
    pub async fn shutdown(self) {
        self.clients.closing.send_replace(true);
        self.serving.stop().await;
        let mut present = self.clients.present.subscribe();
        let _never_closed = present.wait_for(|present| *present == 0).await;
    }
}

impl fmt::Debug for WorkerServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerServer").field(self.serving.local_address()).finish()
    }
}

impl Clients {
    fn known(&self) -> MutexGuard<'_, HashSet<LaunchId>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one client to the end of its connection, or of the server.
    async fn serve(&self, launch: LaunchId, mut link: Link) {
        let line = Line::over(&link, "worker", &self.host);
        let counter = Counter::open(&line, self.interpreter.clone(), self.asked.clone()).await;
        if let Err(why) = &counter.launcher {
            tracing::warn!(client = link.peer.address, why, "a client gets nothing launched");
        }
        line.introduce();
        let mut closing = self.closing.subscribe();
        let ended = tokio::select! {
            why = line.attend(&mut link.receiver) => Some(why),
            _ = closing.wait_for(|closing| *closing) => None,
        };
        if let Some(why) = &ended {
            tracing::info!(client = link.peer.address, why, "a client has gone; what it launched is ended");
        }
        if !counter.kill_all().await {
            tracing::error!(client = link.peer.address, "a process that it launched cannot be killed");
        }
        let is_there = ended.is_none() && link.reachable.as_ref().is_none_or(|reachable| *reachable.borrow());
        if is_there {
            counter.all_told().await;
        }
        line.end("the worker has ended");
        if is_there {
            let _nobody_reads = timeout(FAREWELL, line.link().flushed()).await;
        }
        self.known().remove(&launch);
    }
}

impl Doorkeeper for Door {
    /// Whoever has the key has the token too, whatever launch it calls itself.
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        let is_new = !*self.0.closing.borrow() && !self.0.known().contains(&launch);
        is_new.then(|| self.0.token.clone())
    }

    fn claim(&self, launch: LaunchId) -> bool {
        !*self.0.closing.borrow() && self.0.known().insert(launch)
    }

    fn lease(&self, _: LaunchId) -> Duration {
        self.0.lease
    }

    fn admit(&self, launch: LaunchId, link: Link) {
        /// Counted before anything is started for it, and until nothing of that is left.
        struct Present(Arc<Clients>);
        impl Drop for Present {
            fn drop(&mut self) {
                self.0.present.send_modify(|present| *present -= 1);
            }
        }
        self.0.present.send_modify(|present| *present += 1);
        let present = Present(Arc::clone(&self.0));
        tokio::spawn(async move { present.0.serve(launch, link).await });
    }
}
