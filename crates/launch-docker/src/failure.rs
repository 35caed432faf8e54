use bollard::errors::Error;
use procession_launch::{ProcLauncherError, WaitError};

/// The engine knows nothing of it.
pub(crate) fn is_missing(error: &Error) -> bool {
    status(error) == Some(404)
}

/// It is in that state already, such as not running.
pub(crate) fn is_done(error: &Error) -> bool {
    // Podman has no code for it.
    matches!(status(error), Some(304 | 404 | 409)) || words(error).contains("container state improper")
}

fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What the engine itself said, without the words of the client around it.
pub(crate) fn words(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        Error::DockerStreamError { error } => error.clone(),
        other => other.to_string(),
    }
}

/// Whether the engine has answered, however badly.
pub(crate) fn has_answered(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { .. } | Error::DockerContainerWaitError { .. })
}

pub(crate) fn of_launch(what: &str, error: &Error, host: &str) -> ProcLauncherError {
    ProcLauncherError::Other(if has_answered(error) || matches!(error, Error::DockerStreamError { .. }) {
        format!("{what}: {}", words(error))
    } else {
        format!("{what}: the engine at {host} does not answer ({}); is it running?", words(error))
    })
}

pub(crate) fn of_wait(error: &Error, host: &str) -> WaitError {
    if is_missing(error) {
        return WaitError::Gone(format!("the engine knows its container no more: {}", words(error)));
    }
    WaitError::Unreachable(format!("the engine at {host}: {}", words(error)))
}
