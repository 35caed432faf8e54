use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;

const SECOND: Duration = Duration::from_secs(1);
/// How many questions in a row may stay unanswered.
const PROBES: u32 = 2;

/// Has the kernel ask a peer that is silent for a second whether it is still there: a machine that
/// lost its power or its network says no goodbye. A process that only sleeps has a kernel that answers.
pub(crate) fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_tcp_keepidle(stream, SECOND)?;
    sockopt::set_tcp_keepintvl(stream, SECOND)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(sockopt::set_socket_keepalive(stream, true)?)
}
