//! Links over TCP whose connections break: what both ends make of it.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::time::Duration;

use common::proxy::{Proxy, Weather};
use common::{CallBack, Host, number, packet, soon};
use procession_model::{LaunchId, Secret};
use procession_net::{Dial, Link, LinkError, dial};
use procession_wire::{CONFIRMATION, ClientHandshake, SERVER_HELLO_LEN};

struct Distance {
    host: Host,
    how: Dial,
    proxy: Proxy,
    proc_end: Link,
    host_end: Link,
    _call_back: CallBack,
}

/// A host, and a proc that has reached it through a proxy.
async fn distance(lease: Duration) -> Distance {
    let host = Host::tcp_with(lease).await;
    let (mut how, mut call_back) = host.expect();
    how.lease = lease;
    let proxy = Proxy::to(host.port()).await;
    let through = proxy.between(&how);
    let (proc_end, host_end) = soon(async { tokio::join!(dial(&through), call_back.link()) }).await;
    let (proc_end, host_end) = (proc_end.unwrap(), host_end.unwrap());
    Distance { host, how, proxy, proc_end, host_end, _call_back: call_back }
}

const LONG: Duration = Duration::from_secs(60);

/// Takes the packets up to number `until`, and asserts that none is missing and none comes twice.
async fn in_order(link: &mut Link, next: &mut u32, until: u32) {
    while *next < until {
        let packet = soon(link.receiver.recv()).await.unwrap().unwrap();
        assert_eq!(number(&packet), *next);
        *next += 1;
    }
}

mod f98 {
    use super::*;

    #[tokio::test]
    async fn a_link_whose_connection_breaks_again_and_again_loses_and_repeats_nothing() {
        const ROUNDS: u32 = 20;
        const EACH: u32 = 400;
        let mut it = distance(LONG).await;
        let (mut to_host, mut to_proc) = (0, 0);
        for round in 0..ROUNDS {
            for index in 0..EACH {
                let index = round * EACH + index;
                it.proc_end.sender.post(packet(index, vec![1; 50 + index as usize % 3000])).unwrap();
                it.host_end.sender.post(packet(index, vec![2; 50 + index as usize % 3000])).unwrap();
            }
            // It breaks while much of that is on its way, in one direction or the other.
            if round % 2 == 0 {
                in_order(&mut it.host_end, &mut to_host, round * EACH + EACH / 3).await;
            } else {
                in_order(&mut it.proc_end, &mut to_proc, round * EACH + EACH / 3).await;
            }
            it.proxy.cut();
        }
        in_order(&mut it.host_end, &mut to_host, ROUNDS * EACH).await;
        in_order(&mut it.proc_end, &mut to_proc, ROUNDS * EACH).await;
        assert!(it.proxy.connections() > 1, "it was connected {} times", it.proxy.connections());
    }

    #[tokio::test]
    async fn what_is_posted_while_there_is_no_connection_waits_for_the_next_one() {
        let mut it = distance(LONG).await;
        let [mut proc_sees, mut host_sees] =
            [&it.proc_end, &it.host_end].map(|link| link.reachable.clone().unwrap());
        it.proxy.turn(Weather::Cut);
        soon(proc_sees.wait_for(|reachable| !reachable)).await.unwrap();
        soon(host_sees.wait_for(|reachable| !reachable)).await.unwrap();
        it.proc_end.sender.post(packet(1, "to the host")).unwrap();
        it.host_end.sender.post(packet(2, vec![0; 10 << 20])).unwrap();
        assert!(it.host_end.sender.pending_bytes() > 0);
        it.proxy.turn(Weather::Fair);
        assert_eq!(number(&soon(it.host_end.receiver.recv()).await.unwrap().unwrap()), 1);
        assert_eq!(number(&soon(it.proc_end.receiver.recv()).await.unwrap().unwrap()), 2);
        assert!(*proc_sees.borrow() && *host_sees.borrow());
    }

    #[tokio::test]
    async fn after_the_lease_both_ends_have_ended_and_say_why() {
        let mut it = distance(Duration::from_secs(2)).await;
        it.proxy.turn(Weather::Cut);
        it.proxy.turn(Weather::Silent);
        let (at_host, at_proc) =
            soon(async { tokio::join!(it.host_end.receiver.recv(), it.proc_end.receiver.recv()) }).await;
        let text = at_host.unwrap().unwrap_err().to_string();
        assert!(text.contains("the peer did not come back within 2s"), "{text}");
        let text = at_proc.unwrap().unwrap_err().to_string();
        assert!(text.contains("the host could not be reached for 2s"), "{text}");
        assert!(it.host_end.sender.is_closed() && it.proc_end.sender.is_closed());
        it.proxy.turn(Weather::Fair);
        assert!(soon(it.host_end.receiver.recv()).await.is_none(), "it does not come to life again");
    }

    #[tokio::test]
    async fn a_proc_whose_host_has_ended_does_not_wait_for_the_lease() {
        let mut it = distance(LONG).await;
        let start = std::time::Instant::now();
        it.host.serving.stop().await;
        drop(it.host_end);
        it.proxy.turn(Weather::Cut);
        let end = soon(it.proc_end.receiver.recv()).await;
        // A host that had the time has said goodbye, so that there is no error.
        assert!(matches!(end, None | Some(Err(LinkError::Io(_)))), "{end:?}");
        assert!(start.elapsed() < LONG / 4, "{:?}", start.elapsed());
    }

    #[tokio::test]
    async fn a_goodbye_that_a_broken_connection_holds_up_arrives_over_the_next_one() {
        let mut it = distance(LONG).await;
        it.proxy.turn(Weather::Silent);
        it.proc_end.sender.post(packet(1, "last words")).unwrap();
        it.proc_end.sender.close();
        it.proxy.turn(Weather::Cut);
        it.proxy.turn(Weather::Fair);
        assert_eq!(number(&soon(it.host_end.receiver.recv()).await.unwrap().unwrap()), 1);
        assert!(soon(it.host_end.receiver.recv()).await.is_none());
        soon(it.proc_end.sender.flushed()).await.unwrap();
    }

    #[tokio::test]
    async fn with_no_lease_a_link_ends_with_its_connection() {
        let mut it = distance(Duration::ZERO).await;
        it.proxy.turn(Weather::Cut);
        assert!(soon(it.host_end.receiver.recv()).await.unwrap().is_err());
        assert!(soon(it.proc_end.receiver.recv()).await.unwrap().is_err());
    }

    /// Comes back in the proc's name, with its certificate and with `secret`; whether that was taken.
    async fn comes_back(how: &Dial, port: u16, secret: &Secret) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = common::tls(how, port).await;
        let (handshake, hello) = ClientHandshake::resume(how.launch, secret);
        stream.write_all(&hello).await.unwrap();
        let mut answer = [0; SERVER_HELLO_LEN];
        if stream.read_exact(&mut answer).await.is_err() {
            return false;
        }
        let Ok((_, proof)) = handshake.server_hello(&answer) else { return false };
        stream.write_all(&proof).await.unwrap();
        stream.read_exact(&mut [0; 32]).await.is_ok()
    }

    #[tokio::test]
    async fn nobody_comes_back_without_the_secret_of_the_session() {
        let mut it = distance(LONG).await;
        for secret in [it.how.token.clone(), Secret::random()] {
            assert!(!soon(comes_back(&it.how, it.host.port(), &secret)).await);
        }
        let nobody = Dial { launch: LaunchId::fresh(), ..it.how.clone() };
        assert!(!soon(comes_back(&nobody, it.host.port(), &it.how.token)).await);
        it.proc_end.sender.post(packet(1, "still here")).unwrap();
        assert_eq!(number(&soon(it.host_end.receiver.recv()).await.unwrap().unwrap()), 1);
        assert_eq!(it.proxy.connections(), 1, "its connection is the first one");
    }
}

mod f92 {
    use super::*;

    /// Has the proxy do `change` to what comes next from the proc, and asserts that both ends go on as
    /// if nothing had happened, over another connection.
    async fn survives(name: &str, mut change: impl FnMut(Vec<u8>) -> Vec<u8> + Send + 'static) {
        let mut it = distance(LONG).await;
        let (mut next, mut posted) = (0, 0);
        let mut post = |link: &Link, count| {
            for _ in 0..count {
                link.sender.post(packet(posted, vec![3; 700])).unwrap();
                posted += 1;
            }
        };
        post(&it.proc_end, 10);
        in_order(&mut it.host_end, &mut next, 10).await;
        let before = it.proxy.connections();
        let (done, mut changed) = tokio::sync::mpsc::unbounded_channel();
        it.proxy.meddle(Box::new(move |chunk| {
            let sent = change(chunk.clone());
            if sent != chunk {
                let _ = done.send(());
            }
            sent
        }));
        let mut rounds = 0;
        while changed.try_recv().is_err() {
            post(&it.proc_end, 1);
            tokio::time::sleep(Duration::from_millis(5)).await;
            rounds += 1;
            assert!(rounds < 10_000, "{name}: nothing was changed");
        }
        post(&it.proc_end, 50);
        soon(async {
            while it.proxy.connections() == before {
                tokio::time::sleep(Duration::from_millis(5)).await;
                // What is missing is noticed by what follows it.
                post(&it.proc_end, 1);
            }
        })
        .await;
        it.proxy.leave_alone();
        post(&it.proc_end, 10);
        in_order(&mut it.host_end, &mut next, posted).await;
        it.host_end.sender.post(packet(7, "and back")).unwrap();
        assert_eq!(number(&soon(it.proc_end.receiver.recv()).await.unwrap().unwrap()), 7, "{name}");
    }

    /// Does something to one chunk, and to no other.
    fn once(mut change: impl FnMut(Vec<u8>) -> Vec<u8> + Send) -> impl FnMut(Vec<u8>) -> Vec<u8> + Send {
        let mut is_done = false;
        move |chunk| if std::mem::replace(&mut is_done, true) { chunk } else { change(chunk) }
    }

    #[tokio::test]
    async fn what_was_sent_once_is_not_taken_twice() {
        survives("duplicate", once(|chunk| [&chunk[..], &chunk].concat())).await;
    }

    #[tokio::test]
    async fn what_was_dropped_on_the_way_is_sent_again() {
        survives("drop", once(|_| Vec::new())).await;
    }

    #[tokio::test]
    async fn what_was_put_out_of_order_is_put_right() {
        let mut held = Vec::new();
        let mut swapped = false;
        let reorder = move |chunk: Vec<u8>| {
            if swapped {
                return chunk;
            }
            if held.is_empty() {
                held = chunk;
                return Vec::new();
            }
            swapped = true;
            [&chunk[..], &held].concat()
        };
        survives("reorder", reorder).await;
    }

    #[tokio::test]
    async fn what_a_stranger_puts_in_has_no_effect() {
        survives("junk", once(|chunk| [&chunk[..], b"\x17\x03\x03\x00\x20", &[7; 32]].concat())).await;
        survives("text", once(|chunk| [b"GET / HTTP/1.1\r\n\r\n", &chunk[..]].concat())).await;
    }

    #[tokio::test]
    async fn a_flipped_bit_is_noticed() {
        survives(
            "flip",
            once(|mut chunk| {
                let last = chunk.len() - 1;
                chunk[last] ^= 1;
                chunk
            }),
        )
        .await;
    }

    #[tokio::test]
    async fn what_an_earlier_connection_carried_is_worth_nothing_in_a_later_one() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut it = distance(LONG).await;
        let recorded = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let tape = std::sync::Arc::clone(&recorded);
        it.proxy.meddle(Box::new(move |chunk| {
            tape.lock().unwrap().extend_from_slice(&chunk);
            chunk
        }));
        // The whole of a connection that comes back, from its first byte on.
        it.proxy.cut();
        it.proc_end.sender.post(packet(0, "recorded")).unwrap();
        assert_eq!(number(&soon(it.host_end.receiver.recv()).await.unwrap().unwrap()), 0);
        let words = recorded.lock().unwrap().clone();
        assert!(words.len() > 500, "{}", words.len());
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", it.host.port())).await.unwrap();
        let _ = stream.write_all(&words).await;
        let _ = soon(stream.read_to_end(&mut Vec::new())).await;
        it.proc_end.sender.post(packet(1, "the next one")).unwrap();
        assert_eq!(number(&soon(it.host_end.receiver.recv()).await.unwrap().unwrap()), 1);
        assert_eq!(it.proxy.connections(), 2);
    }
}

mod f89 {
    use procession_wire::{MAX_RECORD, Record, write_data};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn a_peer_that_breaks_the_rules_of_a_session_ends_it() {
        let mut flood = bytes::BytesMut::new();
        // As the first part of a frame that never gets whole.
        let part = 1_u64 << 29;
        let (length, part) = ((part + 9).to_le_bytes(), part.to_le_bytes());
        write_data(&[&[0xf5, 0x50, 1, 0, 1, 0, 0, 0], &length, &part], &mut flood);
        for _ in 0..65 {
            write_data(&[&vec![0; MAX_RECORD]], &mut flood);
        }
        let mut never_sent = bytes::BytesMut::new();
        Record::Received { count: 5, limit: 0 }.write(&mut never_sent);
        for (words, needle, is_read) in [
            (&[9][..], "starts with byte 9", true),
            (&[1, 0, 0, 0, 0], "0 bytes is not within", true),
            (&never_sent, "it has 5 bytes, where 0 to 0 were possible", true),
            (&flood, "it was given room for 4194304", false),
        ] {
            let host = Host::tcp().await;
            let (how, mut call_back) = host.expect();
            let mut stream = common::tls(&how, host.port()).await;
            let (handshake, hello) = ClientHandshake::new(how.launch, &how.token);
            stream.write_all(&hello).await.unwrap();
            let mut answer = [0; SERVER_HELLO_LEN];
            stream.read_exact(&mut answer).await.unwrap();
            stream.write_all(&handshake.server_hello(&answer).unwrap().1).await.unwrap();
            stream.read_exact(&mut [0; 32]).await.unwrap();
            stream.write_all(&CONFIRMATION).await.unwrap();
            let mut host_end = soon(call_back.link()).await.unwrap();
            // A host that has had enough may close before all is written.
            let _ = stream.write_all(words).await;
            if !is_read {
                let mut rest = Vec::new();
                let _ = soon(stream.read_to_end(&mut rest)).await;
            }
            let error = soon(host_end.receiver.recv()).await.unwrap().unwrap_err();
            assert!(matches!(error, LinkError::Protocol(_)), "{error}");
            assert!(error.to_string().contains(needle), "{error}");
        }
    }
}
