use std::fmt;

use bytes::Bytes;
use procession_sys::PrivateView;

use super::LEAST_SHARED;
use super::memory::{Kind, find};

/// Bytes in shared memory that may be written to without anybody else seeing it: pages that are written to become this process's own.
pub struct PrivateBytes {
    // It goes before what it is a view of.
    view: PrivateView,
    bytes: Bytes,
}

impl PrivateBytes {
    /// A view of `bytes` for their holder alone. They come back where they lie in no shared memory, are too few to be worth
    /// it, or there is no address space left.
    ///
    /// # Errors
    /// The bytes themselves.
    pub fn of(bytes: Bytes) -> Result<Self, Bytes> {
        if bytes.len() < LEAST_SHARED {
            return Err(bytes);
        }
        let Some((memory, offset)) = find(&bytes) else { return Err(bytes) };
        let view = match memory.kind() {
            Kind::Own(region) => region.private_view(offset, bytes.len()),
            Kind::Seen(region) => region.private_view(offset, bytes.len()),
        };
        match view {
            Ok(view) => Ok(Self { view, bytes }),
            Err(error) => {
                tracing::debug!(%error, "shared memory is not mapped once more: what is in it is copied");
                Err(bytes)
            }
        }
    }

    /// Where they are, for who reads and writes them by pointer; valid as long as this lives.
    pub fn pointer(&self) -> *mut u8 {
        self.view.pointer()
    }

    /// How many they are.
    #[expect(clippy::len_without_is_empty, reason = "they are many")]
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// From now on they do not depend on what others do, as a forked child of this process, which nobody waits for, sees them too.
    pub fn detach(&self) {
        if !self.view.detach()
            && let Some((memory, _)) = find(&self.bytes)
        {
            memory.stay();
        }
    }
}

impl fmt::Debug for PrivateBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateBytes({} bytes)", self.len())
    }
}
