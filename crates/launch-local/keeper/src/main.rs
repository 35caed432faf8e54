//! The keeper: parent and subreaper of one host's native procs.
//!
//! It watches the host through a pidfd, because a client that forked keeps sockets open that the
//! host had; and it ends everything that descends from it once the host is gone.

mod control;
mod groups;
mod keeper;
mod kills;
#[expect(dead_code, reason = "the host uses the other half")]
mod order;
#[expect(dead_code, reason = "the host uses the other half")]
mod protocol;

use std::io;
use std::process::ExitCode;

use procession_sys as sys;

fn set_up() -> io::Result<keeper::Keeper> {
    sys::set_name(c"procession-keeper")?;
    // What ends the client on its terminal must not end the one who cleans up after it.
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE] {
        sys::ignore_signal(signal)?;
    }
    sys::become_subreaper()?;
    let control = sys::inherited(protocol::CONTROL_FD)?;
    let host = sys::Pidfd::from(sys::inherited(protocol::HOST_FD)?);
    // The client's directory may have to be unmounted while this process lives.
    std::env::set_current_dir("/")?;
    let session = std::env::args().nth(1).ok_or_else(|| io::Error::other("the session is not named"))?;
    keeper::Keeper::new(control, host, session)
}

fn main() -> ExitCode {
    match set_up().and_then(keeper::Keeper::run) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody reads what it would print; its end is what the host sees.
        Err(_) => ExitCode::FAILURE,
    }
}
