use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use procession_model::{Head, Packet, Secret};
use tokio::sync::watch;

use super::link::PeerLink;

/// How many packets go to one proc before a link is worth what it costs.
const OFTEN: u32 = 16;
/// How many bytes may wait for a pause to be confirmed.
const MOST_WAITING: usize = 64 << 20;

/// How well the other proc is known.
#[derive(Default)]
pub(super) enum Acquaintance {
    #[default]
    Stranger,
    /// It was asked for a link, and told this token.
    Asked(Secret),
    /// One of both is dialling.
    Expected,
    Linked,
    /// It cannot be linked to, or no more.
    Never,
}

/// Where packets go at the moment.
pub(super) enum Course {
    /// To the host: so many.
    Host(AtomicU32),
    /// Over the link.
    Direct,
    /// The peer has not said yet that it has taken what came over the link.
    Pausing(Waiting),
}

/// What waits for that.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) packets: Vec<Packet>,
    bytes: usize,
}

impl Waiting {
    /// Gives the packet back when too much waits already. As of a link, what only keeps the books is always taken.
    #[expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]
    pub(super) fn put(&mut self, packet: Packet) -> Result<(), Packet> {
        if matches!(packet.head, Head::Deliver { .. } | Head::Send { .. }) && self.bytes >= MOST_WAITING {
            return Err(packet);
        }
        self.bytes += packet.parts.iter().map(bytes::Bytes::len).sum::<usize>();
        self.packets.push(packet);
        Ok(())
    }
}

impl Default for Course {
    fn default() -> Self {
        Self::Host(AtomicU32::new(0))
    }
}

/// The way to one other proc of the same host.
#[derive(Default)]
pub(super) struct Way {
    pub(super) acquaintance: Acquaintance,
    pub(super) course: Course,
    /// Kept until the other has ended, also when nothing goes over it any more.
    pub(super) link: Option<Arc<PeerLink>>,
    /// How often its course went over to the link.
    pub(super) times: u64,
    /// How often that of the other did, as far as is known here.
    pub(super) switched: watch::Sender<u64>,
}

impl Way {
    /// One more; whether they have become many just now.
    pub(super) fn count(&self) -> bool {
        match &self.course {
            Course::Host(sent) => sent.fetch_add(1, Ordering::Relaxed) + 1 == OFTEN,
            Course::Direct | Course::Pausing(_) => false,
        }
    }

    /// Nothing would be lost with it but a number.
    pub(super) fn is_only_counted(&self) -> bool {
        matches!(self.acquaintance, Acquaintance::Stranger)
    }

    /// A token to ask with.
    pub(super) fn ask(&mut self) -> Secret {
        let token = Secret::random();
        self.acquaintance = Acquaintance::Asked(token.clone());
        token
    }

    /// Whether the other, which asks for a link, is to get one. Where both ask, one of them goes on, which has the
    /// `first` say.
    pub(super) fn is_to_answer(&self, first: bool) -> bool {
        match self.acquaintance {
            Acquaintance::Stranger => true,
            Acquaintance::Asked(_) => !first,
            Acquaintance::Expected | Acquaintance::Linked | Acquaintance::Never => false,
        }
    }

    /// The token that was asked with, now that this was answered.
    pub(super) fn answered(&mut self) -> Option<Secret> {
        match std::mem::replace(&mut self.acquaintance, Acquaintance::Expected) {
            Acquaintance::Asked(token) => Some(token),
            other => {
                self.acquaintance = other;
                None
            }
        }
    }

    /// Nothing goes over the link any more, and there will be no other. Gives what has waited to.
    pub(super) fn leave_link(&mut self) -> Vec<Packet> {
        self.acquaintance = Acquaintance::Never;
        self.go_through_host()
    }

    /// Gives what has waited for that.
    pub(super) fn go_through_host(&mut self) -> Vec<Packet> {
        match std::mem::take(&mut self.course) {
            Course::Pausing(waiting) => waiting.packets,
            Course::Host(_) | Course::Direct => Vec::new(),
        }
    }
}
