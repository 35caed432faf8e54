//! Bytes on a connection: frames, packets and the handshake, without input or output.

mod decode;
mod encode;
mod error;
mod frame;
mod handshake;
mod hello;
mod journal;
mod memory;
mod record;

pub use decode::Decoder;
pub use encode::{check, encode_prefix, encode_prefix_with, write_reference};
pub use error::{HandshakeError, ProtocolError};
pub use frame::{Limits, PREFIX_LEN};
pub use handshake::{CONFIRMATION, ClientHandshake, ClientWaiting, ServerHandshake, ServerWaiting};
pub use hello::{CLIENT_HELLO_LEN, MAC_LEN, SERVER_HELLO_LEN, VERSION};
pub use journal::{JOURNAL_HEADER_LEN, Journal, JournalError, decode_journal, encode_record, journal_header};
pub use memory::{NoMemory, Note, PeerMemory, Reference};
pub use record::{MAX_RECORD, Record, write_data};
