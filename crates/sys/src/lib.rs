//! The kernel's calls, made safe: every unsafe line lives here.
#![expect(unsafe_code, reason = "this crate exists so that no other one needs it")]

mod accounts;
mod beside;
mod binding;
mod call;
mod cgroup;
mod children;
mod confinement;
mod environment;
mod failpoint;
mod fd;
mod forked;
mod limits;
mod log_file;
mod memfd;
mod pidfd;
mod poll;
mod process;
mod program;
mod region;
mod rights;
mod shared_pages;
mod snapshot;
mod socket;
mod spawn;
mod stream;
mod tcp;
mod this_process;
mod tree;

pub use accounts::{Account, group_named, own_groups, own_ids, user_named, user_numbered};
pub use beside::fork_beside;
pub use binding::{Binding, Mask, available_processors};
pub use cgroup::{Cgroups, Controller, Group, Limits, Owner, oom_kills};
pub use children::{next_ended_child, reap_child};
pub use confinement::{
    Confinement, Identity, Rlimit, all_capabilities, capability, own_capabilities, rlimit_resource,
};
pub use environment::take_variable;
pub use failpoint::{FAILPOINTS, failpoint_variable};
#[cfg(feature = "failpoints")]
pub use failpoint::{pass, set_failpoints};
pub use fd::{bytes_waiting, enlarge_pipe, inherited, open_directory, open_null, pipe, pipe_capacity};
pub use forked::{forget_fork, is_forked, watch_forks};
pub use limits::{
    ArgumentsError, OpenFiles, check_arguments, is_address_space_limited, own_rlimit, raise_open_files,
};
pub use log_file::{LogFile, Rotation, Taken};
pub use memfd::{executable_memfd, sealed_memfd};
pub use pidfd::{ExitStatus, Pidfd};
pub use poll::{Watch, poll};
pub use process::{Looking, MARKER, Process};
pub use program::{ProgramError, resolve_program};
pub use region::{PrivateView, RefusedRegion, Region, SeenRegion, Slot, VacantSlot};
pub use shared_pages::SharedPages;
pub use snapshot::Snapshot;
pub use socket::{
    Received, accept, connect_seqpacket, is_gone, listen_seqpacket, peer_uid, receive, send, seqpacket_pair,
    shut_down,
};
pub use spawn::{Child, Orphaned, Program, SpawnError, SpawnSpec, Spawning, Stage, Stdio, has_clone3, spawn};
pub use stream::{Came, receive_stream, send_stream};
pub use tcp::{TcpBacklog, tcp_backlog};
pub use this_process::{
    SignalFd, become_subreaper, ignore_signal, oom_score_adj, set_name, total_memory, watch_child_signals,
};
pub use tree::{ENOUGH_EMPTY_LOOKS, LOOK_AGAIN, Tree};
