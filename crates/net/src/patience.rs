use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use procession_sys::tcp_backlog;
use rustix::net::sockopt;
use tokio::net::TcpStream;

const SECOND: Duration = Duration::from_secs(1);
/// How many questions in a row may stay unanswered.
const PROBES: u32 = 2;
/// How long a peer's kernel may leave bytes, or the questions, without an answer.
const SILENCE: u32 = 2000;
/// How often is looked whether a peer's kernel answers, while there are bytes for it.
pub(crate) const LOOK: Duration = Duration::from_millis(500);

/// When a silent peer is given up.
///
/// The kernel asks a peer that is silent for a second whether it is still there, and gives it up when
/// nothing is answered for two, neither to that nor to what was sent: a machine that lost its power or its
/// network says no goodbye. A process that only sleeps has a kernel that answers. It says that there is no
/// room for more, and that is no reason to give up, as the kernel here would.
pub(crate) struct Patience {
    /// A duplicate of the connection's descriptor.
    socket: OwnedFd,
    /// There may be bytes that the peer's kernel has not confirmed.
    needed: bool,
    /// The peer's kernel has no room.
    endless: bool,
}

impl Patience {
    pub(crate) fn with(stream: &TcpStream) -> io::Result<Self> {
        sockopt::set_tcp_keepidle(stream, SECOND)?;
        sockopt::set_tcp_keepintvl(stream, SECOND)?;
        sockopt::set_tcp_keepcnt(stream, PROBES)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_user_timeout(stream, SILENCE)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        Ok(Self { socket, needed: false, endless: false })
    }

    /// Bytes are written.
    pub(crate) fn begin(&mut self) {
        self.needed = true;
    }

    /// Whether it has to be looked at again soon.
    pub(crate) fn is_needed(&self) -> bool {
        self.needed
    }

    /// Looks whether the peer's kernel is silent, or has no room.
    ///
    /// # Errors
    /// It had no room, and is silent now.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        let backlog = tcp_backlog(self.socket.as_fd())?;
        self.needed = backlog.bytes > 0;
        // All that it had room for it has confirmed.
        let endless = self.needed && backlog.packets == 0;
        if endless != self.endless {
            sockopt::set_tcp_user_timeout(&self.socket, if endless { 0 } else { SILENCE })?;
            self.endless = endless;
        }
        if endless && u32::from(backlog.probes) > PROBES {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}
