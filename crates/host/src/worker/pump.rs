use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use procession_model::{Head, Packet, PortId};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe::Receiver;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::line::Line;
use super::message::OUTPUT_TAG;

/// What is read at once, in bytes, and how many such pieces of a stream may be under way to the client.
pub(super) const PIECE: usize = 64 << 10;
pub(super) const UNDER_WAY: usize = 8;
/// After a proc's end: how long its pipe may be silent, how long reading what is left takes at most, and how much that is
/// at most: as much as a pipe can hold.
const SILENCE: Duration = Duration::from_millis(5);
const DRAIN: Duration = Duration::from_millis(200);
const LEFT: usize = 1 << 20;

/// Sends what comes out of `pipe` to `port`, and reads no further while the client has not taken what was sent. Ends with
/// the pipe, or shortly after the proc: a grandchild may hold it open for hours. What is left then is sent whatever the
/// client has taken, because the exit follows it and waits for no reader.
pub(super) async fn pump(line: Line, pipe: Receiver, port: PortId, mut ended: watch::Receiver<bool>) {
    let (room, mut buffer, mut deadline) = (Arc::new(Semaphore::new(UNDER_WAY)), vec![0; PIECE], None);
    let mut left = LEFT;
    loop {
        let place = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended), if deadline.is_none() => {
                deadline = Some(Instant::now() + DRAIN);
                None
            }
            place = Arc::clone(&room).acquire_owned(), if deadline.is_none() => place.ok(),
            () = std::future::ready(()), if deadline.is_some() => None,
        };
        let readable = async {
            match deadline {
                None => tokio::select! {
                    biased;
                    readable = pipe.readable() => Some(readable),
                    _ = ended.wait_for(|ended| *ended) => None,
                },
                Some(at) => {
                    timeout(SILENCE.min(at.saturating_duration_since(Instant::now())), pipe.readable())
                        .await
                        .ok()
                }
            }
        };
        match readable.await {
            Some(Ok(())) => {}
            None if deadline.is_none() => continue, // it has ended just now
            None | Some(Err(_)) => break,
        }
        match pipe.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(bytes) => {
                if deadline.is_some() {
                    left = left.saturating_sub(bytes);
                }
                if !send(&line, &port, Bytes::copy_from_slice(&buffer[..bytes]), place).await {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
        if left == 0 || deadline.is_some_and(|at| Instant::now() >= at) {
            break;
        }
    }
    send(&line, &port, Bytes::new(), None).await;
}

/// As [`pump`], for output that the launcher hands over as a stream, whose end comes by itself.
pub(super) async fn pump_stream(
    line: Line,
    mut stream: Box<dyn AsyncRead + Send + Unpin>,
    port: PortId,
    mut ended: watch::Receiver<bool>,
) {
    let (room, mut buffer) = (Arc::new(Semaphore::new(UNDER_WAY)), vec![0; PIECE]);
    let mut is_open = true;
    while is_open {
        let place = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => break,
            place = Arc::clone(&room).acquire_owned() => place.ok(),
        };
        let read = tokio::select! {
            biased;
            _ = ended.wait_for(|ended| *ended) => break,
            read = stream.read(&mut buffer) => read,
        };
        is_open = match read {
            Ok(bytes @ 1..) => send(&line, &port, Bytes::copy_from_slice(&buffer[..bytes]), place).await,
            _ => false,
        };
    }
    let mut left = LEFT;
    while is_open
        && left > 0
        && let Ok(Ok(bytes @ 1..)) = timeout(SILENCE, stream.read(&mut buffer)).await
    {
        left = left.saturating_sub(bytes);
        is_open = send(&line, &port, Bytes::copy_from_slice(&buffer[..bytes]), None).await;
    }
    send(&line, &port, Bytes::new(), None).await;
}

/// With a once port that is let go of when this was taken, which gives `place` back.
pub(super) async fn send(
    line: &Line,
    port: &PortId,
    bytes: Bytes,
    place: Option<OwnedSemaphorePermit>,
) -> bool {
    let ports = place.map(|place| {
        let held = line.node.mailbox().open_once_sink(move |_| drop(place));
        // It leaves with the packet, and is not to be closed from here.
        let _first_use = held.spend();
        held.port().clone()
    });
    let head =
        Head::Send { port: port.clone(), tag: OUTPUT_TAG.to_owned(), ports: ports.into_iter().collect() };
    line.send(Packet { head, parts: vec![bytes] }).await
}
