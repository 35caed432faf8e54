//! Large payloads in memory that processes of one machine share: written once, mapped by whoever reads.
//!
//! ```text
//! pool      takes slots of regions that this process writes         ──┐
//! memory    finds the region that bytes lie in, of whichever process  ├─ bytes in slots and views travel as any others do
//! received  maps regions of a peer, makes views on them             ──┘
//! outgoing  writes references in the place of such bytes, and keeps them until the peer releases them
//! private   lets the holder of such bytes write to them
//! stream    takes descriptors along
//! ```

mod memory;
mod outgoing;
mod pool;
mod private;
mod received;
mod stream;

pub(crate) use outgoing::{ANSWER, Outgoing};
pub(crate) use pool::keep_time;
pub use pool::{Vacant, take_slot};
pub use private::PrivateBytes;
pub(crate) use received::Received;
pub(crate) use stream::{Ends, StreamReader, StreamWriter, split};

/// Smaller payloads cost less when they are copied: mapping, references and releases take some tens of microseconds.
pub const LEAST_SHARED: usize = 512 << 10;
