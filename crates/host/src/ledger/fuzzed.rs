use procession_wire::{decode_journal, encode_record, journal_header};

use super::file::VERSION;
use super::{Entry, Past};

/// Takes `data` for a journal, and for entries one after the other without checksums; what is written anew of either
/// has to say the same. For the fuzzer.
///
/// # Panics
/// It says something else.
#[doc(hidden)]
pub fn read_journal(data: &[u8]) {
    if let Ok(journal) = decode_journal(data, VERSION) {
        assert!(journal.whole <= data.len());
        check(journal.records);
    }
    let (mut rest, mut entries) = (data, Vec::new());
    while let Ok(entry) = rmp_serde::from_read(&mut rest) {
        entries.push(entry);
    }
    check(entries);
}

fn check(entries: Vec<Entry>) {
    let past = Past::replay(entries);
    let mut bytes = journal_header(VERSION).to_vec();
    for entry in past.entries() {
        bytes.extend(encode_record(&entry).expect("what was read can be written"));
    }
    let again = decode_journal::<Entry>(&bytes, VERSION).expect("what was written can be read");
    assert_eq!(again.whole, bytes.len());
    assert_eq!(format!("{:?}", Past::replay(again.records)), format!("{past:?}"));
}
