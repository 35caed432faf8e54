use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use procession_actor::WeakProc;
use procession_model::{Head, Packet, PeerNews, ProcId};
use procession_net::{Link, LinkReceiver, LinkSender};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{Acquaintance, Peers};

/// How long after the end of a link its peer's own end is to be told. A peer that has lost only the link answers nothing
/// that went over it.
const TOLD: Duration = Duration::from_secs(5);

/// A link between this proc and another one.
pub(super) struct PeerLink {
    pub(super) sender: LinkSender,
    state: Mutex<State>,
    /// The peer's end was told.
    over: Notify,
}

enum State {
    Read,
    /// All that has come was taken.
    Ended,
    /// The peer has ended, as this says, and what has come is taken first.
    Told(Packet),
}

impl PeerLink {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False where nothing can be sent over it any more.
    pub(super) fn pause(&self, to: &ProcId, from: &ProcId) -> bool {
        let head = Head::Peer { to: to.clone(), from: from.clone(), news: PeerNews::Pause };
        self.sender.post(Packet::bare(head)).is_ok()
    }

    /// The peer has ended: `packet` says so, and is for `proc_` once nothing of the peer's is left to be taken.
    pub(super) fn bury(&self, packet: Packet, proc_: &WeakProc) {
        let at_once = {
            let mut state = self.state();
            match *state {
                State::Read => {
                    *state = State::Told(packet);
                    None
                }
                State::Ended | State::Told(_) => Some(packet),
            }
        };
        if let (Some(packet), Some(proc_)) = (at_once, proc_.upgrade()) {
            proc_.receive(packet);
        }
        // Forks of the peer may have its end of the link, so its own end need not be that of the link.
        self.sender.hang_up();
        self.over.notify_one();
    }
}

impl Peers {
    /// `link` leads to `peer`: what is sent goes there from now on, and what comes there is taken.
    pub(super) fn met(self: Arc<Self>, peer: &ProcId, link: Link) {
        let Link { sender, receiver, .. } = link;
        let link = Arc::new(PeerLink { sender, state: Mutex::new(State::Read), over: Notify::new() });
        let mut ways = self.change();
        // It may have ended meanwhile.
        let Some(way) = ways.get_mut(peer) else { return };
        way.acquaintance = Acquaintance::Linked;
        way.link = Some(Arc::clone(&link));
        let switched = way.switched.subscribe();
        let me = Arc::clone(&self);
        drop(self.runtime.spawn(me.read(peer.clone(), link, receiver, switched)));
        self.switch(peer, way);
    }

    /// Takes what comes from `peer`, each time not before the host has passed on all that was sent through it.
    async fn read(
        self: Arc<Self>,
        peer: ProcId,
        link: Arc<PeerLink>,
        mut receiver: LinkReceiver,
        mut switched: watch::Receiver<u64>,
    ) {
        let mut time = 1;
        while let Some(Ok(packet)) = receiver.recv().await {
            // Of one that has ended before it could say so, what went through the host is lost, and so is what came behind.
            if switched.wait_for(|known| *known >= time).await.is_err() {
                break;
            }
            let Some(proc_) = self.proc_.upgrade() else { return };
            match &packet.head {
                Head::Peer { news: PeerNews::Pause, .. } => {
                    time += 1;
                    self.tell(&peer, PeerNews::Paused);
                }
                Head::Deliver { to, .. } => {
                    if !proc_.knows_actor(&to.name) {
                        self.hear_host().await;
                    }
                    proc_.receive(packet);
                }
                Head::Send { .. } | Head::PortClosed { .. } | Head::Returned { .. } => {
                    proc_.receive(packet);
                }
                head => tracing::warn!(%peer, ?head, "a proc sent what only a host sends; it was dropped"),
            }
        }
        drop(receiver);
        let told = std::mem::replace(&mut *link.state(), State::Ended);
        let Some(proc_) = self.proc_.upgrade() else { return };
        if let State::Told(packet) = told {
            return proc_.receive(packet);
        }
        if let Some(way) = self.change().get_mut(&peer) {
            self.resume(way.leave_link());
        }
        if timeout(TOLD, link.over.notified()).await.is_err() {
            proc_.proc_gone(&peer, &format!("the link to proc {peer} was lost"));
        }
    }
}
