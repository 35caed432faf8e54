use std::sync::Arc;

use bytes::Bytes;
use procession_actor::{Answer as Arrived, Held, Message as _};
use procession_model::{LOG_STDERR_TAG, LOG_STDOUT_TAG, ProcExitKind};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::buffers::ReceivedPayload;
use crate::claims::{Claims, Ports, while_claiming};
use crate::fork::{Owned, refuse_in_fork};
use crate::inbox_py::Inbox;
use crate::message::{PYTHON_TAG, PythonMessage, PythonMessageKind};

/// A pickled value.
pub(crate) const RESULT: u8 = 0;
/// A pickled exception; only its text where nothing is pickled.
pub(crate) const EXCEPTION: u8 = 1;
/// Nobody can answer any more.
pub(crate) const CLOSED: u8 = 2;
/// Output of a proc.
pub(crate) const LOG: u8 = 3;
/// It was cancelled here before it came.
pub(crate) const CANCELLED: u8 = 4;
/// It did not come until the deadline of its call.
pub(crate) const TIMED_OUT: u8 = 5;

/// What came to a port, for Python.
pub(crate) struct Received {
    pub(crate) outcome: u8,
    pub(crate) text: String,
    pub(crate) payload: Vec<Bytes>,
    pub(crate) rank: Option<usize>,
    pub(crate) ports: Vec<Arc<Held>>,
}

impl Received {
    pub(crate) fn bare(outcome: u8, text: impl Into<String>) -> Self {
        Self { outcome, text: text.into(), payload: Vec::new(), rank: None, ports: Vec::new() }
    }

    pub(crate) fn closed(text: impl Into<String>) -> Self {
        Self::bare(CLOSED, text)
    }

    /// The pickle of the value, where that came with nothing else.
    pub(crate) fn plain(&self) -> Option<&Bytes> {
        match self.payload.as_slice() {
            [pickle] if self.outcome == RESULT && self.ports.is_empty() => Some(pickle),
            _ => None,
        }
    }

    /// Neither a value nor output: nothing good will come of it.
    pub(crate) fn is_bad(&self) -> bool {
        matches!(self.outcome, EXCEPTION | CLOSED | CANCELLED | TIMED_OUT)
    }

    fn of_message(message: PythonMessage) -> Self {
        let PythonMessage { kind, message, text, ports, .. } = message;
        let (outcome, rank) = match kind {
            PythonMessageKind::Result { rank } => (RESULT, rank),
            PythonMessageKind::Exception { rank } => (EXCEPTION, rank),
            // Nobody but a host asks for an exit, so this one stands for an exception, told in words.
            PythonMessageKind::Exit(exit) => {
                let text = match exit.kind {
                    ProcExitKind::Failed { reason } => {
                        reason.strip_prefix("spawner raised: ").map(str::to_owned).unwrap_or(reason)
                    }
                    kind => kind.to_string(),
                };
                return Self::bare(EXCEPTION, text);
            }
            PythonMessageKind::CallMethod { name, .. } => {
                return Self::closed(format!("a call of {} came where an answer was expected", name.name()));
            }
        };
        let payload = message.fragments().to_vec();
        Self { outcome, text: text.unwrap_or_default(), payload, rank, ports }
    }
}

impl From<Arrived> for Received {
    fn from(arrived: Arrived) -> Self {
        let (tag, parts, mut claims) = match arrived {
            Arrived::Value { tag, parts, claims } => (tag, parts, claims),
            Arrived::Closed(reason) => return Self::closed(reason),
        };
        match tag.as_str() {
            PYTHON_TAG => PythonMessage::decode(parts, &mut claims).map_or_else(
                |why| Self::closed(format!("the answer could not be decoded: {why}")),
                Self::of_message,
            ),
            LOG_STDOUT_TAG => Self { payload: parts, ..Self::bare(LOG, "stdout") },
            LOG_STDERR_TAG => Self { payload: parts, ..Self::bare(LOG, "stderr") },
            _ => Self::closed(format!("a value of type {tag:?} came where a Python value was expected")),
        }
    }
}

/// One answer.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Answer {
    outcome: u8,
    text: String,
    rank: Option<usize>,
    payload: ReceivedPayload,
    ports: Owned<Arc<Ports>>,
}

impl From<Received> for Answer {
    fn from(received: Received) -> Self {
        let Received { outcome, text, payload, rank, ports } = received;
        let (payload, ports) = (ReceivedPayload::new(payload), Owned::new(Ports::new(ports)));
        Self { outcome, text, rank, payload, ports }
    }
}

#[pymethods]
impl Answer {
    #[getter]
    fn outcome(&self) -> u8 {
        self.outcome
    }

    #[getter]
    fn text(&self) -> &str {
        &self.text
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        self.payload.views(py)
    }

    #[getter]
    fn rank(&self) -> Option<usize> {
        self.rank
    }

    #[pyo3(signature = (holder = None))]
    fn load(&self, py: Python<'_>, holder: Option<PyRef<'_, Inbox>>) -> PyResult<Py<PyAny>> {
        refuse_in_fork()?;
        while_claiming(&self.ports, holder.as_deref(), || self.payload.load(py))
    }

    #[pyo3(signature = (holder = None))]
    fn claims(&self, holder: Option<PyRef<'_, Inbox>>) -> Claims {
        Claims::new(&self.ports, holder.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use procession_actor::{Claims as Carried, Moves};
    use procession_model::ProcExitResult;

    use super::*;
    use crate::message::Payload;

    fn arrive(tag: &str, parts: Vec<Bytes>) -> Received {
        Arrived::Value { tag: tag.to_owned(), parts, claims: Carried::default() }.into()
    }

    fn arrive_message(message: &PythonMessage) -> Received {
        arrive(PYTHON_TAG, message.encode(&mut Moves::new()).unwrap())
    }

    #[test]
    fn values_and_exceptions_keep_their_payload_rank_and_text() {
        let segments = vec![Bytes::from_static(b"pickle"), Bytes::from_static(b"array")];
        let result = PythonMessage::new(
            PythonMessageKind::Result { rank: Some(3) },
            Payload::from_fragments(segments.clone()),
        );
        let got = arrive_message(&result);
        assert_eq!((got.outcome, got.rank, got.payload), (RESULT, Some(3), segments));
        let mut exception = PythonMessage::new(PythonMessageKind::Exception { rank: None }, vec![1u8]);
        exception.text = Some("it broke".to_owned());
        let got = arrive_message(&exception);
        assert_eq!((got.outcome, got.text.as_str(), got.rank), (EXCEPTION, "it broke", None));
        assert!(got.is_bad());
    }

    #[test]
    fn an_exit_that_no_host_asked_for_is_an_exception_in_words() {
        let got = arrive_message(&PythonMessage::exit(ProcExitResult::failed("spawner raised: no")));
        assert_eq!((got.outcome, got.text.as_str()), (EXCEPTION, "no"));
        assert!(got.payload.is_empty());
    }

    #[test]
    fn output_says_which_stream_it_is_of() {
        let chunk = Bytes::from_static(b"\xff\n");
        for (tag, stream) in [(LOG_STDOUT_TAG, "stdout"), (LOG_STDERR_TAG, "stderr")] {
            let got = arrive(tag, vec![chunk.clone()]);
            assert_eq!((got.outcome, got.text.as_str(), &got.payload), (LOG, stream, &vec![chunk.clone()]));
            assert!(!got.is_bad());
        }
    }

    #[test]
    fn what_cannot_be_an_answer_closes_with_the_reason() {
        for (got, needle) in [
            (Arrived::Closed("its proc exited".to_owned()).into(), "its proc exited"),
            (arrive("u64", Vec::new()), "\"u64\""),
            (arrive(PYTHON_TAG, Vec::new()), "could not be decoded"),
            (arrive(PYTHON_TAG, vec![Bytes::from_static(b"\xc1")]), "could not be decoded"),
        ] {
            let got: Received = got;
            assert_eq!(got.outcome, CLOSED);
            assert!(got.text.contains(needle), "{}", got.text);
        }
    }
}
