//! Several hubs in one process, with links in memory between them.

use std::sync::Arc;
use std::time::Duration;

use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, MailboxError, OncePortReceiver,
    OncePortRef, Returned, wire_message,
};
use procession_model::ActorId;
use procession_net::{Link, Peer};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::line::Line;

/// A port to be kept until it is answered or passed on.
#[derive(Debug, Serialize, Deserialize)]
struct Keep(OncePortRef<u64>);
wire_message!(Keep, "test.keep");

/// Answer what is kept.
#[derive(Debug, Serialize, Deserialize)]
struct Answer(u64);
wire_message!(Answer, "test.answer");

/// Send what is kept to that actor.
#[derive(Debug, Serialize, Deserialize)]
struct PassOn(ActorId);
wire_message!(PassOn, "test.pass_on");

/// What a keeper tells its test.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Kept,
    Back(String),
}

struct Keeper {
    kept: Vec<OncePortRef<u64>>,
    tell: mpsc::UnboundedSender<Told>,
}

impl Actor for Keeper {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Keep>();
        table.add::<Answer>();
        table.add::<PassOn>();
    }

    async fn undelivered(&mut self, _: &Instance<Self>, returned: Returned) {
        self.tell.send(Told::Back(returned.reason)).expect("the test listens");
    }
}

impl Handler<Keep> for Keeper {
    async fn handle(&mut self, _: &Instance<Self>, Keep(port): Keep) -> Result<(), ActorFailure> {
        self.kept.push(port);
        self.tell.send(Told::Kept).expect("the test listens");
        Ok(())
    }
}

impl Handler<Answer> for Keeper {
    async fn handle(&mut self, cx: &Instance<Self>, Answer(value): Answer) -> Result<(), ActorFailure> {
        for port in self.kept.drain(..) {
            port.send(cx, value).expect("its owner is there");
        }
        Ok(())
    }
}

impl Handler<PassOn> for Keeper {
    async fn handle(&mut self, cx: &Instance<Self>, PassOn(to): PassOn) -> Result<(), ActorFailure> {
        let to = ActorHandle::<Self>::attach(cx.proc_(), to);
        for port in self.kept.drain(..) {
            to.send(cx, Keep(port)).expect("it is on its way");
        }
        Ok(())
    }
}

/// A host, with its own node.
struct Side {
    hub: Arc<Hub>,
    node: Proc,
    host: HostId,
    /// The kinds of the packets that came from above.
    came: Arc<Mutex<Vec<String>>>,
}

/// A process with a keeper in it.
struct Leaf {
    node: Proc,
    keeper: ActorHandle<Keeper>,
    told: mpsc::UnboundedReceiver<Told>,
}

impl Leaf {
    async fn hears(&mut self) -> Told {
        soon(self.told.recv()).await.expect("the keeper lives")
    }

    /// Gives a port of its own to `to`.
    fn lend(&self, to: &Leaf) -> OncePortReceiver<u64> {
        let cx = self.node.instance();
        let (port, answer) = cx.mailbox().open_once_port();
        ActorHandle::<Keeper>::attach(&self.node, to.keeper.id().clone())
            .send(&cx, Keep(port.bind()))
            .expect("it is on its way");
        answer
    }

    /// Has `whom` do something, from here.
    fn tell<M: procession_actor::Message>(&self, whom: &Leaf, message: M)
    where
        Keeper: Handler<M>,
    {
        let whom = ActorHandle::<Keeper>::attach(&self.node, whom.keeper.id().clone());
        assert!(whom.send(&self.node.instance(), message).is_ok());
    }
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it should have come at once")
}

fn ends() -> [Link; 2] {
    let (near, far) = tokio::io::duplex(1 << 16);
    [near, far].map(|end| {
        let (reader, writer) = tokio::io::split(end);
        Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
    })
}

fn side(id: ProcId, host: HostId) -> Side {
    let node = Proc::new(id.clone(), Handle::current());
    let hub = Arc::new(Hub::new(id, host.clone()));
    hub.set_proc(&node);
    let router: Arc<Hub> = Arc::clone(&hub);
    node.set_router(router);
    Side { hub, node, host, came: Arc::default() }
}

fn root() -> Side {
    let host = HostId::fresh("root");
    side(ProcId::fresh("client", &host).expect("a good name"), host)
}

/// Reads for `hub` what comes from `from`, which may lead to other hosts.
fn read(hub: &Arc<Hub>, from: &ProcId, link: Link) {
    let (hub, from) = (Arc::clone(hub), from.clone());
    tokio::spawn(async move {
        let Link { sender, mut receiver, .. } = link;
        while let Some(Ok(packet)) = receiver.recv().await {
            match packet.head {
                Head::Leads { host } => hub.leads_to(&from, sender.clone(), host),
                _ => hub.forward(packet, Some(&from)),
            }
        }
    });
}

impl Side {
    /// Another host, below this one.
    fn below(&self, name: &str) -> Side {
        let id = ProcId::fresh(name, &self.host).expect("a good name");
        let below = side(id.clone(), HostId::fresh(name));
        let [near, far] = ends();
        self.hub.add(&id);
        self.hub.linked(&id, near.sender.clone());
        self.hub.up(&id, near.sender.clone());
        read(&self.hub, &id, near);
        below.hub.belongs_to(Arc::new(Line::new(far.sender, false)));
        let hub = Arc::clone(&below.hub);
        let (mut receiver, came) = (far.receiver, Arc::clone(&below.came));
        tokio::spawn(async move {
            while let Some(Ok(packet)) = receiver.recv().await {
                let kind = format!("{:?}", packet.head).split_whitespace().next().map(str::to_owned);
                came.lock().expect("nobody panics").extend(kind);
                hub.forward(packet, None);
            }
        });
        below
    }

    /// A proc of this host.
    fn leaf(&self, name: &str) -> Leaf {
        let id = ProcId::fresh(name, &self.host).expect("a good name");
        let node = Proc::new(id.clone(), Handle::current());
        let [near, far] = ends();
        self.hub.add(&id);
        self.hub.up(&id, near.sender.clone());
        read(&self.hub, &id, near);
        node.set_router(Arc::new(Line::new(far.sender, false)));
        let (mine, mut receiver) = (node.clone(), far.receiver);
        tokio::spawn(async move {
            while let Some(Ok(packet)) = receiver.recv().await {
                mine.receive(packet);
            }
        });
        let (tell, told) = mpsc::unbounded_channel();
        let keeper = node.spawn("keeper", Keeper { kept: Vec::new(), tell }).expect("a free name");
        Leaf { node, keeper, told }
    }

    fn kill(&self, leaf: &Leaf) {
        self.hub.gone(leaf.node.id(), "killed by signal 9");
    }
}

fn why(answer: Result<u64, MailboxError>) -> String {
    answer.expect_err("nobody can answer").to_string()
}

#[tokio::test]
async fn a_port_of_a_proc_on_one_host_is_answered_from_another() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let (owner, mut holder) = (east.leaf("owner"), west.leaf("holder"));
    let answer = owner.lend(&holder);
    assert_eq!(holder.hears().await, Told::Kept);
    owner.tell(&holder, Answer(7));
    assert_eq!(soon(answer.recv()).await, Ok(7));
}

#[tokio::test]
async fn the_end_of_a_holder_is_told_to_owners_on_every_other_host() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let deep = east.below("deep");
    let owners = [root.leaf("a"), east.leaf("b"), west.leaf("c"), deep.leaf("d")];
    let mut holder = west.leaf("holder");
    let mut answers = Vec::new();
    for owner in &owners {
        answers.push(owner.lend(&holder));
        assert_eq!(holder.hears().await, Told::Kept);
    }
    west.kill(&holder);
    for answer in answers {
        assert!(why(soon(answer.recv()).await).contains("killed by signal 9"));
    }
}

#[tokio::test]
async fn a_port_that_moves_between_hosts_outlives_those_who_have_passed_it_on() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let owner = east.leaf("owner");
    let (mut first, mut second) = (west.leaf("first"), east.leaf("second"));
    let [kept, lost] = [0, 1].map(|_| owner.lend(&first));
    for _ in 0..2 {
        assert_eq!(first.hears().await, Told::Kept);
    }
    owner.tell(&first, PassOn(second.keeper.id().clone()));
    for _ in 0..2 {
        assert_eq!(second.hears().await, Told::Kept);
    }
    west.kill(&first);
    owner.tell(&second, Answer(1));
    assert_eq!(soon(kept.recv()).await, Ok(1));
    assert_eq!(soon(lost.recv()).await, Ok(1));
    let third = owner.lend(&second);
    assert_eq!(second.hears().await, Told::Kept);
    east.kill(&second);
    assert!(why(soon(third.recv()).await).contains("killed by signal 9"));
}

#[tokio::test]
async fn the_loss_of_a_host_is_that_of_all_its_procs_and_of_the_hosts_below_it() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let deep = west.below("deep");
    let owners = [root.leaf("a"), east.leaf("b")];
    let mut holders = [west.leaf("c"), deep.leaf("d")];
    let mut answers = Vec::new();
    for owner in &owners {
        for holder in &mut holders {
            answers.push(owner.lend(holder));
            assert_eq!(holder.hears().await, Told::Kept);
        }
    }
    let cx = root.node.instance();
    let (port, answer) = cx.mailbox().open_once_port();
    let far = ActorHandle::<Keeper>::attach(&root.node, holders[1].keeper.id().clone());
    far.send(&cx, Keep(port.bind())).expect("it is on its way");
    assert_eq!(holders[1].hears().await, Told::Kept);

    root.hub.gone(west.node.id(), "its machine is gone");
    answers.push(answer);
    for answer in answers {
        let why = why(soon(answer.recv()).await);
        assert!(why.contains("HostLost") && why.contains("its machine is gone"), "{why}");
    }
    // Who comes later is told the same at once, whichever way it asks.
    let later = owners[1].lend(&holders[1]);
    assert!(why(soon(later.recv()).await).contains("its machine is gone"));
}

#[tokio::test]
async fn a_message_to_a_proc_that_is_nowhere_comes_back_from_wherever_that_is_found_out() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let mut sender = east.leaf("sender");
    let mut other = east.leaf("other");
    let ended = west.leaf("ended");
    let stranger = ProcId::fresh("p", &HostId::fresh("nowhere")).expect("a good name");
    let ghost = ProcId::fresh("ghost", &west.host).expect("a good name");
    west.kill(&ended);
    for (proc_id, reason) in
        [(ended.node.id(), "killed by signal 9"), (&ghost, "never was"), (&stranger, "never was")]
    {
        let answer = other.lend(&sender);
        assert_eq!(sender.hears().await, Told::Kept);
        other.tell(&sender, PassOn(ActorId::new(proc_id.clone(), "keeper")));
        let Told::Back(told) = sender.hears().await else { panic!("it cannot get there") };
        assert!(told.contains(reason), "{told}");
        assert!(why(soon(answer.recv()).await).contains(reason));
    }
    assert!(other.told.try_recv().is_err());
}

#[tokio::test]
async fn a_cancel_finds_a_port_that_has_moved_from_host_to_host() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let owner = root.leaf("owner");
    let (mut first, mut second) = (west.leaf("first"), east.leaf("second"));
    let cx = owner.node.instance();
    let (port, answer) = cx.mailbox().open_once_port::<u64>();
    let to = ActorHandle::<Keeper>::attach(&owner.node, first.keeper.id().clone());
    to.send(&cx, Keep(port.bind())).expect("it is on its way");
    assert_eq!(first.hears().await, Told::Kept);
    owner.tell(&first, PassOn(second.keeper.id().clone()));
    answer.cancel();
    assert_eq!(second.hears().await, Told::Kept);
    // The keeper has no use for a cancel: that it came is seen by the port, which is let go of when it is answered.
    owner.tell(&second, Answer(1));
    soon(async {
        while owner.node.open_ports() > 0 || second.node.held_ports() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn what_goes_to_many_procs_of_another_host_goes_over_in_one_packet_and_comes_to_each() {
    let root = root();
    let [east, west] = ["east", "west"].map(|name| root.below(name));
    let sender = east.leaf("sender");
    let mut here = [east.leaf("a"), east.leaf("b")];
    let mut there: Vec<Leaf> = (0..20).map(|number| west.leaf(&format!("w-{number}"))).collect();
    let parts = vec![bytes::Bytes::from(vec![7; 100_000])];
    let ghost = ProcId::fresh("ghost", &west.host).expect("a good name");
    let from = sender.node.instance().id().clone();
    let (tell, mut told) = mpsc::unbounded_channel();
    let packet = |to: ActorId| {
        let (tell, name) = (tell.clone(), to.proc_id.name().to_owned());
        let held = sender.node.mailbox().open_once_sink(move |answer| {
            let procession_actor::Answer::Closed(why) = answer else { panic!("nobody answers") };
            tell.send((name, why)).expect("the test listens");
        });
        let mut moves = procession_actor::Moves::new();
        moves.add(&held).expect("it is new");
        let (from, ports) = (from.clone(), moves.ports());
        let head = Head::Deliver { to, from, tag: "test.nobody".to_owned(), ports, answered: true };
        Packet { head, parts: parts.clone() }
    };
    let keepers = here.iter().chain(&there).map(|leaf| leaf.keeper.id().clone());
    let packets: Vec<Packet> = keepers.chain([ActorId::new(ghost, "keeper")]).map(packet).collect();
    assert!(sender.node.post_all(packets).into_iter().all(|sent| sent.is_ok()));
    // No keeper takes that message: each port comes back from where its message arrived.
    for _ in 0..here.len() + there.len() + 1 {
        let (name, why) = soon(told.recv()).await.expect("one for each");
        assert!(why.contains(if name == "ghost" { "never was" } else { "test.nobody" }), "{name}: {why}");
    }
    let came: Vec<String> = west.came.lock().expect("nobody panics").clone();
    assert_eq!(came.iter().filter(|kind| *kind == "Cast").count(), 1, "{came:?}");
    assert_eq!(came.iter().filter(|kind| *kind == "Deliver").count(), 0, "{came:?}");
    for leaf in here.iter_mut().chain(&mut there) {
        assert!(leaf.told.try_recv().is_err());
    }
}
