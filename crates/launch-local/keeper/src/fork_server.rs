//! An interpreter that procs are forked from: a child of this process with one thread, which has imported what
//! they need. `_fork_server.py` is its other side.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use procession_sys::{self as sys, Child, OpenFiles, Orphaned, Program, SpawnSpec, Stdio};

use crate::asked::{Asked, variable};

/// What makes the proc's program one that forks; and room for the name that a fork shows as its own.
const ARGUMENT: &str = "--fork-server";
const ROOM_FOR_NAME: usize = 96;
/// What is to be imported.
const PRELOAD: &str = "PROCESSION_PRELOAD";
/// What it is called, for people who look at its environment.
const NAME: &str = "PROCESSION_PROCESS_NAME";
/// What every variable of the runtime starts with.
const OURS: &[u8] = b"PROCESSION_";
/// While a server imports: libraries whose threads would not be there after a fork start none then.
const THREADS: [&str; 5] = [
    "OPENBLAS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
];
/// What an interpreter, the C library or the loader reads when a program starts, and a fork does not read again.
const AT_START: [&str; 9] =
    ["PYTHON", "LD_", "MALLOC_", "GLIBC_", "LC_", "OPENSSL_", "SSL_CERT_", "COV", "RUST_"];
const AT_START_WHOLE: [&str; 5] = ["LANG", "LANGUAGE", "LOCPATH", "HOME", "NLSPATH"];
/// The longest message of a server.
const LONGEST: usize = 4096;

/// What the forks of one server have in common.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    program: CString,
    argv: Vec<CString>,
    preload: String,
    at_start: Vec<CString>,
}

impl Kind {
    /// None for a launch that is not to be forked.
    pub(crate) fn of(asked: &Asked) -> Option<Self> {
        let strings = &asked.strings;
        let preload = strings.order.preload.clone()?;
        let at_start = strings.envp.iter().filter(|entry| is_read_at_start(entry.to_bytes())).cloned();
        Some(Self {
            program: strings.program.clone(),
            argv: strings.argv.clone(),
            preload,
            at_start: at_start.collect(),
        })
    }
}

fn is_read_at_start(entry: &[u8]) -> bool {
    AT_START.iter().any(|start| entry.starts_with(start.as_bytes()))
        || AT_START_WHOLE.iter().any(|name| is_variable(entry, name))
}

fn is_variable(entry: &[u8], name: &str) -> bool {
    entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// What a server says.
pub(crate) enum Word {
    /// It forks from now on.
    Ready,
    /// It does not, and why.
    Refuses(String),
    /// It has ended, or is of no use.
    Gone,
}

pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) child: Child,
    socket: OwnedFd,
    pub(crate) is_ready: bool,
}

impl Server {
    /// Starts one for launches like `asked`.
    pub(crate) fn start(
        kind: Kind,
        asked: &Asked,
        open_files: OpenFiles,
        oom_score_adj: Option<i32>,
    ) -> io::Result<Self> {
        let (socket, theirs) = sys::seqpacket_pair()?;
        let argv = kind.argv.iter().cloned();
        let argv = argv.chain([CString::new(ARGUMENT)?, CString::new("-".repeat(ROOM_FOR_NAME))?]).collect();
        let mut spec = SpawnSpec::new(kind.program.clone(), argv, environment(&kind, asked)?);
        spec.program = Program::Path(kind.program.clone());
        spec.cwd = Some(asked.cwd.as_fd());
        // As procs have it, for what the interpreter finds out about its output once and for all.
        (spec.stdout, spec.stderr) = (Stdio::Pipe, Stdio::Pipe);
        spec.fds = vec![theirs.as_fd()];
        spec.orphaned = Orphaned::Dies;
        spec.open_files = Some(open_files);
        spec.oom_score_adj = oom_score_adj;
        let child = sys::spawn(&spec).map_err(|error| error.source)?;
        Ok(Self { kind, child, socket, is_ready: false })
    }

    pub(crate) fn watch(&self) -> sys::Watch<'_> {
        sys::Watch::readable(self.socket.as_fd())
    }

    /// What it has said since, if anything.
    pub(crate) fn hear(&self) -> Option<Word> {
        let mut bytes = [0; LONGEST];
        match sys::receive(self.socket.as_fd(), &mut bytes) {
            Ok(received) => Some(match bytes[..received.length].split_first() {
                Some((b'R', _)) => Word::Ready,
                Some((b'X', why)) => Word::Refuses(String::from_utf8_lossy(why).into_owned()),
                _ => Word::Gone,
            }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(_) => Some(Word::Gone),
        }
    }

    /// Asks for a fork; it says through `gate` who it is, and waits there for the word to go on.
    pub(crate) fn ask(
        &self,
        asked: &Asked,
        gate: &OwnedFd,
        outputs: [BorrowedFd<'_>; 2],
        group: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        let [out, err] = outputs;
        let mut fds = vec![gate.as_fd(), asked.file.as_fd(), asked.cwd.as_fd(), out, err];
        fds.extend(group);
        sys::send(self.socket.as_fd(), b"F", &fds)
    }

    pub(crate) fn end(&self) {
        let _it_has_ended = self.child.pidfd.signal(libc::SIGKILL);
    }
}

/// That of the launch without what is its own, and room for some of that: the marker, which is all of the common one but
/// for the first launch in it, and the name.
fn environment(kind: &Kind, asked: &Asked) -> io::Result<Vec<CString>> {
    let envp = &asked.strings.envp;
    let is_common = |entry: &&CString| {
        let entry = entry.to_bytes();
        !entry.starts_with(OURS) && !THREADS.iter().any(|name| is_variable(entry, name))
    };
    let mut all = vec![];
    let marker = variable(envp, sys::MARKER).unwrap_or_default();
    let own = marker.iter().position(|&b| b == b':').unwrap_or(marker.len());
    all.push(CString::new([sys::MARKER.as_bytes(), b"=", &vec![b'0'; own], &marker[own..]].concat())?);
    all.push(CString::new(format!("{NAME}={}", "-".repeat(ROOM_FOR_NAME)))?);
    all.push(CString::new(format!("{PRELOAD}={}", kind.preload))?);
    for name in THREADS {
        all.push(CString::new(format!("{name}=1"))?);
    }
    all.extend(envp.iter().filter(is_common).cloned());
    Ok(all)
}
