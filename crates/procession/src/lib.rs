//! Launches fleets of processes anywhere and never loses track of one.
//!
//! A program starts a [`Host`], asks it for procs, and talks to the actors in them:
//!
//! * [`Host::spawn`] launches a proc through a [`ProcLauncher`]; the native one is built in.
//! * [`Host::spawn_group`] launches several, each of which is launched again as a [`RestartPolicy`] says.
//! * The launched program calls [`child_main`] first; it reaches back and hosts actors.
//! * [`ActorHandle::send`] reaches an actor wherever it lives.
//! * [`Host::start_in`] takes over what an earlier host of a directory has left; [`Host::start_in_with`] makes launchers
//!   of other kinds again by their [`Ticket`].
//! * [`Zygote`] has another launcher start one process, and procs come from that: those in Python by a fork.
//! * [`Throttle`], [`Retry`], [`Fallback`], [`Chaos`], [`Recording`] and [`Replay`] are launchers that are made of launchers.
//! * [`ProcRef::ended`] gives the one report of how the proc ended.

mod child_main;

pub use child_main::{ChildMainError, child_main, child_main_with};
pub use procession_actor::{
    Actor, ActorFailure, ActorHandle, Handler, Handlers, Instance, Mailbox, MailboxError, MailboxSenderError,
    Message, OncePortHandle, OncePortReceiver, OncePortRef, PortHandle, PortReceiver, PortRef, Proc,
    Returned, SendErrorKind, StopCause, wire_message,
};
pub use procession_host::{
    AGENT_SPEAKS, ActorsAfter, AgentDial, AgentLauncher, AgentStream, Backoff, Budgets, Engines, FarLauncher,
    Guard, History, Host, HostError, Inherited, Launch, LogSpec, Observer, Owner, OwnerLoss, Policy, Pool,
    ProcEvent, ProcRef, ProcSnapshot, Readiness, Record, RestartPolicy, RestartStrategy, RestartWhen, Slot,
    SlotObserver, SlotSnapshot, SpawnSpec, Stream, Way, Zygote, read_record, records_dir, serve_stdio,
};
#[cfg(feature = "virtual-time")]
pub use procession_host::{Standstill, VirtualTime};
pub use procession_launch::{
    Capabilities, Chaos, ChaosRates, Confines, Context, Engine, Fallback, Found, Labels, LaunchResult,
    Launcher, Managed, Output, ProcLauncher, ProcLauncherError, Recording, Relayed, Replay, Report, Reports,
    Retry, Signal, StdioHandling, TapeError, Throttle, Ticket, WaitError,
};
#[cfg(feature = "virtual-time")]
pub use procession_launch::{FakeEnd, FakeLauncher, FakeStep, Script, Terminated};
#[cfg(feature = "command")]
pub use procession_launch_command::{CommandConfig, CommandError, connect as connect_command};
#[cfg(feature = "docker")]
pub use procession_launch_docker::{Docker, DockerConfig, DockerError, Pull};
#[cfg(feature = "kubernetes")]
pub use procession_launch_kube::{Kubernetes, KubernetesConfig, KubernetesError, PullPolicy};
pub use procession_launch_local::{Fact, Named, NativeLauncher, facts, find_user};
#[cfg(feature = "slurm")]
pub use procession_launch_slurm::{Slurm, SlurmConfig, SlurmError};
#[cfg(feature = "ssh")]
pub use procession_launch_ssh::{SshConfig, SshError, connect as connect_ssh};
#[cfg(feature = "systemd")]
pub use procession_launch_systemd::{Systemd, SystemdConfig, SystemdError};
#[cfg(feature = "vm")]
pub use procession_launch_vm::{Vm, VmConfig, VmError};
pub use procession_model::{
    ActorFailed, ActorId, BOOTSTRAP_ENV, Binding, BootPhase, BootTiming, BootstrapCommand, Certificate,
    ChannelAddr, Confinement, DialBack, DropCapabilities, Eviction, ExitClass, FlightRecord, Handling,
    HostId, InvalidArgument, LOG_CHANNEL_ENV, LaunchId, LaunchOptions, PROCESS_NAME_ENV, PortId, Preload,
    ProcExit, ProcExitKind, ProcExitResult, ProcId, ProcStatus, ReportedExit, Resources, Rlimits, Rung,
    Security, Source, StopIntent, StopRequest, User, Verdict, Witness,
};
