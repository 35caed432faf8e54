//! What a Python launcher may report as the exit of a proc, decoded strictly.

use procession_model::{CUT, ProcExitKind, ProcExitResult, ReportedExit, cut};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PySlice, PyString};

use crate::message::{Payload, PythonMessage, PythonMessageKind};

/// The most lines of a tail that travel.
const TAIL_LINES: usize = 10_000;
/// The longest line of a tail, in bytes.
const LINE_LIMIT: usize = 4096;
/// All lines of a tail together, in bytes.
const TAIL_LIMIT: usize = 1 << 20;
/// The longest text of a failure, in bytes.
const REASON_LIMIT: usize = 64 << 10;

/// Why an object is no exit. The text names the attribute.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(String);

impl DecodeError {
    fn wrong_type(attribute: &str, expected: &str, value: &Bound<'_, PyAny>) -> Self {
        Self(format!("{attribute} must be {expected}, not {}", type_name(value)))
    }
}

/// The exit that `object` describes by its five attributes; its class does not matter.
///
/// # Errors
/// An attribute is missing, has a wrong type, or a value that no process can have.
pub fn exit_of_object(object: &Bound<'_, PyAny>) -> Result<ProcExitResult, DecodeError> {
    let reported = ReportedExit {
        exit_code: exit_code(object)?,
        signal: signal(object)?,
        core_dumped: core_dumped(object)?,
        failed_reason: failed_reason(object)?,
    };
    let stderr_tail = Some(stderr_tail(object)?);
    let kind = match &reported {
        ReportedExit { failed_reason: Some(reason), .. } => ProcExitKind::Failed { reason: reason.clone() },
        ReportedExit { signal: Some(signal), core_dumped, .. } => {
            ProcExitKind::Signaled { signal: *signal, core_dumped: *core_dumped }
        }
        ReportedExit { exit_code, .. } => ProcExitKind::Exited { code: exit_code.unwrap_or(-1) },
    };
    Ok(ProcExitResult { stderr_tail, reported: Some(reported), ..ProcExitResult::new(kind) })
}

/// The exit of a proc whose launcher sent the exception `error` in its place.
pub fn exit_of_exception(error: &Bound<'_, PyAny>) -> ProcExitResult {
    spawner_raised(&exception_text(error))
}

/// The exit of a proc whose launcher sent something that is no exit.
pub fn undecodable(why: &DecodeError) -> ProcExitResult {
    ProcExitResult::failed(format!("failed to decode exit result: {why}"))
}

/// The exit behind what came on an exit port.
///
/// Plain data needs no interpreter; a pickle is read by the one of this process, and blocks until it is free.
pub fn convert_py_exit_result(message: PythonMessage) -> ProcExitResult {
    let decoded = match &message.kind {
        PythonMessageKind::Exit(result) => Ok((**result).clone()),
        PythonMessageKind::Exception { .. } if message.text.is_some() => {
            Ok(spawner_raised(message.text.as_deref().unwrap_or_default()))
        }
        PythonMessageKind::Result { .. } => {
            unpickled(&message, exit_of_object).and_then(std::convert::identity)
        }
        PythonMessageKind::Exception { .. } => unpickled(&message, exit_of_exception),
        PythonMessageKind::CallMethod { name, .. } => Err(DecodeError(format!(
            "protocol error: a call of {:?} came where an exit was expected",
            name.name()
        ))),
    };
    decoded.unwrap_or_else(|why| undecodable(&why))
}

/// Whether reading `message` takes an interpreter.
pub(crate) fn is_pickled(message: &PythonMessage) -> bool {
    match message.kind {
        PythonMessageKind::Result { .. } => true,
        PythonMessageKind::Exception { .. } => message.text.is_none(),
        PythonMessageKind::CallMethod { .. } | PythonMessageKind::Exit(_) => false,
    }
}

/// The text of the exception in `message`; blocks until the interpreter is free when it has to be unpickled.
pub(crate) fn raised_text(message: &PythonMessage) -> String {
    match &message.text {
        Some(text) => text.clone(),
        None => unpickled(message, exception_text)
            .unwrap_or_else(|why| format!("an exception that cannot be read: {why}")),
    }
}

/// The last `keep` of `lines`, each and all of them within bounds.
pub(crate) fn bounded_tail(lines: Vec<String>, keep: usize) -> Vec<String> {
    newest_within_bounds(lines.into_iter().rev().map(|line| cut(line, LINE_LIMIT)), keep)
}

fn newest_within_bounds(newest_first: impl Iterator<Item = String>, keep: usize) -> Vec<String> {
    let mut room = TAIL_LIMIT;
    let mut lines: Vec<String> = newest_first
        .take(keep)
        .map_while(|line| {
            room = room.checked_sub(line.len())?;
            Some(line)
        })
        .collect();
    lines.reverse();
    lines
}

fn spawner_raised(text: &str) -> ProcExitResult {
    ProcExitResult::failed(format!("spawner raised: {text}"))
}

/// `str(error)`, or its repr when that fails, or a fixed text when both do.
pub fn exception_text(error: &Bound<'_, PyAny>) -> String {
    match error.str().or_else(|_| error.repr()) {
        Ok(text) => read_text(&text, REASON_LIMIT),
        Err(_) => "<error formatting exception>".to_owned(),
    }
}

fn unpickled<R: Send>(
    message: &PythonMessage,
    read: impl FnOnce(&Bound<'_, PyAny>) -> R + Send,
) -> Result<R, DecodeError> {
    if !message.ports.is_empty() {
        let ports = message.ports.len();
        return Err(DecodeError(format!("protocol error: it still needs out-of-band state ({ports} ports)")));
    }
    Python::try_attach(|py| loads(py, &message.message).map(|object| read(&object))).unwrap_or_else(|| {
        Err(DecodeError("it is pickled, and no Python interpreter runs in this process".to_owned()))
    })
}

fn loads<'py>(py: Python<'py>, payload: &Payload) -> Result<Bound<'py, PyAny>, DecodeError> {
    let read = || -> PyResult<Bound<'py, PyAny>> {
        let bytes = |fragment: &bytes::Bytes| PyBytes::new(py, fragment);
        let (pickle, buffers) = payload
            .fragments()
            .split_first()
            .map_or((PyBytes::new(py, b""), &[][..]), |(first, rest)| (bytes(first), rest));
        let options = PyDict::new(py);
        options.set_item("buffers", PyList::new(py, buffers.iter().map(bytes))?)?;
        py.import("cloudpickle")?.call_method("loads", (pickle,), Some(&options))
    };
    read().map_err(|error| {
        let text = exception_text(error.value(py));
        DecodeError(format!("it cannot be unpickled: {}: {text}", type_name(error.value(py))))
    })
}

fn type_name(value: &Bound<'_, PyAny>) -> String {
    value
        .get_type()
        .name()
        .map_or_else(|_| "an object of a nameless type".to_owned(), |name| read_text(&name, 100))
}

fn attribute<'py>(object: &Bound<'py, PyAny>, name: &str) -> Result<Bound<'py, PyAny>, DecodeError> {
    object.getattr(name).map_err(|error| {
        let py = object.py();
        if error.is_instance_of::<pyo3::exceptions::PyAttributeError>(py) {
            let got = type_name(object);
            return DecodeError(format!(
                "attribute {name} is missing from the {got} that was sent; send a procession.launch.ProcExitResult"
            ));
        }
        let value = error.value(py);
        DecodeError(format!("attribute {name} cannot be read: {}: {}", type_name(value), exception_text(value)))
    })
}

/// An int or None; `Err(None)` inside means an int beyond 64 bits.
fn optional_int(object: &Bound<'_, PyAny>, name: &str) -> Result<Option<Result<i64, ()>>, DecodeError> {
    let value = attribute(object, name)?;
    if value.is_none() {
        return Ok(None);
    }
    // In Python, True is an int; an exit of True is a mistake.
    if value.is_instance_of::<PyBool>() || !value.is_instance_of::<PyInt>() {
        return Err(DecodeError::wrong_type(name, "an int or None", &value));
    }
    Ok(Some(value.extract::<i64>().map_err(|_| ())))
}

fn exit_code(object: &Bound<'_, PyAny>) -> Result<Option<i32>, DecodeError> {
    let Some(code) = optional_int(object, "exit_code")? else { return Ok(None) };
    match code.ok().and_then(|code| u8::try_from(code).ok()) {
        Some(code) => Ok(Some(code.into())),
        None => {
            let given = code.map_or_else(|()| "a number beyond 64 bits".to_owned(), |code| code.to_string());
            Err(DecodeError(format!(
                "exit_code must be 0 to 255, not {given}; for a proc that a signal ended use signal="
            )))
        }
    }
}

fn signal(object: &Bound<'_, PyAny>) -> Result<Option<i32>, DecodeError> {
    let Some(signal) = optional_int(object, "signal")? else { return Ok(None) };
    match signal {
        Ok(number @ 1..=64) => Ok(Some(number as i32)),
        Ok(number) => Err(DecodeError(format!("signal must be 1 to 64 or None, not {number}"))),
        Err(()) => Err(DecodeError("signal must be 1 to 64 or None, not a number beyond 64 bits".to_owned())),
    }
}

fn core_dumped(object: &Bound<'_, PyAny>) -> Result<bool, DecodeError> {
    let value = attribute(object, "core_dumped")?;
    let flag =
        value.cast::<PyBool>().map_err(|_| DecodeError::wrong_type("core_dumped", "a bool", &value))?;
    Ok(flag.is_true())
}

fn failed_reason(object: &Bound<'_, PyAny>) -> Result<Option<String>, DecodeError> {
    let value = attribute(object, "failed_reason")?;
    if value.is_none() {
        return Ok(None);
    }
    let text = value
        .cast::<PyString>()
        .map_err(|_| DecodeError::wrong_type("failed_reason", "a str or None", &value))?;
    Ok(Some(read_text(text, REASON_LIMIT)))
}

fn stderr_tail(object: &Bound<'_, PyAny>) -> Result<Vec<String>, DecodeError> {
    let value = attribute(object, "stderr_tail")?;
    let list = value
        .cast::<PyList>()
        .map_err(|_| DecodeError::wrong_type("stderr_tail", "a list of str", &value))?;
    let mut lines = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let line = item.cast_into::<PyString>().map_err(|error| {
            DecodeError::wrong_type(&format!("stderr_tail[{index}]"), "a str", &error.into_inner())
        })?;
        lines.push(line);
    }
    Ok(newest_within_bounds(lines.iter().rev().map(|line| read_text(line, LINE_LIMIT)), TAIL_LINES))
}

/// `text` as UTF-8, what is no character replaced, of at most `limit` bytes and a mark that it was cut.
fn read_text(text: &Bound<'_, PyString>, limit: usize) -> String {
    // Cut before it is converted: the text may be larger than all memory that is left.
    let too_long = text.len().is_ok_and(|length| length > limit);
    let head =
        if too_long { text.get_item(PySlice::new(text.py(), 0, limit as isize, 1)).ok() } else { None };
    let head = head.as_ref().and_then(|head| head.cast::<PyString>().ok()).unwrap_or(text);
    let mut read = cut(head.to_string_lossy().into_owned(), limit);
    if too_long && !read.ends_with(CUT) {
        read.push_str(CUT);
    }
    read
}
