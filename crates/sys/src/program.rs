use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::call::check;

/// Where a bare name is looked up when the child's environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// How much of a file the kernel looks at to see what it is.
const HEAD: usize = 256;

/// A program that cannot be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// No name at all.
    #[error("the program is empty; give a path or a name that PATH has")]
    Empty,
    /// A relative path without a directory to start from.
    #[error("{0:?} is relative; give an absolute path, a bare name, or a cwd as well")]
    Relative(PathBuf),
    /// No directory of the child's PATH has it.
    #[error("{name:?} is in no directory of the PATH that the program would get ({searched}); give its path")]
    NotInPath {
        /// The bare name.
        name: PathBuf,
        /// The directories, joined by colons.
        searched: String,
    },
    /// There is no such file.
    #[error("{0:?} does not exist; check the path")]
    Missing(PathBuf),
    /// It is a directory.
    #[error("{0:?} is a directory; give the program in it")]
    Directory(PathBuf),
    /// It is not a regular file.
    #[error("{0:?} is not a regular file; give a program")]
    NotAFile(PathBuf),
    /// Nobody, or not this user, may execute it.
    #[error("{0:?} is not executable by this user; chmod +x it, or run its interpreter with it")]
    NotExecutable(PathBuf),
    /// The file after `#!` cannot be run.
    #[error("the interpreter {interpreter:?} of the script {script:?} {problem}; correct its first line")]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// The file that its first line names.
        interpreter: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
        /// ENOENT or EACCES.
        errno: i32,
    },
    /// It is neither a binary nor a script with a first line that says what runs it.
    #[error(
        "{0:?} is neither an executable of this machine nor a script that starts with #!; add such a line"
    )]
    Format(PathBuf),
    /// A binary of another kind of machine.
    #[error("{0:?} is a binary for another architecture; install the one for this machine")]
    Architecture(PathBuf),
    /// The file system would not say.
    #[error("{path:?} cannot be looked at; {}", match *errno {
        libc::EACCES => "let this user enter the directories above it",
        libc::ENOTDIR => "what stands above it is no directory; correct the path",
        libc::ELOOP => "it leads through symbolic links without end; correct them",
        libc::ENAMETOOLONG => "its name is too long; shorten it",
        _ => "see whether its file system answers",
    })]
    Unreachable {
        /// The program.
        path: PathBuf,
        /// Why.
        errno: i32,
    },
}

impl ProgramError {
    /// What execve would have said, or EINVAL for what is refused before.
    pub fn errno(&self) -> i32 {
        match self {
            Self::Empty | Self::Relative(_) => libc::EINVAL,
            Self::NotInPath { .. } | Self::Missing(_) => libc::ENOENT,
            Self::Directory(_) | Self::NotAFile(_) | Self::NotExecutable(_) => libc::EACCES,
            Self::Interpreter { errno, .. } | Self::Unreachable { errno, .. } => *errno,
            Self::Format(_) | Self::Architecture(_) => libc::ENOEXEC,
        }
    }
}

/// The absolute path of `program`, looked up as the child would: in the child's `path`, from the
/// child's `cwd`; and checked for what would make execve fail.
///
/// Relative paths need an explicit cwd, which `cwd_given` says; directories of `path` may be
/// relative to any.
///
/// # Errors
/// Nothing there can be executed.
pub fn resolve_program(
    program: &Path,
    path: Option<&OsStr>,
    cwd: &Path,
    cwd_given: bool,
) -> Result<PathBuf, ProgramError> {
    let bytes = program.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(ProgramError::Empty);
    }
    let found = if bytes.contains(&b'/') {
        if program.is_relative() && !cwd_given {
            return Err(ProgramError::Relative(program.to_owned()));
        }
        cwd.join(program)
    } else {
        return search(program, path.unwrap_or(OsStr::new(DEFAULT_PATH)), cwd);
    };
    inspect(&found)?;
    Ok(found)
}

fn search(name: &Path, path: &OsStr, cwd: &Path) -> Result<PathBuf, ProgramError> {
    let mut refused = None;
    for directory in path.as_bytes().split(|&b| b == b':') {
        let candidate = cwd.join(OsStr::from_bytes(directory)).join(name);
        match inspect(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(ProgramError::Missing(_) | ProgramError::Directory(_) | ProgramError::Unreachable { .. }) => {
            }
            Err(error @ ProgramError::NotExecutable(_)) => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| ProgramError::NotInPath {
        name: name.to_owned(),
        searched: path.to_string_lossy().into_owned(),
    }))
}

fn executable(path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path ends in NUL and outlives the call.
    check(unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) }).map(drop)
}

fn inspect(path: &Path) -> Result<(), ProgramError> {
    let owned = || path.to_owned();
    let unreachable = |error: &io::Error| ProgramError::Unreachable {
        path: owned(),
        errno: error.raw_os_error().unwrap_or(0),
    };
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            return Err(ProgramError::Missing(owned()));
        }
        Err(error) => return Err(unreachable(&error)),
    };
    if metadata.is_dir() {
        return Err(ProgramError::Directory(owned()));
    }
    if !metadata.is_file() {
        return Err(ProgramError::NotAFile(owned()));
    }
    match executable(path) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            return Err(ProgramError::NotExecutable(owned()));
        }
        Err(error) => return Err(unreachable(&error)),
    }
    let mut head = Vec::with_capacity(HEAD);
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    // What may be executed but not read is left to execve to judge.
    if read.is_ok() { inspect_head(path, &head) } else { Ok(()) }
}

fn inspect_head(path: &Path, head: &[u8]) -> Result<(), ProgramError> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&b| b == b'\n').next().unwrap_or_default().trim_ascii();
        let interpreter = line.split(|b| matches!(b, b' ' | b'\t')).next().unwrap_or_default();
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        if interpreter.as_os_str().is_empty() {
            return Err(ProgramError::Format(path.to_owned()));
        }
        return inspect_interpreter(path, interpreter);
    }
    let machine = head.get(18..20).filter(|_| head.starts_with(b"\x7fELF"));
    if machine.is_some_and(|found| found != native_machine()) {
        return Err(ProgramError::Architecture(path.to_owned()));
    }
    Ok(())
}

fn inspect_interpreter(script: &Path, interpreter: &Path) -> Result<(), ProgramError> {
    let wrong = |problem, errno| ProgramError::Interpreter {
        script: script.to_owned(),
        interpreter: interpreter.to_owned(),
        problem,
        errno,
    };
    // A relative one depends on the child's cwd; execve judges it.
    if interpreter.is_relative() {
        return Ok(());
    }
    match interpreter.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(wrong("does not exist", libc::ENOENT)),
        Ok(found) if !found.is_file() => Err(wrong("is not a file", libc::EACCES)),
        Ok(_) if executable(interpreter).is_err() => Err(wrong("is not executable", libc::EACCES)),
        _ => Ok(()),
    }
}

/// The ELF machine number, in this machine's byte order, of this very program.
fn native_machine() -> [u8; 2] {
    let number: u16 = if cfg!(target_arch = "x86_64") {
        62
    } else if cfg!(target_arch = "aarch64") {
        183
    } else if cfg!(target_arch = "riscv64") {
        243
    } else {
        return own_machine();
    };
    number.to_ne_bytes()
}

fn own_machine() -> [u8; 2] {
    let mut head = [0; 20];
    let read = File::open("/proc/self/exe").and_then(|mut file| file.read_exact(&mut head));
    if read.is_ok() { [head[18], head[19]] } else { [0; 2] }
}
