use std::sync::Arc;

use bytes::Bytes;
use procession_actor::CANCELLED;
use procession_model::{ActorId, HostId, PortId};
use procession_net::{Link, LinkReceiver, Peer};
use tokio::runtime::Handle;

use super::*;

fn proc_id(name: &str) -> ProcId {
    ProcId::fresh(name, &HostId::fresh("test")).expect("a good name")
}

fn hub() -> (Arc<Hub>, Proc) {
    let proc_ = Proc::new(proc_id("host"), Handle::current());
    let hub = Arc::new(Hub::new(proc_.id().clone(), HostId::fresh("here")));
    hub.set_proc(&proc_);
    let router: Arc<Hub> = Arc::clone(&hub);
    proc_.set_router(router);
    (hub, proc_)
}

/// A proc that is up, as what comes to it.
fn up(hub: &Hub, proc_id: &ProcId) -> (LinkReceiver, LinkSender) {
    let (near, far) = tokio::io::duplex(1 << 20);
    let [near, far] = [near, far].map(|end| {
        let (reader, writer) = tokio::io::split(end);
        Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
    });
    hub.add(proc_id);
    hub.up(proc_id, near.sender);
    // The link lives for as long as both of its ends are read.
    tokio::spawn(async move {
        let mut near = near.receiver;
        while near.recv().await.is_some() {}
    });
    (far.receiver, far.sender)
}

fn deliver(from: &ProcId, to: &ProcId, ports: Vec<PortId>) -> Packet {
    let (to, from) = (ActorId::new(to.clone(), "a"), ActorId::new(from.clone(), "b"));
    Packet {
        head: Head::Deliver { to, from, tag: "test".to_owned(), ports, answered: true },
        parts: Vec::new(),
    }
}

#[tokio::test]
async fn the_owner_of_a_port_that_did_not_move_after_all_learns_where_it_is() {
    let (hub, proc_) = hub();
    let (owner, gone, closed) = (proc_id("owner"), proc_id("gone"), proc_id("closed"));
    let (mut heard, _open) = up(&hub, &owner);
    let (_, last_sender) = up(&hub, &closed);
    drop(last_sender);
    hub.routes_mut().entry(closed.clone()).and_modify(|route| {
        if let Route::Up(sender) = route {
            sender.close();
        }
    });
    let port = PortId::new(owner, 7);
    for dest in [gone, closed] {
        proc_.post(deliver(proc_.id(), &dest, vec![port.clone()])).expect_err("it cannot get there");
        for holder in [&dest, proc_.id()] {
            let told = heard.recv().await.expect("a packet").expect("a good one").head;
            assert_eq!(told, Head::PortMoved { port: port.clone(), holder: holder.clone() });
        }
    }
}

#[tokio::test]
async fn a_proc_that_is_not_ready_gets_what_is_for_its_ports_and_messages_for_its_actors_later() {
    let (hub, proc_) = hub();
    let booting = proc_id("booting");
    hub.add(&booting);
    let value = |index| {
        let port = PortId::new(booting.clone(), index);
        Packet::bare(Head::Send { port, tag: "test".to_owned(), ports: Vec::new() })
    };
    let message = deliver(proc_.id(), &booting, Vec::new());
    for packet in [value(1), message.clone()] {
        proc_.post(packet).expect("it waits");
    }
    let (near, far) = tokio::io::duplex(1 << 20);
    let [near, mut far] = [near, far].map(|end| {
        let (reader, writer) = tokio::io::split(end);
        Link::over(reader, writer, Peer { pid: None, uid: None, address: "memory".into() })
    });
    let mut next = async || far.receiver.recv().await.expect("a packet").expect("a good one");
    hub.linked(&booting, near.sender.clone());
    assert_eq!(next().await, value(1));
    proc_.post(value(2)).expect("it is sent");
    assert_eq!(next().await, value(2));
    hub.up(&booting, near.sender.clone());
    assert_eq!(next().await, message);
}

#[tokio::test]
async fn a_cancel_drops_the_message_that_waits_for_a_proc_and_tells_the_owners_of_its_ports() {
    let (hub, proc_) = hub();
    let (owner, pending) = (proc_id("owner"), proc_id("pending"));
    let (mut heard, _open) = up(&hub, &owner);
    hub.add(&pending);
    let [answer, argument, alone] = [1, 2, 3].map(|index| PortId::new(owner.clone(), index));
    hub.forward(deliver(&owner, &pending, vec![answer.clone(), argument.clone()]), Some(&owner));
    let mut one_way = deliver(&owner, &pending, vec![alone.clone()]);
    if let Head::Deliver { answered, .. } = &mut one_way.head {
        *answered = false;
    }
    hub.forward(one_way, Some(&owner));
    for port in [&answer, &alone] {
        hub.forward(
            Packet::bare(Head::PortCancelled { port: port.clone(), holder: pending.clone() }),
            Some(&owner),
        );
    }
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(heard.recv().await.expect("a packet").expect("a good one").head);
    }
    let closed = |port: &PortId| Head::PortClosed { port: port.clone(), reason: CANCELLED.to_owned() };
    // Where it has sent its own ports it knows itself.
    assert_eq!(told, [closed(&answer), closed(&argument)]);
    let (mut got, _sender) = up(&hub, &pending);
    for expected in ["Deliver", "PortCancelled"] {
        let head = format!("{:?}", got.recv().await.expect("a packet").expect("a good one").head);
        assert!(head.starts_with(expected), "{head}");
    }
    assert_eq!(proc_.open_ports(), 0);
}

#[tokio::test]
async fn a_packet_over_a_limit_comes_back_with_the_limit_whether_or_not_its_proc_is_up() {
    let (hub, proc_) = hub();
    let (pending, there) = (proc_id("pending"), proc_id("there"));
    hub.add(&pending);
    let _link = up(&hub, &there);
    for dest in [pending, there] {
        let mut packet = deliver(proc_.id(), &dest, Vec::new());
        packet.parts = vec![Bytes::new(); 1025];
        let (back, why) = proc_.post(packet).expect_err("nobody takes so many");
        assert_eq!(back.parts.len(), 1025);
        assert!(why.contains("1025 segments is over the limit of 1024"), "{why}");
        let ports = (0..2000).map(|index| PortId::new(dest.clone(), index)).collect();
        let (_, why) = proc_.post(deliver(proc_.id(), &dest, ports)).expect_err("it is all head");
        assert!(why.contains("fewer once ports"), "{why}");
    }
}
