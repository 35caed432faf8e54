use std::fmt;

/// Why a value could not be received.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// Nobody can answer any more.
    #[error("{0}")]
    Closed(String),
    /// An answer came that is not of the expected type.
    #[error("the answer could not be decoded: {0}; check that both sides run the same version")]
    Decode(String),
}

/// Why a message could not be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendErrorKind {
    /// The actor lives in another process, and the message's type has no wire form.
    NoWireForm,
    /// The actor has ended, or its process cannot be reached.
    Unreachable(String),
    /// The message's own encoding failed.
    Encode(String),
    /// The once port was used, moved or given up before; the word for which.
    Spent(&'static str),
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWireForm => f.write_str(
                "the receiver lives in another process and the message's type has no wire form; give it one with wire_message!",
            ),
            Self::Unreachable(why) => f.write_str(why),
            Self::Encode(why) => write!(f, "the message could not be encoded: {why}"),
            Self::Spent(how @ "PortClosed") => {
                write!(f, "{how}: the once port was given up, and its owner told why; answer before that")
            }
            Self::Spent(how @ "AlreadyMoved") => {
                write!(f, "{how}: the once port was sent on; only who has it now can answer it")
            }
            Self::Spent(how) => write!(f, "{how}: a once port takes exactly one value"),
        }
    }
}

/// A message that was not sent, with the message.
pub struct MailboxSenderError<M> {
    /// The message, handed back.
    pub message: M,
    /// Why it was not sent.
    pub kind: SendErrorKind,
}

impl<M> fmt::Debug for MailboxSenderError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxSenderError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<M> fmt::Display for MailboxSenderError<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl<M> std::error::Error for MailboxSenderError<M> {}
