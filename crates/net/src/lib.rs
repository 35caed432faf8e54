//! Connections between processes over unix sockets and over TCP with TLS.
//!
//! The host listens ([`Listener`]), a proc dials ([`dial`]), both prove that they have the
//! launch's single-use token, and each has a [`Link`] then.

mod address;
mod batch;
mod carrier;
mod crowd;
mod dial;
mod doorkeeper;
mod greet;
mod kept;
mod link;
mod listener;
mod outbox;
mod patience;
mod ration;
mod receiver;
mod redial;
mod refusals;
mod resumable;
mod sender;
mod serve;
mod session;
mod session_key;
mod shared;
mod socket_file;
mod tls;

pub use address::{Address, InvalidAddress};
pub use crowd::Crowd;
pub use dial::{Attempt, Dial, DialCause, DialError, dial};
pub use doorkeeper::Doorkeeper;
pub use link::{Link, LinkError, Peer};
pub use listener::{ListenError, Listener};
pub use receiver::LinkReceiver;
pub use sender::{LinkSender, PostError};
pub use serve::Serving;
pub use session_key::{KeyError, SessionKey};
pub use shared::{LEAST_SHARED, PrivateBytes, Vacant, take_slot};
pub use tls::{ClientTls, SessionCa, TlsError};
