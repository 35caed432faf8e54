//! Launches that outlive their host: what is written down about them, and how those of an earlier host go on.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError};
use procession_model::{InvalidArgument, LaunchOptions, OutputFiles, ProcExit, Secret, StopRequest};
use procession_supervise::{Event, Readiness, StopHow};
use procession_sys::Process;

use crate::core::Core;
use crate::driver::Driver;
use crate::launching::is_of_another_user;
use crate::ledger::{Asked, Ended, Entry, Ledger, Open};
use crate::output::Stream;
use crate::payload_file::PayloadFile;
use crate::proc_ref::Shared;
use crate::spec::{OwnerLoss, SpawnSpec};

/// Has the launch written down before anything can be started.
pub(crate) async fn write_down(
    core: &Core,
    shared: &Shared,
    spec: &SpawnSpec,
    token: &Secret,
) -> Result<(), ProcLauncherError> {
    let Some(ledger) = core.ledger.as_ref().filter(|_| spec.on_owner_loss == OwnerLoss::Detach) else {
        return Ok(());
    };
    let asked = Asked {
        proc_id: shared.id.clone(),
        incarnation: shared.incarnation,
        at: shared.snapshot().started_at,
        token: token.clone(),
        spec: spec.clone(),
    };
    ledger.write(Entry::Asked(Box::new(asked))).await.map_err(|error: io::Error| {
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
            "nobody would find it again: start the host in a directory that stays (procession serve)",
        );
    }
    if !launcher.capabilities().adopt {
        return refuse(
            "this launcher takes over nothing that an earlier host has launched; use the native one",
        );
    }
    if spec.policy.readiness == Readiness::CallBack && is_of_another_user(spec) {
        return refuse(
            "a proc of another user cannot enter the directory in which the next host is found; leave out user, or use readiness=\"none\"",
        );
    }
    if spec.log.is_none() {
        return refuse("its output needs files, since nobody reads it while there is no host; give log_dir");
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
    if shared.calls_back {
        shared.open_flight(common);
        // One that has not read it yet still will.
        core.door.keep(shared.id.launch_id(), PayloadFile::written(common, shared.id.launch_id()));
    }
    // A stop goes to the launcher at once: there is nothing left to cancel.
    let _is_first = shared.request.may_go_out();
    shared.request.is_out();
    let options = LaunchOptions {
        bootstrap_payload: String::new(),
        process_name: format!("{} @ {}", shared.id.name(), core.machine),
        command: spec.command.clone(),
        want_stdio: spec.want_stdio,
        tail_lines: spec.tail_lines,
        log_channel: None,
        detach: true,
        output: files(shared, spec),
    };
    launcher.adopt(&shared.id, &options, leader).await
}

impl Driver {
    fn ledger(&self) -> Option<&Ledger> {
        self.core.ledger.as_ref().filter(|_| self.shared.outlives)
    }

    pub(crate) fn note_start(&self, pid: Option<u32>) {
        let Some((ledger, pid)) = self.ledger().zip(pid) else { return };
        // One that has ended already needs no start: its keeper writes down how.
        if let Ok(Process { started, .. }) = Process::look(pid) {
            ledger.note(Entry::Started { proc_id: self.shared.id.clone(), pid, started, boot: boot() });
        }
    }

    pub(crate) fn note_ready(&self, at: SystemTime) {
        if let Some(ledger) = self.ledger() {
            let boot = self.shared.boot.timing();
            ledger.note(Entry::Ready { proc_id: self.shared.id.clone(), at, boot });
        }
    }

    pub(crate) fn note_stop(&self, request: &StopRequest) {
        if let Some(ledger) = self.ledger() {
            ledger.note(Entry::StopAsked { proc_id: self.shared.id.clone(), request: request.clone() });
        }
    }

    pub(crate) fn note_end(&self, exit: &ProcExit) {
        if let Some(ledger) = self.ledger() {
            ledger.note(Entry::Ended(Box::new(Ended { exit: exit.clone(), mesh: self.mesh.clone() })));
        }
    }

    /// What an earlier host knew of it, and had begun.
    pub(crate) async fn go_on(&mut self) {
        let Some(open) = self.adopted.take() else { return };
        if let Some(at) = open.ready_at {
            self.shared.snapshot().ready_at = Some(at);
            // What calls back is ready when it has found this host.
            if !self.shared.calls_back {
                self.feed(Event::NotifiedReady).await;
            }
        }
        if let Some(request) = open.stop {
            let grace = self.shared.stop_grace;
            self.feed(Event::StopAsked { how: StopHow::Terminate, grace, request }).await;
        }
    }
}
