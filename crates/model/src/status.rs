use std::fmt;

use serde::{Deserialize, Serialize};

/// Where a launch stands. Only the proc manager writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProcStatus {
    /// The launch was asked for.
    Starting,
    /// The launcher acknowledged the launch.
    Running,
    /// The proc called back.
    Ready,
    /// A stop was asked for.
    Stopping,
    /// The launcher or its control plane cannot be asked; never a synonym of dead.
    Unknown,
    /// Terminal: it returned a code.
    Exited,
    /// Terminal: a signal ended it.
    Signaled,
    /// Terminal: it could not be started, or its launcher could not say how it ended.
    Failed,
    /// Terminal: gone, and nobody can know how.
    Lost,
}

impl ProcStatus {
    /// All of them, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Starting,
        Self::Running,
        Self::Ready,
        Self::Stopping,
        Self::Unknown,
        Self::Exited,
        Self::Signaled,
        Self::Failed,
        Self::Lost,
    ];

    /// Whether nothing leaves this status.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Exited | Self::Signaled | Self::Failed | Self::Lost)
    }

    /// The table of legal transitions.
    ///
    /// `Unknown` goes back to what it was when the proc is heard again; that the status before it
    /// is the one it returns to is the state machine's business, not the table's.
    pub fn may_become(self, next: Self) -> bool {
        if self.is_terminal() || self == next {
            return false;
        }
        if next.is_terminal() {
            return true;
        }
        match self {
            Self::Starting => matches!(next, Self::Running | Self::Ready | Self::Stopping | Self::Unknown),
            Self::Running => matches!(next, Self::Ready | Self::Stopping | Self::Unknown),
            Self::Ready => matches!(next, Self::Stopping | Self::Unknown),
            Self::Stopping => next == Self::Unknown,
            Self::Unknown => true,
            Self::Exited | Self::Signaled | Self::Failed | Self::Lost => false,
        }
    }

    /// The lower-case word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Unknown => "unknown",
            Self::Exited => "exited",
            Self::Signaled => "signaled",
            Self::Failed => "failed",
            Self::Lost => "lost",
        }
    }
}

impl fmt::Display for ProcStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows are from, columns to, both in the order of `ALL`.
    const TABLE: [&str; 9] = [
        // Starting, Running, Ready, Stopping, Unknown, Exited, Signaled, Failed, Lost
        "- + + + + + + + +", // Starting
        "- - + + + + + + +", // Running
        "- - - + + + + + +", // Ready
        "- - - - + + + + +", // Stopping
        "+ + + + - + + + +", // Unknown
        "- - - - - - - - -", // Exited
        "- - - - - - - - -", // Signaled
        "- - - - - - - - -", // Failed
        "- - - - - - - - -", // Lost
    ];

    #[test]
    fn the_transitions_are_those_of_the_table_and_no_others() {
        for (from, row) in ProcStatus::ALL.into_iter().zip(TABLE) {
            assert_eq!(row.split(' ').count(), ProcStatus::ALL.len());
            for (to, cell) in ProcStatus::ALL.into_iter().zip(row.split(' ')) {
                assert_eq!(from.may_become(to), cell == "+", "from {from} to {to}");
            }
        }
    }
}
