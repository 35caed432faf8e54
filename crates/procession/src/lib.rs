//! Launches fleets of processes anywhere and never loses track of one.
//!
//! A program starts a [`Host`], asks it for procs, and talks to the actors in them:
//!
//! * [`Host::spawn`] launches a proc through a [`ProcLauncher`]; the native one is built in.
//! * The launched program calls [`child_main`] first; it reaches back and hosts actors.
//! * [`ActorHandle::send`] reaches an actor wherever it lives.
//! * [`ProcRef::ended`] gives the one report of how the proc ended.

mod child_main;

pub use child_main::{ChildMainError, child_main, child_main_with};
pub use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, Mailbox, MailboxError, MailboxSenderError,
    Message, OncePortHandle, OncePortReceiver, OncePortRef, PortHandle, PortReceiver, PortRef, Proc,
    Returned, SendErrorKind, StopCause, wire_message,
};
pub use procession_host::{
    Host, HostError, Observer, Policy, ProcEvent, ProcRef, ProcSnapshot, Readiness, SpawnSpec, Stream,
};
pub use procession_launch::{
    Capabilities, Confines, LaunchResult, ProcLauncher, ProcLauncherError, StdioHandling,
};
pub use procession_launch_local::{Fact, Named, NativeLauncher, facts, find_user};
pub use procession_model::{
    ActorId, BOOTSTRAP_ENV, BootstrapCommand, ChannelAddr, Confinement, DialBack, DropCapabilities, HostId,
    InvalidArgument, LOG_CHANNEL_ENV, LaunchId, LaunchOptions, PROCESS_NAME_ENV, PortId, ProcExit,
    ProcExitKind, ProcExitResult, ProcId, ProcStatus, ReportedExit, Resources, Rlimits, Security,
    StopRequest, User,
};
