use std::time::{Duration, SystemTime};

use procession_launch::{LaunchResult, ProcLauncherError};
use procession_model::{ActorId, OwnBoot, ProcExitKind, StopRequest};
use procession_net::Link;
use procession_supervise::{Event, StopHow};
use tokio::sync::oneshot;

/// What reaches the driver of a launch.
pub(crate) enum Input {
    Event(Event),
    Launched(Result<LaunchResult, ProcLauncherError>),
    Link(Link),
    CalledBack {
        pid: u32,
    },
    Booted(OwnBoot),
    /// How a process ended that is not our child; none when the kernel does not tell.
    Told(Option<ProcExitKind>),
    ReportedBy {
        pid: Option<u32>,
        handle: Option<String>,
        progress: Option<String>,
    },
    /// What it runs on cannot be asked, and why.
    Unreachable(String),
    ActorEnded {
        actor: ActorId,
        failure: Option<String>,
    },
    /// How.
    LinkLost(String),
    Stop {
        how: StopHow,
        grace: Duration,
        request: StopRequest,
        ack: Option<oneshot::Sender<Result<(), String>>>,
    },
}

impl Input {
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Event(Event::OsExit(_) | Event::OsGone | Event::LauncherReported(_)))
    }

    pub(crate) fn ended_at(&self) -> Option<SystemTime> {
        match self {
            Self::Event(Event::OsExit(exit)) => exit.ended_at,
            _ => None,
        }
    }
}
