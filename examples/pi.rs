//! Estimates pi on four procs: the program launches itself four times, each proc hosts one typed
//! actor, and at the end a table says how each proc ended. No Python anywhere.

use std::error::Error;
use std::time::Duration;

use procession::{
    Actor, ActorFailure, ActorHandle, ActorId, BootstrapCommand, Handler, Handlers, Host, Instance,
    OncePortRef, ProcRef, SpawnSpec, child_main, wire_message,
};
use serde::{Deserialize, Serialize};

const PROCS: u64 = 4;
const SAMPLES: u64 = 2_000_000;

/// Asks for the hits among `samples` random points; the answer goes to `reply`.
#[derive(Serialize, Deserialize)]
struct Sample {
    seed: u64,
    samples: u64,
    reply: OncePortRef<u64>,
}
wire_message!(Sample, "pi.sample");

struct Sampler;

impl Actor for Sampler {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Sample>();
    }
}

impl Handler<Sample> for Sampler {
    async fn handle(&mut self, cx: &Instance<Self>, message: Sample) -> Result<(), ActorFailure> {
        let mut state = message.seed;
        let mut hits = 0;
        for _ in 0..message.samples {
            let (x, y) = (uniform(&mut state), uniform(&mut state));
            hits += u64::from(x * x + y * y <= 1.0);
        }
        eprintln!("{hits} of {} points are inside", message.samples);
        Ok(message.reply.send(cx, hits)?)
    }
}

/// SplitMix64, as a number in 0..1.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    if child_main(|proc_| proc_.spawn("sampler", Sampler).map(drop))? {
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let host = Host::start().await?;
    let native = host.native_launcher();
    let program = std::env::current_exe()?;
    let procs = (0..PROCS)
        .map(|rank| {
            let mut spec = SpawnSpec::new(format!("sampler-{rank}"), BootstrapCommand::new(&program));
            spec.rank = rank as usize;
            host.spawn(spec, native.clone())
        })
        .collect::<Result<Vec<ProcRef>, _>>()?;

    let cx = host.proc_().instance();
    let mut answers = Vec::new();
    for proc_ in &procs {
        proc_.ready().await?;
        let sampler =
            ActorHandle::<Sampler>::attach(host.proc_(), ActorId::new(proc_.id().clone(), "sampler"));
        let (port, answer) = cx.mailbox().open_once_port();
        sampler.send(&cx, Sample { seed: proc_.rank() as u64, samples: SAMPLES, reply: port.bind() })?;
        answers.push(answer);
    }
    let mut hits = 0;
    for answer in answers {
        hits += answer.recv().await?;
    }
    println!("pi is about {:.3}", 4.0 * hits as f64 / (PROCS * SAMPLES) as f64);

    println!("{:<12} {:>8}  {:<12} verdict", "proc", "pid", "exit");
    for proc_ in &procs {
        let exit = proc_.stop("the work is done", Some(Duration::from_secs(5))).await;
        let pid = exit.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        println!("{:<12} {pid:>8}  {:<12} {}", exit.proc_id.name(), exit.kind.to_string(), exit.verdict);
    }
    host.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
