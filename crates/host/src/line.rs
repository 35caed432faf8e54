#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use procession_actor::{Router, bundle, unbundle};
use procession_model::{ActorId, Head, OwnBoot, Packet, ProcId, cut_reason};
use procession_net::{LinkSender, PostError};

/// How many ends of actors the next host is told of, the last ones.
const ENDS: usize = 1000;

/// A proc's way to its host: one connection, or for a proc that outlives its host one after the other.
pub(crate) struct Line(RwLock<State>);

struct State {
    link: LinkSender,
    /// Told to every host, which has not heard it from the one before.
    booted: Option<OwnBoot>,
    ended: VecDeque<Packet>,
    /// None where there is only one host.
    remembers: bool,
}

impl Line {
    /// `outlives`: there may be another host.
    pub(crate) fn new(link: LinkSender, outlives: bool) -> Self {
        Self(RwLock::new(State { link, booted: None, ended: VecDeque::new(), remembers: outlives }))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn post(&self, packet: Packet) -> Result<(), (Packet, PostError)> {
        self.state().link.post(packet)
    }

    /// The proc is set up.
    pub(crate) fn ready(&self, own_boot: OwnBoot) {
        let mut state = self.change();
        state.booted = Some(own_boot);
        state.say_ready();
    }

    pub(crate) fn actor_ended(&self, actor: &ActorId, failure: Option<&str>) {
        let packet =
            Packet::bare(Head::ActorEnded { actor: actor.clone(), failure: failure.map(cut_reason) });
        let mut state = self.change();
        if state.remembers {
            if state.ended.len() == ENDS {
                state.ended.pop_front();
            }
            state.ended.push_back(packet.clone());
        }
        let _host_gone = state.link.post(packet);
    }

    /// From now on everything goes to another host, which is told first where this proc stands.
    pub(crate) fn renew(&self, link: LinkSender) {
        let mut state = self.change();
        state.link = link;
        for packet in &state.ended {
            let _host_gone = state.link.post(packet.clone());
        }
        state.say_ready();
    }

    /// The connection, to be closed.
    pub(crate) fn link(&self) -> LinkSender {
        self.state().link.clone()
    }
}

impl State {
    fn say_ready(&self) {
        if let Some(own_boot) = self.booted {
            for head in [Head::Booted(own_boot), Head::Ready { pid: std::process::id() }] {
                let _host_gone = self.link.post(Packet::bare(head));
            }
        }
    }
}

/// Everything goes to the host, which knows where it goes from there.
impl Router for Line {
    fn route(&self, _: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.post(packet).map_err(|(packet, why)| (packet, reason(&why)))
    }

    fn route_all(&self, packets: Vec<(ProcId, Packet)>) -> Vec<Result<(), (Packet, String)>> {
        let bundles = bundle(packets.into_iter().map(|(_, packet)| packet).collect());
        let post = |(packet, count)| match self.post(packet) {
            Ok(()) => (0..count).map(|_| Ok(())).collect::<Vec<_>>(),
            Err((packet, why)) => {
                unbundle(packet).into_iter().map(|packet| Err((packet, reason(&why)))).collect()
            }
        };
        bundles.into_iter().flat_map(post).collect()
    }
}

/// Why a packet for the host could not be posted.
pub(crate) fn reason(why: &PostError) -> String {
    match why {
        PostError::Closed => HOST_GONE.to_owned(),
        PostError::Full { .. } => format!("the host is not reading: {why}"),
        refused => refused.to_string(),
    }
}

/// Why nobody else can be reached, or will answer.
pub(crate) const HOST_GONE: &str = "HostGone: the connection to the host was lost";
