//! Several nodes in one process, connected by a hub that does what a host does for its procs.
#![allow(dead_code, unreachable_pub, reason = "each test file compiles all of it and uses its own part")]

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use procession_actor::{
    Actor, ActorFailure, ActorHandle, Answer, Handler, Handlers, Held, Instance, MailboxError, Message,
    Moves, OncePortReceiver, OncePortRef, PortHandle, Proc, Returned, Router, WeakProc, wire_message,
};
use procession_model::{ActorId, Head, HostId, Packet, ProcId};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

/// A deadline for what should come at once; only a broken kernel ever waits for it.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it should have come at once")
}

pub fn proc_id(name: &str) -> ProcId {
    ProcId::fresh(name, &HostId::fresh("test")).unwrap()
}

/// A node that knows no other.
pub fn lone_proc() -> Proc {
    Proc::new(proc_id("lone"), Handle::current())
}

#[derive(Default)]
pub struct Hub(Mutex<HashMap<ProcId, WeakProc>>);

impl Hub {
    pub fn node(self: &Arc<Self>, name: &str) -> Node {
        let proc_ = Proc::new(proc_id(name), Handle::current());
        proc_.set_router(Arc::new(Line { hub: Arc::clone(self), origin: proc_.id().clone() }));
        self.connect(&proc_);
        Node { proc_, hub: Arc::clone(self) }
    }

    pub fn connect(&self, proc_: &Proc) {
        self.0.lock().unwrap().insert(proc_.id().clone(), proc_.downgrade());
    }

    /// Nothing gets to or from the node any more, and nobody is told.
    pub fn cut(&self, id: &ProcId) {
        self.0.lock().unwrap().remove(id);
    }

    fn find(&self, id: &ProcId) -> Option<Proc> {
        self.0.lock().unwrap().get(id).and_then(WeakProc::upgrade)
    }

    #[allow(clippy::result_large_err, reason = "the error is the packet itself, handed back")]
    fn forward(&self, origin: &ProcId, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        let Some(origin) = self.find(origin) else {
            return Err((packet, "the connection was lost".to_owned()));
        };
        let Some(dest) = self.find(dest) else {
            origin.bounce(packet, &format!("proc {dest} has ended"));
            return Ok(());
        };
        if let Head::Deliver { ports, .. } | Head::Send { ports, .. } = &packet.head {
            // An owner that gets its own port back sees that by itself.
            for port in ports.iter().filter(|port| port.proc_id != *dest.id()) {
                if let Some(owner) = self.find(&port.proc_id) {
                    let head = Head::PortMoved { port: port.clone(), holder: dest.id().clone() };
                    owner.receive(Packet::bare(head));
                }
            }
        }
        dest.receive(packet);
        Ok(())
    }
}

struct Line {
    hub: Arc<Hub>,
    origin: ProcId,
}

impl Router for Line {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        self.hub.forward(&self.origin, dest, packet)
    }
}

/// A node on a hub; its drop is the death of its process: the others are told.
pub struct Node {
    pub proc_: Proc,
    pub hub: Arc<Hub>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.hub.cut(self.proc_.id());
        let others: Vec<_> = self.hub.0.lock().unwrap().values().filter_map(WeakProc::upgrade).collect();
        for other in others {
            let (to, proc_id) = (other.id().clone(), self.proc_.id().clone());
            let head = Head::ProcGone { to, proc_id, reason: "killed by signal 9".to_owned() };
            other.receive(Packet::bare(head));
        }
    }
}

/// A number, for actors in any process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note(pub u64);
wire_message!(Note, "test.note");

/// A number that stays inside its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside(pub u64);
impl Message for Inside {}

/// A question, for actors in any process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ask {
    pub value: u64,
    pub reply: OncePortRef<u64>,
}
wire_message!(Ask, "test.ask");

/// A question that the receiver keeps, and lets go of at the next [`Forget`].
#[derive(Debug, Serialize, Deserialize)]
pub struct Keep(pub OncePortRef<u64>);
wire_message!(Keep, "test.keep");

/// Drop all that is kept.
#[derive(Debug, Serialize, Deserialize)]
pub struct Forget;
wire_message!(Forget, "test.forget");

/// Panic.
#[derive(Debug, Serialize, Deserialize)]
pub struct Burst;
wire_message!(Burst, "test.burst");

/// Fail.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fail;
wire_message!(Fail, "test.fail");

/// A message that no test actor takes from another process.
#[derive(Debug, Serialize, Deserialize)]
pub struct Stranger(pub OncePortRef<u64>);
wire_message!(Stranger, "test.stranger");

/// Reports each number it gets, answers questions with the value doubled, keeps what it shall keep.
pub struct Echo {
    pub seen: PortHandle<u64>,
    pub returned: Option<PortHandle<String>>,
    pub kept: Vec<OncePortRef<u64>>,
}

impl Echo {
    pub fn new(seen: PortHandle<u64>) -> Self {
        Self { seen, returned: None, kept: Vec::new() }
    }

    /// One whose numbers nobody looks at.
    pub fn blind(proc_: &Proc) -> Self {
        Self::new(proc_.mailbox().open_port().0)
    }
}

impl Actor for Echo {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Note>();
        table.add::<Ask>();
        table.add::<Keep>();
        table.add::<Forget>();
        table.add::<Burst>();
        table.add::<Fail>();
    }

    async fn undelivered(&mut self, _: &Instance<Self>, returned: Returned) {
        if let Some(port) = &self.returned {
            port.send(format!("{}: {}", returned.tag, returned.reason)).unwrap();
        }
    }
}

impl Handler<Note> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, Note(value): Note) -> Result<(), ActorFailure> {
        let _nobody_looks = self.seen.send(value);
        Ok(())
    }
}

impl Handler<Inside> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, Inside(value): Inside) -> Result<(), ActorFailure> {
        let _nobody_looks = self.seen.send(value);
        Ok(())
    }
}

impl Handler<Ask> for Echo {
    async fn handle(&mut self, cx: &Instance<Self>, ask: Ask) -> Result<(), ActorFailure> {
        Ok(ask.reply.send(cx, ask.value * 2)?)
    }
}

impl Handler<Keep> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, Keep(port): Keep) -> Result<(), ActorFailure> {
        self.kept.push(port);
        Ok(())
    }
}

impl Handler<Forget> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, _: Forget) -> Result<(), ActorFailure> {
        self.kept.clear();
        Ok(())
    }
}

impl Handler<Burst> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, _: Burst) -> Result<(), ActorFailure> {
        panic!("burst on demand")
    }
}

impl Handler<Fail> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, _: Fail) -> Result<(), ActorFailure> {
        Err("failed on demand".into())
    }
}

impl Handler<Stranger> for Echo {
    async fn handle(&mut self, _: &Instance<Self>, _: Stranger) -> Result<(), ActorFailure> {
        Ok(())
    }
}

pub fn port_on(node: &Node) -> (OncePortRef<u64>, OncePortReceiver<u64>) {
    let (port, answer) = node.proc_.mailbox().open_once_port();
    (port.bind(), answer)
}

/// Gives `port` to an actor of `to`, which keeps it.
pub fn give(from: &Node, to: &Node, port: OncePortRef<u64>) {
    echo(from, to).send(&from.proc_.instance(), Keep(port)).unwrap();
}

/// The handle that `from` has of the echo in `to`, which is spawned when there is none.
pub fn echo(from: &Node, to: &Node) -> ActorHandle<Echo> {
    let _there_is_one = to.proc_.spawn("echo", Echo::blind(&to.proc_));
    ActorHandle::attach(&from.proc_, ActorId::new(to.proc_.id().clone(), "echo"))
}

pub async fn closed(answer: OncePortReceiver<u64>) -> String {
    match soon(answer.recv()).await {
        Err(MailboxError::Closed(reason)) => reason,
        other => panic!("the port should have closed, and gave {other:?}"),
    }
}

/// Moves `port` to `to`, and gives what its receiver has of it there.
pub fn carry(from: &Node, to: &Node, port: OncePortRef<u64>) -> Arc<Held> {
    let (tx, rx) = std::sync::mpsc::channel();
    let bag = to.proc_.mailbox().open_sink(move |answer| {
        let Answer::Value { mut claims, .. } = answer else { panic!("a value was sent") };
        tx.send(claims.take_all().remove(0)).unwrap();
    });
    let mut moves = Moves::new();
    let parts = Keep(port).encode(&mut moves).unwrap();
    let head = Head::Send { port: bag.clone(), tag: "test.keep".to_owned(), ports: moves.ports() };
    from.proc_.post(Packet { head, parts }).unwrap();
    to.proc_.mailbox().close_port(&bag);
    rx.try_recv().unwrap()
}
