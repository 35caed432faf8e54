//! What holds for packets on a link.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{Host, number, packet, soon};
use procession_model::{ActorId, Head, HostId, Packet, ProcId};
use procession_net::{Link, LinkError, Peer, PostError};

#[tokio::test]
async fn a_packet_arrives_as_it_was_sent_in_both_directions() {
    for host in Host::both().await {
        let (mut proc_end, mut host_end) = soon(host.link()).await;
        let sent = packet(7, "to the host");
        proc_end.sender.post(sent.clone()).unwrap();
        assert_eq!(soon(host_end.receiver.recv()).await.unwrap().unwrap(), sent);
        let sent = packet(8, "to the proc");
        host_end.sender.post(sent.clone()).unwrap();
        assert_eq!(soon(proc_end.receiver.recv()).await.unwrap().unwrap(), sent);
    }
}

#[tokio::test]
async fn a_hundred_thousand_packets_keep_their_order() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        for index in 0..100_000 {
            proc_end.sender.post(packet(index, Bytes::from(vec![index as u8; index as usize % 97]))).unwrap();
        }
        for index in 0..100_000 {
            let packet = soon(host_end.receiver.recv()).await.unwrap().unwrap();
            assert_eq!(number(&packet), index);
            assert_eq!(packet.parts[0], vec![index as u8; index as usize % 97]);
        }
    }
}

#[tokio::test]
async fn sixty_four_mebibytes_arrive_whole() {
    let big: Vec<u8> = (0..64 << 20).map(|index: u32| (index % 251) as u8).collect();
    let big = Bytes::from(big);
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        let mut sent = packet(1, big.clone());
        sent.parts.push(Bytes::from_static(b"and a little more"));
        proc_end.sender.post(sent.clone()).unwrap();
        let got = soon(host_end.receiver.recv()).await.unwrap().unwrap();
        assert!(got == sent);
        proc_end.sender.post(packet(2, "next")).unwrap();
        assert_eq!(number(&soon(host_end.receiver.recv()).await.unwrap().unwrap()), 2);
    }
}

#[tokio::test]
async fn closing_sends_what_was_posted_and_then_ends_both_directions() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        for index in 0..1000 {
            proc_end.sender.post(packet(index, vec![0; 10_000])).unwrap();
        }
        proc_end.sender.close();
        let refused = packet(9, "too late");
        assert_eq!(proc_end.sender.post(refused.clone()).unwrap_err(), (refused, PostError::Closed));
        for index in 0..1000 {
            assert_eq!(number(&soon(host_end.receiver.recv()).await.unwrap().unwrap()), index);
        }
        assert!(soon(host_end.receiver.recv()).await.is_none());
        assert!(soon(host_end.receiver.recv()).await.is_none(), "the end is the end");
        assert!(host_end.sender.is_closed(), "the other direction has ended too");
        soon(proc_end.sender.flushed()).await.unwrap();
        assert_eq!(proc_end.sender.pending_bytes(), 0);
    }
}

#[tokio::test]
async fn dropping_every_sender_closes_the_link_and_keeps_what_was_posted() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        let clone = proc_end.sender.clone();
        drop(proc_end.sender);
        clone.post(packet(1, "still open")).unwrap();
        drop(clone);
        assert_eq!(number(&soon(host_end.receiver.recv()).await.unwrap().unwrap()), 1);
        assert!(soon(host_end.receiver.recv()).await.is_none());
    }
}

#[tokio::test]
async fn dropping_the_receiver_closes_the_link() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        drop(proc_end.receiver);
        assert!(proc_end.sender.is_closed());
        assert!(soon(host_end.receiver.recv()).await.is_none());
    }
}

#[tokio::test]
async fn flushed_waits_for_a_reader_and_pending_bytes_count_down() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        proc_end.sender.post(packet(1, vec![0; 32 << 20])).unwrap();
        assert!(proc_end.sender.pending_bytes() > 32 << 20);
        let mut flushed = std::pin::pin!(proc_end.sender.flushed());
        tokio::select! {
            biased;
            _ = &mut flushed => panic!("no socket holds so much"),
            () = tokio::task::yield_now() => {}
        }
        let (flushed, received) = soon(async { tokio::join!(flushed, host_end.receiver.recv()) }).await;
        flushed.unwrap();
        assert_eq!(received.unwrap().unwrap().parts[0].len(), 32 << 20);
        assert_eq!(proc_end.sender.pending_bytes(), 0);
    }
}

#[tokio::test]
async fn packets_can_be_posted_from_any_thread_and_keep_each_threads_order() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let sender = proc_end.sender.clone();
                std::thread::spawn(move || {
                    for index in 0..5000 {
                        sender.post(packet(index, vec![thread])).unwrap();
                    }
                })
            })
            .collect();
        let mut next = [0; 4];
        for _ in 0..20_000 {
            let packet = soon(host_end.receiver.recv()).await.unwrap().unwrap();
            let thread = packet.parts[0][0] as usize;
            assert_eq!(number(&packet), next[thread]);
            next[thread] += 1;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
}

#[tokio::test]
async fn receiving_can_be_cancelled_anywhere_without_losing_a_byte() {
    for host in Host::both().await {
        let (proc_end, mut host_end) = soon(host.link()).await;
        let sender = proc_end.sender.clone();
        let posting = tokio::spawn(async move {
            for index in 0..200 {
                sender.post(packet(index, vec![index as u8; 3000])).unwrap();
                tokio::task::yield_now().await;
            }
        });
        let mut next = 0;
        while next < 200 {
            let received = tokio::select! {
                biased;
                received = host_end.receiver.recv() => received,
                () = tokio::task::yield_now() => continue,
            };
            assert_eq!(number(&received.unwrap().unwrap()), next);
            next += 1;
        }
        soon(posting).await.unwrap();
    }
}

#[tokio::test]
async fn a_packet_over_a_limit_comes_back_and_the_link_lives_on() {
    let host = Host::unix();
    let (proc_end, mut host_end) = soon(host.link()).await;
    let mut many = packet(1, "");
    many.parts = vec![Bytes::new(); 1025];
    let (back, why) = proc_end.sender.post(many.clone()).unwrap_err();
    assert_eq!(back, many);
    assert!(why.to_string().contains("1025 segments is over the limit of 1024"), "{why}");
    let long = Packet::bare(Head::Stop { reason: "x".repeat(70_000) });
    let (back, why) = proc_end.sender.post(long.clone()).unwrap_err();
    assert_eq!(back, long);
    assert!(why.to_string().contains("not within 1..=65536: shorten"), "{why}");
    assert!(!proc_end.sender.is_closed());
    proc_end.sender.post(packet(2, "fits")).unwrap();
    assert_eq!(number(&soon(host_end.receiver.recv()).await.unwrap().unwrap()), 2);
}

#[test]
fn a_link_whose_runtime_is_gone_gives_packets_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (proc_end, _host_end) = runtime.block_on(async {
        let host = Host::unix();
        soon(host.link()).await
    });
    drop(runtime);
    let lost = packet(1, "nobody writes this");
    assert_eq!(proc_end.sender.post(lost.clone()).unwrap_err(), (lost, PostError::Closed));
}

#[tokio::test]
async fn a_link_that_breaks_fails_those_who_wait_for_the_flush() {
    let host = Host::unix();
    let (proc_end, host_end) = soon(host.link()).await;
    proc_end.sender.post(packet(1, vec![0; 32 << 20])).unwrap();
    let (flushed, ()) = tokio::join!(soon(proc_end.sender.flushed()), async {
        tokio::task::yield_now().await;
        drop(host_end);
    });
    assert!(matches!(flushed, Err(LinkError::Closed { unsent: 1.. })), "{flushed:?}");
    assert!(proc_end.sender.post(packet(2, "")).is_err());
}

#[tokio::test]
async fn a_peer_that_takes_nothing_holds_a_closed_link_for_ten_seconds_and_no_longer() {
    let (near, _far) = tokio::io::duplex(1000);
    let (reader, writer) = tokio::io::split(near);
    let link = Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() });
    link.sender.post(packet(1, vec![0; 10_000])).unwrap();
    link.sender.close();
    // From here on, time passes as soon as there is nothing else to do.
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let flushed = link.sender.flushed().await;
    assert!(matches!(flushed, Err(LinkError::Closed { unsent: 9000.. })), "{flushed:?}");
    assert_eq!(start.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_refused_messages_beyond_64_mebibytes_and_nothing_else() {
    let message = |size: usize| {
        let proc_id = ProcId::fresh("p", &HostId::fresh("test")).unwrap();
        let to = ActorId::new(proc_id, "a");
        let head = Head::Deliver {
            to: to.clone(),
            from: to,
            tag: "test".to_owned(),
            ports: Vec::new(),
            answered: false,
        };
        Packet { head, parts: vec![Bytes::from(vec![0; size])] }
    };
    let (near, far) = tokio::io::duplex(1000);
    let [near, mut far] = [near, far].map(|end| {
        let (reader, writer) = tokio::io::split(end);
        Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
    });
    tokio::time::pause();
    for _ in 0..65 {
        near.sender.post(message(1 << 20)).unwrap();
    }
    near.sender.post(message(100)).expect("it may just be busy");
    tokio::time::sleep(Duration::from_secs(3)).await;
    let (back, why) = near.sender.post(message(100)).unwrap_err();
    assert_eq!(back.parts[0].len(), 100);
    assert!(matches!(why, PostError::Full { waiting: 67_000_000.., limit: 67_108_864 }), "{why}");
    assert!(why.to_string().contains("the limit is 67108864"), "{why}");
    near.sender.post(packet(1, "no message")).unwrap();
    for _ in 0..66 {
        far.receiver.recv().await.unwrap().unwrap();
    }
    assert_eq!(number(&far.receiver.recv().await.unwrap().unwrap()), 1);
    near.sender.post(message(100)).expect("there is room again");
}

/// Which timer the kernel runs for each end of the connections to `port`, as /proc/net/tcp says.
fn timers(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{port:04X}");
    let established = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|it| it[3] == "01" && (it[1].ends_with(&port) || it[2].ends_with(&port)));
    established.map(|it| it[5].to_owned()).collect()
}

mod f99 {
    use super::*;

    #[tokio::test]
    async fn both_ends_of_a_tcp_link_ask_within_a_second_whether_the_other_is_there() {
        let host = Host::tcp().await;
        let (_proc_end, _host_end) = soon(host.link()).await;
        // 02 is the timer of keepalive; its time to go is in hundredths of a second.
        let asks = |timer: &String| {
            timer.strip_prefix("02:").is_some_and(|left| u32::from_str_radix(left, 16).unwrap() <= 100)
        };
        soon(async {
            while timers(host.port()).iter().filter(|timer| asks(timer)).count() < 2 {
                // What was sent last may not be acknowledged yet.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
    }
}
