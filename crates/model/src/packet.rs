use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{ActorId, OwnBoot, PortId, ProcId, Secret};

/// The tag of a chunk of a proc's standard output, sent to its log channel.
pub const LOG_STDOUT_TAG: &str = "log.stdout";
/// The tag of a chunk of a proc's standard error, sent to its log channel.
pub const LOG_STDERR_TAG: &str = "log.stderr";

/// One message on a connection: a head that says what it is, and payload segments that nobody on
/// the way looks into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// What it is and where it goes.
    pub head: Head,
    /// The payload, in as many segments as the sender made.
    pub parts: Vec<Bytes>,
}

impl Packet {
    /// A packet without payload.
    pub fn bare(head: Head) -> Self {
        Self { head, parts: Vec::new() }
    }
}

/// What a packet is. On the wire every field has to be there, and no other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Head {
    /// A message for an actor.
    Deliver {
        /// Who shall have it.
        to: ActorId,
        /// Who sent it.
        from: ActorId,
        /// The message's type, by which the receiver decodes it.
        tag: String,
        /// The once ports that move with it; `to` becomes their holder.
        ports: Vec<PortId>,
        /// Whether the first of them takes its answer: when nobody waits for that any more, nobody needs the message.
        answered: bool,
    },
    /// The same message for several actors, each as in `Deliver`: one for all who are reached through the same host.
    Cast {
        /// Who sent it.
        from: ActorId,
        /// The message's type.
        tag: String,
        /// Who shall have it.
        to: Vec<Target>,
    },
    /// A value for a port.
    Send {
        /// The port.
        port: PortId,
        /// The value's type.
        tag: String,
        /// The once ports that move with it; the port's process becomes their holder.
        ports: Vec<PortId>,
    },
    /// The holder of a once port can no longer answer.
    PortClosed {
        /// The port.
        port: PortId,
        /// Why.
        reason: String,
    },
    /// A once port has a new holder; sent to its owner before the new holder can run.
    PortMoved {
        /// The port.
        port: PortId,
        /// The process that holds it now.
        holder: ProcId,
    },
    /// Nobody waits for an answer on a once port any more; sent by its owner to its holder, again after each move.
    PortCancelled {
        /// The port.
        port: PortId,
        /// The process that holds it, as far as its owner knows.
        holder: ProcId,
    },
    /// A proc ended; whoever waits for an answer from it waits no longer.
    ProcGone {
        /// Who does.
        to: ProcId,
        /// The proc.
        proc_id: ProcId,
        /// How it ended, in one sentence.
        reason: String,
    },
    /// A message that could not be delivered, on its way back to its sender.
    Returned {
        /// Who should have had it.
        to: ActorId,
        /// Who sent it, and gets it back.
        from: ActorId,
        /// The message's type.
        tag: String,
        /// Why it could not be delivered.
        reason: String,
    },
    /// How long its own part of the boot took; sent by a proc to its host, before it says that it is ready.
    Booted(OwnBoot),
    /// An actor ended; sent by its proc to its host.
    ActorEnded {
        /// The actor.
        actor: ActorId,
        /// Why; none for a regular end.
        #[serde(deserialize_with = "present")]
        failure: Option<String>,
    },
    /// Host to proc, once, first: what to run before anything else (empty: nothing).
    Welcome,
    /// Host to proc, before the welcome of each connection: the node that is its end.
    Host {
        /// The host's own node.
        proc_id: ProcId,
    },
    /// Proc to host: it is a host itself, or leads to one, and whatever is for procs of that goes through it.
    Leads {
        /// The host's id.
        host: String,
    },
    /// Proc to host, on each connection: set up, and able to host actors.
    Ready {
        /// The process that called back, as it sees itself.
        pid: u32,
    },
    /// A launcher's proc to its host: something about a launch that goes on.
    Report {
        /// The launch.
        proc_id: ProcId,
        /// The process, where the launcher learnt one.
        #[serde(deserialize_with = "present")]
        pid: Option<u32>,
        /// The substrate's name for it: a container's id, a job's number.
        #[serde(deserialize_with = "present")]
        handle: Option<String>,
        /// How far the launch is; restarts the ready deadline.
        #[serde(deserialize_with = "present")]
        progress: Option<String>,
    },
    /// A launcher's proc to its host: what a launch runs on cannot be asked. A later report says that it can be again.
    Unreachable {
        /// The launch.
        proc_id: ProcId,
        /// Why.
        why: String,
    },
    /// A launcher's proc to its host: the exit of a launch was reported once more, and refused.
    ReportedAgain {
        /// The launch.
        proc_id: ProcId,
    },
    /// Host to proc: end all actors, then yourself.
    Stop {
        /// Why.
        reason: String,
    },
    /// From one proc to another of the same host, about a link of the two alone.
    Peer {
        /// Who is told.
        to: ProcId,
        /// Who tells.
        from: ProcId,
        /// What.
        news: PeerNews,
    },
}

/// What two procs of one host tell each other about a link of their own. All but `Pause` goes through the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum PeerNews {
    /// It would like one, and dials with this token.
    Asks {
        /// Good once.
        token: Secret,
    },
    /// It waits to be dialled.
    Listens {
        /// The name of its socket, in the directory of their host.
        socket: String,
    },
    /// What it sends from now on goes over the link, for the so manieth time: what comes there waits for this.
    Switched {
        /// From 1.
        time: u64,
    },
    /// Over the link: what follows this goes through the host, once that has been confirmed.
    Pause,
    /// All that came over the link before the pause was taken.
    Paused,
    /// To itself: what the host had for it before this has come.
    Echo {
        /// Which of those that it has sent.
        number: u64,
    },
}

/// One of those who get the same message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Who.
    pub to: ActorId,
    /// The once ports that move to it.
    pub ports: Vec<PortId>,
    /// Whether the first of them takes its answer.
    pub answered: bool,
}

/// An option that has to be there, as nothing if need be: serde alone takes a missing one for none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}
