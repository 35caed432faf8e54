use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_model::{LaunchId, PeerNews, ProcId, Secret};
use procession_net::{Address, Crowd, Dial, Doorkeeper, Link, Listener, dial};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{Acquaintance, Peers};

/// How long a proc waits to be dialled that was asked for a link.
const WAIT: Duration = Duration::from_secs(10);

impl Peers {
    /// Waits for `peer` at a socket of its own.
    pub(super) async fn listen_for(self: Arc<Self>, peer: ProcId, token: Secret) {
        let (came_tx, came) = oneshot::channel();
        let open = Mutex::new((Some(token), Some(came_tx)));
        let keeper = Arc::new(Doorstep { peer: peer.launch_id(), open });
        // As long as any path of the host's own sockets, which have a directory and a number.
        let socket = format!("{:.16}", LaunchId::fresh().to_string());
        let path = self.directory.as_ref().map(|directory| directory.join(&socket));
        let listener = path.and_then(|path| Listener::unix(path).ok());
        let Some(listener) = listener else { return self.part(&peer) };
        let serving = listener.serve(keeper, &Crowd::default());
        self.tell(&peer, PeerNews::Listens { socket });
        let link = timeout(WAIT, came).await;
        serving.stop().await;
        match link {
            Ok(Ok(link)) => self.met(&peer, link),
            _ => self.part(&peer),
        }
    }

    /// Dials `peer`, which waits for that.
    pub(super) async fn dial(self: Arc<Self>, peer: ProcId, socket: String, token: Secret) {
        let inside = Path::new(&socket).components().count() == 1 && !socket.starts_with('.');
        let path = self.directory.as_ref().filter(|_| inside).map(|directory| directory.join(&socket));
        let Some(Ok(address)) = path.map(Address::unix) else { return self.part(&peer) };
        let (addresses, launch) = (vec![address], self.own.launch_id());
        match dial(&Dial { addresses, launch, token, tls: None, lease: Duration::ZERO }).await {
            Ok(link) => self.met(&peer, link),
            Err(error) => {
                tracing::debug!(%peer, %error, "there is no link of two procs; they go on through their host");
                self.part(&peer);
            }
        }
    }

    /// There will be no link.
    fn part(&self, peer: &ProcId) {
        if let Some(way) = self.change().get_mut(peer) {
            way.acquaintance = Acquaintance::Never;
        }
    }
}

/// Lets in the one that is waited for.
struct Doorstep {
    peer: LaunchId,
    /// The token until it is used, and who waits for the link.
    open: Mutex<(Option<Secret>, Option<oneshot::Sender<Link>>)>,
}

impl Doorstep {
    fn open(&self) -> MutexGuard<'_, (Option<Secret>, Option<oneshot::Sender<Link>>)> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Doorkeeper for Doorstep {
    fn token(&self, launch: LaunchId) -> Option<Secret> {
        self.open().0.clone().filter(|_| launch == self.peer)
    }

    fn claim(&self, launch: LaunchId) -> bool {
        launch == self.peer && self.open().0.take().is_some()
    }

    fn lease(&self, _launch: LaunchId) -> Duration {
        Duration::ZERO
    }

    fn admit(&self, _launch: LaunchId, link: Link) {
        if let Some(came) = self.open().1.take() {
            let _given_up = came.send(link);
        }
    }
}
