use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use procession_launch::Report;
use procession_model::{ActorId, HostId, LaunchId};
use procession_net::{Dial, DialCause, DialError, LinkReceiver, SessionCa, SessionKey, dial};
use tokio::sync::watch;
use tokio::time::timeout;

use super::address::{resolved, shown, this_side_of};
use super::error::WorkerError;
use super::launcher::WorkerDial;
use super::line::{Line, peer};
use super::message::{DESK, SERVER_NAME};
use super::remote::Session;

/// A proc whose connection comes back sooner was never gone.
const GAP: Duration = Duration::from_millis(250);

/// One connection to a worker, from its first dial to its end; what was launched over it ends with it.
pub(super) struct Connection {
    pub(super) session: Arc<Session>,
    line: Line,
    /// The address of this machine from which the worker is reached.
    pub(super) this_side: IpAddr,
}

impl Connection {
    /// Dials, proves the key and learns what the worker can do.
    pub(super) async fn begin(
        host: &str,
        port: u16,
        key: &SessionKey,
        how: &WorkerDial,
    ) -> Result<Arc<Self>, WorkerError> {
        let address = shown(host, port);
        let begun = timeout(how.within, Self::reach(host, port, key, how));
        let begun = begun.await.unwrap_or_else(|_| {
            Err(format!(
                "it has not answered within {:?}; check that it is served, and that this address leads to it from here",
                how.within
            ))
        });
        begun.map_err(|why| WorkerError::Reach { address, why })
    }

    async fn reach(host: &str, port: u16, key: &SessionKey, how: &WorkerDial) -> Result<Arc<Self>, String> {
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
        let greeted = Session::greet("worker", shown(host, port), &line.node, ActorId::new(there, DESK));
        let session = tokio::select! {
            greeted = greeted => Arc::new(greeted?),
            why = line.attend(&mut link.receiver) => return Err(why),
        };
        let connection = Arc::new(Self { session, line, this_side });
        let carrying = Arc::clone(&connection).carry(shown(host, port), link.receiver, link.reachable);
        tokio::spawn(carrying);
        Ok(connection)
    }

    async fn carry(
        self: Arc<Self>,
        address: String,
        mut receiver: LinkReceiver,
        reachable: Option<watch::Receiver<bool>>,
    ) {
        let watching = async {
            if let Some(reachable) = reachable {
                self.watch(&address, reachable).await;
            }
            std::future::pending().await
        };
        let why = tokio::select! {
            why = self.line.attend(&mut receiver) => why,
            () = watching => return,
        };
        let reason = format!("host lost: the connection to worker {address} has ended: {why}");
        self.session.end(&reason);
        self.line.end(&reason);
    }

    /// While there is no connection nothing is known of what runs there.
    async fn watch(&self, address: &str, mut reachable: watch::Receiver<bool>) {
        while reachable.wait_for(|reachable| !reachable).await.is_ok() {
            if timeout(GAP, reachable.wait_for(|reachable| *reachable)).await.is_ok() {
                continue;
            }
            self.session.report(&Report::Unreachable(format!("worker {address} cannot be reached")));
            if reachable.wait_for(|reachable| *reachable).await.is_err() {
                return;
            }
            self.session.report(&Report::Reachable);
        }
    }

    /// Closes the connection: what was launched over it ends.
    pub(super) fn close(&self) {
        self.line.link().close();
    }
}

fn with_remedy(error: &DialError) -> String {
    let distrust = |cause: &DialCause| matches!(cause, DialCause::Tls(_) | DialCause::Handshake(_));
    if error.attempts.iter().any(|attempt| distrust(&attempt.cause)) {
        return format!("{error}; both ends need the same session key");
    }
    error.to_string()
}
