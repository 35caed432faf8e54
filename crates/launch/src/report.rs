use tokio::sync::mpsc;

use crate::Admission;

/// What a launcher has to say about a launch that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// How far it has come; this gives it new time to get ready.
    Progress(String),
    /// It was started: the substrate's own name for it, for people and their tools.
    Handle(String),
    /// The process that it is, where the launch had been answered before that was known.
    Pid(u32),
    /// It is ready. Only of procs that are no processes, and so cannot call back: a host takes it from no other launcher's word.
    #[cfg(feature = "fake")]
    Ready,
    /// What it runs on cannot be asked, and why: it is unknown, and not dead.
    Unreachable(String),
    /// What it runs on answers again.
    Reachable,
}

/// What a launcher says about one launch, from its acknowledgement to its exit.
#[derive(Debug)]
pub struct Reports {
    said: mpsc::UnboundedReceiver<Report>,
    room: Option<Admission>,
}

impl Reports {
    /// Those that come over `said`.
    pub fn new(said: mpsc::UnboundedReceiver<Report>) -> Self {
        Self { said, room: None }
    }

    /// The same, for a launch that keeps this room too until it was started.
    #[must_use]
    pub fn holding(self, room: Option<Admission>) -> Self {
        let room = match (self.room, room) {
            (Some(one), Some(other)) => Some(one.and(other)),
            (one, other) => one.or(other),
        };
        Self { room, ..self }
    }

    /// The next one; none when the launch has ended. Cancel safe.
    pub async fn next(&mut self) -> Option<Report> {
        let report = self.said.recv().await;
        if matches!(report, None | Some(Report::Handle(_))) {
            self.room = None;
        }
        report
    }
}
