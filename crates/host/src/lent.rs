use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// What is read at once of a stream, in bytes.
pub(crate) const BUFFER: usize = 64 << 10;

/// How many are kept for the next: as many as threads write files at once.
const SPARES: usize = 32;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// Memory that is lent to whoever reads at this moment. Of thousands of streams nearly all are silent, and a buffer for each
/// would be most of what a host holds.
pub(crate) struct Lent(Vec<u8>);

impl Lent {
    /// `size` bytes; what another has read into them may be there still.
    pub(crate) fn of(size: usize) -> Self {
        let spare = if size == BUFFER { spare().pop() } else { None };
        Self(spare.unwrap_or_else(|| vec![0; size]))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut spare = spare();
        if self.0.len() == BUFFER && spare.len() < SPARES {
            spare.push(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

fn spare() -> std::sync::MutexGuard<'static, Vec<Vec<u8>>> {
    SPARE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lent_is_lent_again_and_no_more_is_kept_than_is_of_use() {
        let first = Lent::of(BUFFER);
        let at = first.as_ptr();
        drop(first);
        assert_eq!(Lent::of(BUFFER).as_ptr(), at);
        drop((0..2 * SPARES).map(|_| Lent::of(BUFFER)).collect::<Vec<_>>());
        assert_eq!(spare().len(), SPARES);
        drop(Lent::of(4 * BUFFER));
        assert!(spare().len() == SPARES && spare().iter().all(|spare| spare.len() == BUFFER));
    }
}
