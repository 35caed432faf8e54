#![allow(dead_code, reason = "every test file uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use procession_actor::{Proc, Router};
use procession_model::{HostId, Packet, ProcId};
use procession_native::{EitherPortRef, Incoming, PythonMessageKind, PythonOncePortRef};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Handle;

/// Procs of one session that reach each other without a network.
#[derive(Clone, Default)]
pub(crate) struct Session(Arc<Mutex<HashMap<ProcId, Proc>>>);

impl Session {
    pub(crate) fn join(&self, name: &str) -> Proc {
        let id = ProcId::fresh(name, &HostId::fresh("test")).unwrap();
        let proc_ = Proc::new(id.clone(), Handle::current());
        proc_.set_router(Arc::new(self.clone()));
        self.0.lock().unwrap().insert(id, proc_.clone());
        proc_
    }

    /// The proc is gone: nothing reaches it, and who waits for it hears of it.
    pub(crate) fn lose(&self, gone: &ProcId) {
        self.0.lock().unwrap().remove(gone);
        let others: Vec<Proc> = self.0.lock().unwrap().values().cloned().collect();
        others.iter().for_each(|other| other.proc_gone(gone, "killed by signal 9"));
    }
}

impl Router for Session {
    fn route(&self, dest: &ProcId, packet: Packet) -> Result<(), (Packet, String)> {
        let found = self.0.lock().unwrap().get(dest).cloned();
        match found {
            Some(proc_) => {
                proc_.receive(packet);
                Ok(())
            }
            None => Err((packet, format!("proc {dest} cannot be reached: no such connection"))),
        }
    }
}

pub(crate) fn proc_id(name: &str) -> ProcId {
    ProcId::fresh(name, &HostId::fresh("test")).unwrap()
}

/// The value of a Python expression, with the names that the tests use.
pub(crate) fn eval<'py>(py: Python<'py>, expression: &str) -> Bound<'py, PyAny> {
    let names = PyDict::new(py);
    let prelude = c"
import cloudpickle, pickle, signal
from types import SimpleNamespace

def Exit(**changes):
    fields = dict(exit_code=0, signal=None, core_dumped=False, failed_reason=None, stderr_tail=[])
    return SimpleNamespace(**(fields | changes))

def without(name):
    e = Exit()
    delattr(e, name)
    return e

class NoStr(Exception):
    def __str__(self): raise RuntimeError('no')
    def __repr__(self): return 'NoStr()'

class NoText(NoStr):
    def __repr__(self): raise RuntimeError('no')

class Moody:
    exit_code = 0
    @property
    def signal(self): raise OSError('not today')

class Plain:
    def __init__(self, **fields): self.__dict__.update(fields)
";
    py.run(prelude, Some(&names), None).unwrap();
    let expression = std::ffi::CString::new(expression).unwrap();
    py.eval(&expression, Some(&names), None).unwrap()
}

/// The pickle of a Python expression.
pub(crate) fn pickled(expression: &str) -> Vec<u8> {
    Python::attach(|py| eval(py, &format!("cloudpickle.dumps({expression})")).extract().unwrap())
}

/// The method, the port for its answer and the acknowledgement's port of a call.
pub(crate) fn call(incoming: &Incoming) -> (&str, PythonOncePortRef, Option<PythonOncePortRef>) {
    let PythonMessageKind::CallMethod { name, response_port: Some(EitherPortRef::Once(port)) } =
        &incoming.message.kind
    else {
        panic!("{incoming:?} is no call with a once port")
    };
    (name.name(), port.clone(), incoming.message.ack_port.clone())
}
