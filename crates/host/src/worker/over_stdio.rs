use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use procession_model::HostId;
use procession_net::{Link, Peer};
use procession_sys::open_null;
use rustix::fs::{FileType, fstat};
use rustix::stdio::{dup2_stdin, dup2_stdout};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use super::counter::{Counter, FAREWELL};
use super::inner::Engines;
use super::line::Line;

/// What an agent says first. What comes before it is somebody else's, such as a greeting of the shell.
pub const AGENT_SPEAKS: &str = "\0procession agent 1\n";

/// Launches procs on this machine for whoever is at the other end of stdin and stdout, until that end closes them or has said
/// nothing for as long as `lease`; then all that was launched is ended. `interpreter` is what runs Python here. Where that end asks for
/// another launcher than that of this machine, it is one of `engines`.
///
/// From then on the process's stdin is empty, and what it writes to its stdout goes to stderr. Has to be called inside a runtime
/// with time and I/O enabled.
///
/// # Errors
/// Stdin and stdout are not there, or cannot be used.
pub async fn serve_stdio(
    interpreter: Option<String>,
    lease: Duration,
    engines: Option<Arc<dyn Engines>>,
) -> io::Result<String> {
    let (input, output) =
        (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    io::stdout().flush()?;
    dup2_stdin(open_null()?)?;
    dup2_stdout(io::stderr())?;
    let mut writer = writer(output)?;
    tokio::io::AsyncWriteExt::write_all(&mut writer, AGENT_SPEAKS.as_bytes()).await?;
    Ok(serve(reader(input)?, writer, interpreter, lease, engines).await)
}

fn is(fd: &OwnedFd, kind: FileType) -> io::Result<bool> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == kind)
}

fn reader(fd: OwnedFd) -> io::Result<Box<dyn AsyncRead + Send + Unpin>> {
    if is(&fd, FileType::Fifo)? {
        return Ok(Box::new(pipe::Receiver::from_owned_fd(fd)?));
    }
    if is(&fd, FileType::Socket)? {
        return Ok(Box::new(socket(fd)?));
    }
    Ok(Box::new(tokio::fs::File::from_std(fd.into())))
}

fn writer(fd: OwnedFd) -> io::Result<Box<dyn AsyncWrite + Send + Unpin>> {
    if is(&fd, FileType::Fifo)? {
        return Ok(Box::new(pipe::Sender::from_owned_fd(fd)?));
    }
    if is(&fd, FileType::Socket)? {
        return Ok(Box::new(socket(fd)?));
    }
    Ok(Box::new(tokio::fs::File::from_std(fd.into())))
}

fn socket(fd: OwnedFd) -> io::Result<UnixStream> {
    let socket = std::os::unix::net::UnixStream::from(fd);
    socket.set_nonblocking(true)?;
    UnixStream::from_std(socket)
}

/// Gives why it ended.
async fn serve(
    reader: impl AsyncRead + Send + Unpin + 'static,
    writer: impl AsyncWrite + Send + Unpin + 'static,
    interpreter: Option<String>,
    lease: Duration,
    engines: Option<Arc<dyn Engines>>,
) -> String {
    let mut link = Link::over(reader, writer, Peer { pid: None, uid: None, address: "stdio".to_owned() });
    let line = Line::over(&link, "worker", &HostId::fresh("worker"));
    let counter = Counter::open_with(&line, interpreter, None, engines).await;
    line.introduce();
    let why = line.attend_within(&mut link.receiver, lease).await;
    if !counter.kill_all().await {
        tracing::error!("a process that was launched cannot be killed");
    }
    line.end("the agent has ended");
    let _nobody_reads = timeout(FAREWELL, line.link().flushed()).await;
    why
}
