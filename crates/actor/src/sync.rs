//! What the slots with one winner are built of. `tests/one_winner.rs` puts a model checker's in their place.

pub(crate) use std::sync::atomic::{AtomicU64, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard, PoisonError};

/// Runs a test of such a slot, which the model checker does once for each order of events.
#[cfg(test)]
pub(crate) fn model(test: impl Fn()) {
    test();
}
