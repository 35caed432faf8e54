use bytes::Bytes;
use procession_actor::Moves;
use procession_model::{ActorId, Head, Packet};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::call::{ActorRef, method_specifier, sender_id};
use crate::core::{Core, current};
use crate::inbox_py::Inbox;
use crate::message::{PYTHON_TAG, first_of_call};
use crate::plain;
use crate::replies::{Replies, ReplyState};

/// An endpoint of one actor, with what is the same in each of its calls: the short way for calls with a few plain
/// arguments, which are nearly all. It says when a call is not one, and [`crate::call::call`] takes every other.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Method {
    to: ActorId,
    /// How many arguments it takes, by their place.
    takes: (usize, usize),
    /// The place of the actor's mesh in what it was spawned on, as a part of a pickle.
    region: Option<Vec<u8>>,
    /// The first part of a message that nobody answers.
    tells: Bytes,
    /// The first part of one that is answered through the first of its ports.
    asks: Bytes,
}

#[pymethods]
impl Method {
    /// None where every call has to take the long way.
    #[staticmethod]
    fn of(
        actor: PyRef<'_, ActorRef>,
        name: &str,
        styles: (u8, u8),
        takes: (usize, usize),
        region: Option<Bound<'_, PyAny>>,
    ) -> PyResult<Option<Self>> {
        let region = match region.map(|region| plain::body(&region)) {
            Some(None) => return Ok(None),
            region => region.flatten(),
        };
        let first = |style, answered| {
            let method = method_specifier(style, name)?;
            first_of_call(method, answered).map_err(PyRuntimeError::new_err)
        };
        let (asks, tells) = (first(styles.0, true)?, first(styles.1, false)?);
        Ok(Some(Self { to: actor.0.clone(), takes, region, tells, asks }))
    }

    /// Sends a message that nobody answers; false where it has to go the long way.
    fn tell(&self, args: &Bound<'_, PyTuple>, sender: Option<PyRef<'_, Inbox>>) -> PyResult<bool> {
        let core = current()?;
        let Some(pickle) = self.pickled(args) else { return Ok(false) };
        let packet = self.packet(core, sender.as_deref(), &self.tells, pickle, &Moves::new());
        if let Err((_, why)) = core.proc_.post(packet) {
            tracing::debug!(to = %self.to, why, "a message that nobody waits for was not sent");
        }
        Ok(true)
    }

    /// Sends a message and gives what its answer comes to; none where it has to go the long way.
    fn ask(&self, args: &Bound<'_, PyTuple>, sender: Option<PyRef<'_, Inbox>>) -> PyResult<Option<Replies>> {
        let core = current()?;
        let Some(pickle) = self.pickled(args) else { return Ok(None) };
        let replies = Replies::new(ReplyState::expecting(1));
        let (answer, mut moves) = (replies.open(core, 0), Moves::new());
        moves.add(&answer).map_err(PyRuntimeError::new_err)?;
        let packet = self.packet(core, sender.as_deref(), &self.asks, pickle, &moves);
        if let Err((_, why)) = core.proc_.post(packet) {
            moves.undo();
            answer.close(&why);
        }
        Ok(Some(replies))
    }
}

impl Method {
    fn pickled(&self, args: &Bound<'_, PyTuple>) -> Option<Vec<u8>> {
        let (least, most) = self.takes;
        let fits = (least..=most).contains(&args.len());
        fits.then(|| plain::dumps_call(args, self.region.as_deref())).flatten()
    }

    fn packet(
        &self,
        core: &Core,
        sender: Option<&Inbox>,
        first: &Bytes,
        pickle: Vec<u8>,
        moves: &Moves,
    ) -> Packet {
        let ports = moves.ports();
        let (to, from, tag) = (self.to.clone(), sender_id(core, sender).clone(), PYTHON_TAG.to_owned());
        let head = Head::Deliver { to, from, tag, answered: !ports.is_empty(), ports };
        Packet { head, parts: vec![first.clone(), pickle.into()] }
    }
}
