//! What an actor costs over a bare channel of the same shape, in one process on one thread.
//!
//! `cargo run --release -p procession-actor --example messages` prints the median of five runs each. With the argument `actor`
//! or `channel` it runs that one once, and prints messages a second and the p50 of an ask in seconds, as `make bench` reads it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, Message, OncePortHandle, OncePortRef,
    Proc, wire_message,
};
use procession_model::{HostId, ProcId};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

const TELLS: u64 = 1_000_000;
/// Tells between two turns of the receiver.
const BURST: u64 = 1_000;
const ASKS: usize = 100_000;
const PORTS: u64 = 10_000;

#[derive(Serialize, Deserialize)]
struct Tell(u64);
wire_message!(Tell, "bench.tell");

struct Ask(u64, OncePortHandle<u64>);
impl Message for Ask {}

#[derive(Serialize, Deserialize)]
struct WireAsk(u64, OncePortRef<u64>);
wire_message!(WireAsk, "bench.ask");

struct Sum(u64);

impl Actor for Sum {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Tell>();
        table.add::<WireAsk>();
    }
}

impl Handler<Tell> for Sum {
    async fn handle(&mut self, _: &Instance<Self>, Tell(value): Tell) -> Result<(), ActorFailure> {
        self.0 += black_box(value);
        Ok(())
    }
}

impl Handler<Ask> for Sum {
    async fn handle(&mut self, _: &Instance<Self>, Ask(value, reply): Ask) -> Result<(), ActorFailure> {
        reply.send(value + self.0)?;
        Ok(())
    }
}

impl Handler<WireAsk> for Sum {
    async fn handle(&mut self, cx: &Instance<Self>, ask: WireAsk) -> Result<(), ActorFailure> {
        ask.1.send(cx, ask.0 + self.0)?;
        Ok(())
    }
}

enum Plain {
    Tell(u64),
    Ask(u64, oneshot::Sender<u64>),
}

fn spawn_plain() -> mpsc::UnboundedSender<Plain> {
    let (tx, mut rx) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut sum = 0;
        while let Some(message) = rx.recv().await {
            match message {
                Plain::Tell(value) => sum += black_box(value),
                Plain::Ask(value, reply) => reply.send(value + sum).expect("the asker waits"),
            }
        }
    });
    tx
}

async fn plain_ask(to: &mpsc::UnboundedSender<Plain>) {
    let (reply, answer) = oneshot::channel();
    assert!(to.send(Plain::Ask(1, reply)).is_ok());
    black_box(answer.await.expect("it answers"));
}

async fn ask(cx: &Instance<()>, to: &ActorHandle<Sum>) {
    let (reply, answer) = cx.mailbox().open_once_port();
    assert!(to.send(cx, Ask(1, reply)).is_ok());
    black_box(answer.recv().await.expect("it answers"));
}

async fn wire_ask(cx: &Instance<()>, to: &ActorHandle<Sum>) {
    let (reply, answer) = cx.mailbox().open_once_port();
    assert!(to.send(cx, WireAsk(1, reply.bind())).is_ok());
    black_box(answer.recv().await.expect("it answers"));
}

/// Sends in bursts, and lets the receiver catch up before each next one.
async fn tells(tell: impl Fn(u64), caught_up: impl AsyncFn()) -> Duration {
    let began = Instant::now();
    for burst in 0..TELLS / BURST {
        (0..BURST).for_each(|n| tell(burst + n));
        caught_up().await;
    }
    began.elapsed()
}

async fn asks(ask: impl AsyncFn()) -> (Duration, Duration) {
    let mut took = Vec::with_capacity(ASKS);
    for _ in 0..ASKS {
        let began = Instant::now();
        ask().await;
        took.push(began.elapsed());
    }
    took.sort_unstable();
    (took[ASKS / 2], took[ASKS * 99 / 100])
}

fn median<T: Ord + Copy>(mut of: Vec<T>) -> T {
    of.sort_unstable();
    of[of.len() / 2]
}

/// Messages a second.
fn rate(took: Duration) -> f64 {
    TELLS as f64 / took.as_secs_f64()
}

async fn report_tells(what: &str, tell: impl Fn(u64), caught_up: impl AsyncFn()) {
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(tells(&tell, &caught_up).await);
    }
    println!("tell  {what:<24} {:>8.2} M messages/s", rate(median(runs)) / 1e6);
}

fn print_once(tells: Duration, ask: Duration) {
    println!("[{}, {}]", rate(tells), ask.as_secs_f64());
}

async fn report_asks(what: &str, ask: impl AsyncFn()) {
    let mut runs = Vec::new();
    for _ in 0..5 {
        runs.push(asks(&ask).await);
    }
    let (p50, p99) = median(runs);
    println!("ask   {what:<24} p50 {p50:>8.2?}   p99 {p99:>8.2?}");
}

/// The death of one of 100 procs that hold 100 once ports each.
fn report_holder_gone(proc_: &Proc, holders: &[ProcId]) {
    let held: Vec<_> = (0..PORTS)
        .map(|n| {
            let held = proc_.mailbox().open_once_sink(|_| {});
            let holder = holders[n as usize % holders.len()].clone();
            let moved = procession_model::Head::PortMoved { port: held.port().clone(), holder };
            proc_.receive(procession_model::Packet::bare(moved));
            held
        })
        .collect();
    let took = holders.iter().map(|holder| {
        let began = Instant::now();
        proc_.proc_gone(holder, "killed by signal 9");
        began.elapsed()
    });
    println!("gone  100 of 10,000 ports      p50 {:>8.2?}", median(took.collect()));
    drop(held);
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let host = HostId::fresh("bench");
        let fresh = |name| ProcId::fresh(name, &host).expect("a good name");
        let proc_ = Proc::new(fresh("bench"), runtime.handle().clone());
        let cx = proc_.instance();
        let here = proc_.spawn("sum", Sum(0)).expect("a free name");
        let wire = ActorHandle::<Sum>::attach(&proc_, here.id().clone());
        let plain = spawn_plain();

        let tell_plain = |n| assert!(plain.send(Plain::Tell(n)).is_ok());
        let tell = |to: &ActorHandle<Sum>, n| assert!(to.send(&cx, Tell(n)).is_ok());
        match std::env::args().nth(1).as_deref() {
            Some("actor") => {
                let took = tells(|n| tell(&here, n), async || ask(&cx, &here).await).await;
                print_once(took, asks(async || ask(&cx, &here).await).await.0);
                return;
            }
            Some("channel") => {
                let took = tells(tell_plain, async || plain_ask(&plain).await).await;
                print_once(took, asks(async || plain_ask(&plain).await).await.0);
                return;
            }
            _ => {}
        }

        report_tells("bare channel", tell_plain, async || plain_ask(&plain).await).await;
        report_tells("actor", |n| tell(&here, n), async || ask(&cx, &here).await).await;
        report_tells("actor, wire form", |n| tell(&wire, n), async || wire_ask(&cx, &wire).await).await;

        report_asks("bare channel", async || plain_ask(&plain).await).await;
        report_asks("actor", async || ask(&cx, &here).await).await;
        report_asks("actor, wire form", async || wire_ask(&cx, &wire).await).await;

        let holders: Vec<_> = (0..100).map(|_| fresh("holder")).collect();
        report_holder_gone(&proc_, &holders);
        here.stop("measured");
        proc_.actors_ended().await;
    });
}
