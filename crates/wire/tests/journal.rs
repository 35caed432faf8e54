//! A journal gives back what was written whole, wherever its writer was killed.
#![allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]

use procession_wire::{
    JOURNAL_HEADER_LEN, Journal, JournalError, decode_journal, encode_record, journal_header,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

const VERSION: u16 = 3;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Record {
    Asked { name: String },
    Ended { code: i32, tail: Vec<String> },
}

fn record() -> impl Strategy<Value = Record> {
    prop_oneof![
        any::<String>().prop_map(|name| Record::Asked { name }),
        (any::<i32>(), vec(any::<String>(), 0..4)).prop_map(|(code, tail)| Record::Ended { code, tail }),
    ]
}

/// The bytes of a journal, and where each of its records ends.
fn written(records: &[Record]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = journal_header(VERSION).to_vec();
    let mut ends = Vec::new();
    for record in records {
        bytes.extend(encode_record(record).unwrap());
        ends.push(bytes.len());
    }
    (bytes, ends)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_journal_cut_off_anywhere_gives_the_records_before_the_cut(records in vec(record(), 0..6), cut in any::<prop::sample::Index>()) {
        let (bytes, ends) = written(&records);
        let cut = cut.index(bytes.len() + 1);
        let whole = ends.iter().filter(|&&end| end <= cut).count();
        let read: Journal<Record> = decode_journal(&bytes[..cut], VERSION).unwrap();
        prop_assert_eq!(&read.records, &records[..whole]);
        let expected = if cut < JOURNAL_HEADER_LEN { 0 } else { ends[..whole].last().copied().unwrap_or(JOURNAL_HEADER_LEN) };
        prop_assert_eq!(read.whole, expected);
    }

    #[test]
    fn nothing_behind_a_flipped_bit_is_trusted(records in vec(record(), 1..6), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (mut bytes, ends) = written(&records);
        let at = JOURNAL_HEADER_LEN + at.index(bytes.len() - JOURNAL_HEADER_LEN);
        bytes[at] ^= 1 << bit;
        let before = ends.iter().filter(|&&end| end <= at).count();
        let read: Journal<Record> = decode_journal(&bytes, VERSION).unwrap();
        prop_assert_eq!(read.records, &records[..before]);
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(bytes in vec(any::<u8>(), 0..200)) {
        let mut journal = journal_header(VERSION).to_vec();
        journal.extend(&bytes);
        for bytes in [bytes, journal] {
            if let Ok(read) = decode_journal::<Record>(&bytes, VERSION) {
                prop_assert!(read.whole <= bytes.len());
            }
        }
    }
}

#[test]
fn a_journal_of_another_release_is_refused_and_so_is_any_other_file() {
    let read = |bytes: &[u8]| decode_journal::<Record>(bytes, VERSION).unwrap_err();
    assert_eq!(read(&journal_header(4)), JournalError::Version { ours: VERSION, theirs: 4 });
    assert_eq!(read(b"#!/bin/sh"), JournalError::Magic { found: b"#!/bin/s".to_vec() });
}

#[test]
fn a_whole_record_that_this_release_does_not_know_is_refused_by_its_place() {
    let (mut bytes, _) = written(&[Record::Asked { name: "p".into() }]);
    bytes.extend(encode_record(&("what", "else")).unwrap());
    let error = decode_journal::<Record>(&bytes, VERSION).unwrap_err();
    assert!(matches!(error, JournalError::Record { index: 1, .. }), "{error}");
}

#[test]
fn a_record_over_the_limit_is_refused_where_it_is_written() {
    let error = encode_record(&"x".repeat(17 << 20)).unwrap_err();
    assert!(error.to_string().contains("over the limit"), "{error}");
}
