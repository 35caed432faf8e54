//! What several tests share: a typed actor, and how to wait.

use std::future::Future;
use std::time::{Duration, Instant};

use procession::{
    Actor, ActorFailure, ActorHandle, ActorId, BootstrapCommand, Handler, Handlers, Host, Instance,
    OncePortRef, PortRef, ProcRef, Readiness, SpawnSpec, wire_message,
};
use procession_sys::Process;
use serde::{Deserialize, Serialize};

/// A deadline for what should come at once; only a broken session ever waits for it.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it should have come at once")
}

/// Asks until `condition` holds; how long that took.
pub(crate) fn within(bound: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < bound, "{what}: not within {bound:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    start.elapsed()
}

/// A script under /bin/sh that is ready when it runs.
pub(crate) fn script(name: &str, text: &str) -> SpawnSpec {
    let mut command = BootstrapCommand::new("/bin/sh");
    command.args = vec!["-c".into(), text.into()];
    let mut spec = SpawnSpec::new(name, command);
    spec.policy.readiness = Readiness::None;
    spec
}

pub(crate) fn spawn(host: &Host, spec: SpawnSpec) -> ProcRef {
    host.spawn(spec, host.native_launcher()).unwrap()
}

pub(crate) async fn shut_down(host: Host) {
    soon(host.shutdown(Duration::from_secs(5))).await;
}

/// The worker in a proc.
pub(crate) fn worker_in(host: &Host, proc_: &ProcRef) -> ActorHandle<Worker> {
    ActorHandle::attach(host.proc_(), ActorId::new(proc_.id().clone(), "worker"))
}

pub(crate) fn sigkill(proc_: &ProcRef) {
    Process::look(proc_.status().pid.unwrap()).unwrap().signal(9);
}

/// Add, and answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Add(pub(crate) u64, pub(crate) u64, pub(crate) OncePortRef<u64>);
wire_message!(Add, "test.add");

/// Keep the port; tell it on the other that it has come.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Keep(pub(crate) OncePortRef<u64>, pub(crate) PortRef<u64>);
wire_message!(Keep, "test.keep");

/// Answer all that is kept with this.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer(pub(crate) u64);
wire_message!(Answer, "test.answer");

/// Give the port to another worker, to be kept there.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PassOn(pub(crate) ActorId, pub(crate) Keep);
wire_message!(PassOn, "test.pass-on");

/// Open a port, let `via` pass it on to `to`, and tell `result` what comes back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) via: ActorId,
    pub(crate) to: ActorId,
    pub(crate) kept: PortRef<u64>,
    pub(crate) result: PortRef<String>,
}
wire_message!(Ask, "test.ask");

/// Never come to an end; say so before.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Block(pub(crate) OncePortRef<()>);
wire_message!(Block, "test.block");

/// Answer, and end the process at once with that code.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Leave(pub(crate) i32);
wire_message!(Leave, "test.leave");

/// Fail, in so many words.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Fail(pub(crate) usize);
wire_message!(Fail, "test.fail");

#[derive(Default)]
pub(crate) struct Worker {
    kept: Vec<OncePortRef<u64>>,
}

impl Actor for Worker {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Add>();
        table.add::<Keep>();
        table.add::<Answer>();
        table.add::<PassOn>();
        table.add::<Ask>();
        table.add::<Block>();
        table.add::<Leave>();
        table.add::<Fail>();
    }
}

impl Handler<Add> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, Add(a, b, reply): Add) -> Result<(), ActorFailure> {
        Ok(reply.send(cx, a + b)?)
    }
}

impl Handler<Keep> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, Keep(port, has_come): Keep) -> Result<(), ActorFailure> {
        self.kept.push(port);
        Ok(has_come.send(cx, 1)?)
    }
}

impl Handler<Answer> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, Answer(value): Answer) -> Result<(), ActorFailure> {
        for port in self.kept.drain(..) {
            port.send(cx, value)?;
        }
        Ok(())
    }
}

impl Handler<PassOn> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, PassOn(to, keep): PassOn) -> Result<(), ActorFailure> {
        Ok(ActorHandle::<Worker>::attach(cx.proc_(), to).send(cx, keep)?)
    }
}

impl Handler<Ask> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, ask: Ask) -> Result<(), ActorFailure> {
        let (port, answer) = cx.mailbox().open_once_port();
        let pass_on = PassOn(ask.to, Keep(port.bind(), ask.kept));
        ActorHandle::<Worker>::attach(cx.proc_(), ask.via).send(cx, pass_on)?;
        let proc_ = cx.proc_().clone();
        tokio::spawn(async move {
            let text = format!("{:?}", answer.recv().await);
            ask.result.send(&proc_.instance(), text).unwrap();
        });
        Ok(())
    }
}

impl Handler<Block> for Worker {
    async fn handle(&mut self, cx: &Instance<Self>, Block(reply): Block) -> Result<(), ActorFailure> {
        reply.send(cx, ())?;
        loop {
            std::thread::park();
        }
    }
}

impl Handler<Leave> for Worker {
    async fn handle(&mut self, _: &Instance<Self>, Leave(code): Leave) -> Result<(), ActorFailure> {
        std::process::exit(code)
    }
}

impl Handler<Fail> for Worker {
    async fn handle(&mut self, _: &Instance<Self>, Fail(words): Fail) -> Result<(), ActorFailure> {
        Err("word ".repeat(words).into())
    }
}
