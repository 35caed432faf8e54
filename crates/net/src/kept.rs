use std::collections::VecDeque;

use bytes::BytesMut;
use procession_wire::{MAX_RECORD, ProtocolError, Record, write_data};

/// How many bytes wait for the peer's word that they have arrived.
const MOST: usize = 4 << 20;
/// The room that an idle session holds on to.
const IDLE: usize = 256 << 10;

/// What was sent, or is to be, and is not known to have arrived: a lost connection costs none of it.
///
/// Bytes are counted from the session's first one. Its end counts as one more.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Those that the peer has not confirmed.
    bytes: VecDeque<u8>,
    /// All that were ever pushed.
    total: u64,
    ended: bool,
    /// How much the peer has.
    confirmed: u64,
    /// How much the peer has room for.
    limit: u64,
    /// What this connection sends next.
    next: u64,
    /// How much a kernel has taken, over all connections.
    handed: u64,
}

impl Kept {
    /// Takes as much as there is room for.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(MOST - self.bytes.len());
        self.bytes.extend(&bytes[..taken]);
        self.total += taken as u64;
        taken
    }

    /// Nothing is pushed after this.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended
    }

    /// The kernel has taken all bytes, at least once.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed >= self.total
    }

    /// The peer has everything, the end included.
    pub(crate) fn is_settled(&self) -> bool {
        self.ended && self.confirmed > self.total
    }

    /// A new connection has begun, on which the peer has said that it has `count`.
    pub(crate) fn rewind(&mut self, count: u64) -> Result<(), ProtocolError> {
        // What the last connection was given may have arrived, whether or not that was seen to.
        self.next = count.min(self.handed.max(self.next));
        self.confirm(count)
    }

    /// The peer has `count`.
    pub(crate) fn confirm(&mut self, count: u64) -> Result<(), ProtocolError> {
        if !(self.confirmed..=self.next).contains(&count) {
            return Err(ProtocolError::Received { count, from: self.confirmed, to: self.next });
        }
        let left = self.total.saturating_sub(count) as usize;
        self.bytes.drain(..self.bytes.len() - left);
        if left == 0 && self.bytes.capacity() > IDLE {
            self.bytes.shrink_to(IDLE);
        }
        self.confirmed = count;
        Ok(())
    }

    /// The peer has room for `limit`, and for that for ever.
    pub(crate) fn allow(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// Appends the next record to `out`; false when there is none.
    pub(crate) fn write(&mut self, out: &mut BytesMut) -> bool {
        let most = self.total.min(self.limit).saturating_sub(self.next) as usize;
        if most > 0 {
            let left = (self.total - self.next) as usize;
            let (at, size) = (self.bytes.len() - left, most.min(MAX_RECORD));
            let (front, back) = self.bytes.as_slices();
            let split = front.len();
            let front = &front[at.min(split)..(at + size).min(split)];
            let back = &back[at.max(split) - split..(at + size).max(split) - split];
            write_data(&[front, back], out);
            self.next += size as u64;
            return true;
        }
        let end_is_due = self.ended && self.next == self.total;
        if end_is_due {
            Record::End.write(out);
            self.next += 1;
        }
        end_is_due
    }

    /// A kernel has everything that was written.
    pub(crate) fn wrote(&mut self) {
        self.handed = self.handed.max(self.next);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// For a peer that has room.
    fn roomy() -> Kept {
        let mut kept = Kept::default();
        kept.allow(u64::MAX);
        kept
    }

    /// Everything that is to be sent now, as the peer reads it.
    fn sent(kept: &mut Kept) -> (Vec<u8>, bool) {
        let (mut out, mut bytes, mut end) = (BytesMut::new(), Vec::new(), false);
        while kept.write(&mut out) {}
        kept.wrote();
        while let Some(record) = Record::read(&mut out).unwrap() {
            match record {
                Record::Data(data) => bytes.extend_from_slice(&data),
                Record::End => end = true,
                other @ Record::Received { .. } => panic!("{other:?}"),
            }
        }
        (bytes, end)
    }

    #[test]
    fn no_more_is_kept_than_the_bound() {
        let mut kept = roomy();
        assert_eq!(kept.push(&vec![1; MOST + 10]), MOST);
        assert_eq!(kept.push(&[1]), 0);
        sent(&mut kept);
        kept.confirm(5).unwrap();
        assert_eq!(kept.push(&[1; 10]), 5);
    }

    #[test]
    fn a_peer_that_counts_what_was_never_sent_or_forgets_what_it_had_is_refused() {
        let mut kept = roomy();
        kept.push(&[1; 100]);
        kept.confirm(1).unwrap_err();
        sent(&mut kept);
        kept.confirm(50).unwrap();
        kept.confirm(49).unwrap_err();
        kept.rewind(101).unwrap_err();
        kept.rewind(50).unwrap();
        assert_eq!(sent(&mut kept), (vec![1; 50], false));
    }

    #[test]
    fn the_end_is_sent_again_until_it_is_confirmed() {
        let mut kept = roomy();
        kept.push(b"ab");
        kept.end();
        assert_eq!(sent(&mut kept), (b"ab".to_vec(), true));
        kept.rewind(2).unwrap();
        assert!(!kept.is_settled());
        assert_eq!(sent(&mut kept), (Vec::new(), true));
        kept.confirm(3).unwrap();
        assert!(kept.is_settled() && !kept.write(&mut BytesMut::new()));
    }

    #[test]
    fn no_more_is_sent_than_the_peer_has_room_for() {
        let mut kept = Kept::default();
        kept.push(&[1; 100]);
        assert_eq!(sent(&mut kept), (Vec::new(), false));
        kept.allow(30);
        kept.allow(10);
        assert_eq!(sent(&mut kept).0.len(), 30);
        kept.allow(100);
        kept.end();
        assert_eq!(sent(&mut kept), (vec![1; 70], true), "the end needs no room");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_is_lost_the_peer_gets_each_byte_once_and_in_order(
            steps in prop::collection::vec((0..200_000_usize, 0..300_000_usize, any::<bool>()), 1..20)
        ) {
            let mut kept = roomy();
            let (mut next, mut there) = (0_u64, Vec::new());
            let mut expected = Vec::new();
            for (pushed, lost, breaks) in steps {
                let bytes: Vec<u8> = (next..next + pushed as u64).map(|n| (n % 251) as u8).collect();
                next += pushed as u64;
                prop_assert_eq!(kept.push(&bytes), pushed);
                expected.extend_from_slice(&bytes);
                let (mut arrives, _) = sent(&mut kept);
                if breaks {
                    arrives.truncate(arrives.len().saturating_sub(lost));
                }
                there.extend_from_slice(&arrives);
                if breaks { kept.rewind(there.len() as u64).unwrap() } else { kept.confirm(there.len() as u64).unwrap() }
            }
            there.extend_from_slice(&sent(&mut kept).0);
            prop_assert!(there == expected);
        }
    }
}
