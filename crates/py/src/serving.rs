use std::sync::Arc;

use pyo3::exceptions::{PyConnectionError, PyKeyError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::core::started;
use crate::fork::Owned;
use crate::inbox::{self, Incoming};
use crate::inbox_py::{Caller, Message, next_of};
use crate::message::{EitherPortRef, MethodSpecifier, PythonMessage, PythonMessageKind};
use crate::plain;
use crate::port::PortRef;

/// How many parts of a mesh are known by the actor's rank in them.
const MOST_RANKS: usize = 256;

/// What a call asks for that takes the short way.
struct Plain<'py> {
    function: Bound<'py, PyAny>,
    args: Bound<'py, PyTuple>,
    kwargs: Bound<'py, PyDict>,
    region: Option<Bound<'py, PyAny>>,
}

/// Handles the messages of an actor whose endpoints are sync, on the thread that asks for the next one: those that are
/// calls with a few plain arguments without any of Python's code but the endpoint's. What is anything else it gives.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Serving {
    inbox: Owned<Arc<inbox::Inbox>>,
    /// By name: methods of the actor.
    endpoints: Py<PyDict>,
    /// What the actor has itself, which may stand before an endpoint of that name.
    own: Option<Py<PyDict>>,
    /// `(context)`: it is that of this thread from now on.
    enter: Py<PyAny>,
    /// `(instance, caller, region)`: a context.
    context: Py<PyAny>,
    instance: Py<PyAny>,
    /// That of a message which nobody waits for, sent to the whole mesh.
    bare: Py<PyAny>,
    /// `(region)`: the actor's rank in it.
    rank_of: Py<PyAny>,
    /// `(port, value, rank)`: answers with what is not plain.
    answer: Py<PyAny>,
    ranks: Py<PyDict>,
}

impl Serving {
    pub(crate) fn new(
        inbox: Arc<inbox::Inbox>,
        actor: &Bound<'_, PyAny>,
        endpoints: Bound<'_, PyDict>,
        ways: &Bound<'_, PyDict>,
    ) -> PyResult<Self> {
        let way = |name| match ways.get_item(name)? {
            Some(way) => Ok(way.unbind()),
            None => Err(PyKeyError::new_err(name)),
        };
        let (context, instance) = (way("context")?, way("instance")?);
        let bare = context.call1(actor.py(), (&instance,))?;
        let own = actor.getattr_opt("__dict__")?.and_then(|own| own.cast_into().ok());
        Ok(Self {
            inbox: Owned::new(inbox),
            endpoints: endpoints.unbind(),
            own: own.map(Bound::unbind),
            enter: way("enter")?,
            context,
            instance,
            bare,
            rank_of: way("rank_of")?,
            answer: way("answer")?,
            ranks: PyDict::new(actor.py()).unbind(),
        })
    }

    /// The call in `incoming`, where it takes the short way.
    fn plain<'py>(&self, py: Python<'py>, incoming: &Incoming) -> PyResult<Option<Plain<'py>>> {
        let message = &incoming.message;
        let PythonMessageKind::CallMethod { name: MethodSpecifier::ReturnsResponse { name }, .. } =
            &message.kind
        else {
            return Ok(None);
        };
        let [pickle] = message.message.fragments() else { return Ok(None) };
        if !message.ports.is_empty() || message.ack_port.is_some() {
            return Ok(None);
        }
        let Some(function) = self.endpoints.bind(py).get_item(name)? else { return Ok(None) };
        if let Some(own) = &self.own
            && own.bind(py).contains(name)?
        {
            return Ok(None);
        }
        let Some(Ok(parts)) = plain::loads(py, pickle).map(Bound::cast_into::<PyTuple>) else {
            return Ok(None);
        };
        let (Ok(args), Ok(kwargs)) = (parts.get_item(0), parts.get_item(1)) else { return Ok(None) };
        let (Ok(args), Ok(kwargs)) = (args.cast_into(), kwargs.cast_into()) else { return Ok(None) };
        Ok(Some(Plain { function, args, kwargs, region: parts.get_item(2).ok() }))
    }

    fn handle(&self, py: Python<'_>, incoming: &Incoming, call: Plain<'_>) -> PyResult<()> {
        let (PythonMessage { kind, .. }, sender) = (&incoming.message, &incoming.sender);
        let PythonMessageKind::CallMethod { name, response_port } = kind else { return Ok(()) };
        let _until_it_is_handled = match started()? {
            Some(core) => core.proc_.handling(self.inbox.actor_id(), name.name(), sender),
            None => None,
        };
        let Plain { function, args, kwargs, region } = call;
        let caller = response_port.as_ref().and_then(EitherPortRef::held).map(Caller::of);
        if caller.is_none() && region.is_none() {
            self.enter.call1(py, (&self.bare,))?;
        } else {
            let context = self.context.call1(py, (&self.instance, caller, region.as_ref()))?;
            self.enter.call1(py, (context,))?;
        }
        let kwargs = (!kwargs.is_empty()).then_some(kwargs);
        let result = function.call(args, kwargs.as_ref())?;
        let Some(port) = response_port else { return Ok(()) };
        let rank = self.rank(py, region)?;
        let sent = match plain::dumps(&result) {
            Some(pickle) => {
                let kind = PythonMessageKind::Result { rank: Some(rank) };
                PortRef::new(port.clone()).post(PythonMessage::new(kind, pickle))
            }
            None => self.answer.call1(py, (PortRef::new(port.clone()), result, rank)).map(drop),
        };
        // A caller that is gone needs no answer.
        sent.or_else(|error| if error.is_instance_of::<PyConnectionError>(py) { Ok(()) } else { Err(error) })
    }

    fn rank(&self, py: Python<'_>, region: Option<Bound<'_, PyAny>>) -> PyResult<usize> {
        let (ranks, key) = (self.ranks.bind(py), region.unwrap_or_else(|| py.None().into_bound(py)));
        if let Ok(Some(known)) = ranks.get_item(&key) {
            return known.extract();
        }
        let rank = self.rank_of.bind(py).call1((&key,))?;
        if ranks.len() == MOST_RANKS {
            ranks.clear();
        }
        ranks.set_item(key, &rank)?;
        rank.extract()
    }
}

#[pymethods]
impl Serving {
    /// The next message that it does not handle, or that it has handled in vain, and what was raised then; none once the
    /// inbox is closed and empty.
    fn next(&self, py: Python<'_>) -> PyResult<Option<(Message, Option<PyErr>)>> {
        loop {
            let Some(incoming) = next_of(py, &self.inbox, None)? else { return Ok(None) };
            let message = |incoming| Message::new(incoming, self.inbox.actor_id());
            if self.inbox.take_attention() {
                return Ok(Some((message(incoming), None)));
            }
            let Some(call) = self.plain(py, &incoming)? else { return Ok(Some((message(incoming), None))) };
            if let Err(error) = self.handle(py, &incoming, call) {
                return Ok(Some((message(incoming), Some(error))));
            }
        }
    }
}
