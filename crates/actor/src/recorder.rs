use std::fmt;
use std::sync::Arc;

use procession_model::ActorId;

/// Notes what the actors of a process are busy with, in a place that outlives the process.
pub trait FlightRecorder: Send + Sync + 'static {
    /// `actor` begins to handle a message; `what` is its endpoint or its type. Gives what [`Self::end`] takes.
    fn begin(&self, actor: &ActorId, what: &str, sender: &ActorId) -> u64;

    /// It is done with that message.
    fn end(&self, entry: u64);
}

/// A message that is being handled, until this is dropped.
pub struct Handling {
    recorder: Arc<dyn FlightRecorder>,
    entry: u64,
}

impl Handling {
    pub(crate) fn begin(
        recorder: &Arc<dyn FlightRecorder>,
        actor: &ActorId,
        what: &str,
        sender: &ActorId,
    ) -> Self {
        Self { recorder: Arc::clone(recorder), entry: recorder.begin(actor, what, sender) }
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        self.recorder.end(self.entry);
    }
}

impl fmt::Debug for Handling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handling({})", self.entry)
    }
}
