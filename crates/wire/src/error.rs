use procession_model::LaunchId;

use crate::{Note, Reference};

/// A frame that is not one of ours; the connection it came from cannot be read any further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// The bytes at a frame's start are not those of a frame.
    #[error(
        "a frame starts with {found:02x?} instead of {expected:02x?}: the peer speaks another protocol, or a byte was lost"
    )]
    Magic {
        /// What stands there.
        found: [u8; 2],
        /// What should.
        expected: [u8; 2],
    },
    /// The frame is longer than is allowed.
    #[error("a frame of {length} bytes is over the limit of {limit}: send it in several smaller messages")]
    FrameLength {
        /// The length that it gives.
        length: u64,
        /// The limit, in bytes.
        limit: u64,
    },
    /// The head is empty, or longer than is allowed.
    #[error(
        "a packet's head of {length} bytes is not within 1..={limit}: shorten its names or its reason, or send fewer once ports in one message"
    )]
    HeadLength {
        /// The length that it gives.
        length: u64,
        /// The limit, in bytes.
        limit: u32,
    },
    /// There are more payload segments than are allowed.
    #[error("a packet of {count} segments is over the limit of {limit}: join some of them")]
    Segments {
        /// How many there are.
        count: u64,
        /// The limit.
        limit: u16,
    },
    /// The lengths in the frame do not add up.
    #[error("a frame gives its length as {length} bytes, but its pieces make {sum}")]
    Sum {
        /// The length that it gives.
        length: u64,
        /// The sum of its pieces.
        sum: u128,
    },
    /// A connection that can be replaced carries something else than records.
    #[error("a record starts with byte {0}, which is none of a record's")]
    RecordKind(u8),
    /// A record of data is empty, or longer than is allowed.
    #[error("a record of {length} bytes is not within 1..={limit}")]
    RecordLength {
        /// The length that it gives.
        length: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The peer sends more than it was told that there is room for.
    #[error("the peer has sent {count} bytes, where it was given room for {limit}")]
    Room {
        /// What it has sent.
        count: u64,
        /// What it might have.
        limit: u64,
    },
    /// The peer counts what was never sent, or forgets what it had.
    #[error("the peer says that it has {count} bytes, where {from} to {to} were possible")]
    Received {
        /// What it says.
        count: u64,
        /// What it had said before.
        from: u64,
        /// What was sent.
        to: u64,
    },
    /// The head is not that of a packet.
    #[error("a packet's head cannot be read: {0}")]
    Head(String),
    /// A note about shared memory is none.
    #[error("a note about shared memory of kind {kind} with numbers {region} and {number} means nothing")]
    Note {
        /// Its kind.
        kind: u16,
        /// Its first number.
        region: u32,
        /// Its second number.
        number: u64,
    },
    /// A note about shared memory does not fit to what was said before.
    #[error("the peer says {0:?} of shared memory, which does not fit to what was said before")]
    UnexpectedNote(Note),
    /// A part of a packet is not in shared memory where it should be.
    #[error("a packet refers to {} bytes of shared memory from {} in region {}, which are not there", .0.length, .0.offset, .0.region)]
    Reference(Reference),
    /// There are descriptors that nothing was said about.
    #[error("the peer sends descriptors, and no word on what they are")]
    Descriptors,
    /// Bytes follow the head inside the space that was given to it.
    #[error("a packet's head is followed by bytes that do not belong to it")]
    TrailingBytes,
}

/// Why two ends of a connection do not trust each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer does not speak this protocol.
    #[error("the peer's hello starts with {found:02x?}: it is not a peer of this runtime")]
    Magic {
        /// The first bytes.
        found: Vec<u8>,
    },
    /// The peer speaks another version of this protocol.
    #[error(
        "the peer speaks version {theirs} of the protocol and this end version {ours}: install the same release at both ends"
    )]
    Version {
        /// This end's version.
        ours: u16,
        /// The peer's.
        theirs: u16,
    },
    /// The peer plays the wrong part, as when its own bytes come back to a dialler.
    #[error("the peer says that its role is {found}, where {expected} was expected")]
    Role {
        /// What it says.
        found: u8,
        /// What it should be.
        expected: u8,
    },
    /// The dialler names a launch that nobody expects, or expects no longer.
    #[error(
        "no call back is expected from launch {0}: it is unknown, it has ended, or its token was used before"
    )]
    UnknownLaunch(LaunchId),
    /// The peer does not have the token.
    #[error("the peer did not prove that it has the token of launch {0}")]
    Proof(LaunchId),
    /// Bytes that have to be zero are not.
    #[error("the peer's hello has byte {found} where a zero is reserved")]
    Reserved {
        /// What stands there.
        found: u8,
    },
}
