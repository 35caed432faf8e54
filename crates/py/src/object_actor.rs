use procession_actor::{ActorHandle, Proc};
use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use tokio::runtime::Handle;

use crate::core;
use crate::errors::value_error;
use crate::inbox_py;
use crate::module::_native;
use crate::python_actor::PythonActor;
use crate::runtime::Runtime;

const MODULE: &str = "procession._native";

/// Makes `proc_` the node of the interpreter that this program embeds; its actors run on `runtime`. Call it before anything
/// of the package `procession` is imported. Calling it again for the same node does nothing.
///
/// # Errors
/// The process has another node already, or the package was imported with an extension module of its own.
pub fn embed(py: Python<'_>, proc_: &Proc, runtime: Handle) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    if modules.contains(MODULE)? {
        let loaded = modules.get_item(MODULE)?.getattr("Runtime")?;
        if !loaded.is(py.get_type::<Runtime>()) {
            return Err(PyRuntimeError::new_err(
                "procession._native was imported from a file; call embed before the first import of procession",
            ));
        }
    } else {
        modules.set_item(MODULE, pyo3::wrap_pymodule!(_native)(py))?;
    }
    py.detach(|| core::embed(proc_, runtime)).map(drop)
}

impl PythonActor {
    /// Starts the actor called `name` in the node that was given to [`embed`]; its endpoints are those of `object`, an
    /// instance of `procession.actor.Actor`, and run on a Python thread of their own.
    ///
    /// # Errors
    /// There is no such node, the name is not legal or taken, or the object is no actor.
    pub fn spawn_object(
        py: Python<'_>,
        name: &str,
        object: &Bound<'_, PyAny>,
    ) -> PyResult<ActorHandle<Self>> {
        let node = &core::current()?.proc_;
        if !object.is_instance(&py.import("procession.actor")?.getattr("Actor")?)? {
            let class = object.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "give an instance of procession.actor.Actor, not of {class}"
            )));
        }
        let (handle, inbox) = py.detach(|| Self::spawn(node, name)).map_err(value_error)?;
        // Dropping the Python inbox ends the actor, so a thread that was never started leaves none behind.
        py.import("procession._agent")?.call_method1("host_object", (inbox_py::Inbox::new(inbox), object))?;
        Ok(handle)
    }
}
