//! PID 1 of a virtual machine: loads what its devices need, mounts the image, and starts the agent in there, whose stdin and
//! stdout are a port of the machine. When the agent ends the machine is turned off.

mod agent;
mod modules;
mod network;
mod root;

use std::fmt::Display;
use std::io;

use rustix::fs::sync;
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, reboot};

/// What stands before all that this says on the console, where the launcher reads it.
const SAYS: &str = "procession-init: ";

fn main() {
    match run() {
        Ok(ended) => println!("{SAYS}{ended}"),
        Err(why) => println!("{SAYS}failed: {why}"),
    }
    sync();
    // PID 1 must not return: that would look as if the guest's kernel had failed.
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("{SAYS}failed: the machine cannot be turned off: {error}");
    }
    loop {
        std::thread::park();
    }
}

fn run() -> Result<String, String> {
    for (kind, path) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        at(path, std::fs::create_dir_all(path))?;
        match mount("none", path, kind, MountFlags::empty(), None) {
            // Some kernels mount it themselves.
            Err(error) if kind == "devtmpfs" && error == rustix::io::Errno::BUSY => {}
            other => at(path, other.map_err(io::Error::from))?,
        }
    }
    modules::load()?;
    if std::env::var_os("PROCESSION_PROBE").is_some() {
        return Ok("it boots".to_owned());
    }
    let agent = agent::command_line()?;
    let port = agent::port()?;
    root::switch()?;
    network::up(std::env::var("PROCESSION_NETWORK").is_ok())?;
    agent::run(&agent, port)
}

/// A failure, with what it was about.
fn at<T>(what: impl Display, done: io::Result<T>) -> Result<T, String> {
    done.map_err(|error| format!("{what}: {error}"))
}
