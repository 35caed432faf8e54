//! The layout of a journal, an append-only file of records; numbers little-endian:
//!
//! ```text
//! 0   magic      8 bytes
//! 8   version    u16, of the records
//! 10  zero       6 bytes
//! then for each record
//! 0   length     u32, of the body
//! 4   checksum   the first 8 bytes of the body's SHA-256
//! 12  body       MessagePack with named fields
//! ```
//!
//! Whoever writes may be killed at any byte: what is cut off at the end was never written. Nothing behind bytes that are
//! damaged is trusted.

use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many bytes stand before the first record.
pub const JOURNAL_HEADER_LEN: usize = 16;
const MAGIC: [u8; 8] = *b"\xf5Journal";
const PREFIX: usize = 12;
/// No record is larger; what says so is damaged.
const LONGEST: usize = 16 << 20;

/// Why a journal, or a record for one, is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file does not begin like a journal.
    #[error("the file begins with {found:02x?}: it is no journal; move it away, or give another directory")]
    Magic {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// The records are those of another release.
    #[error(
        "the journal has records of version {theirs}, and this release reads version {ours}: use the release that wrote it, or move it away once nothing of it runs any more"
    )]
    Version {
        /// What this release reads.
        ours: u16,
        /// What the file has.
        theirs: u16,
    },
    /// A record is whole, and not one of this version.
    #[error("record {index} of the journal cannot be read: {why}")]
    Record {
        /// Its place, from 0.
        index: usize,
        /// Why.
        why: String,
    },
    /// The record is larger than any may be.
    #[error("a record of {length} bytes is over the limit of {LONGEST}; shorten what is launched")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The record has no form in bytes.
    #[error("a record cannot be written: {0}")]
    Unwritable(String),
}

/// What a journal has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal<T> {
    /// Its whole records, in the order in which they were written.
    pub records: Vec<T>,
    /// Up to where the file is whole, in bytes. The next record belongs there.
    pub whole: usize,
}

/// The first bytes of a journal of records of `version`.
pub fn journal_header(version: u16) -> [u8; JOURNAL_HEADER_LEN] {
    let mut header = [0; JOURNAL_HEADER_LEN];
    header[..8].copy_from_slice(&MAGIC);
    header[8..10].copy_from_slice(&version.to_le_bytes());
    header
}

/// One record in the form in which it is appended, with one write.
///
/// # Errors
/// It is too long, or has no form in bytes.
pub fn encode_record<T: Serialize>(record: &T) -> Result<Vec<u8>, JournalError> {
    let body =
        rmp_serde::to_vec_named(record).map_err(|error| JournalError::Unwritable(error.to_string()))?;
    let length = body.len();
    let short = u32::try_from(length).ok().filter(|_| length <= LONGEST);
    let mut bytes = short.ok_or(JournalError::TooLong { length })?.to_le_bytes().to_vec();
    bytes.extend_from_slice(&checksum(&body));
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Reads a journal of records of `version`; a file that is cut off before its first record is an empty one.
///
/// # Errors
/// It is no journal, one of another version, or has a whole record that is not of this version.
pub fn decode_journal<T: DeserializeOwned>(bytes: &[u8], version: u16) -> Result<Journal<T>, JournalError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(JournalError::Magic { found: bytes[..known].to_vec() });
    }
    let mut journal = Journal { records: Vec::new(), whole: 0 };
    let Some((header, mut rest)) = bytes.split_at_checked(JOURNAL_HEADER_LEN) else { return Ok(journal) };
    let theirs = u16::from_le_bytes([header[8], header[9]]);
    if theirs != version {
        return Err(JournalError::Version { ours: version, theirs });
    }
    journal.whole = JOURNAL_HEADER_LEN;
    while let Some((body, behind)) = next(rest) {
        let index = journal.records.len();
        let record = rmp_serde::from_slice(body)
            .map_err(|error| JournalError::Record { index, why: error.to_string() })?;
        journal.records.push(record);
        journal.whole += PREFIX + body.len();
        rest = behind;
    }
    Ok(journal)
}

/// The first body and what follows it; none when it is not whole.
fn next(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (sum, rest) = rest.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    (checksum(body) == *sum).then_some((body, rest))
}

fn checksum(body: &[u8]) -> [u8; 8] {
    let mut first = [0; 8];
    first.copy_from_slice(&digest(&SHA256, body).as_ref()[..8]);
    first
}
