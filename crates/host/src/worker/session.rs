use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_actor::{ActorHandle, MailboxError, OncePortReceiver};
use procession_model::{ActorId, HostId, LaunchId, ProcId};
use procession_net::{Dial, DialCause, DialError, LinkReceiver, SessionCa, SessionKey, dial};
use tokio::sync::watch;
use tokio::time::timeout;

use super::address::{resolved, shown, this_side_of};
use super::desk::Desk;
use super::error::WorkerError;
use super::launcher::{Hears, WorkerDial};
use super::line::{Line, peer};
use super::message::{DESK, Done, End, Greet, How, Machine, SERVER_NAME, Undone};

/// A proc whose connection comes back sooner was never gone.
const GAP: Duration = Duration::from_millis(250);

/// One connection to a worker, from its first dial to its end; what was launched over it ends with it.
pub(super) struct Session {
    pub(super) line: Line,
    pub(super) desk: ActorHandle<Desk>,
    pub(super) machine: Machine,
    /// The address of this machine from which the worker is reached.
    pub(super) this_side: IpAddr,
    /// What runs there.
    live: Mutex<HashSet<ProcId>>,
    /// Why it has ended.
    ended: watch::Sender<Option<String>>,
}

impl Session {
    /// Dials, proves the key and learns what the worker can do.
    pub(super) async fn begin(
        host: &str,
        port: u16,
        key: &SessionKey,
        how: &WorkerDial,
        hears: Arc<Hears>,
    ) -> Result<Arc<Self>, WorkerError> {
        let address = shown(host, port);
        let begun = timeout(how.within, Self::reach(host, port, key, how, hears));
        let begun = begun.await.unwrap_or_else(|_| {
            Err(format!(
                "it has not answered within {:?}; check that it is served, and that this address leads to it from here",
                how.within
            ))
        });
        begun.map_err(|why| WorkerError::Reach { address, why })
    }

    async fn reach(
        host: &str,
        port: u16,
        key: &SessionKey,
        how: &WorkerDial,
        hears: Arc<Hears>,
    ) -> Result<Arc<Self>, String> {
        let addresses = resolved(host, port).await.map_err(|error| {
            format!("its name cannot be looked up: {error}; check how it is spelled, or give an IP address")
        })?;
        let ca = SessionCa::from_key(key, SERVER_NAME).map_err(|error| error.to_string())?;
        let launch = LaunchId::fresh();
        let tls = Some(ca.issue(launch).map_err(|error| error.to_string())?);
        let to = Dial { addresses, launch, token: key.token(), tls, lease: how.lease };
        let mut link = dial(&to).await.map_err(|error| with_remedy(&error))?;
        let this_side = this_side_of(&link.peer.address).await.map_err(|error| error.to_string())?;
        let line = Line::over(&link, "client", &HostId::fresh("client"));
        let there = peer(&mut link.receiver).await?;
        let desk = ActorHandle::attach(&line.node, ActorId::new(there, DESK));
        let (answer, greeting) = line.node.mailbox().open_once_port();
        desk.send(&line.node.instance(), Greet(answer.bind())).map_err(|error| error.to_string())?;
        let greeting = tokio::select! {
            greeting = greeting.recv() => greeting.map_err(|error| error.to_string())?,
            why = line.attend(&mut link.receiver) => return Err(why),
        };
        let ours = env!("CARGO_PKG_VERSION");
        if greeting.version != ours {
            let theirs = greeting.version;
            return Err(format!(
                "it runs version {theirs}, and this is {ours}; install the same at both ends"
            ));
        }
        let session = Arc::new(Self {
            line,
            desk,
            machine: greeting.machine?,
            this_side,
            live: Mutex::default(),
            ended: watch::Sender::new(None),
        });
        tokio::spawn(Arc::clone(&session).carry(shown(host, port), link.receiver, link.reachable, hears));
        Ok(session)
    }

    async fn carry(
        self: Arc<Self>,
        address: String,
        mut receiver: LinkReceiver,
        reachable: Option<watch::Receiver<bool>>,
        hears: Arc<Hears>,
    ) {
        let watching = async {
            if let Some(reachable) = reachable {
                self.watch(&address, reachable, &hears).await;
            }
            std::future::pending().await
        };
        let why = tokio::select! {
            why = self.line.attend(&mut receiver) => why,
            () = watching => return,
        };
        let reason = format!("host lost: the connection to worker {address} has ended: {why}");
        self.ended.send_replace(Some(reason.clone()));
        self.line.end(&reason);
    }

    /// While there is no connection nothing is known of what runs there.
    async fn watch(&self, address: &str, mut reachable: watch::Receiver<bool>, hears: &Hears) {
        while reachable.wait_for(|reachable| !reachable).await.is_ok() {
            if timeout(GAP, reachable.wait_for(|reachable| *reachable)).await.is_ok() {
                continue;
            }
            let unknown: Vec<ProcId> = self.live().iter().cloned().collect();
            for proc_id in &unknown {
                hears.unreachable(proc_id, Some(format!("worker {address} cannot be reached")));
            }
            if reachable.wait_for(|reachable| *reachable).await.is_err() {
                return;
            }
            unknown.iter().for_each(|proc_id| hears.unreachable(proc_id, None));
        }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, HashSet<ProcId>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it has ended, if it has.
    pub(super) fn has_ended(&self) -> Option<String> {
        self.ended.borrow().clone()
    }

    /// Asks for the end of a proc, with the answer.
    pub(super) fn ask(&self, proc_id: &ProcId, how: How) -> Result<OncePortReceiver<Done>, String> {
        let (done, answer) = self.line.node.mailbox().open_once_port();
        let end = End { proc_id: proc_id.clone(), how, done: done.bind() };
        self.desk.send(&self.line.node.instance(), end).map_err(|error| error.to_string())?;
        Ok(answer)
    }

    /// What an answer comes to; that the session has ended means that the proc has too.
    pub(super) fn settled(&self, answer: Result<Done, MailboxError>) -> Result<(), Undone> {
        match answer {
            Ok(Done(done)) => done,
            Err(MailboxError::Closed(_)) if self.has_ended().is_some() => Ok(()),
            Err(error) => Err(Undone::Failed(error.to_string())),
        }
    }

    /// Closes the connection: what was launched over it ends.
    pub(super) fn close(&self) {
        self.line.link().close();
    }

    /// Waits until the worker knows that.
    pub(super) async fn closed(&self) {
        let mut ended = self.ended.subscribe();
        let _never_closed = ended.wait_for(Option::is_some).await;
    }
}

fn with_remedy(error: &DialError) -> String {
    let distrust = |cause: &DialCause| matches!(cause, DialCause::Tls(_) | DialCause::Handshake(_));
    if error.attempts.iter().any(|attempt| distrust(&attempt.cause)) {
        return format!("{error}; both ends need the same session key");
    }
    error.to_string()
}
