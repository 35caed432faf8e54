//! What is read from a connection that can be replaced.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use bytes::{Bytes, BytesMut};
use procession_wire::{MAX_RECORD, Record};
use proptest::prelude::*;

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 1..1000).prop_map(|bytes| Record::Data(bytes.into())),
        any::<(u64, u64)>().prop_map(|(count, limit)| Record::Received { count, limit }),
        Just(Record::End),
    ]
}

mod f89 {
    use super::*;

    #[test]
    fn a_record_that_is_none_is_refused_by_its_first_bytes() {
        for (bytes, needle) in [
            (&[0][..], "starts with byte 0"),
            (b"GET /", "starts with byte 71"),
            (&[4], "starts with byte 4"),
            (&[1, 0, 0, 0, 0], "0 bytes is not within"),
            (&[1, 1, 0, 1, 0], "65537 bytes is not within"),
            (&[1, 255, 255, 255, 255], "4294967295 bytes is not within"),
        ] {
            let error = Record::read(&mut BytesMut::from(bytes)).unwrap_err().to_string();
            assert!(error.contains(needle), "{error}");
        }
    }

    #[test]
    fn the_longest_record_is_taken() {
        let mut out = BytesMut::new();
        let longest = Record::Data(Bytes::from(vec![7; MAX_RECORD]));
        longest.write(&mut out);
        assert_eq!(Record::read(&mut out), Ok(Some(longest)));
    }
}

mod f88 {
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn records_come_out_as_they_went_in_however_they_are_cut(
            records in prop::collection::vec(record(), 0..20), step in 1..2000_usize
        ) {
            let mut sent = BytesMut::new();
            records.iter().for_each(|record| record.write(&mut sent));
            let (mut buffer, mut seen) = (BytesMut::new(), Vec::new());
            for piece in sent.chunks(step) {
                buffer.extend_from_slice(piece);
                while let Some(record) = Record::read(&mut buffer).unwrap() {
                    seen.push(record);
                }
            }
            prop_assert_eq!(seen, records);
            prop_assert!(buffer.is_empty());
        }

        #[test]
        fn no_bytes_at_all_make_reading_panic_or_stand_still(
            bytes in prop::collection::vec(any::<u8>(), 0..3000)
        ) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut left = buffer.len();
            while let Ok(Some(_)) = Record::read(&mut buffer) {
                prop_assert!(buffer.len() < left);
                left = buffer.len();
            }
        }
    }
}
