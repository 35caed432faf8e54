//! What a host and its keeper, or the guard that has taken over, say to each other: small messages of one size over a socket that keeps
//! their boundaries; descriptors travel beside them. Both sides are built from this one file and are
//! always of the same version.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use procession_sys::{ExitStatus, MARKER, Stage};

use crate::order::Order;

/// What the process is called that is above a keeper, and what that is called itself.
pub(crate) const GUARD: &CStr = c"procession-guard";
pub(crate) const KEEPER: &CStr = c"procession-keeper";
/// The descriptor under which the keeper finds the conversation.
pub(crate) const CONTROL_FD: i32 = 3;
/// The descriptor under which it finds the host's pidfd.
pub(crate) const HOST_FD: i32 = 4;
/// The descriptor under which the keeper of detached procs finds the socket that the next host asks at.
pub(crate) const LISTENER_FD: i32 = 5;
/// The descriptor under which it finds the way to its guard.
pub(crate) const LINK_FD: i32 = 6;
/// What that socket is called in the state directory.
pub(crate) const SOCKET: &str = "keeper";
/// After this a process that does not die of SIGKILL is told of, and still killed. Whoever waits for a
/// kill waits longer, so that this is what it hears.
pub(crate) const PATIENCE: Duration = Duration::from_secs(4);
/// When the kernel is short of what a message takes, until the next try.
pub(crate) const SEND_AGAIN: Duration = Duration::from_millis(10);
/// The bytes of every message.
pub(crate) const SIZE: usize = 25;

/// Host to keeper. The ids are the host's, never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// With descriptors: the strings, the directory to start in, and when not captured the stdout and
    /// the stderr to share.
    Launch { id: u64, captured: bool },
    /// SIGTERM to the tree.
    Terminate { id: u64 },
    /// SIGKILL to the tree, until nothing of it is left.
    Kill { id: u64 },
    /// Kill everything, then end.
    Shutdown,
    /// To a guard that takes over, for each proc that runs: this one is its child now.
    Adopt { id: u64, pid: u32, started: u64 },
    /// The launch of the one that was adopted last, as its two halves.
    Named { id: u64, launch: [u64; 2] },
    /// That was all that runs. What was said before the first `Adopt` never was.
    Resume,
    /// From a host that has come to a keeper of detached procs, with its pidfd: it is the owner now.
    Own,
}

/// Keeper to host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The program is being executed. With descriptors when captured: stdout, stderr.
    Started { id: u64, pid: u32, started: u64 },
    /// Nothing was started.
    Refused { id: u64, stage: Stage, errno: i32 },
    /// The leader ended; after `Started`, exactly once. Whether something of it was killed for want of
    /// memory, where that is known.
    Exited { id: u64, status: ExitStatus, oom: Option<bool> },
    /// The answer to `Terminate`.
    Signalled { id: u64 },
    /// The answer to `Kill`: nothing is left.
    Killed { id: u64 },
    /// The other answer to `Kill`: this process does not die.
    Stuck { id: u64, pid: u32 },
    /// The first word of a keeper: itself.
    Keeps { pid: u32, started: u64 },
    /// The first word of a guard whose keeper has ended: it waits to be told what runs.
    Replaced,
    /// What was to be adopted is not there.
    Gone { id: u64 },
    /// A detached proc that runs. With descriptors: stdout, stderr, the strings of its launch. Also to the
    /// guard, which goes on with it.
    Kept { id: u64, pid: u32, started: u64 },
    /// Those were all detached procs that run.
    All,
    /// To the guard: this one is not kept any more.
    Forget { id: u64 },
    /// The answer to `Own`, with the guard, as far as there is one. To the guard, with descriptors: the
    /// conversation with the owner, and its pidfd.
    Owned { pid: u32, started: u64 },
    /// The other answer to `Own`: there is a living owner.
    Busy,
    /// With a descriptor: a text for people, on something that goes on in another way than it should.
    Warning,
}

type Fields = (u8, u64, u64, u64);

fn pack((tag, id, a, b): Fields) -> [u8; SIZE] {
    let mut bytes = [tag; SIZE];
    for (place, number) in bytes[1..].chunks_exact_mut(8).zip([id, a, b]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

fn unpack(bytes: &[u8]) -> Option<Fields> {
    let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
    let number = |at: usize| bytes[at..at + 8].try_into().ok().map(u64::from_le_bytes);
    Some((bytes[0], number(1)?, number(9)?, number(17)?))
}

/// Bits of the last number of an exit: a core was written; the count of what was killed for want of memory
/// is known; it is not zero.
const CORE: u64 = 1;
const OOM_KNOWN: u64 = 2;
const OOM: u64 = 4;

fn pack_oom(oom: Option<bool>) -> u64 {
    oom.map_or(0, |oom| if oom { OOM_KNOWN | OOM } else { OOM_KNOWN })
}

fn unpack_oom(bits: u64) -> Option<bool> {
    (bits & OOM_KNOWN != 0).then_some(bits & OOM != 0)
}

impl Request {
    pub(crate) fn encode(self) -> [u8; SIZE] {
        pack(match self {
            Self::Launch { id, captured } => (0, id, captured.into(), 0),
            Self::Terminate { id } => (1, id, 0, 0),
            Self::Kill { id } => (2, id, 0, 0),
            Self::Shutdown => (3, 0, 0, 0),
            Self::Adopt { id, pid, started } => (16, id, pid.into(), started),
            Self::Named { id, launch: [high, low] } => (17, id, high, low),
            Self::Resume => (18, 0, 0, 0),
            Self::Own => (19, 0, 0, 0),
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match unpack(bytes)? {
            (0, id, captured, _) => Self::Launch { id, captured: captured != 0 },
            (1, id, ..) => Self::Terminate { id },
            (2, id, ..) => Self::Kill { id },
            (3, ..) => Self::Shutdown,
            (16, id, pid, started) => Self::Adopt { id, pid: pid as u32, started },
            (17, id, high, low) => Self::Named { id, launch: [high, low] },
            (18, ..) => Self::Resume,
            (19, ..) => Self::Own,
            _ => return None,
        })
    }
}

impl Reply {
    pub(crate) fn encode(self) -> [u8; SIZE] {
        pack(match self {
            Self::Started { id, pid, started } => (0, id, pid.into(), started),
            Self::Refused { id, stage, errno } => (1, id, stage as u64, errno as u64),
            Self::Exited { id, status: ExitStatus::Exited { code }, oom } => {
                (2, id, code as u64, pack_oom(oom))
            }
            Self::Exited { id, status: ExitStatus::Signaled { signal, core_dumped }, oom } => {
                (3, id, signal as u64, u64::from(core_dumped) | pack_oom(oom))
            }
            Self::Signalled { id } => (4, id, 0, 0),
            Self::Killed { id } => (5, id, 0, 0),
            Self::Stuck { id, pid } => (6, id, pid.into(), 0),
            Self::Keeps { pid, started } => (16, 0, pid.into(), started),
            Self::Replaced => (17, 0, 0, 0),
            Self::Gone { id } => (18, id, 0, 0),
            Self::Kept { id, pid, started } => (19, id, pid.into(), started),
            Self::All => (20, 0, 0, 0),
            Self::Forget { id } => (21, id, 0, 0),
            Self::Owned { pid, started } => (22, 0, pid.into(), started),
            Self::Busy => (23, 0, 0, 0),
            Self::Warning => (24, 0, 0, 0),
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(match unpack(bytes)? {
            (0, id, pid, started) => Self::Started { id, pid: pid as u32, started },
            (1, id, stage, errno) => {
                Self::Refused { id, stage: *Stage::ALL.get(stage as usize)?, errno: errno as i32 }
            }
            (2, id, code, rest) => {
                let status = ExitStatus::Exited { code: code as i32 };
                Self::Exited { id, status, oom: unpack_oom(rest) }
            }
            (3, id, signal, rest) => {
                let status = ExitStatus::Signaled { signal: signal as i32, core_dumped: rest & CORE != 0 };
                Self::Exited { id, status, oom: unpack_oom(rest) }
            }
            (4, id, ..) => Self::Signalled { id },
            (5, id, ..) => Self::Killed { id },
            (6, id, pid, _) => Self::Stuck { id, pid: pid as u32 },
            (16, _, pid, started) => Self::Keeps { pid: pid as u32, started },
            (17, ..) => Self::Replaced,
            (18, id, ..) => Self::Gone { id },
            (19, id, pid, started) => Self::Kept { id, pid: pid as u32, started },
            (20, ..) => Self::All,
            (21, id, ..) => Self::Forget { id },
            (22, _, pid, started) => Self::Owned { pid: pid as u32, started },
            (23, ..) => Self::Busy,
            (24, ..) => Self::Warning,
            _ => return None,
        })
    }
}

/// What to execute; it travels in a file, because it may be larger than any message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Strings {
    pub(crate) program: CString,
    pub(crate) argv: Vec<CString>,
    pub(crate) envp: Vec<CString>,
    pub(crate) order: Order,
}

impl Strings {
    /// NUL-terminated: the number of arguments, the order, the program, the arguments, the environment.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = format!("{}\0", self.argv.len()).into_bytes();
        for string in [&self.order.encode(), &self.program].into_iter().chain(&self.argv).chain(&self.envp) {
            bytes.extend_from_slice(string.as_bytes_with_nul());
        }
        bytes
    }

    /// Reads them from the file that they travel in, whoever has read it before.
    pub(crate) fn read(file: OwnedFd) -> Option<Self> {
        let file = File::from(file);
        let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.len()).ok()?];
        file.read_exact_at(&mut bytes, 0).ok()?;
        Self::decode(&bytes)
    }

    /// The launch that the environment is marked with.
    pub(crate) fn launch(&self) -> Option<&str> {
        self.envp.iter().find_map(|entry| {
            let value = entry.to_bytes().strip_prefix(MARKER.as_bytes())?.strip_prefix(b"=")?;
            std::str::from_utf8(value.split(|&b| b == b':').next()?).ok()
        })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut strings = bytes.strip_suffix(b"\0")?.split(|&b| b == 0).map(|s| CString::new(s).ok());
        let count = strings.next()??.to_str().ok()?.parse().ok()?;
        let order = Order::decode(&strings.next()??)?;
        let program = strings.next()??;
        let argv = strings.by_ref().take(count).collect::<Option<Vec<_>>>()?;
        Some(Self { program, argv, envp: strings.collect::<Option<_>>()?, order })
    }
}
