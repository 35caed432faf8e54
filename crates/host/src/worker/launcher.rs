use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use procession_launch::{Admission, Capabilities, LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{DialBack, LaunchOptions, ProcId};
use procession_net::SessionKey;
use tokio::time::timeout;

use super::address::{parse, shown};
use super::connection::Connection;
use super::error::WorkerError;
use super::message::How;
use super::remote::{ANSWER, Remote, Session};
use super::server::WorkerServer;

/// For a worker to hear that its client leaves.
const FAREWELL: Duration = Duration::from_secs(1);

/// How a worker is dialled.
#[derive(Clone, Debug)]
pub struct WorkerDial {
    /// How long that may take.
    pub within: Duration,
    /// How long its connection may be lost before it is over; see [`WorkerServer::LEASE`].
    pub lease: Duration,
    /// Where this machine waits for its procs, `address:port`; none is the address from which the worker is reached.
    pub bind: Option<String>,
    /// What they dial when that differs, `address[:port]`.
    pub advertise: Option<String>,
}

impl Default for WorkerDial {
    fn default() -> Self {
        Self { within: Duration::from_secs(10), lease: WorkerServer::LEASE, bind: None, advertise: None }
    }
}

/// Launches procs on another machine, which a [`WorkerServer`] serves.
///
/// How they end is what their parent there has read from its kernel. With the connection, when that does not come back
/// within its lease, all that it has launched ends there, and is lost here; the next launch dials again.
pub struct WorkerLauncher {
    host: String,
    port: u16,
    name: String,
    key: SessionKey,
    how: WorkerDial,
    connection: Mutex<Arc<Connection>>,
    dialling: tokio::sync::Mutex<()>,
    remote: Remote,
}

impl WorkerLauncher {
    /// Dials the worker at `address`: `HOST:PORT`, `tcp:HOST:PORT` or `tcp://HOST:PORT`. Has to be called inside a runtime
    /// with time and I/O enabled, on which the conversation runs from then on.
    ///
    /// # Errors
    /// Nobody answers there, or whoever does has another key, or another version. The text names the address.
    pub async fn connect(address: &str, key: &SessionKey, how: WorkerDial) -> Result<Arc<Self>, WorkerError> {
        let (host, port) = parse(address)?;
        let connection = Connection::begin(&host, port, key, &how).await?;
        Ok(Arc::new(Self {
            name: format!("worker@{}", shown(&host, port)),
            host,
            port,
            key: key.clone(),
            how,
            connection: Mutex::new(connection),
            dialling: tokio::sync::Mutex::default(),
            remote: Remote::default(),
        }))
    }

    /// Where the worker is: `HOST:PORT`.
    pub fn address(&self) -> String {
        shown(&self.host, self.port)
    }

    /// What runs Python there, if the worker says so.
    pub fn interpreter(&self) -> Option<String> {
        self.now().session.machine.interpreter.clone()
    }

    /// Asks the worker itself to end, which one does that was started to be ended so. With it all ends that anybody has
    /// launched there.
    ///
    /// # Errors
    /// It does not, or cannot be reached.
    pub async fn shut_worker_down(&self) -> Result<(), WorkerError> {
        let shut_down = self.connected().await?.shut_down().await;
        shut_down.map_err(|why| WorkerError::Reach { address: self.address(), why })
    }

    /// Closes the connection, at which all ends that was launched there; the worker knows it when this returns, if it can
    /// be reached.
    pub async fn close(&self) {
        let now = self.now();
        now.close();
        let _unreachable = timeout(FAREWELL, now.session.over()).await;
    }

    fn now(&self) -> Arc<Connection> {
        Arc::clone(&self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is connected; anew where the last connection has ended.
    async fn connected(&self) -> Result<Arc<Session>, WorkerError> {
        let _one_at_a_time = self.dialling.lock().await;
        let now = self.now();
        if now.session.has_ended().is_none() {
            return Ok(Arc::clone(&now.session));
        }
        let next = Connection::begin(&self.host, self.port, &self.key, &self.how).await?;
        *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&next);
        Ok(Arc::clone(&next.session))
    }
}

#[async_trait]
impl ProcLauncher for WorkerLauncher {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> Capabilities {
        let now = self.now();
        let bind = self.how.bind.clone().unwrap_or_else(|| match now.this_side {
            IpAddr::V4(ip) => format!("{ip}:0"),
            IpAddr::V6(ip) => format!("[{ip}]:0"),
        });
        let dial_back = DialBack::Network { bind, advertise: self.how.advertise.clone() };
        Capabilities { dial_back, ..now.session.machine.capabilities() }
    }

    /// The keeper there is the parent, and the key makes sure that it is one.
    fn knows_status_by_parenthood(&self) -> bool {
        true
    }

    async fn admit(&self) -> Result<Admission, ProcLauncherError> {
        Ok(self.remote.admit().await)
    }

    /// Cancel safe: a proc whose launch nobody waits for any more is killed.
    async fn launch(&self, proc_id: &ProcId, opts: LaunchOptions) -> Result<LaunchResult, ProcLauncherError> {
        let now = Some(Arc::clone(&self.now().session));
        let next =
            async { self.connected().await.map_err(|error| ProcLauncherError::Other(error.to_string())) };
        let session = self.remote.session_for(proc_id.launch_id(), now, next).await?;
        self.remote.launch(session, proc_id, opts).await
    }

    /// SIGTERM to the whole tree, once.
    async fn terminate(&self, proc_id: &ProcId, _timeout: Duration) -> Result<(), ProcLauncherError> {
        self.remote.end(proc_id, How::Terminate, ANSWER).await
    }

    /// Returns when nothing of the tree is left.
    async fn kill(&self, proc_id: &ProcId) -> Result<(), ProcLauncherError> {
        self.remote.end(proc_id, How::Kill, ANSWER).await
    }
}

impl Drop for WorkerLauncher {
    fn drop(&mut self) {
        self.now().close();
    }
}

impl fmt::Debug for WorkerLauncher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WorkerLauncher").field(&self.address()).finish()
    }
}
