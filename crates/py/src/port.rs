use std::sync::Arc;

use procession_actor::Held;
use procession_model::{Head, LOG_STDERR_TAG, LOG_STDOUT_TAG, Packet, PortId};
use pyo3::exceptions::{PyConnectionError, PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::buffers::{copy_payload, copy_segment};
use crate::call::{EXIT, EXPLICIT};
use crate::claims::claim;
use crate::core::{self, current};
use crate::errors::{send_error, value_error};
use crate::exit_decode::{exit_of_exception, exit_of_object, undecodable};
use crate::fork::{Owned, refuse_in_fork};
use crate::message::{EitherPortRef, PythonMessage, PythonMessageKind, PythonOncePortRef, PythonPortRef};

/// A port that can be sent to.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct PortRef(Owned<EitherPortRef>);

impl PortRef {
    pub(crate) fn new(target: EitherPortRef) -> Self {
        Self(Owned::new(target))
    }

    pub(crate) fn once(held: Arc<Held>) -> Self {
        Self::new(EitherPortRef::Once(PythonOncePortRef::from_held(held)))
    }

    pub(crate) fn many(port: PortId) -> Self {
        Self::new(EitherPortRef::Unbounded(PythonPortRef::attach(port)))
    }

    pub(crate) fn target(&self) -> &EitherPortRef {
        &self.0
    }

    fn id(&self) -> &PortId {
        self.0.port()
    }

    pub(crate) fn post(&self, message: PythonMessage) -> PyResult<()> {
        let core = core::started()?.filter(|core| !core.has_ended()).ok_or_else(|| {
            PyConnectionError::new_err(
                "HostGone: the Procession runtime of this process was shut down, and with it whoever waited",
            )
        })?;
        let proc_ = &core.proc_;
        let sent = match &*self.0 {
            EitherPortRef::Once(port) => port.send(proc_, message),
            EitherPortRef::Unbounded(port) => port.send(proc_, message),
        };
        sent.map_err(send_error)
    }
}

/// The once ports among `moved`, each of which can still move.
///
/// # Errors
/// `RuntimeError`: one was used before.
pub(crate) fn movable(moved: &[PyRef<'_, PortRef>]) -> PyResult<Vec<Arc<Held>>> {
    let held: Vec<Arc<Held>> = moved.iter().filter_map(|port| port.target().held().cloned()).collect();
    for port in &held {
        port.check().map_err(|how| {
            let port = port.port();
            PyRuntimeError::new_err(format!("{how}: once port {port} was used before, and cannot be sent on"))
        })?;
    }
    Ok(held)
}

#[pymethods]
impl PortRef {
    #[getter]
    fn port_id(&self) -> String {
        self.id().to_string()
    }

    #[getter(once)]
    fn is_once(&self) -> bool {
        self.0.held().is_some()
    }

    #[getter]
    fn cancelled(&self) -> PyResult<bool> {
        refuse_in_fork()?;
        Ok(self.0.held().is_some_and(|held| held.is_cancelled()))
    }

    #[getter]
    fn style(&self) -> u8 {
        if self.0.answers_exit() { EXIT } else { EXPLICIT }
    }

    #[pyo3(signature = (payload, moved, rank))]
    fn send(
        &self,
        payload: Vec<Bound<'_, PyAny>>,
        moved: Vec<PyRef<'_, PortRef>>,
        rank: Option<usize>,
    ) -> PyResult<()> {
        refuse_in_fork()?;
        let mut message = PythonMessage::new(PythonMessageKind::Result { rank }, copy_payload(payload)?);
        message.ports = movable(&moved)?;
        self.post(message)
    }

    #[pyo3(signature = (payload, rank, text = ""))]
    fn exception(&self, payload: Vec<Bound<'_, PyAny>>, rank: Option<usize>, text: &str) -> PyResult<()> {
        refuse_in_fork()?;
        let mut message = PythonMessage::new(PythonMessageKind::Exception { rank }, copy_payload(payload)?);
        message.text = Some(text.to_owned()).filter(|text| !text.is_empty());
        self.post(message)
    }

    fn send_exit(&self, result: &Bound<'_, PyAny>) -> PyResult<()> {
        refuse_in_fork()?;
        match exit_of_object(result) {
            Ok(exit) => self.post(PythonMessage::exit(exit)),
            Err(why) => {
                self.post(PythonMessage::exit(undecodable(&why)))?;
                Err(PyTypeError::new_err(why.to_string()))
            }
        }
    }

    fn exception_exit(&self, error: &Bound<'_, PyAny>) -> PyResult<()> {
        refuse_in_fork()?;
        self.post(PythonMessage::exit(exit_of_exception(error)))
    }

    fn send_log(&self, stream: &str, data: &Bound<'_, PyAny>) -> PyResult<()> {
        let tag = match stream {
            "stdout" => LOG_STDOUT_TAG,
            "stderr" => LOG_STDERR_TAG,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "stream = {stream:?}: give \"stdout\" or \"stderr\""
                )));
            }
        };
        let EitherPortRef::Unbounded(port) = &*self.0 else {
            return Err(PyTypeError::new_err("output goes to a log channel, and this is a once port"));
        };
        let core = current()?;
        let head = Head::Send { port: port.port().clone(), tag: tag.to_owned(), ports: Vec::new() };
        let posted = core.proc_.post(Packet { head, parts: vec![copy_segment(data)?] });
        posted.map_err(|(_, why)| PyConnectionError::new_err(why))
    }

    fn __repr__(&self) -> String {
        format!("PortRef({})", self.id())
    }
}

/// The port behind `LaunchOptions.log_channel`.
#[pyfunction]
pub(crate) fn log_port(channel: &str) -> PyResult<PortRef> {
    refuse_in_fork()?;
    channel.parse().map(PortRef::many).map_err(value_error)
}

/// Called while unpickling a message: takes a once port out of the message that carries it.
#[pyfunction]
pub(crate) fn claim_port(port_id: &str, once: bool) -> PyResult<PortRef> {
    refuse_in_fork()?;
    let port: PortId = port_id.parse().map_err(value_error)?;
    // A port for many values is only an address, which may come from anywhere.
    if once { claim(&port).map(PortRef::once) } else { Ok(PortRef::many(port)) }
}
