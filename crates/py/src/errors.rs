use std::fmt::Display;

use procession_actor::{MailboxSenderError, SendErrorKind};
use procession_model::InvalidArgument;
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// `ValueError` with the text of `error`: an argument was refused, or is no id.
pub(crate) fn value_error(error: impl Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `procession.errors.InvalidArgument`, or `ValueError` where the package is not there.
pub(crate) fn invalid_argument(error: InvalidArgument) -> PyErr {
    Python::attach(|py| {
        let InvalidArgument { field, value, rule } = &error;
        let made = py.import("procession.errors").and_then(|errors| {
            errors.getattr("InvalidArgument")?.call1((field.as_str(), value.as_str(), rule.as_str()))
        });
        made.map_or_else(|_| value_error(&error), PyErr::from_value)
    })
}

/// What reasons begin with where a launcher is at fault; the package has an error of each name.
pub(crate) const LAUNCHER_LOST: &str = "LauncherLost";
pub(crate) const LAUNCHER_UNAVAILABLE: &str = "LauncherUnavailable";

/// Why something that was asked for was not done: the error of the package that is named in `text`, else
/// `RuntimeError`.
pub(crate) fn failure(py: Python<'_>, text: String) -> PyErr {
    let mut known = [LAUNCHER_LOST, LAUNCHER_UNAVAILABLE].into_iter();
    let made = known.find(|code| text.contains(&format!("{code}: "))).and_then(|code| {
        let errors = py.import("procession.errors").ok()?;
        errors.getattr(code).and_then(|error| error.call1((text.as_str(),))).ok()
    });
    made.map_or_else(|| PyRuntimeError::new_err(text), PyErr::from_value)
}

/// What a port that does not take a value says: `RuntimeError` when a once port was used before, `ConnectionError` when
/// its owner cannot be reached.
pub(crate) fn send_error<M>(error: MailboxSenderError<M>) -> PyErr {
    let text = error.to_string();
    match error.kind {
        SendErrorKind::Unreachable(_) => PyConnectionError::new_err(text),
        SendErrorKind::Spent(_) | SendErrorKind::Encode(_) | SendErrorKind::NoWireForm => {
            PyRuntimeError::new_err(text)
        }
    }
}
