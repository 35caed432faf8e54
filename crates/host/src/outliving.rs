//! Launches that outlive their host: what is written down about them, and how those of an earlier host go on.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{
    DialBack, InvalidArgument, LaunchId, LaunchOptions, OutputFiles, ProcExit, ProcExitResult, Secret,
    StopRequest,
};
use procession_supervise::{Event, Readiness, RestartPolicy, StopHow};
use procession_sys::Process;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::core::Core;
use crate::driver::Driver;
use crate::launching::{self, is_of_another_user};
use crate::ledger::{Asked, At, Entry, Open};
use crate::notify;
use crate::output::Stream;
use crate::payload_file::PayloadFile;
use crate::proc_ref::{ProcRef, Shared};
use crate::spec::{OwnerLoss, SpawnSpec};

/// How long a host that starts waits for that, at most.
const TAKE_OVER: Duration = Duration::from_secs(5);

/// Gives the slots of a group that outlives its host a place each in the journal.
pub(crate) fn number(specs: &mut [SpawnSpec]) {
    if !specs.iter().any(outlives) {
        return;
    }
    let id = LaunchId::fresh().to_bytes();
    let group = id.into_iter().take(8).fold(0, |id, byte| (id << 8) | u64::from(byte));
    for (slot, spec) in specs.iter_mut().enumerate() {
        spec.at = Some(At { group, slot });
    }
}

/// Has such a group written down, before any launch of it is.
pub(crate) fn write_group<'a>(
    core: &Core,
    specs: impl ExactSizeIterator<Item = &'a SpawnSpec>,
    restart: &RestartPolicy,
    launcher: &dyn ProcLauncher,
) {
    let (Some(ledger), slots) = (&core.ledger, specs.len()) else { return };
    for spec in specs {
        let Some(at) = spec.at else { return };
        if at.slot == 0 {
            // The next host has a native one of its own.
            let launcher = if launcher.knows_status_by_parenthood() { None } else { launcher.ticket() };
            ledger.note(Entry::Group { id: at.group, slots, restart: restart.clone(), launcher });
        }
        ledger.note(Entry::Slot { at, spec: Box::new(spec.clone()) });
    }
}

/// Refuses a group of which only a part outlives its host: its policy could not go on.
pub(crate) fn check_group(specs: &[SpawnSpec]) -> Result<(), InvalidArgument> {
    if specs.iter().any(outlives) && !specs.iter().all(outlives) {
        let rule = "give it to all procs of a group, or to none";
        return Err(InvalidArgument::new("on_owner_loss", "\"detach\" for some", rule));
    }
    Ok(())
}

fn outlives(spec: &SpawnSpec) -> bool {
    spec.on_owner_loss == OwnerLoss::Detach
}

/// Has the launch written down before anything can be started.
pub(crate) async fn write_down(
    core: &Core,
    shared: &Shared,
    token: &Secret,
) -> Result<(), ProcLauncherError> {
    let Some((ledger, at)) = core.ledger.as_ref().zip(shared.at) else { return Ok(()) };
    let asked = Asked {
        proc_id: shared.id.clone(),
        incarnation: shared.incarnation,
        since: shared.snapshot().started_at,
        token: token.clone(),
    };
    ledger.write(Entry::Asked { at, asked }).await.map_err(|error: io::Error| {
        let why = format!(
            "it cannot be written down for the next host: {error}; free some space, and launch again"
        );
        ProcLauncherError::Other(why)
    })
}

/// The files that its keeper goes on with when there is no host.
pub(crate) fn files(shared: &Shared, spec: &SpawnSpec) -> Option<OutputFiles> {
    let log = spec.log.as_ref().filter(|_| spec.on_owner_loss == OwnerLoss::Detach)?;
    let files = shared.files.as_ref()?;
    let path = |stream| files.path(stream).to_owned();
    let (stdout, stderr) = (path(Stream::Stdout), path(Stream::Stderr));
    Some(OutputFiles { stdout, stderr, max_bytes: log.max_bytes, keep: log.keep })
}

/// Refuses a proc that could not outlive this host.
pub(crate) fn check(
    core: &Core,
    spec: &SpawnSpec,
    launcher: &dyn ProcLauncher,
) -> Result<(), InvalidArgument> {
    if spec.on_owner_loss == OwnerLoss::Kill {
        return Ok(());
    }
    let refuse = |rule: &str| Err(InvalidArgument::new("on_owner_loss", "\"detach\"", rule));
    if core.ledger.is_none() {
        return refuse(
            "nobody would find it again: start this host in a directory that stays, with procession.reattach(directory), or use one that is served (procession serve)",
        );
    }
    let is_native = launcher.knows_status_by_parenthood();
    if !launcher.capabilities().adopt || !(is_native || launcher.ticket().is_some()) {
        return refuse(
            "this launcher takes over nothing that an earlier host has launched; use the native one, or that of an engine which does",
        );
    }
    if spec.policy.readiness == Readiness::CallBack && is_of_another_user(spec) {
        return refuse(
            "a proc of another user cannot enter the directory in which the next host is found; leave out user, or use readiness=\"none\"",
        );
    }
    let Some(log) = &spec.log else {
        return refuse("its output needs files, since nobody reads it while there is no host; give log_dir");
    };
    if let Some(most) = log.max_bytes.filter(|_| !is_native) {
        let rule = "with on_owner_loss=\"detach\" and this launcher the length of the files says how much of the output was read; leave it out";
        return Err(InvalidArgument::new("log_max_bytes", most.to_string(), rule));
    }
    Ok(())
}

/// The process that it was, unless the machine was started again since.
pub(crate) fn leader(open: &Open) -> Option<(u32, u64)> {
    let (pid, started, of) = open.leader.as_ref()?;
    (*of == boot()).then_some((*pid, *started))
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Takes over what an earlier host has launched.
pub(crate) async fn adopt(
    core: &Core,
    shared: &Arc<Shared>,
    launcher: &dyn ProcLauncher,
    spec: &SpawnSpec,
    leader: Option<(u32, u64)>,
) -> Result<LaunchResult, ProcLauncherError> {
    if let Some(files) = &shared.files {
        files.start().await;
        for stream in [Stream::Stdout, Stream::Stderr] {
            if let Some(past) = files.resume(stream).await {
                shared.output.recall(stream, past);
            }
        }
    }
    let common = core.common_dir(true);
    if launcher.capabilities().dial_back != DialBack::Local {
        // It has no file of ours in sight.
    } else if shared.calls_back {
        shared.open_flight(common);
        // One that has not read it yet still will.
        core.door.keep(shared.id.launch_id(), PayloadFile::written(common, shared.id.launch_id()));
    } else if let Err(error) = notify::listen(common, shared) {
        tracing::warn!(proc_id = %shared.id, %error, "it cannot say any more that it is ready");
    }
    let options = LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: format!("{} @ {}", shared.id.name(), core.machine),
        command: spec.command.clone(),
        want_stdio: spec.want_stdio,
        tail_lines: spec.tail_lines,
        log_channel: None,
        detach: true,
        lease: spec.lease,
        output: files(shared, spec),
    };
    let adopted = launcher.adopt(&shared.id, &options, leader).await?;
    shared.was_over.store(!adopted.exit_rx.is_empty(), Ordering::Release);
    Ok(adopted)
}

/// Waits until it is known what became of those that were taken over: that they live, or how they ended meanwhile.
pub(crate) async fn known(procs: Vec<ProcRef>) {
    let all = async {
        for proc_ in procs.into_iter().filter(|proc_| proc_.0.is_adopted) {
            proc_.0.request.settled().await;
            if proc_.0.was_over.load(Ordering::Acquire) {
                proc_.ended().await;
            }
        }
    };
    if timeout(TAKE_OVER, all).await.is_err() {
        tracing::warn!("it takes long to find out what became of the procs of an earlier host; it goes on");
    }
}

impl Driver {
    fn write_entry(&self, entry: impl FnOnce(At) -> Entry) {
        if let Some((ledger, at)) = self.core.ledger.as_ref().zip(self.shared.at) {
            ledger.note(entry(at));
        }
    }

    pub(crate) fn note_start(&self, pid: Option<u32>) {
        // One that has ended already needs no start: its keeper writes down how.
        if let Some(Ok(Process { pid, started, .. })) =
            pid.filter(|_| self.shared.outlives).map(Process::look)
        {
            self.write_entry(|at| Entry::Started { at, pid, started, boot: boot() });
        }
    }

    pub(crate) async fn write_ready(&mut self, since: SystemTime) {
        if let Some((ledger, at)) = self.core.ledger.as_ref().zip(self.shared.at) {
            let entry = Entry::Ready { at, since, boot: self.shared.boot.timing() };
            // The writer has logged an error, and the proc is ready all the same.
            let _logged = ledger.write(entry).await;
        }
    }

    pub(crate) fn note_stop(&self, request: &StopRequest) {
        self.write_entry(|at| Entry::StopAsked { at, request: request.clone() });
    }

    pub(crate) fn note_end(&self, exit: &ProcExit) {
        // Once this host is ending its policies do nothing any more, and so the next one has to see the end.
        if self.core.is_closing() {
            return;
        }
        self.write_entry(|at| Entry::Ended { at, exit: Box::new(exit.clone()) });
        if self.slot.is_none() {
            self.write_entry(|at| Entry::Gone { group: at.group });
        }
    }

    /// One that ended before it was taken over did so before anybody asked this host for anything.
    /// Whether it was over.
    pub(crate) async fn end_if_over(&mut self, exit: &mut oneshot::Receiver<ProcExitResult>) -> bool {
        if !self.shared.was_over.load(Ordering::Acquire) {
            return false;
        }
        let Ok(exit) = exit.try_recv() else { return false };
        self.ended_at.get_or_insert_with(|| exit.ended_at.unwrap_or_else(|| self.core.clock.time_of_day()));
        let parent = self.launcher.knows_status_by_parenthood();
        self.feed(launching::exit_event(Some(exit), parent)).await;
        true
    }

    /// What was asked for until it was known what became of it comes now.
    pub(crate) fn take_held(&mut self) {
        for input in std::mem::take(&mut self.held) {
            let _self_lives = self.shared.driver.send(input);
        }
    }

    /// What an earlier host knew of it, and had begun.
    pub(crate) async fn go_on(&mut self) {
        let Some(open) = self.adopted.take() else { return };
        if let Some(at) = open.ready_at {
            self.shared.snapshot().ready_at = Some(at);
            // What calls back is ready when it has found this host.
            let event = if self.shared.calls_back { Event::WasReady } else { Event::NotifiedReady };
            self.feed(event).await;
        }
        if let Some(request) = open.stop {
            let grace = self.shared.stop_grace;
            self.feed(Event::StopAsked { how: StopHow::Terminate, grace, request }).await;
        }
    }
}
