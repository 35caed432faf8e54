//! The kernel's calls, made safe: every unsafe line lives here.
#![expect(unsafe_code, reason = "this crate exists so that no other one needs it")]

mod call;
mod children;
mod environment;
mod fd;
mod limits;
mod log_file;
mod memfd;
mod pidfd;
mod poll;
mod process;
mod program;
mod socket;
mod spawn;
mod this_process;
mod tree;

pub use children::{next_ended_child, reap_child};
pub use environment::take_variable;
pub use fd::{bytes_waiting, inherited, open_directory, open_null, pipe, pipe_capacity};
pub use limits::{ArgumentsError, OpenFiles, check_arguments, raise_open_files};
pub use log_file::{LogFile, Rotation, Taken};
pub use memfd::{executable_memfd, sealed_memfd};
pub use pidfd::{ExitStatus, Pidfd};
pub use poll::{Watch, poll};
pub use process::{MARKER, Process, Snapshot};
pub use program::{ProgramError, resolve_program};
pub use socket::{Received, is_gone, receive, send, seqpacket_pair, shut_down};
pub use spawn::{Child, Program, SpawnError, SpawnSpec, Spawning, Stage, Stdio, spawn};
pub use this_process::{
    SignalFd, become_subreaper, ignore_signal, oom_score_adj, set_name, watch_child_signals,
};
pub use tree::{ENOUGH_EMPTY_LOOKS, LOOK_AGAIN, Tree};
