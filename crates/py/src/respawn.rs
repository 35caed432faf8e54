use std::sync::Arc;

use procession_actor::Answer;
use procession_host::{Opening, Slot};
use procession_model::{ActorId, Packet, ProcId};
use pyo3::prelude::*;

use crate::call::{ActorRef, Call, RETURNS, sender_id};
use crate::core::{Core, current};
use crate::inbox_py::Inbox;
use crate::port::PortRef;
use crate::procs::ProcHandle;
use crate::replies::{Replies, ReplyState};

/// Asks the agent of each slot's proc to start an actor, now and in every further incarnation, before that gets
/// anything else. The answers are those of now.
#[pyfunction]
#[pyo3(signature = (handles, agent, method, payload, moved, sender, opens))]
#[expect(clippy::too_many_arguments, reason = "as `call`: one crossing into Rust")]
pub(crate) fn spawn_actors(
    py: Python<'_>,
    handles: Vec<PyRef<'_, ProcHandle>>,
    agent: String,
    method: &str,
    payload: Vec<Bound<'_, PyAny>>,
    moved: Vec<PyRef<'_, PortRef>>,
    sender: Option<PyRef<'_, Inbox>>,
    opens: String,
) -> PyResult<Replies> {
    let core = current()?;
    let refs: [PyRef<'_, ActorRef>; 0] = [];
    let call = Arc::new(Call::new(&refs, method, RETURNS, payload, &moved)?.that_opens(opens.clone()));
    let from = sender_id(core, sender.as_deref()).clone();
    let slots: Vec<Slot> = handles.iter().map(|handle| (*handle.0).clone()).collect();
    drop((handles, moved, sender));
    Ok(py.detach(|| {
        let replies = Replies::new(ReplyState::expecting(slots.len()));
        let agent: Arc<str> = agent.into();
        for (index, slot) in slots.iter().enumerate() {
            let again = opening(core, Arc::clone(&call), from.clone(), Arc::clone(&agent), opens.clone());
            slot.open_with(&opens, again, |proc_id| {
                let to = ActorId::new(proc_id.clone(), Arc::clone(&agent));
                call.send_expecting(core, &from, &to, replies.open(core, index));
            });
        }
        replies
    }))
}

fn opening(core: &'static Core, call: Arc<Call>, from: ActorId, agent: Arc<str>, actor: String) -> Opening {
    Arc::new(move |next: &ProcId| -> Option<Packet> {
        let to = ActorId::new(next.clone(), Arc::clone(&agent));
        let (proc_id, actor) = (next.clone(), actor.clone());
        let answer = core.mailbox.open_once_sink(move |answer| {
            // One that could not be built tells so in the event of its end.
            if let Answer::Closed(why) = answer {
                tracing::warn!(%proc_id, actor, why, "an actor was not built again");
            }
        });
        let packed = call.packed(&from, &to, answer);
        packed.inspect_err(|why| tracing::error!(%to, why, "an actor cannot be built again")).ok()
    })
}
