//! Procs that reach their host through the connection of their launcher: at its far end they dial the loopback, and what they
//! say comes out at the near end, at an address of their host's. What they say is theirs: from end to end it is TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use procession_actor::PortRef;
use procession_model::PortId;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, copy_buf};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Duration, sleep};

use super::inflow::{Inflow, Outlet};
use super::line::Line;
use super::message::{Dialled, Taken};
use super::pump::{PIECE, UNDER_WAY, send};

/// How long nobody is accepted after that has failed, as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// At the far end: tells of each that dials, and leads what he says to the near end, until it is dropped.
pub(super) async fn accept(line: Line, listener: TcpListener, dialled: PortRef<Dialled>) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = guests.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(guests.spawn(announce(line.clone(), stream, dialled.clone()))),
                Err(error) => {
                    tracing::warn!(%error, "a proc that dials cannot be accepted");
                    sleep(PAUSE).await;
                }
            },
        }
    }
}

async fn announce(line: Line, stream: TcpStream, dialled: PortRef<Dialled>) {
    let (inflow, to_him) = inflow(&line);
    let (taken, is_taken) = line.node.mailbox().open_once_port();
    let told = Dialled { to_him: to_him.clone(), taken: taken.bind() };
    if dialled.send(&line.node.instance(), told).is_ok()
        && let Ok(Taken(Ok(from_him))) = is_taken.recv().await
    {
        join(&line, stream, inflow, from_him).await;
    }
    line.node.mailbox().close_port(&to_him);
}

/// At the near end: leads one that has dialled at the far one to `host`.
pub(super) async fn lead(line: Line, host: SocketAddr, guest: Dialled) {
    let Dialled { to_him, taken } = guest;
    let stream = match TcpStream::connect(host).await {
        Ok(stream) => stream,
        Err(error) => return line.answer(taken, Taken(Err(error.to_string()))).await,
    };
    let (inflow, from_him) = inflow(&line);
    line.answer(taken, Taken(Ok(from_him.clone()))).await;
    join(&line, stream, inflow, to_him).await;
    line.node.mailbox().close_port(&from_him);
}

fn inflow(line: &Line) -> (Arc<Inflow>, PortId) {
    let inflow = Arc::<Inflow>::default();
    let arriving = Arc::clone(&inflow);
    (inflow, line.node.mailbox().open_sink(move |answer| arriving.take(answer)))
}

/// Until both directions have ended, or one has failed.
async fn join(line: &Line, stream: TcpStream, inflow: Arc<Inflow>, there: PortId) {
    let _only_a_delay = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let out = async {
        forward(line, reader, &there).await;
        Ok(())
    };
    let back = async {
        copy_buf(&mut BufReader::with_capacity(PIECE, Outlet(inflow)), &mut writer).await?;
        writer.shutdown().await
    };
    let joined: io::Result<_> = tokio::try_join!(out, back);
    if joined.is_err() {
        send(line, &there, Bytes::new(), None).await;
    }
}

/// Sends what comes out of `reader` to `there`, no faster than it is taken; an empty piece is the last.
async fn forward(line: &Line, mut reader: OwnedReadHalf, there: &PortId) {
    let (room, mut buffer) = (Arc::new(Semaphore::new(UNDER_WAY)), vec![0; PIECE]);
    while let Ok(place) = Arc::clone(&room).acquire_owned().await
        && let Ok(bytes @ 1..) = reader.read(&mut buffer).await
        && send(line, there, Bytes::copy_from_slice(&buffer[..bytes]), Some(place)).await
    {}
    send(line, there, Bytes::new(), None).await;
}
