use std::cell::RefCell;
use std::io::ErrorKind;
use std::thread::LocalKey;

use bytes::Bytes;
use rmp_serde::decode::Error as DecodeError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::held::{Claims, Moves};
use crate::panic::caught;

/// What can be sent to an actor or a port.
///
/// An empty `impl Message for T {}` makes a type that stays inside its process;
/// [`wire_message!`](crate::wire_message) gives a serde type a wire form.
pub trait Message: Send + Sized + 'static {
    /// The type's name on the wire; none keeps it inside the process.
    const TAG: Option<&'static str> = None;

    /// The wire form, as payload segments; once ports inside go into `moves`.
    ///
    /// # Errors
    /// A text for the sender.
    fn encode(&self, moves: &mut Moves) -> Result<Vec<Bytes>, String> {
        let _ = moves;
        Err("the type has no wire form".to_owned())
    }

    /// The message behind a wire form; once ports inside come out of `claims`.
    ///
    /// # Errors
    /// A text for the sender, who gets the message back.
    fn decode(parts: Vec<Bytes>, claims: &mut Claims) -> Result<Self, String> {
        let _ = (parts, claims);
        Err("the type has no wire form".to_owned())
    }
}

/// Gives serde types a wire form: `wire_message!(Ping, "app.ping");`
#[macro_export]
macro_rules! wire_message {
    ($type:ty, $tag:literal) => {
        impl $crate::Message for $type {
            const TAG: Option<&'static str> = Some($tag);

            fn encode(&self, moves: &mut $crate::Moves) -> Result<Vec<$crate::__private::Bytes>, String> {
                $crate::encode_serde(self, moves)
            }

            fn decode(
                parts: Vec<$crate::__private::Bytes>,
                claims: &mut $crate::Claims,
            ) -> Result<Self, String> {
                $crate::decode_serde(&parts, claims)
            }
        }
    };
}

/// Decodes an `M`; a panic of the type's own code is an error too, because it is the connection's
/// task that runs it.
pub(crate) fn decode<M: Message>(parts: Vec<Bytes>, claims: &mut Claims) -> Result<M, String> {
    caught(|| M::decode(parts, claims)).unwrap_or_else(Err)
}

type Slot<T> = RefCell<Option<T>>;

thread_local! {
    // Once ports are met deep inside serde, which has no place to pass them along.
    static MOVES: Slot<Moves> = const { RefCell::new(None) };
    static CLAIMS: Slot<Claims> = const { RefCell::new(None) };
}

/// Runs `f` while `value` is in `slot`; after it, and after a panic, both are what they were.
fn lend<T: Default, R>(slot: &'static LocalKey<Slot<T>>, value: &mut T, f: impl FnOnce() -> R) -> R {
    struct GiveBack<'a, T: Default + 'static> {
        slot: &'static LocalKey<Slot<T>>,
        outer: Option<T>,
        value: &'a mut T,
    }
    impl<T: Default> Drop for GiveBack<'_, T> {
        fn drop(&mut self) {
            *self.value = self.slot.replace(self.outer.take()).unwrap_or_default();
        }
    }
    let outer = slot.replace(Some(std::mem::take(value)));
    let _give_back = GiveBack { slot, outer, value };
    f()
}

/// Runs `f` on the moves of the message that is being encoded on this thread.
pub(crate) fn with_moves<R>(f: impl FnOnce(&mut Moves) -> R) -> Option<R> {
    MOVES.with_borrow_mut(|slot| slot.as_mut().map(f))
}

/// Runs `f` on the claims of the message that is being decoded on this thread.
pub(crate) fn with_claims<R>(f: impl FnOnce(&mut Claims) -> R) -> Option<R> {
    CLAIMS.with_borrow_mut(|slot| slot.as_mut().map(f))
}

/// The wire form of a serde type: one segment of MessagePack with named fields.
///
/// # Errors
/// The type refuses to be serialised, or a once port inside was used before.
pub fn encode_serde<T: Serialize>(value: &T, moves: &mut Moves) -> Result<Vec<Bytes>, String> {
    let encoded = lend(&MOVES, moves, || rmp_serde::to_vec_named(value));
    Ok(vec![Bytes::from(encoded.map_err(|error| error.to_string())?)])
}

/// The serde type behind a wire form.
///
/// # Errors
/// The bytes are not such a value and nothing else, or name a once port that did not come with the message.
pub fn decode_serde<T: DeserializeOwned>(parts: &[Bytes], claims: &mut Claims) -> Result<T, String> {
    let [part] = parts else {
        return Err(format!("expected 1 payload segment, got {}", parts.len()));
    };
    lend(&CLAIMS, claims, || {
        let mut deserializer = rmp_serde::Deserializer::from_read_ref(part);
        let value = T::deserialize(&mut deserializer).map_err(|error| error.to_string())?;
        // The only way to ask this library whether bytes are left is to read on.
        match <()>::deserialize(&mut deserializer) {
            Err(DecodeError::InvalidMarkerRead(error)) if error.kind() == ErrorKind::UnexpectedEof => {
                Ok(value)
            }
            _ => Err("bytes follow the value that do not belong to it".to_owned()),
        }
    })
}

impl Message for () {
    const TAG: Option<&'static str> = Some("unit");

    fn encode(&self, _: &mut Moves) -> Result<Vec<Bytes>, String> {
        Ok(Vec::new())
    }

    fn decode(parts: Vec<Bytes>, _: &mut Claims) -> Result<Self, String> {
        if parts.is_empty() {
            Ok(())
        } else {
            Err(format!("expected no payload segment, got {}", parts.len()))
        }
    }
}

impl Message for String {
    const TAG: Option<&'static str> = Some("string");

    fn encode(&self, moves: &mut Moves) -> Result<Vec<Bytes>, String> {
        encode_serde(self, moves)
    }

    fn decode(parts: Vec<Bytes>, claims: &mut Claims) -> Result<Self, String> {
        decode_serde(&parts, claims)
    }
}

impl Message for u64 {
    const TAG: Option<&'static str> = Some("u64");

    fn encode(&self, moves: &mut Moves) -> Result<Vec<Bytes>, String> {
        encode_serde(self, moves)
    }

    fn decode(parts: Vec<Bytes>, claims: &mut Claims) -> Result<Self, String> {
        decode_serde(&parts, claims)
    }
}
