//! Measures links on this machine: `cargo run --release --example measure`.

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use procession_model::{ActorId, Head, HostId, LaunchId, Packet, ProcId};
use procession_net::{Crowd, Dial, Link, LinkReceiver, LinkSender, Listener, Serving, SessionCa, dial};

#[path = "../tests/common/call_backs.rs"]
mod call_backs;
use call_backs::CallBacks;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let ca = SessionCa::new("measure-host")?;
    let start = Instant::now();
    for _ in 0..200 {
        ca.issue(LaunchId::fresh())?;
    }
    println!("a client's certificate: {:?}", start.elapsed() / 200);
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    one.block_on(measure("one thread", &ca))?;
    let two = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    two.block_on(async move {
        tokio::spawn(async move { measure("two threads", &ca).await.map_err(|e| e.to_string()) }).await
    })??;
    Ok(())
}

async fn measure(name: &str, ca: &SessionCa) -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o700))?;
    let unix = Listener::unix(directory.path().join("s"))?;
    let tcp = Listener::tcp("127.0.0.1:0", ca).await?;
    for (kind, listener, ca) in [("unix", unix, None), ("tcp+tls", tcp, Some(ca))] {
        let call_backs = Arc::new(CallBacks::default());
        let serving = listener.serve(call_backs.clone(), &Crowd::default());
        let start = Instant::now();
        let mut links = Vec::new();
        for _ in 0..100 {
            links.push(link(&serving, &call_backs, ca).await?);
        }
        println!("{name}, {kind}: dial and handshake {:?}", start.elapsed() / 100);
        let Some((near, far)) = links.pop() else { return Ok(()) };
        let (near, far) = ping_pong(name, kind, near, far).await?;
        for (count, size) in [(300_000, 16), (300_000, 1 << 10), (3000, 1 << 20), (30, 64 << 20)] {
            one_way(name, kind, &near, &far, count, size).await?;
        }
    }
    Ok(())
}

type Shared = (LinkSender, Arc<tokio::sync::Mutex<LinkReceiver>>);

async fn link(
    serving: &Serving,
    call_backs: &Arc<CallBacks>,
    ca: Option<&SessionCa>,
) -> Result<(Shared, Shared), Failure> {
    let launch = LaunchId::fresh();
    let mut call_back = call_backs.expect(launch);
    let how = Dial {
        addresses: vec![serving.local_address().clone()],
        launch,
        token: call_back.token().clone(),
        tls: ca.map(|ca| ca.issue(launch)).transpose()?,
        lease: call_backs::LEASE,
    };
    let near = dial(&how).await?;
    let far = call_back.link().await.ok_or("nobody called back")?;
    let shared = |link: Link| (link.sender, Arc::new(tokio::sync::Mutex::new(link.receiver)));
    Ok((shared(near), shared(far)))
}

/// A message as actors send it, of `size` bytes.
fn message(size: usize) -> Result<Packet, Failure> {
    let proc_id = ProcId::fresh("workers-0", &HostId::fresh("machine"))?;
    let actor = ActorId::new(proc_id, "trainer");
    let head = Head::Deliver {
        to: actor.clone(),
        from: actor,
        tag: "step".into(),
        ports: Vec::new(),
        answered: false,
    };
    Ok(Packet { head, parts: vec![Bytes::from(vec![7; size])] })
}

async fn ping_pong(name: &str, kind: &str, near: Shared, far: Shared) -> Result<(Shared, Shared), Failure> {
    const ROUNDS: usize = 20_000;
    let (sender, receiver) = far.clone();
    let echo = tokio::spawn(async move {
        let mut receiver = receiver.lock().await;
        for _ in 0..ROUNDS {
            match receiver.recv().await {
                Some(Ok(packet)) => sender.post(packet).map_err(|_| "the link closed")?,
                _ => return Err("the link ended"),
            }
        }
        Ok(())
    });
    let ping = message(16)?;
    let mut times = Vec::with_capacity(ROUNDS);
    let mut receiver = near.1.lock().await;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        near.0.post(ping.clone()).map_err(|_| "the link closed")?;
        receiver.recv().await.ok_or("the link ended")??;
        times.push(start.elapsed());
    }
    echo.await??;
    times.sort();
    println!("{name}, {kind}: round trip p50 {:?}, p99 {:?}", times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    drop(receiver);
    Ok((near, far))
}

async fn one_way(
    name: &str,
    kind: &str,
    near: &Shared,
    far: &Shared,
    count: usize,
    size: usize,
) -> Result<(), Failure> {
    let packet = message(size)?;
    let receiver = far.1.clone();
    let start = Instant::now();
    let receiving = tokio::spawn(async move {
        let mut receiver = receiver.lock().await;
        for _ in 0..count {
            if !matches!(receiver.recv().await, Some(Ok(_))) {
                return Err("the link ended");
            }
        }
        Ok(())
    });
    for _ in 0..count {
        near.0.post(packet.clone()).map_err(|_| "the link closed")?;
        if near.0.pending_bytes() > 64 << 20 {
            near.0.flushed().await?;
        }
    }
    receiving.await??;
    let took = start.elapsed();
    let rate = |amount: f64| amount / took.max(Duration::from_nanos(1)).as_secs_f64();
    println!(
        "{name}, {kind}: {size} bytes one way: {:.0} packets/s, {:.0} MB/s",
        rate(count as f64),
        rate((count * size) as f64) / 1e6
    );
    Ok(())
}
