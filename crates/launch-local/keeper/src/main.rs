//! The keeper: parent and subreaper of one host's native procs; and the guard above it, the same
//! program, which takes over when the keeper is killed.
//!
//! Both watch the host through a pidfd, because a client that forked keeps sockets open that the
//! host had; and they end everything that descends from them once the host is gone.

mod adopting;
mod control;
mod groups;
mod guard;
mod keeper;
mod kills;
#[expect(dead_code, reason = "the host uses the other half")]
mod order;
#[expect(dead_code, reason = "the host uses the other half")]
mod protocol;

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use procession_sys as sys;

fn run() -> io::Result<()> {
    let mut args = std::env::args_os().map(|arg| CString::new(arg.into_vec()));
    let mut next = || args.next().ok_or_else(|| io::Error::other("role, session and owner are not all named"))?.map_err(io::Error::other);
    let (role, session, owner) = (next()?, next()?, next()?);
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
    if is_guard && guard::has_kept_all(&control, &host, [&session, &owner])? {
        return Ok(());
    }
    let session = session.into_string().map_err(io::Error::other)?;
    let owner = owner.into_string().map_err(io::Error::other)?.parse()?;
    keeper::Keeper::new(control, host, session, owner, is_guard)?.run()
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what it would print; its end is what the host sees.
        Err(_) => ExitCode::FAILURE,
    }
}
