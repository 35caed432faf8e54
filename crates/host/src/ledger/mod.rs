//! What a host writes down about the procs that outlive it, so that the next one can take them over.

mod entry;
mod file;
mod fuzzed;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use entry::{Asked, At, Entry, Launch, Open, Past, PastGroup, PastSlot};
pub(crate) use file::Ledger;
pub use fuzzed::read_journal;
