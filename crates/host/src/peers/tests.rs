//! Two procs of one host, which is the test: it passes on what they tell each other when it likes to.

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, OncePortRef, wire_message,
};
use procession_model::{ActorId, HostId};
use procession_net::{Link, LinkReceiver, Peer};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;

/// A port to be kept.
#[derive(Debug, Serialize, Deserialize)]
struct Keep(OncePortRef<u64>);
wire_message!(Keep, "test.keep");

struct Seer {
    seen: mpsc::UnboundedSender<u64>,
    kept: Vec<OncePortRef<u64>>,
}

impl Actor for Seer {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<u64>();
        table.add::<Keep>();
    }
}

impl Handler<u64> for Seer {
    async fn handle(&mut self, _: &Instance<Self>, number: u64) -> Result<(), ActorFailure> {
        Ok(self.seen.send(number)?)
    }
}

impl Handler<Keep> for Seer {
    async fn handle(&mut self, _: &Instance<Self>, Keep(port): Keep) -> Result<(), ActorFailure> {
        self.kept.push(port);
        Ok(self.seen.send(KEPT)?)
    }
}

/// Seen where a port was kept.
const KEPT: u64 = u64::MAX;

struct Side {
    node: Proc,
    peers: Arc<Peers>,
    seen: mpsc::UnboundedReceiver<u64>,
    /// What it has sent through its host, which has not been passed on.
    sent: LinkReceiver,
    held_back: VecDeque<Packet>,
    _open: procession_net::LinkSender,
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it should have come at once")
}

fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).expect("it is ours");
    directory
}

fn two(directory: &tempfile::TempDir) -> [Side; 2] {
    let host = HostId::fresh("test");
    let client = ProcId::fresh("client", &host).expect("a good name");
    let mut ids = ["one", "other"].map(|name| ProcId::fresh(name, &host).expect("a good name"));
    ids.sort_by_key(ProcId::launch_id);
    ids.map(|id| {
        let node = Proc::new(id, Handle::current());
        let (near, far) = tokio::io::duplex(1 << 16);
        let [near, far] = [near, far].map(|end| {
            let (reader, writer) = tokio::io::split(end);
            Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
        });
        let line = Arc::new(Line::new(far.sender, false));
        // As in a proc, where this end is read for as long as it lives.
        let mut unread = far.receiver;
        tokio::spawn(async move { while unread.recv().await.is_some() {} });
        let peers = Peers::new(&node, client.clone(), line, Some(directory.path().to_owned()));
        let router: Arc<Peers> = Arc::clone(&peers);
        node.set_router(router);
        let (tell, seen) = mpsc::unbounded_channel();
        node.spawn("seer", Seer { seen: tell, kept: Vec::new() }).expect("a free name");
        Side { node, peers, seen, sent: near.receiver, held_back: VecDeque::new(), _open: near.sender }
    })
}

impl Side {
    fn seer_of(&self, other: &Side) -> ActorHandle<Seer> {
        ActorHandle::attach(&self.node, ActorId::new(other.node.id().clone(), "seer"))
    }

    fn send(&self, other: &Side, number: u64) {
        self.seer_of(other).send(&self.node.instance(), number).expect("it is on its way");
    }

    async fn sees(&mut self) -> u64 {
        soon(self.seen.recv()).await.expect("the seer lives")
    }

    /// The next packet that goes through the host.
    async fn next(&mut self) -> Packet {
        match self.held_back.pop_front() {
            Some(packet) => packet,
            None => soon(self.sent.recv()).await.expect("it is connected").expect("a good packet"),
        }
    }

    /// Passes the next one on to `other`; gives what it was about a link.
    async fn pass(&mut self, other: &Side) -> Option<PeerNews> {
        let packet = self.next().await;
        match packet.head {
            Head::Peer { from, news, .. } => {
                other.peers.hear(&from, news.clone());
                Some(news)
            }
            _ => {
                other.node.receive(packet);
                None
            }
        }
    }

    /// Sends what makes a link worth its cost, and passes it on, with what it asks for then.
    async fn sends_much(&mut self, other: &mut Side) {
        for number in 0..17 {
            self.send(other, number);
        }
        let mut asked = false;
        for _ in 0..18 {
            asked |= matches!(self.pass(other).await, Some(PeerNews::Asks { .. }));
        }
        assert!(asked);
        for number in 0..17 {
            assert_eq!(other.sees().await, number);
        }
    }
}

/// Both have a link, and have not been told that the other sends over it.
async fn linked(directory: &tempfile::TempDir) -> [Side; 2] {
    let [mut one, mut other] = two(directory);
    one.sends_much(&mut other).await;
    assert!(matches!(other.pass(&one).await, Some(PeerNews::Listens { .. })));
    for side in [&mut one, &mut other] {
        let packet = side.next().await;
        assert!(matches!(packet.head, Head::Peer { news: PeerNews::Switched { time: 1 }, .. }), "{packet:?}");
        side.held_back.push_back(packet);
    }
    [one, other]
}

#[tokio::test]
async fn what_comes_over_a_link_waits_for_what_went_through_the_host_before() {
    let directory = directory();
    let [mut one, mut other] = linked(&directory).await;
    one.send(&other, 100);
    other.send(&one, 200);
    other.pass(&one).await;
    assert_eq!(one.sees().await, 200);
    // So the link is there; and the other way it waits.
    assert!(other.seen.try_recv().is_err());
    one.pass(&other).await;
    assert_eq!(other.sees().await, 100);
}

#[tokio::test]
async fn of_two_that_ask_each_other_for_a_link_one_is_dialled() {
    let directory = directory();
    let [mut one, mut other] = two(&directory);
    for number in 0..17 {
        one.send(&other, number);
        other.send(&one, number);
    }
    for _ in 0..18 {
        one.pass(&other).await;
        other.pass(&one).await;
    }
    // The first by launch has asked, and the second answers.
    assert!(matches!(other.pass(&one).await, Some(PeerNews::Listens { .. })));
    assert!(matches!(one.pass(&other).await, Some(PeerNews::Switched { time: 1 })));
    assert!(matches!(other.pass(&one).await, Some(PeerNews::Switched { time: 1 })));
    one.send(&other, 100);
    other.send(&one, 100);
    for side in [&mut one, &mut other] {
        for number in (0..17).chain([100]) {
            assert_eq!(side.sees().await, number);
        }
    }
}

#[tokio::test]
async fn what_the_host_has_to_know_of_goes_through_it_and_nothing_overtakes_it() {
    let directory = directory();
    let [mut one, mut other] = linked(&directory).await;
    one.pass(&other).await;
    other.pass(&one).await;
    one.send(&other, 1);
    // A port that is not the sender's own.
    let port = PortId::new(other.node.id().clone(), 0);
    let head = Head::Deliver {
        to: ActorId::new(other.node.id().clone(), "seer"),
        from: ActorId::new(one.node.id().clone(), "nobody"),
        tag: "u64".to_owned(),
        ports: vec![port],
        answered: false,
    };
    let two = procession_actor::encode_serde(&2u64, &mut procession_actor::Moves::new()).expect("a number");
    one.node.post(Packet { head, parts: two }).expect("it is on its way");
    one.send(&other, 3);
    assert_eq!(other.sees().await, 1);
    assert!(matches!(other.pass(&one).await, Some(PeerNews::Paused)));
    for number in [2, 3] {
        assert!(one.pass(&other).await.is_none());
        assert_eq!(other.sees().await, number);
    }
}

#[tokio::test]
async fn what_a_proc_has_sent_over_a_link_is_taken_before_its_end_is_told() {
    let directory = directory();
    let [mut one, mut other] = linked(&directory).await;
    one.pass(&other).await;
    other.pass(&one).await;
    let cx = one.node.instance();
    let (port, answer) = cx.mailbox().open_once_port::<u64>();
    one.seer_of(&other).send(&cx, Keep(port.bind())).expect("it is on its way");
    assert_eq!(other.sees().await, KEPT);
    for number in 0..500 {
        other.send(&one, number);
    }
    let link = other.peers.ways().get(one.node.id()).and_then(|way| way.link.clone()).expect("a link");
    link.sender.flushed().await.expect("it is read");
    let head = Head::ProcGone {
        to: one.node.id().clone(),
        proc_id: other.node.id().clone(),
        reason: "killed by signal 9".to_owned(),
    };
    one.peers.gone(Packet::bare(head));
    let error = soon(answer.recv()).await.expect_err("nobody answers");
    assert!(error.to_string().contains("killed by signal 9"), "{error}");
    for number in 0..500 {
        assert_eq!(one.sees().await, number);
    }
    // What is sent now is the host's business.
    one.send(&other, 1);
    assert!(matches!(one.next().await.head, Head::Deliver { .. }));
}

#[tokio::test]
async fn a_message_for_an_actor_that_is_not_known_waits_for_what_the_host_has() {
    let directory = directory();
    let [mut one, mut other] = linked(&directory).await;
    one.pass(&other).await;
    other.pass(&one).await;
    let newer = ActorId::new(other.node.id().clone(), "newer");
    ActorHandle::<Seer>::attach(&one.node, newer).send(&one.node.instance(), 7).expect("it is on its way");
    let echo = other.next().await;
    assert!(matches!(echo.head, Head::Peer { news: PeerNews::Echo { number: 1 }, .. }), "{echo:?}");
    let (tell, mut seen) = mpsc::unbounded_channel();
    other.node.spawn("newer", Seer { seen: tell, kept: Vec::new() }).expect("a free name");
    let Head::Peer { from, news, .. } = echo.head else { return };
    other.peers.hear(&from, news);
    assert_eq!(soon(seen.recv()).await, Some(7));
}

#[tokio::test]
async fn only_who_was_asked_for_is_let_in() {
    let directory = directory();
    let [mut one, mut other] = two(&directory);
    one.sends_much(&mut other).await;
    let Head::Peer { news: PeerNews::Listens { socket }, .. } = other.next().await.head else {
        panic!("it does not listen")
    };
    let address = procession_net::Address::unix(directory.path().join(&socket)).expect("a short path");
    let stranger = procession_net::Dial {
        addresses: vec![address],
        launch: one.node.id().launch_id(),
        token: procession_model::Secret::random(),
        tls: None,
        lease: Duration::ZERO,
    };
    assert!(procession_net::dial(&stranger).await.is_err());
    // And who was, all the same.
    one.peers.hear(other.node.id(), PeerNews::Listens { socket });
    assert!(matches!(one.pass(&other).await, Some(PeerNews::Switched { time: 1 })));
    one.send(&other, 100);
    assert_eq!(other.sees().await, 100);
}

#[tokio::test]
async fn what_waits_for_a_host_that_is_gone_comes_back_and_holds_up_nobody() {
    let directory = directory();
    let [mut one, mut other] = linked(&directory).await;
    one.pass(&other).await;
    other.pass(&one).await;
    let (port, answer) = one.node.mailbox().open_once_port::<u64>();
    // A cancel has to go through the host, and so has what is sent behind it.
    let cancelled = Head::PortCancelled {
        port: PortId::new(one.node.id().clone(), u64::MAX),
        holder: other.node.id().clone(),
    };
    one.node.post(Packet::bare(cancelled)).expect("it waits for the pause to be confirmed");
    one.seer_of(&other).send(&one.node.instance(), Keep(port.bind())).expect("it waits too");
    one.peers.line.link().close();
    let paused = other.next().await;
    let Head::Peer { from, news: news @ PeerNews::Paused, .. } = paused.head else { panic!("{paused:?}") };
    one.peers.hear(&from, news);
    assert!(soon(answer.recv()).await.is_err());
}
