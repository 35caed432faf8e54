//! The layout of the hellos, numbers little-endian. The first ten bytes never change their
//! meaning, so that any two versions can tell each other apart.
//!
//! ```text
//! 0   magic      8 bytes
//! 8   version    u16
//! 10  role       1: dials, 2: listens, 3: dials again
//! 11  zero
//! 12  launch id  16 bytes, only when dialling
//! ..  nonce      32 bytes
//! ..  proof      32 bytes, only when listening
//! ```

use procession_model::LaunchId;

use crate::HandshakeError;

/// The version of the protocol that this end speaks.
pub const VERSION: u16 = 3;
/// Bytes of the first message, which the dialling end sends.
pub const CLIENT_HELLO_LEN: usize = 60;
/// Bytes of the answer.
pub const SERVER_HELLO_LEN: usize = 76;
/// Bytes of each of the two last messages, and of every proof.
pub const MAC_LEN: usize = 32;

pub(crate) const NONCE_LEN: usize = 32;
const MAGIC: [u8; 8] = *b"\xf5Process";
const LAUNCH_AT: usize = 12;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Dials = 1,
    Listens = 2,
    /// Its session has lost a connection, and shall go on over this one.
    Resumes = 3,
}

fn write_front(out: &mut [u8], role: Role) {
    out[..8].copy_from_slice(&MAGIC);
    out[8..10].copy_from_slice(&VERSION.to_le_bytes());
    out[10] = role as u8;
}

/// Those who may say hello to a listener.
pub(crate) const DIALLERS: &[Role] = &[Role::Dials, Role::Resumes];

/// Checks as much of a hello's front as `bytes` has; its role has to be one of `expected`.
pub(crate) fn check_front(bytes: &[u8], expected: &[Role]) -> Result<(), HandshakeError> {
    let known = bytes.len().min(MAGIC.len());
    if bytes[..known] != MAGIC[..known] {
        return Err(HandshakeError::Magic { found: bytes[..known].to_vec() });
    }
    if let Some(&[low, high]) = bytes.get(8..10) {
        let theirs = u16::from_le_bytes([low, high]);
        if theirs != VERSION {
            return Err(HandshakeError::Version { ours: VERSION, theirs });
        }
    }
    match (bytes.get(10), bytes.get(11)) {
        (Some(&found), _) if !expected.iter().any(|&role| role as u8 == found) => {
            Err(HandshakeError::Role { found, expected: expected[0] as u8 })
        }
        (_, Some(&found)) if found != 0 => Err(HandshakeError::Reserved { found }),
        _ => Ok(()),
    }
}

pub(crate) fn write_client(role: Role, launch: LaunchId, nonce: &[u8; NONCE_LEN]) -> [u8; CLIENT_HELLO_LEN] {
    let mut out = [0; CLIENT_HELLO_LEN];
    write_front(&mut out, role);
    out[LAUNCH_AT..LAUNCH_AT + 16].copy_from_slice(&launch.to_bytes());
    out[LAUNCH_AT + 16..].copy_from_slice(nonce);
    out
}

/// The launch that it names, and whether its session shall go on.
pub(crate) fn read_client(hello: &[u8; CLIENT_HELLO_LEN]) -> Result<(LaunchId, bool), HandshakeError> {
    check_front(hello, DIALLERS)?;
    let mut launch = [0; 16];
    launch.copy_from_slice(&hello[LAUNCH_AT..LAUNCH_AT + 16]);
    Ok((LaunchId::from_bytes(launch), hello[10] == Role::Resumes as u8))
}

/// A server hello whose proof is still zeros.
pub(crate) fn write_server(nonce: &[u8; NONCE_LEN]) -> [u8; SERVER_HELLO_LEN] {
    let mut out = [0; SERVER_HELLO_LEN];
    write_front(&mut out, Role::Listens);
    out[LAUNCH_AT..LAUNCH_AT + NONCE_LEN].copy_from_slice(nonce);
    out
}

pub(crate) fn read_server(hello: &[u8; SERVER_HELLO_LEN]) -> Result<(), HandshakeError> {
    check_front(hello, &[Role::Listens])
}

/// A server hello in two: what is proved, and the proof.
pub(crate) fn split_server(hello: &[u8; SERVER_HELLO_LEN]) -> (&[u8], &[u8]) {
    hello.split_at(SERVER_HELLO_LEN - MAC_LEN)
}
