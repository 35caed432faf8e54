use std::cell::RefCell;
use std::sync::{Arc, Mutex, PoisonError};

use procession_actor::Held;
use procession_model::PortId;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::fork::{Owned, refuse_in_fork};
use crate::inbox;
use crate::inbox_py::Inbox;

/// The once ports that came with a message, until unpickling takes them out. What is left closes with the message.
#[derive(Default)]
pub(crate) struct Ports(Mutex<Vec<Arc<Held>>>);

impl Ports {
    pub(crate) fn new(ports: Vec<Arc<Held>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ports)))
    }

    fn hand_to(&self, holder: &inbox::Inbox) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(|held| holder.track(held));
    }

    fn take(&self, port: &PortId) -> Option<Arc<Held>> {
        let mut ports = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = ports.iter().position(|held| held.port() == port)?;
        Some(ports.swap_remove(index))
    }
}

thread_local! {
    /// The messages that are being unpickled on this thread, the innermost last.
    static OPEN: RefCell<Vec<Arc<Ports>>> = const { RefCell::new(Vec::new()) };
}

/// Takes `port` out of the messages that are being unpickled on this thread.
///
/// # Errors
/// `RuntimeError`: no such message, or the port did not come with it.
pub(crate) fn claim(port: &PortId) -> PyResult<Arc<Held>> {
    OPEN.with_borrow(|open| {
        if open.is_empty() {
            return Err(PyRuntimeError::new_err(format!(
                "once port {port} can only be unpickled out of the message that carries it"
            )));
        }
        open.iter().rev().find_map(|ports| ports.take(port)).ok_or_else(|| {
            PyRuntimeError::new_err(format!(
                "AlreadyMoved: once port {port} did not come with this message, or was taken out of it before"
            ))
        })
    })
}

/// Runs `load`, which unpickles a message that `ports` came with; they close with `holder`, if any.
pub(crate) fn while_claiming<T>(
    ports: &Arc<Ports>,
    holder: Option<&Inbox>,
    load: impl FnOnce() -> PyResult<T>,
) -> PyResult<T> {
    struct Close<'a>(&'a Arc<Ports>);
    impl Drop for Close<'_> {
        fn drop(&mut self) {
            close(self.0);
        }
    }
    if let Some(holder) = holder {
        ports.hand_to(&holder.shared());
    }
    OPEN.with_borrow_mut(|open| open.push(Arc::clone(ports)));
    let _close = Close(ports);
    load()
}

fn close(ports: &Arc<Ports>) {
    OPEN.with_borrow_mut(|open| {
        if let Some(index) = open.iter().rposition(|other| Arc::ptr_eq(other, ports)) {
            open.remove(index);
        }
    });
}

/// `with message.claims(): pickle.loads(…)`
///
/// With a holder, the ports close with that actor.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Claims(Owned<(Arc<Ports>, Option<Arc<inbox::Inbox>>)>);

impl Claims {
    pub(crate) fn new(ports: &Arc<Ports>, holder: Option<&Inbox>) -> Self {
        Self(Owned::new((Arc::clone(ports), holder.map(Inbox::shared))))
    }
}

#[pymethods]
impl Claims {
    fn __enter__(slf: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        refuse_in_fork()?;
        let (ports, holder) = &*slf.get().0;
        if let Some(holder) = holder {
            ports.hand_to(holder);
        }
        OPEN.with_borrow_mut(|open| open.push(Arc::clone(ports)));
        Ok(slf)
    }

    #[pyo3(signature = (*_exc))]
    fn __exit__(&self, _exc: &Bound<'_, pyo3::types::PyTuple>) -> PyResult<()> {
        refuse_in_fork()?;
        close(&self.0.0);
        Ok(())
    }
}
