//! What an earlier host has written down.

use procession_host::read_journal;

/// It is taken or refused, and what is written anew of it says the same.
pub(crate) fn run(data: &[u8]) {
    read_journal(data);
}
