use bytes::Bytes;

use crate::error::MailboxError;
use crate::held::Claims;
use crate::message::{Message, decode};

/// What arrives at a port.
#[derive(Debug)]
pub enum Answer {
    /// A value in its wire form.
    Value {
        /// The value's type.
        tag: String,
        /// The payload.
        parts: Vec<Bytes>,
        /// The once ports that came with it.
        claims: Claims,
    },
    /// Nobody can answer any more.
    Closed(String),
}

impl Answer {
    /// The value, decoded as an `M`.
    ///
    /// # Errors
    /// It is none, or nobody can answer any more.
    pub fn open<M: Message>(self) -> Result<M, MailboxError> {
        match self {
            Self::Value { tag, parts, mut claims } if Some(tag.as_str()) == M::TAG => {
                decode(parts, &mut claims).map_err(MailboxError::Decode)
            }
            Self::Value { tag, .. } => {
                let expected = match M::TAG {
                    Some(expected) => format!("a {expected:?} was expected"),
                    None => "nothing from another process was expected".to_owned(),
                };
                Err(MailboxError::Decode(format!("a value of type {tag:?} came where {expected}")))
            }
            Self::Closed(reason) => Err(MailboxError::Closed(reason)),
        }
    }
}
