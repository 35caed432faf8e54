//! What is seen when a peer is killed.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

mod common;

use std::io::{BufRead, Write};
use std::process::{Child, Command, Stdio};

use common::{Host, number, packet, soon};
use procession_net::{Dial, dial};

/// Runs in a process of its own: dials, says so with a packet, posts more than is read, and waits.
#[tokio::test]
#[ignore = "it is the peer that the tests below kill"]
async fn inner_peer() {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
    let bytes: Vec<u8> = line.trim().split(',').map(|byte| byte.parse().unwrap()).collect();
    let how: Dial = rmp_serde::from_slice(&bytes).unwrap();
    let mut link = dial(&how).await.unwrap();
    link.sender.post(packet(std::process::id(), "alive")).unwrap();
    while let Some(Ok(request)) = link.receiver.recv().await {
        link.sender.post(packet(0, vec![0; number(&request) as usize])).unwrap();
    }
}

struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // It is dead already where a test has gone as it should.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(how: &Dial) -> Peer {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "inner_peer"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let bytes = rmp_serde::to_vec_named(how).unwrap();
    let line: Vec<_> = bytes.iter().map(u8::to_string).collect();
    writeln!(child.stdin.as_mut().unwrap(), "{}", line.join(",")).unwrap();
    Peer(child)
}

#[tokio::test]
async fn a_killed_peer_is_seen_as_the_end() {
    for host in Host::both().await {
        let (how, mut call_back) = host.expect();
        let mut peer = start(&how);
        let mut link = soon(call_back.link()).await.unwrap();
        assert_eq!(number(&soon(link.receiver.recv()).await.unwrap().unwrap()), peer.0.id());
        if host.ca.is_none() {
            assert_eq!(link.peer.pid, Some(peer.0.id()));
        }
        peer.0.kill().unwrap();
        let end = soon(link.receiver.recv()).await;
        if host.ca.is_none() {
            assert!(end.is_none());
        } else {
            // Over a network that is known only once it has had the time to come back.
            let text = end.unwrap().unwrap_err().to_string();
            assert!(text.contains("did not come back within"), "{text}");
        }
        assert!(link.sender.post(packet(1, "to nobody")).is_err());
    }
}

#[tokio::test]
async fn a_peer_that_is_killed_with_bytes_unread_is_seen_as_the_end_as_well() {
    for host in Host::both().await {
        let (how, mut call_back) = host.expect();
        let mut peer = start(&how);
        let mut link = soon(call_back.link()).await.unwrap();
        assert!(soon(link.receiver.recv()).await.unwrap().is_ok());
        // More than sockets hold, so that it dies with bytes on the way in both directions.
        for _ in 0..100 {
            link.sender.post(packet(10, vec![0; 100_000])).unwrap();
        }
        assert!(soon(link.receiver.recv()).await.unwrap().is_ok(), "it is at work");
        peer.0.kill().unwrap();
        while let Some(received) = soon(link.receiver.recv()).await {
            assert!(received.is_ok() || link.sender.is_closed());
        }
        assert!(link.sender.is_closed());
        let _ = soon(link.sender.flushed()).await;
    }
}

mod f99 {
    use std::time::Duration;

    use super::*;

    fn signal(peer: &Peer, name: &str) {
        let sent = Command::new("kill").args([name, &peer.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    #[tokio::test]
    async fn a_peer_that_is_stopped_with_more_on_the_way_than_it_has_room_for_is_not_taken_for_gone() {
        let host = Host::tcp().await;
        let (how, mut call_back) = host.expect();
        let peer = start(&how);
        let mut link = soon(call_back.link()).await.unwrap();
        assert!(soon(link.receiver.recv()).await.unwrap().is_ok());
        signal(&peer, "-STOP");
        for _ in 0..20 {
            link.sender.post(packet(1, vec![0; 400_000])).unwrap();
        }
        // Nothing but time shows that it is not given up: three times as long as a silent kernel is given.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(link.sender.pending_bytes() > 1 << 20, "it takes nothing");
        let mut reachable = link.reachable.clone().unwrap();
        assert!(!reachable.has_changed().unwrap() && *reachable.borrow_and_update());
        signal(&peer, "-CONT");
        for _ in 0..20 {
            assert!(soon(link.receiver.recv()).await.unwrap().is_ok());
        }
        assert!(!reachable.has_changed().unwrap());
    }
}
