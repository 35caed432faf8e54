#![expect(clippy::result_large_err, reason = "the error is the packet itself, handed back")]

use std::mem;

use procession_model::{Head, Packet, Target};

/// How much of a head its targets may take, in bytes: it is far from the limit then.
const MOST: usize = 48 << 10;

/// One packet for the same message to several actors, as far as it can be said in one: in their order, each with how many
/// packets it stands for.
pub fn bundle(packets: Vec<Packet>) -> Vec<(Packet, usize)> {
    let mut bundles = Vec::new();
    let mut open: Option<Open> = None;
    for packet in packets {
        match open.take() {
            Some(mut cast) => match cast.add(packet) {
                Ok(()) => open = Some(cast),
                Err(other) => {
                    bundles.push(cast.close());
                    open = Some(Open::new(other));
                }
            },
            None => open = Some(Open::new(packet)),
        }
    }
    bundles.extend(open.map(Open::close));
    bundles
}

/// The packets that one stands for.
pub fn unbundle(packet: Packet) -> Vec<Packet> {
    let Packet { head, parts } = packet;
    match head {
        Head::Cast { from, tag, to } => {
            let one = |Target { to, ports, answered }| Packet {
                head: Head::Deliver { to, from: from.clone(), tag: tag.clone(), ports, answered },
                parts: parts.clone(),
            };
            to.into_iter().map(one).collect()
        }
        head => vec![Packet { head, parts }],
    }
}

/// A packet, and the targets of those behind it that say the same.
struct Open {
    first: Packet,
    more: Vec<Target>,
    size: usize,
}

impl Open {
    fn new(first: Packet) -> Self {
        Self { first, more: Vec::new(), size: 0 }
    }

    fn add(&mut self, packet: Packet) -> Result<(), Packet> {
        let (Head::Deliver { from, tag, .. }, Head::Deliver { from: other, tag: other_tag, .. }) =
            (&self.first.head, &packet.head)
        else {
            return Err(packet);
        };
        let same = |(one, other): (&bytes::Bytes, &bytes::Bytes)| {
            one.len() == other.len() && one.as_ptr() == other.as_ptr()
        };
        let parts = (&self.first.parts, &packet.parts);
        let say_the_same = from == other
            && tag == other_tag
            && parts.0.len() == parts.1.len()
            && parts.0.iter().zip(parts.1).all(same);
        if !say_the_same || self.size >= MOST {
            return Err(packet);
        }
        let Head::Deliver { to, ports, answered, .. } = packet.head else { return Err(packet) };
        let port_sizes = ports.iter().map(|port| port.proc_id.as_str().len() + 24).sum::<usize>();
        self.size += to.proc_id.as_str().len() + to.name.len() + port_sizes + 32;
        self.more.push(Target { to, ports, answered });
        Ok(())
    }

    fn close(self) -> (Packet, usize) {
        let Self { mut first, mut more, .. } = self;
        if more.is_empty() {
            return (first, 1);
        }
        let count = more.len() + 1;
        if let Head::Deliver { to, from, tag, ports, answered } = first.head {
            more.push(Target { to, ports, answered });
            more.rotate_right(1);
            first.head = Head::Cast { from, tag, to: mem::take(&mut more) };
        }
        (first, count)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use procession_model::{ActorId, HostId, PortId, ProcId};

    use super::*;

    fn actor(name: &str) -> ActorId {
        ActorId::new(ProcId::fresh("p", &HostId::fresh("h")).expect("a good name"), name)
    }

    fn deliver(from: &ActorId, to: &ActorId, parts: &[Bytes]) -> Packet {
        let ports = vec![PortId::new(from.proc_id.clone(), 1)];
        let head = Head::Deliver {
            to: to.clone(),
            from: from.clone(),
            tag: "test".to_owned(),
            ports,
            answered: true,
        };
        Packet { head, parts: parts.to_vec() }
    }

    #[test]
    fn what_says_the_same_goes_in_one_and_comes_out_as_it_was_in_order() {
        let (from, other) = (actor("from"), actor("other"));
        let (same, different) = ([Bytes::from_static(b"same")], [Bytes::from_static(b"different")]);
        let to: Vec<ActorId> = (0..1000).map(|number| actor(&format!("to-{number}"))).collect();
        let mut packets: Vec<Packet> = to.iter().map(|to| deliver(&from, to, &same)).collect();
        packets.push(deliver(&from, &to[0], &different));
        packets.push(deliver(&other, &to[0], &different));
        packets.push(Packet::bare(Head::Welcome));
        let bundles = bundle(packets.clone());
        assert_eq!(bundles.iter().map(|(_, count)| count).sum::<usize>(), packets.len());
        assert!((5..20).contains(&bundles.len()), "{}", bundles.len());
        let unbundled: Vec<Packet> = bundles.into_iter().flat_map(|(packet, _)| unbundle(packet)).collect();
        assert_eq!(unbundled, packets);
    }
}
