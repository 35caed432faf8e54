//! An actor in Rust and one in Python, in one proc. The program launches itself; the proc that comes up has an interpreter in
//! it, and both actors send each other plain data through ports.

use std::error::Error;
use std::ffi::CStr;
use std::time::Duration;

use procession::{
    Actor, ActorFailure, ActorHandle, ActorId, BootstrapCommand, Handler, Handlers, Host, Instance, Message,
    OncePortRef, Proc, SpawnSpec, child_main, wire_message,
};
use procession_native::{PythonActor, PythonMessage, PythonPortRef, Value, embed};
use pyo3::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

const STATISTICS: &CStr = cr#"
from statistics import fmean, stdev

from procession.actor import Actor, Port, endpoint


class Statistics(Actor):
    @endpoint
    def read(self, count: int, readings: Port[float]) -> None:
        for position in range(count):
            readings.send(position / 2)

    @endpoint
    def describe(self, values: list[float]) -> dict[str, float]:
        return {"mean": fmean(values), "deviation": stdev(values)}
"#;

/// Asks for the statistics of `count` readings; the answer goes to `reply`.
#[derive(Serialize, Deserialize)]
struct Describe {
    count: usize,
    reply: OncePortRef<String>,
}
wire_message!(Describe, "mixed.describe");

/// Has Python read, collects what it reads, and has Python describe that.
struct Collector {
    statistics: ActorHandle<PythonActor>,
    readings: Vec<f64>,
    /// How many readings there will be, and who waits for their statistics.
    asked: Option<(usize, OncePortRef<String>)>,
    /// Where the readings of Python come in.
    port: Option<PythonPortRef>,
}

/// What an actor of this process alone is told needs no wire form.
struct ReadFrom(PythonPortRef);
impl Message for ReadFrom {}

impl Actor for Collector {
    fn handlers(table: &mut Handlers<Self>) {
        table.add::<Describe>();
    }
}

impl Handler<ReadFrom> for Collector {
    async fn handle(&mut self, _: &Instance<Self>, ReadFrom(port): ReadFrom) -> Result<(), ActorFailure> {
        self.port = Some(port);
        Ok(())
    }
}

impl Handler<Describe> for Collector {
    async fn handle(&mut self, cx: &Instance<Self>, message: Describe) -> Result<(), ActorFailure> {
        let port = self.port.clone().ok_or("there is no port yet")?;
        let count = Value::Int(message.count.try_into()?);
        self.asked = Some((message.count, message.reply));
        // What it sends to the port meanwhile waits in the mailbox of this actor.
        PythonActor::call(&self.statistics, cx, "read", vec![count, port.into()]).await?;
        Ok(())
    }
}

impl Handler<PythonMessage> for Collector {
    async fn handle(&mut self, cx: &Instance<Self>, reading: PythonMessage) -> Result<(), ActorFailure> {
        let Value::Float(reading) = reading.into_value()? else { return Err("a reading is a float".into()) };
        self.readings.push(reading);
        if let Some((_, reply)) = self.asked.take_if(|(count, _)| *count == self.readings.len()) {
            let readings = std::mem::take(&mut self.readings).into();
            let Value::Dict(described) =
                PythonActor::call(&self.statistics, cx, "describe", vec![readings]).await?
            else {
                return Err("statistics are a dict".into());
            };
            let lines = described.into_iter().map(|pair| match pair {
                (Value::Str(name), Value::Float(value)) => Ok(format!("{name} {value:.3}")),
                other => Err(format!("{other:?} is no statistic")),
            });
            reply.send(cx, lines.collect::<Result<Vec<_>, _>>()?.join(", "))?;
        }
        Ok(())
    }
}

fn set_up(proc_: &Proc) -> Result<(), Box<dyn Error>> {
    let statistics = Python::attach(|py| {
        embed(py, proc_, Handle::current())?;
        let module = PyModule::from_code(py, STATISTICS, c"statistics_actor.py", c"statistics_actor")?;
        PythonActor::spawn_object(py, "statistics", &module.getattr("Statistics")?.call0()?)
    })?;
    let collector = Collector { statistics, readings: Vec::new(), asked: None, port: None };
    let collector = proc_.spawn("collector", collector)?;
    let cx = proc_.instance();
    collector.send(&cx, ReadFrom(PythonPortRef::to_actor(&collector, &cx)))?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if child_main(set_up)? {
        return Ok(());
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run())
}

async fn run() -> Result<(), Box<dyn Error>> {
    let host = Host::start().await?;
    let spec = SpawnSpec::new("mixed", BootstrapCommand::new(std::env::current_exe()?));
    let proc_ = host.spawn(spec, host.native_launcher())?;
    if let Err(error) = proc_.ready().await {
        let exit = proc_.ended().await;
        return Err(format!("{error}\n{}", exit.stderr_tail.join("\n")).into());
    }
    let cx = host.proc_().instance();
    let collector =
        ActorHandle::<Collector>::attach(host.proc_(), ActorId::new(proc_.id().clone(), "collector"));
    let (port, answer) = cx.mailbox().open_once_port();
    collector.send(&cx, Describe { count: 9, reply: port.bind() })?;
    println!("nine readings: {}", answer.recv().await?);

    // The same from here, where there is no interpreter.
    let statistics = ActorHandle::attach(host.proc_(), ActorId::new(proc_.id().clone(), "statistics"));
    let described = PythonActor::call(&statistics, &cx, "describe", vec![vec![1.0, 3.0].into()]).await?;
    println!("two of our own: {described:?}");

    let exit = proc_.stop("the work is done", Some(Duration::from_secs(5))).await;
    println!("{}: {}", exit.proc_id.name(), exit.verdict);
    host.shutdown(Duration::from_secs(5)).await;
    Ok(())
}
