use std::sync::Arc;

use procession_actor::Answer;
use procession_launch::{LaunchResult, ProcLauncher, ProcLauncherError};
use procession_launch_local::marker;
use procession_model::{
    ChannelAddr, DialBack, LOG_STDOUT_TAG, LaunchOptions, ProcExitKind, ProcExitResult, Secret,
};
use procession_net::Dial;
use procession_supervise::{Event, Readiness};
use procession_sys::MARKER;

use crate::core::{Core, SHUTTING_DOWN};
use crate::gate::Gate;
use crate::notify;
use crate::output::Stream;
use crate::payload::Payload;
use crate::proc_ref::Shared;
use crate::spec::SpawnSpec;

/// Asks the launcher, with everything that the proc needs to reach back.
pub(crate) async fn launch(
    core: &Arc<Core>,
    shared: &Arc<Shared>,
    launcher: &dyn ProcLauncher,
    spec: &SpawnSpec,
    token: Secret,
) -> Result<LaunchResult, ProcLauncherError> {
    let options = options(core, shared, launcher, spec, token).await;
    if core.is_closing() {
        return Err(ProcLauncherError::Other(SHUTTING_DOWN.to_owned()));
    }
    if shared.exit.borrow().is_some() {
        return Err(ProcLauncherError::Other("it was given up before it was started".to_owned()));
    }
    let options = options.map_err(ProcLauncherError::Other)?;
    if !shared.request.may_go_out() {
        return Err(ProcLauncherError::Other("the launcher was not asked".to_owned()));
    }
    procession_sys::failpoint!("host-before-asking");
    let mut launching = launcher.launch(&shared.id, options);
    tokio::select! {
        biased;
        launched = &mut launching => return launched,
        () = std::future::ready(()) => {}
    }
    // It was polled once: a terminate or kill that the launcher gets from here on comes second.
    shared.request.is_out();
    launching.await
}

async fn options(
    core: &Arc<Core>,
    shared: &Arc<Shared>,
    launcher: &dyn ProcLauncher,
    spec: &SpawnSpec,
    token: Secret,
) -> Result<LaunchOptions, String> {
    let dial_back = launcher.capabilities().dial_back;
    let (addresses, tls) = core.ways_in(&dial_back, shared.id.launch_id()).await?;
    let dial = Dial { addresses, launch: shared.id.launch_id(), token, tls };
    let local = dial_back == DialBack::Local;
    let payload = Payload {
        version: Payload::VERSION.to_owned(),
        proc_id: shared.id.clone(),
        rank: shared.rank,
        host: core.proc_.id().clone(),
        dial,
        sys_path: if local { spec.sys_path.clone() } else { Vec::new() },
        cwd: spec.command.cwd.clone().or_else(|| std::env::current_dir().ok().filter(|_| local)),
    };
    let mut command = spec.command.clone();
    if local && spec.policy.readiness == Readiness::None {
        let socket = notify::listen(core.run_dir(), shared).map_err(|error| {
            format!("the socket for readiness notices could not be made: {error}; free some space or file descriptors")
        })?;
        command.env.entry("NOTIFY_SOCKET".to_owned()).or_insert(socket);
    }
    if !launcher.knows_status_by_parenthood() {
        // However it starts the proc: what the client leaves when it is killed is found by this.
        command.env.insert(MARKER.to_owned(), marker(shared.id.launch_id()));
    }
    Ok(LaunchOptions {
        bootstrap_payload: payload.encode()?,
        process_name: format!("{} @ {}", shared.id.name(), core.machine),
        command,
        want_stdio: spec.want_stdio,
        tail_lines: spec.tail_lines,
        log_channel: (!launcher.knows_status_by_parenthood())
            .then(|| log_channel(core, shared, spec.gate.clone())),
    })
}

/// A port that a launcher feeds with the output of the proc, for as long as the proc lives. Once ports
/// that come with it are let go of, which tells that this was taken, as long as the gate is open.
fn log_channel(core: &Arc<Core>, shared: &Arc<Shared>, gate: Gate) -> ChannelAddr {
    let output = Arc::clone(&shared.output);
    let mailbox = core.proc_.mailbox();
    let (runtime, exit) = (core.runtime.clone(), shared.exit.subscribe());
    let port = mailbox.open_sink(move |answer| {
        if let Answer::Value { tag, parts, mut claims } = answer {
            let stream = if tag == LOG_STDOUT_TAG { Stream::Stdout } else { Stream::Stderr };
            for part in &parts {
                output.push(stream, part);
            }
            let receipts = claims.take_all();
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
