use std::io;

use procession_launch::ProcLauncherError;
use procession_model::InvalidArgument;
use procession_sys::Stage;

/// Why a program was not started, with the kernel's number for it.
///
/// It is the inner error of [`ProcLauncherError::Launch`]; arguments that are refused whatever the
/// machine looks like are [`InvalidArgument`] there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} (errno {errno}: {})", io::Error::from_raw_os_error(*errno).kind())]
pub struct LaunchFailure {
    text: String,
    errno: i32,
}

impl LaunchFailure {
    pub(crate) fn new(text: impl Into<String>, errno: i32) -> Self {
        Self { text: text.into(), errno }
    }

    pub(crate) fn of(text: &str, error: &io::Error) -> Self {
        Self::new(format!("{text}: {error}"), error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// What is known when `program` got as far as `stage`.
    pub(crate) fn at(stage: Stage, errno: i32, program: &str) -> Self {
        let text = match (stage, errno) {
            (Stage::Clone, libc::EAGAIN) => {
                "no process could be made: a limit on processes is reached; try again, or raise ulimit -u or pids.max"
                    .to_owned()
            }
            (_, libc::EMFILE | libc::ENFILE) => {
                "no file descriptor is left; close some, or raise ulimit -n".to_owned()
            }
            (Stage::Clone, libc::ECANCELED) => "the launcher is shutting down; start a new one".to_owned(),
            (Stage::Clone, _) => "no process could be made; try again".to_owned(),
            (Stage::Setup, _) => "the new process could not be set up".to_owned(),
            (Stage::Directory, _) => "the cwd cannot be entered; check its permissions".to_owned(),
            (Stage::Exec, libc::ENOENT) => {
                format!("{program} is there, but the loader that it names is not; install its C library")
            }
            (Stage::Exec, libc::ENOEXEC) => format!(
                "{program} is neither an executable of this machine nor a script that starts with #!; add such a line"
            ),
            (Stage::Exec, libc::EACCES) => {
                format!("{program} may not be executed; check its permissions, and that its file system is not noexec")
            }
            (Stage::Exec, _) => format!("{program} cannot be executed"),
        };
        Self::new(text, errno)
    }

    /// The kernel's error number: ENOENT, EACCES, ENOEXEC, EAGAIN, …
    pub fn errno(&self) -> i32 {
        self.errno
    }

    /// Whether the same launch may succeed a little later.
    pub fn is_retryable(&self) -> bool {
        matches!(self.errno, libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE | libc::ETXTBSY)
    }
}

impl From<LaunchFailure> for ProcLauncherError {
    fn from(failure: LaunchFailure) -> Self {
        let kind = io::Error::from_raw_os_error(failure.errno).kind();
        Self::Launch(io::Error::new(kind, failure))
    }
}

pub(crate) fn invalid(
    field: impl Into<String>,
    value: impl Into<String>,
    rule: impl Into<String>,
) -> ProcLauncherError {
    let refused = InvalidArgument::new(field, value, rule);
    ProcLauncherError::Launch(io::Error::new(io::ErrorKind::InvalidInput, refused))
}
