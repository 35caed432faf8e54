use std::time::Duration;

use procession_actor::{Message, Moves, OncePortRef, Proc, Router};
use procession_model::{Head, HostId, Packet, ProcId};
use procession_net::{Link, LinkReceiver, LinkSender};
use tokio::runtime::Handle;
use tokio::time::{sleep, timeout};

/// How long is waited before something is sent again that the peer has no room for.
const PAUSE: Duration = Duration::from_millis(50);

/// A node at one end of a connection, to whose other end all that it sends goes.
#[derive(Clone)]
pub(crate) struct Line {
    pub(super) node: Proc,
    link: LinkSender,
}

/// Everything goes to the other end.
struct Way(LinkSender);

impl Router for Way {
    fn route(&self, _: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.0.post(packet).map_err(|(packet, why)| (packet, why.to_string()))
    }
}

impl Line {
    /// Has to be made inside a runtime.
    pub(super) fn over(link: &Link, name: &str, host: &HostId) -> Self {
        let own = ProcId::fresh(name, host).expect("names of ours are legal");
        let node = Proc::new(own, Handle::current());
        node.set_router(std::sync::Arc::new(Way(link.sender.clone())));
        Self { node, link: link.sender.clone() }
    }

    /// Of a node that has its way out over `link` already.
    pub(crate) fn of(node: &Proc, link: LinkSender) -> Self {
        Self { node: node.clone(), link }
    }

    /// Tells the other end which node this is.
    pub(super) fn introduce(&self) {
        let host = Head::Host { proc_id: self.node.id().clone() };
        let _ends_with_its_reader = self.link.post(Packet::bare(host));
    }

    /// Sends; waits while the other end has no room. False when it cannot be sent.
    pub(super) async fn send(&self, mut packet: Packet) -> bool {
        loop {
            // What is refused though nothing waits is refused for ever.
            let is_idle = self.link.pending_bytes() == 0;
            let Err((back, why)) = self.node.post(packet) else { return true };
            if self.link.is_closed() || is_idle {
                tracing::debug!(head = ?back.head, why, "not sent");
                return false;
            }
            packet = back;
            sleep(PAUSE).await;
        }
    }

    /// Answers, in the same way: an answer is not lost because the other end was slow.
    pub(super) async fn answer<M: Message>(&self, port: OncePortRef<M>, value: M) {
        let held = port.into_held();
        let tag = M::TAG.expect("answers have a wire form").to_owned();
        match value.encode(&mut Moves::new()) {
            Ok(parts) => {
                if held.spend().is_ok() {
                    let head = Head::Send { port: held.port().clone(), tag, ports: Vec::new() };
                    self.send(Packet { head, parts }).await;
                }
            }
            Err(why) => held.close(&why),
        }
    }

    /// Takes what comes until the end of the connection; gives why that came.
    pub(super) async fn attend(&self, receiver: &mut LinkReceiver) -> String {
        loop {
            match receiver.recv().await {
                Some(Ok(packet)) => self.node.receive(packet),
                Some(Err(error)) => return error.to_string(),
                None => return "the other end has closed the connection, or is gone".to_owned(),
            }
        }
    }

    /// As [`Self::attend`], until nothing has come for so long.
    pub(super) async fn attend_within(&self, receiver: &mut LinkReceiver, silence: Duration) -> String {
        loop {
            match timeout(silence, receiver.recv()).await {
                Ok(Some(Ok(packet))) => self.node.receive(packet),
                Ok(Some(Err(error))) => return error.to_string(),
                Ok(None) => return "the other end has closed the connection, or is gone".to_owned(),
                Err(_) => return format!("nothing has come for {silence:?}"),
            }
        }
    }

    /// Nothing comes over it any more, or goes.
    pub(super) fn end(&self, why: &str) {
        self.node.others_gone(why);
        self.node.stop_actors(why);
        self.link.close();
    }

    pub(super) fn link(&self) -> &LinkSender {
        &self.link
    }
}

/// The node that the other end is, which is the first thing that it says.
pub(super) async fn peer(receiver: &mut LinkReceiver) -> Result<ProcId, String> {
    match receiver.recv().await {
        Some(Ok(Packet { head: Head::Host { proc_id }, .. })) => Ok(proc_id),
        Some(Ok(_)) => Err("it does not say who it is: it is no worker, or of another version".to_owned()),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("it has closed the connection; its log says why".to_owned()),
    }
}
