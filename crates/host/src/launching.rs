use std::net::SocketAddr;
use std::sync::Arc;

use procession_actor::Answer;
use procession_launch::{Admission, LaunchResult, ProcLauncher, ProcLauncherError, Relayed};
use procession_launch_local::marker;
use procession_model::{
    ChannelAddr, DialBack, LOG_STDOUT_TAG, LaunchOptions, ProcExitKind, ProcExitResult, Secret,
};
use procession_net::{Address, Dial};
use procession_supervise::{Event, Readiness};
use procession_sys::{MARKER, own_ids};

use crate::boot_clock::BootClock;
use crate::core::{Core, SHUTTING_DOWN};
use crate::flight::FLIGHT_ENV;
use crate::gate::Gate;
use crate::notify;
use crate::outliving;
use crate::output::Stream;
use crate::payload::Payload;
use crate::payload_file::PayloadFile;
use crate::proc_ref::Shared;
use crate::spec::{OwnerLoss, SpawnSpec};

/// Asks the launcher, with everything that the proc needs to reach back.
pub(crate) async fn launch(
    core: &Arc<Core>,
    shared: &Arc<Shared>,
    launcher: &dyn ProcLauncher,
    spec: &SpawnSpec,
    token: Secret,
) -> Result<LaunchResult, ProcLauncherError> {
    let mut exit = shared.exit.subscribe();
    let admission = tokio::select! {
        admission = launcher.admit() => Some(admission?),
        () = shared.request.cancelled() => None,
        _ = exit.wait_for(Option::is_some) => None,
    };
    let options = options(core, shared, launcher, spec, token.clone()).await;
    if core.is_closing() {
        return Err(ProcLauncherError::Other(SHUTTING_DOWN.to_owned()));
    }
    if let Some(own) = launcher.own_proc() {
        let _known_before = shared.launched_in.set(own);
    }
    if let Some(files) = &shared.files {
        files.start().await;
    }
    if shared.exit.borrow().is_some() {
        return Err(ProcLauncherError::Other("it was given up before it was started".to_owned()));
    }
    let (options, _kept_until_it_is_asked) = options.map_err(ProcLauncherError::Other)?;
    outliving::write_down(core, shared, &token).await?;
    if !shared.request.may_go_out() {
        return Err(ProcLauncherError::Other("the launcher was not asked".to_owned()));
    }
    BootClock::reached(&shared.boot.asked);
    procession_sys::failpoint!("host-before-asking");
    let mut launching = launcher.launch(&shared.id, options);
    tokio::select! {
        biased;
        launched = &mut launching => {
            note_place(shared, launcher);
            return launched.map(|launched| holding(launched, admission));
        }
        () = std::future::ready(()) => {}
    }
    // It was polled once: a terminate or kill that the launcher gets from here on comes second.
    shared.request.is_out();
    let launched = launching.await;
    note_place(shared, launcher);
    launched.map(|launched| holding(launched, admission))
}

/// Some launchers decide in which proc they launch one when they are asked to.
fn note_place(shared: &Shared, launcher: &dyn ProcLauncher) {
    if let Some(place) = launcher.launched_in(&shared.id) {
        let _known_before = shared.launched_in.set(place);
    }
}

/// A launcher that reports lets go of the room of a launch when it says that it was started.
fn holding(launched: LaunchResult, admission: Option<Admission>) -> LaunchResult {
    let reports = launched.reports.map(|reports| reports.holding(admission));
    LaunchResult { reports, ..launched }
}

async fn options(
    core: &Arc<Core>,
    shared: &Arc<Shared>,
    launcher: &dyn ProcLauncher,
    spec: &SpawnSpec,
    token: Secret,
) -> Result<(LaunchOptions, Option<Relayed>), String> {
    let dial_back = way_back(launcher.capabilities().dial_back, spec);
    let (mut addresses, tls) = core.ways_in(&dial_back, shared.id.launch_id(), shared.outlives).await?;
    let relayed = match &addresses[..] {
        [Address::Tcp { host, port }] if dial_back == DialBack::Stdio => {
            let here = SocketAddr::new(host.parse().map_err(|_| format!("{host} is no address"))?, *port);
            Some(launcher.relay(&shared.id, here).await.map_err(|error| error.to_string())?)
        }
        _ => None,
    };
    if let Some(relayed) = &relayed {
        addresses = vec![Address::tcp(&relayed.address).map_err(|error| error.to_string())?];
    }
    let common = core.common_dir(shared.outlives);
    let calls_back = spec.policy.readiness == Readiness::CallBack;
    let local = launcher.capabilities().dial_back == DialBack::Local;
    let flight = if local && calls_back { shared.open_flight(common) } else { None };
    let dial = Dial { addresses, launch: shared.id.launch_id(), token, tls, lease: spec.lease };
    let payload = Payload {
        version: Payload::VERSION.to_owned(),
        proc_id: shared.id.clone(),
        rank: shared.rank,
        host: core.proc_.id().clone(),
        dial,
        sys_path: if local { spec.sys_path.clone() } else { Vec::new() },
        cwd: spec.command.cwd.clone().or_else(|| std::env::current_dir().ok().filter(|_| local)),
        flight: flight.clone(),
        outlives: shared.outlives,
    };
    let mut bootstrap_payload = payload.encode()?;
    // Another user could not read the file.
    if dial_back == DialBack::Local && calls_back {
        // What other launchers start may see one file of this process and not another.
        let is_ours = !shared.outlives && launcher.knows_status_by_parenthood();
        let file = match flight.as_deref().filter(|_| is_ours) {
            Some(flight) => PayloadFile::append(flight, &bootstrap_payload),
            None => PayloadFile::write(common, shared.id.launch_id(), &bootstrap_payload, shared.outlives),
        };
        let file = file.map_err(|error| {
            format!(
                "the payload could not be written to {}: {error}; free some space or file descriptors",
                common.display()
            )
        })?;
        bootstrap_payload = file.reference();
        core.door.keep(shared.id.launch_id(), file);
    }
    let mut command = spec.command.clone();
    match &mut command.preload {
        Some(preload) if !local => preload.path.clear(),
        _ => {}
    }
    if let Some(path) = flight {
        command.env.insert(FLIGHT_ENV.to_owned(), path.to_string_lossy().into_owned());
    }
    if local && !calls_back {
        let socket = notify::listen(common, shared).map_err(|error| {
            format!("the socket for readiness notices could not be made: {error}; free some space or file descriptors")
        })?;
        command.env.entry("NOTIFY_SOCKET".to_owned()).or_insert(socket);
    }
    if !launcher.knows_status_by_parenthood() && !shared.outlives {
        // However it starts the proc: what the client leaves when it is killed is found by this, and ended.
        command.env.insert(MARKER.to_owned(), marker(shared.id.launch_id()));
    }
    let options = LaunchOptions {
        bootstrap_payload,
        process_name: format!("{} @ {}", shared.id.name(), core.machine),
        command,
        want_stdio: spec.want_stdio || spec.log.is_some(),
        tail_lines: spec.tail_lines,
        log_channel: (!launcher.knows_status_by_parenthood())
            .then(|| log_channel(core, shared, spec.gate.clone())),
        detach: spec.on_owner_loss == OwnerLoss::Detach,
        lease: spec.lease,
        output: outliving::files(shared, spec),
    };
    Ok((options, relayed))
}

pub(crate) fn is_of_another_user(spec: &SpawnSpec) -> bool {
    spec.command.confinement.user.as_ref().is_some_and(|user| user.uid != own_ids().0)
}

/// The unix socket is in a directory that no other user can enter: so one of another user dials the
/// loopback, with a certificate of its own.
fn way_back(of_launcher: DialBack, spec: &SpawnSpec) -> DialBack {
    match of_launcher {
        DialBack::Local if is_of_another_user(spec) && spec.policy.readiness == Readiness::CallBack => {
            DialBack::Network { bind: "127.0.0.1:0".to_owned(), advertise: None }
        }
        other => other,
    }
}

/// A port that a launcher feeds with the output of the proc, for as long as the proc lives. Once ports
/// that come with it are let go of, which tells that this was taken, once it is in the files of the
/// proc, where it has some, and the gate is open.
fn log_channel(core: &Arc<Core>, shared: &Arc<Shared>, gate: Gate) -> ChannelAddr {
    let (output, files) = (Arc::clone(&shared.output), shared.files.clone());
    let mailbox = core.proc_.mailbox();
    let (runtime, exit) = (core.runtime.clone(), shared.exit.subscribe());
    let port = mailbox.open_sink(move |answer| {
        if let Answer::Value { tag, parts, mut claims } = answer {
            let stream = if tag == LOG_STDOUT_TAG { Stream::Stdout } else { Stream::Stderr };
            let receipts = claims.take_all();
            for part in parts {
                output.push(stream, &part);
                if let Some(files) = &files {
                    files.append(stream, part, Box::new(receipts.clone()));
                }
            }
            if !receipts.is_empty() && !gate.is_open() {
                let (gate, mut exit) = (gate.clone(), exit.clone());
                runtime.spawn(async move {
                    tokio::select! {
                        () = gate.opened() => {}
                        _ = exit.wait_for(Option::is_some) => {}
                    }
                    drop(receipts);
                });
            }
        }
    });
    let address = ChannelAddr(port.to_string());
    let mut exit = shared.exit.subscribe();
    tokio::spawn(async move {
        let _host_gone = exit.wait_for(Option::is_some).await;
        mailbox.close_port(&port);
    });
    address
}

/// What the end of a launch's exit channel means.
pub(crate) fn exit_event(result: Option<ProcExitResult>, parent: bool) -> Event {
    match (result, parent) {
        (Some(result), true) => Event::OsExit(result),
        (Some(result), false) => Event::LauncherReported(result),
        (None, true) => {
            let reason = "its launcher ended without a word".to_owned();
            Event::OsExit(ProcExitResult::new(ProcExitKind::Lost { reason }))
        }
        (None, false) => Event::LauncherReported(ProcExitResult::failed(
            "exit port closed (spawner crashed or forgot to send)",
        )),
    }
}
