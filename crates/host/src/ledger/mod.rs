//! What a host writes down about the procs that outlive it, so that the next one can take them over.

mod entry;
mod file;

pub(crate) use entry::{Asked, Ended, Entry, Open, Past};
pub(crate) use file::Ledger;
