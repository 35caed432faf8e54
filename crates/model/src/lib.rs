//! Ids, options, exits, statuses and the packets between processes: plain data.
//!
//! Nothing here does input or output, and nothing here knows an operating system.

mod boot;
mod certificate;
mod confinement;
mod exit;
mod flight;
mod ids;
mod invalid;
mod options;
mod packet;
mod secret;
mod status;
mod text;

pub use boot::{BootPhase, BootTiming, OwnBoot};
pub use certificate::{
    ActorFailed, Certificate, Eviction, ExitClass, Rung, Source, StopIntent, Verdict, Witness,
};
pub use confinement::{Binding, Confinement, DropCapabilities, Resources, Rlimits, Security, User};
pub use exit::{ProcExit, ProcExitKind, ProcExitResult, ReportedExit, StopRequest};
pub use flight::{FlightRecord, Handling};
pub use ids::{ActorId, HostId, LaunchId, ParseIdError, PortId, ProcId, check_name};
pub use invalid::InvalidArgument;
pub use options::{
    BOOTSTRAP_ENV, BootstrapCommand, ChannelAddr, DialBack, LOG_CHANNEL_ENV, LaunchOptions, OutputFiles,
    PROCESS_NAME_ENV, Preload, RESERVED_PREFIX,
};
pub use packet::{Head, LOG_STDERR_TAG, LOG_STDOUT_TAG, Packet, PeerNews, Target};
pub use secret::Secret;
pub use status::ProcStatus;
pub use text::{CUT, cut, cut_reason};
