use std::io;

use procession_launch::ProcLauncherError;
use procession_model::InvalidArgument;
use procession_sys::Stage;

/// Why a program was not started, with the kernel's number for it.
///
/// It is the inner error of [`ProcLauncherError::Launch`]; arguments that are refused whatever the
/// machine looks like are [`InvalidArgument`] there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text} ({}, errno {errno})", words_of(*errno))]
pub struct LaunchFailure {
    text: String,
    errno: i32,
}

/// What messages call the parts of a launch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shown {
    pub(crate) program: String,
    pub(crate) cwd: String,
}

impl LaunchFailure {
    pub(crate) fn new(text: impl Into<String>, errno: i32) -> Self {
        Self { text: text.into(), errno }
    }

    /// `text` names what could not be done and what to do next, unless the machine is short of
    /// something, which is then nobody else's fault.
    pub(crate) fn of(text: &str, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::new(shortage(errno).unwrap_or(text), errno),
            None => Self::new(format!("{text}: {error}"), libc::EIO),
        }
    }

    /// What is known when the program got as far as `stage`.
    pub(crate) fn at(stage: Stage, errno: i32, shown: &Shown) -> Self {
        if let Some(shortage) = shortage(errno) {
            return Self::new(shortage, errno);
        }
        let Shown { program, cwd } = shown;
        let text = match (stage, errno) {
            (Stage::Clone, libc::EAGAIN) => {
                "no process could be made: a limit on processes is reached; try again, or raise ulimit -u or pids.max"
                    .to_owned()
            }
            (Stage::Clone, libc::ECANCELED) => SHUT_DOWN.to_owned(),
            (Stage::Clone, _) => "no process could be made; try again".to_owned(),
            (Stage::Setup, _) => {
                "the new process could not be given its session, limits and descriptors; see whether a security \
                 policy forbids that here"
                    .to_owned()
            }
            (Stage::Group, libc::EOPNOTSUPP) => {
                "a limit was asked for that nothing enforces here; leave it out, and see `procession doctor`".to_owned()
            }
            (Stage::Group, _) => "its control group could not be made or joined; see `procession doctor` for what this \
                                  process may do"
                .to_owned(),
            (Stage::Limits, _) => {
                "one of its rlimits could not be set; ask for less, or raise the hard limits of this process".to_owned()
            }
            (Stage::User, _) => {
                "it could not become that user; give this process CAP_SETUID and CAP_SETGID, or leave user out".to_owned()
            }
            (Stage::Privileges, _) => "its rights could not be taken away; see whether the seccomp program is a valid \
                                       one, and whether this process has CAP_SETPCAP"
                .to_owned(),
            (Stage::Binding, _) => {
                "it could not be bound to its processors or memory; see which are available by now, and ask for those"
                    .to_owned()
            }
            (Stage::Directory, _) => format!("the cwd {cwd} cannot be entered; give one that this user may enter"),
            (Stage::Exec, libc::ENOENT) => {
                format!("{program} is there, but the loader that it names is not; install its C library")
            }
            (Stage::Exec, libc::ENOEXEC) => format!(
                "{program} is neither an executable of this machine nor a script that starts with #!; add such a line"
            ),
            (Stage::Exec, libc::EACCES) => {
                format!("{program} may not be executed; chmod +x it, or see whether its file system is noexec")
            }
            (Stage::Exec, libc::ETXTBSY) => format!("{program} is being written; try again when that is done"),
            (Stage::Exec, libc::E2BIG) => {
                format!("{program} is given more arguments and environment than fit; pass them in a file")
            }
            (Stage::Exec, _) => format!("{program} cannot be executed; run it by hand here to see why"),
        };
        Self::new(text, errno)
    }

    /// What went wrong and what to do next, without the kernel's word on it.
    pub fn text(&self) -> &str {
        &self.text
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

/// For what is asked of a launcher after its end.
pub(crate) const SHUT_DOWN: &str = "the launcher was shut down; start a new one";

/// What to say when it is not about what was asked for.
pub(crate) fn shortage(errno: i32) -> Option<&'static str> {
    match errno {
        libc::EMFILE => Some("no file descriptor is left; close some, or raise ulimit -n"),
        libc::ENFILE => Some("no file descriptor is left on this machine; close some, or raise fs.file-max"),
        libc::ENOMEM => Some("no memory is left; free some, and try again"),
        _ => None,
    }
}

/// What a process that does not die is in: its state, and the kernel's function that it waits in.
pub(crate) fn whereabouts(pid: u32) -> String {
    let state = procession_sys::Process::look(pid).map_or('?', |process| process.state);
    let place = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    format!("in state {state}, in {place:?}")
}

/// The kernel's word for an error, without its number.
fn words_of(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
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
    refused(InvalidArgument::new(field, value, rule))
}

pub(crate) fn refused(argument: InvalidArgument) -> ProcLauncherError {
    ProcLauncherError::Launch(io::Error::new(io::ErrorKind::InvalidInput, argument))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown() -> Shown {
        Shown { program: "\"/bin/it\"".to_owned(), cwd: "\"/the/cwd\"".to_owned() }
    }

    #[test]
    fn the_number_and_the_kernels_word_stand_once_and_something_to_do_always() {
        for stage in Stage::ALL {
            for errno in [libc::EPERM, libc::ENOENT, libc::EACCES, libc::ELOOP, libc::EMFILE, libc::ENOMEM] {
                let text = LaunchFailure::at(stage, errno, &shown()).to_string();
                assert_eq!(text.matches(&errno.to_string()).count(), 1, "{text}");
                assert_eq!(text.matches(&words_of(errno)).count(), 1, "{text}");
                assert!(text.contains(';') && !text.contains("uncategorized"), "{text}");
            }
        }
        let text = LaunchFailure::at(Stage::Directory, libc::EACCES, &shown()).to_string();
        assert_eq!(
            text,
            "the cwd \"/the/cwd\" cannot be entered; give one that this user may enter (Permission denied, errno 13)"
        );
    }

    #[test]
    fn a_shortage_is_blamed_on_nothing_that_was_asked_for() {
        let none_left = io::Error::from_raw_os_error(libc::EMFILE);
        let text = LaunchFailure::of("the cwd \"/x\" cannot be used; correct it", &none_left).to_string();
        assert!(text.contains("ulimit -n") && !text.contains("cwd"), "{text}");
        let text = LaunchFailure::at(Stage::Exec, libc::EMFILE, &shown()).to_string();
        assert!(text.contains("ulimit -n") && !text.contains("/bin/it"), "{text}");
    }
}
