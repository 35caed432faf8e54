use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;

use crate::serve::serve;
use crate::socket_file::{SocketFile, own_uid};
use crate::{Address, Crowd, Doorkeeper, InvalidAddress, Serving, SessionCa};

/// Where diallers are waited for. A unix socket's file goes with it.
pub struct Listener {
    pub(crate) socket: Socket,
    address: Address,
}

pub(crate) enum Socket {
    Unix { listener: UnixListener, file: SocketFile, own: u32 },
    Tcp { listener: TcpListener, acceptor: TlsAcceptor },
}

/// Why nothing can be listened to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The text is not an address.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// The socket's directory does not keep others out.
    #[error("the directory {} cannot hold a socket: {why}", directory.display())]
    Directory {
        /// The directory.
        directory: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The kernel refused.
    #[error(
        "cannot listen at {address}: {source}; give an address of this machine that nothing else listens at"
    )]
    Bind {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
}

impl Listener {
    /// Listens at a new socket in a directory that belongs to this user and has mode 0700. Has to
    /// be called inside a runtime.
    ///
    /// # Errors
    /// The path is no socket's address, the directory is open to others, or something stands at
    /// the path.
    pub fn unix(path: impl AsRef<Path>) -> Result<Self, ListenError> {
        let address = Address::unix(path.as_ref())?;
        let (listener, file) = SocketFile::bind(path.as_ref())?;
        let own = own_uid().map_err(|source| ListenError::Bind { address: address.to_string(), source })?;
        Ok(Self { socket: Socket::Unix { listener, file, own }, address })
    }

    /// Listens at `bind`, which is `host:port` or `[ipv6]:port`, with port 0 for any free one. Of
    /// a name with several addresses the first that can be bound counts.
    ///
    /// Only TLS is spoken, and only to holders of a certificate of `ca`: that is what makes an
    /// address that others can reach acceptable. It is the caller's choice and never the default.
    ///
    /// # Errors
    /// The address is none, is none of this machine, or is taken.
    pub async fn tcp(bind: &str, ca: &SessionCa) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Bind { address: format!("tcp:{bind}"), source };
        let Address::Tcp { host, port } = Address::tcp(bind)? else {
            unreachable!("only this variant is parsed")
        };
        let listener = TcpListener::bind((host.as_str(), port)).await.map_err(failed)?;
        let address = tcp_address(listener.local_addr().map_err(failed)?);
        Ok(Self { socket: Socket::Tcp { listener, acceptor: TlsAcceptor::from(ca.server()) }, address })
    }

    /// Where it listens; over TCP with the port that was bound, and with the address that was
    /// bound, which need not be one that others can dial.
    pub fn local_address(&self) -> &Address {
        &self.address
    }

    /// Greets diallers and hands their links to `doorkeeper` until the result is dropped. Has to
    /// be called inside a runtime.
    ///
    /// Strangers are cut off after 2 s, at most 256 of them are heard at a time by all listeners that
    /// share `crowd`, and each source is written about once a minute.
    pub fn serve(self, doorkeeper: Arc<dyn Doorkeeper>, crowd: &Crowd) -> Serving {
        let address = self.address.clone();
        Serving::new(address, tokio::spawn(serve(self, doorkeeper, crowd.clone())))
    }
}

fn tcp_address(address: SocketAddr) -> Address {
    Address::Tcp { host: address.ip().to_string(), port: address.port() }
}
