use std::fmt::Display;

use procession_actor::{MailboxSenderError, SendErrorKind};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

/// `ValueError` with the text of `error`: an argument was refused, or is no id.
pub(crate) fn value_error(error: impl Display) -> PyErr {
    PyValueError::new_err(error.to_string())
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
