//! What a flight record adds to each message of an actor, beside the same message without one.
//!
//! `cargo bench -p procession-host` prints the median of nine interleaved rounds.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_actor::{
    Actor, ActorFailure, ActorHandle, FlightRecorder, Handler, Instance, Message, OncePortHandle, Proc,
};
use procession_host::{FlightFile, Recorder};
use procession_model::{ActorId, HostId, ProcId};

const ROUNDS: usize = 9;
const ASKS: u32 = 50_000;
const ENTRIES: u32 = 500_000;

struct Ask(OncePortHandle<u64>);
impl Message for Ask {}

struct Answers;
impl Actor for Answers {}
impl Handler<Ask> for Answers {
    async fn handle(&mut self, _: &Instance<Self>, Ask(reply): Ask) -> Result<(), ActorFailure> {
        reply.send(1)?;
        Ok(())
    }
}

/// How long one question takes until it is answered.
async fn ask(cx: &Instance<()>, to: &ActorHandle<Answers>) -> Duration {
    let began = Instant::now();
    for _ in 0..ASKS {
        let (reply, answer) = cx.mailbox().open_once_port();
        assert!(to.send(cx, Ask(reply)).is_ok());
        black_box(answer.recv().await.expect("it answers"));
    }
    began.elapsed() / ASKS
}

fn median(mut of: Vec<Duration>) -> Duration {
    of.sort_unstable();
    of[of.len() / 2]
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let host = HostId::fresh("bench");
    let fresh = |name| ProcId::fresh(name, &host).expect("a good name");
    let file = FlightFile::create(dir.path(), fresh("file").launch_id()).expect("there is space");
    let recorder = Arc::new(Recorder::open(file.path()).expect("it was just made"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let [plain, noted] = ["plain", "noted"].map(|name| Proc::new(fresh(name), runtime.handle().clone()));
        let recording: Arc<dyn FlightRecorder> = recorder.clone();
        noted.set_recorder(recording);
        let nodes = [plain, noted].map(|node| {
            let actor = node.spawn("answers", Answers).expect("a free name");
            (node.instance(), actor)
        });
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for ((cx, actor), took) in nodes.iter().zip(&mut took) {
                took.push(ask(cx, actor).await);
            }
        }
        let [without, with] = took.map(median);
        let ratio = with.as_secs_f64() / without.as_secs_f64();
        println!("ask an actor of the same process: {without:.0?}; noted: {with:.0?}, {ratio:.2}x");
        for (_, actor) in nodes {
            actor.stop("measured");
        }
    });
    let actor = ActorId::new(fresh("w-0"), "trainer-0123456789abcdef");
    let sender = ActorId::new(fresh("client"), "client:1");
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        for _ in 0..ENTRIES {
            recorder.end(black_box(recorder.begin(&actor, "training_step", &sender)));
        }
        began.elapsed() / ENTRIES
    });
    println!("an entry, begun and ended: {:.0?} of the 1 µs that it may take", median(rounds.collect()));
    assert_eq!(file.read().expect("it was written").in_progress, []);
}
