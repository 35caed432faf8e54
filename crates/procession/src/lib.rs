//! Launches fleets of processes anywhere and never loses track of one.
//!
//! A program starts a [`Host`], asks it for procs, and talks to the actors in them:
//!
//! * [`Host::spawn`] launches a proc through a [`ProcLauncher`]; the native one is built in.
//! * [`Host::spawn_group`] launches several, each of which is launched again as a [`RestartPolicy`] says.
//! * The launched program calls [`child_main`] first; it reaches back and hosts actors.
//! * [`ActorHandle::send`] reaches an actor wherever it lives.
//! * [`Host::start_in`] takes over what an earlier host of a directory has left.
//! * [`Zygote`] has another launcher start one process, and procs come from that: those in Python by a fork.
//! * [`ProcRef::ended`] gives the one report of how the proc ended.

mod child_main;

pub use child_main::{ChildMainError, child_main, child_main_with};
pub use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, Mailbox, MailboxError, MailboxSenderError,
    Message, OncePortHandle, OncePortReceiver, OncePortRef, PortHandle, PortReceiver, PortRef, Proc,
    Returned, SendErrorKind, StopCause, wire_message,
};
pub use procession_host::{
    ActorsAfter, Backoff, Budgets, History, Host, HostError, Inherited, Launch, LogSpec, Observer, Owner,
    OwnerLoss, Policy, ProcEvent, ProcRef, ProcSnapshot, Readiness, Record, RestartPolicy, RestartStrategy,
    RestartWhen, Slot, SlotObserver, SlotSnapshot, SpawnSpec, Stream, Zygote, read_record, records_dir,
};
pub use procession_launch::{
    Capabilities, Confines, Context, Engine, Found, Labels, LaunchResult, Launcher, Managed, Output,
    ProcLauncher, ProcLauncherError, Report, Reports, Signal, StdioHandling, WaitError,
};
#[cfg(feature = "docker")]
pub use procession_launch_docker::{Docker, DockerConfig, DockerError, Pull};
pub use procession_launch_local::{Fact, Named, NativeLauncher, facts, find_user};
#[cfg(feature = "slurm")]
pub use procession_launch_slurm::{Slurm, SlurmConfig, SlurmError};
pub use procession_model::{
    ActorFailed, ActorId, BOOTSTRAP_ENV, Binding, BootPhase, BootTiming, BootstrapCommand, Certificate,
    ChannelAddr, Confinement, DialBack, DropCapabilities, Eviction, ExitClass, FlightRecord, Handling,
    HostId, InvalidArgument, LOG_CHANNEL_ENV, LaunchId, LaunchOptions, PROCESS_NAME_ENV, PortId, Preload,
    ProcExit, ProcExitKind, ProcExitResult, ProcId, ProcStatus, ReportedExit, Resources, Rlimits, Rung,
    Security, Source, StopIntent, StopRequest, User, Verdict, Witness,
};
