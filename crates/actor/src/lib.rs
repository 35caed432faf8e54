//! Actors, mailboxes and ports of one process, without a network.
//!
//! What the kernel guarantees, each in a sentence that a test holds it to:
//! * An actor handles one message at a time, in the order in which each sender sent them.
//! * A once port delivers at most one answer, and errs when nobody can answer it any more.
//! * Whoever waits for an answer can say that he waits no longer; that reaches who holds the port, wherever it moved.
//! * A message that cannot be delivered comes back to the actor that sent it; a client-only context
//!   hears of it at once or through the ports in the message, which close. One that its receiver
//!   took and then ended without handling is dropped, which closes the once ports in it.
//! * An actor that fails or panics ends alone; what it held is closed towards those who wait.
//! * The end of every actor is reported exactly once, when nothing is left of it.

mod actor;
mod answer;
mod binding;
mod cancel;
mod cast;
mod cell;
mod error;
mod handle;
mod held;
mod held_table;
mod instance;
mod life;
mod mailbox;
mod message;
mod obituaries;
mod once_port;
mod outgoing;
mod panic;
mod port;
mod port_table;
mod process;
mod recorder;
mod right;
mod routing;
mod sync;

pub use actor::{Actor, ActorFailure, Handler, Returned, StopCause};
pub use answer::Answer;
pub use cast::{bundle, unbundle};
pub use cell::Handlers;
pub use error::{MailboxError, MailboxSenderError, SendErrorKind};
pub use handle::ActorHandle;
pub use held::{CANCELLED, Claims, DROPPED, Held, Moves};
pub use instance::Instance;
pub use mailbox::Mailbox;
pub use message::{Message, decode_serde, encode_serde};
pub use obituaries::Obituaries;
pub use once_port::{OncePortHandle, OncePortReceiver, OncePortRef};
pub use port::{PortHandle, PortReceiver, PortRef};
pub use process::{Proc, WeakProc};
pub use recorder::{FlightRecorder, Handling};
pub use routing::Router;

#[doc(hidden)]
pub mod __private {
    pub use bytes::Bytes;
}
