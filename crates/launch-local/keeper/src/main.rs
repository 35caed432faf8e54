//! The keeper: parent and subreaper of one host's native procs; and the guard above it, the same
//! program, which takes over when the keeper is killed.
//!
//! Both watch the host through a pidfd, because a client that forked keeps sockets open that the
//! host had; and they end everything that descends from them once the host is gone.

mod adopting;
mod asked;
mod control;
#[expect(dead_code, reason = "the host uses the other half")]
mod exits;
mod fork_server;
mod forks;
mod groups;
mod guard;
mod keeper;
mod kills;
#[expect(dead_code, reason = "the host uses the other half")]
mod order;
#[expect(dead_code, reason = "the host uses the other half")]
mod protocol;
mod watch;

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;

use procession_sys as sys;

use crate::keeper::Detached;

fn run() -> io::Result<()> {
    let mut args = std::env::args_os().map(|arg| CString::new(arg.into_vec()));
    let mut next = || {
        args.next()
            .ok_or_else(|| io::Error::other("role, session and owner are not all named"))?
            .map_err(io::Error::other)
    };
    let (role, session, owner) = (next()?, next()?, next()?);
    let directory = next().ok();
    sys::set_name(&role)?;
    // What ends the client on its terminal must not end the one who cleans up after it.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        sys::ignore_signal(signal)?;
    }
    sys::become_subreaper()?;
    let control = sys::inherited(protocol::CONTROL_FD)?;
    let host = sys::Pidfd::from(sys::inherited(protocol::HOST_FD)?);
    // The client's directory may have to be unmounted while this process lives.
    std::env::set_current_dir("/")?;
    let is_guard = role.as_c_str() == protocol::GUARD;
    if let Some(directory) = directory {
        return keep_detached(is_guard, control, host, [session, owner, directory]);
    }
    if is_guard && guard::has_kept_all(&control, &host, [&session, &owner])? {
        return Ok(());
    }
    let [session, owner] = [text(session)?, text(owner)?];
    keeper::Keeper::new(control, host, session, owner.parse()?, is_guard)?.run()
}

fn keep_detached(
    is_guard: bool,
    mut control: OwnedFd,
    mut host: sys::Pidfd,
    args: [CString; 3],
) -> io::Result<()> {
    let listener = sys::inherited(protocol::LISTENER_FD)?;
    let (link, legacy) = if is_guard {
        let Some(left) = watch::keep_watch(control, host, &listener, &args)? else { return Ok(()) };
        (control, host) = (left.control, left.host);
        (None, Some(left.legacy))
    } else {
        (Some(sys::inherited(protocol::LINK_FD)?), None)
    };
    let [session, owner, directory] = args;
    let directory = PathBuf::from(OsString::from_vec(directory.into_bytes()));
    let detached = Detached::new(&directory, listener, link)?;
    let keeper = keeper::Keeper::new(control, host, text(session)?, text(owner)?.parse()?, is_guard)?;
    keeper.detached(detached, legacy).run()
}

fn text(argument: CString) -> io::Result<String> {
    argument.into_string().map_err(io::Error::other)
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what it would print; its end is what the host sees.
        Err(_) => ExitCode::FAILURE,
    }
}
