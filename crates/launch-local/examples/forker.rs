//! A program that its procs may be forked from (`BootstrapCommand::preload`), for the tests of the launcher. What users
//! have is `_fork_server.py`. It says whether it was forked or executed, and does what its argument says.
#![expect(clippy::unwrap_used, reason = "what fails here fails a test")]

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::process::parent_id;
use std::process::exit;

use procession_sys as sys;

const CONTROL_FD: i32 = 3;

fn main() {
    let role = std::env::args().nth(1).unwrap_or_default();
    let is_server = std::env::args().any(|argument| argument == "--fork-server");
    if is_server {
        serve(&role);
    }
    println!("{} {}", if is_server { "forked" } else { "executed" }, parent_id());
    match role.strip_prefix("exit ") {
        Some(code) => exit(code.parse().unwrap()),
        None => loop {
            std::thread::park();
        },
    }
}

/// Returns in a fork that may go on.
fn serve(role: &str) {
    let control = sys::inherited(CONTROL_FD).unwrap();
    let first: &[u8] = match role {
        "refuse" => b"Xit does not want to",
        "end" => exit(1),
        _ => b"R",
    };
    sys::send(control.as_fd(), first, &[]).unwrap();
    loop {
        let Some((_, fds)) = next(&control) else { exit(0) };
        let mut fds = fds.into_iter();
        let (gate, strings) = (fds.next().unwrap(), fds.next().unwrap());
        let outputs: Vec<OwnedFd> = fds.by_ref().skip(1).take(2).collect();
        let group = fds.next();
        if role == "be mute" {
            // Whoever asked may not learn that from a socket that closes.
            std::mem::forget(gate);
        } else if let Some(creator) = sys::fork_beside(group.as_ref().map(AsRawFd::as_raw_fd)).unwrap() {
            return become_proc(creator, &gate, strings, &outputs);
        }
    }
}

fn next(socket: &OwnedFd) -> Option<(u8, Vec<OwnedFd>)> {
    sys::poll(&mut [sys::Watch::readable(socket.as_fd())], None).unwrap();
    let mut byte = [0];
    let received = sys::receive(socket.as_fd(), &mut byte).unwrap();
    (received.length == 1).then_some((byte[0], received.fds))
}

fn become_proc(creator: u32, gate: &OwnedFd, strings: OwnedFd, outputs: &[OwnedFd]) {
    rustix::process::setsid().unwrap();
    rustix::stdio::dup2_stdout(&outputs[0]).unwrap();
    rustix::stdio::dup2_stderr(&outputs[1]).unwrap();
    show_marker(&File::from(strings));
    while parent_id() == creator {
        std::thread::yield_now();
    }
    let here = [&b"H"[..], &std::process::id().to_ne_bytes()].concat();
    if sys::send(gate.as_fd(), &here, &[]).is_err() || next(gate).is_none_or(|(word, _)| word != b'G') {
        exit(127);
    }
}

/// Where the kernel finds it, over that of the server.
fn show_marker(strings: &File) {
    let mut text = vec![0; usize::try_from(strings.metadata().unwrap().len()).unwrap()];
    strings.read_exact_at(&mut text, 0).unwrap();
    let variable = format!("{}=", sys::MARKER).into_bytes();
    let marker = text.split(|&b| b == 0).find_map(|entry| entry.strip_prefix(variable.as_slice())).unwrap();
    let mut shown = Vec::new();
    File::open("/proc/self/environ").unwrap().read_to_end(&mut shown).unwrap();
    let at = shown.windows(variable.len()).position(|window| window == variable).unwrap() + variable.len();
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let environment: u64 = stat.rsplit_once(") ").unwrap().1.split(' ').nth(47).unwrap().parse().unwrap();
    let memory = OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
    memory.write_all_at(marker, environment + at as u64).unwrap();
}
