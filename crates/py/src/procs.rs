use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use procession_host::{
    LogSpec, OwnerLoss, Policy, ProcRef, Readiness, Slot, SlotSnapshot, SpawnSpec, Stream,
};
use procession_launch::ProcLauncher;
use procession_model::{BootstrapCommand, Preload};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::task::JoinSet;

use crate::blocking::wait_for;
use crate::certificate_dict::boot_dict;
use crate::confinement::GivenConfinement;
use crate::core::current as current_core;
use crate::errors::{failure, invalid_argument, value_error};
use crate::exit_dict::exit_dict;
use crate::fork::{Owned, refuse_in_fork};
use crate::time::{duration, epoch_seconds};
use crate::waiter::{Outcome, Waiter};

/// What to launch.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct ProcSpec(pub(crate) SpawnSpec);

#[pymethods]
impl ProcSpec {
    #[new]
    #[pyo3(signature = (*, name, rank, program, arg0, args, env, env_remove, clear_env, cwd, readiness,
        setup, sys_path, ready_timeout, stop_grace, ack_timeout, unknown_budget, lease, tail_lines, want_stdio, log, confinement = None, detach = false, mesh = String::new(), preload = None))]
    #[expect(
        clippy::too_many_arguments,
        reason = "all keywords: one for each thing that can be said about a launch"
    )]
    fn new(
        name: String,
        rank: usize,
        program: Vec<u8>,
        arg0: Option<String>,
        args: Vec<String>,
        env: HashMap<String, String>,
        env_remove: Vec<String>,
        clear_env: bool,
        cwd: Option<Vec<u8>>,
        readiness: &str,
        setup: Vec<u8>,
        sys_path: Vec<String>,
        ready_timeout: f64,
        stop_grace: f64,
        ack_timeout: f64,
        unknown_budget: f64,
        lease: f64,
        tail_lines: usize,
        want_stdio: bool,
        log: Option<(Vec<u8>, Option<u64>, u32)>,
        confinement: Option<GivenConfinement>,
        detach: bool,
        mesh: String,
        preload: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let readiness = match readiness {
            "call_back" => Readiness::CallBack,
            "none" => Readiness::None,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "readiness = {readiness:?}: give \"call_back\" or \"none\""
                )));
            }
        };
        let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
        let command = BootstrapCommand {
            program: path(program),
            arg0,
            args,
            env,
            env_remove,
            clear_env,
            cwd: cwd.map(path),
            confinement: confinement.map(Into::into).unwrap_or_default(),
            preload: preload.map(|modules| Preload { modules, path: sys_path.clone() }),
        };
        let policy = Policy {
            readiness,
            ready_timeout: duration("ready_timeout", ready_timeout)?,
            stop_grace: duration("stop_grace", stop_grace)?,
            launch_ack: duration("ack_timeout", ack_timeout)?,
            unknown_budget: duration("unknown_budget", unknown_budget)?,
            ..Policy::default()
        };
        let mut spec = SpawnSpec::new(name, command);
        spec.rank = rank;
        spec.policy = policy;
        spec.lease = duration("lease", lease)?;
        spec.setup = setup.into();
        spec.sys_path = sys_path;
        spec.tail_lines = tail_lines;
        spec.want_stdio = want_stdio;
        spec.log =
            log.map(|(directory, max_bytes, keep)| LogSpec { directory: path(directory), max_bytes, keep });
        if detach {
            spec.on_owner_loss = OwnerLoss::Detach;
        }
        spec.mesh = mesh;
        spec.check().map_err(invalid_argument)?;
        Ok(Self(spec))
    }
}

/// One slot, and in it the last launch.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct ProcHandle(pub(crate) Owned<Slot>);

impl ProcHandle {
    pub(crate) fn new(slot: Slot) -> Self {
        Self(Owned::new(slot))
    }

    /// Asks something of the proc, on the io thread; nothing launches it again by itself. One that has ended needs
    /// nothing any more.
    fn ask<F>(&self, request: impl FnOnce(Slot, ProcRef) -> F) -> PyResult<Waiter>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        refuse_in_fork()?;
        let current = self.0.stay_ended();
        if self.0.ended_now().is_some() {
            return Ok(Waiter::settled(Outcome::Nothing));
        }
        let answer = request((*self.0).clone(), current);
        Ok(Waiter::once(current_core()?.run(async move { answer.await.into() })))
    }
}

#[pymethods]
impl ProcHandle {
    #[getter]
    fn proc_id(&self) -> String {
        self.0.current().id().to_string()
    }

    #[getter]
    fn name(&self) -> String {
        self.0.current().id().name().to_owned()
    }

    #[getter]
    fn rank(&self) -> usize {
        self.0.rank()
    }

    /// What its spawner gave as its mesh.
    #[getter]
    fn mesh(&self) -> &str {
        self.0.mesh()
    }

    #[getter]
    fn calls_back(&self) -> bool {
        self.0.calls_back()
    }

    #[getter]
    fn incarnation(&self) -> u32 {
        self.0.current().incarnation()
    }

    #[getter]
    fn launch_id(&self) -> String {
        self.0.current().id().launch_id().to_string()
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        refuse_in_fork()?;
        let SlotSnapshot { launch: snapshot, restarts, next_launch_at } = self.0.status();
        let dict = PyDict::new(py);
        dict.set_item("status", snapshot.status.as_str())?;
        dict.set_item("pid", snapshot.pid)?;
        dict.set_item("handle", snapshot.handle)?;
        dict.set_item("progress", snapshot.progress)?;
        dict.set_item("launcher", snapshot.launcher)?;
        dict.set_item("stdout_path", snapshot.stdout_path.map(PathBuf::into_os_string))?;
        dict.set_item("stderr_path", snapshot.stderr_path.map(PathBuf::into_os_string))?;
        dict.set_item("started_at", epoch_seconds(snapshot.started_at))?;
        dict.set_item("running_at", snapshot.running_at.map(epoch_seconds))?;
        dict.set_item("ready_at", snapshot.ready_at.map(epoch_seconds))?;
        dict.set_item("ended_at", snapshot.ended_at.map(epoch_seconds))?;
        dict.set_item("restarts", restarts)?;
        dict.set_item("next_launch_at", next_launch_at.map(epoch_seconds))?;
        dict.set_item("boot", boot_dict(py, &snapshot.boot)?)?;
        dict.set_item("late_reports", snapshot.late_reports)?;
        Ok(dict)
    }

    fn exit<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        refuse_in_fork()?;
        self.0.exit().map(|exit| exit_dict(py, &exit)).transpose()
    }

    fn history<'py>(&self, py: Python<'py>) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        refuse_in_fork()?;
        let history = self.0.history();
        let exits = history.exits.iter().map(|exit| exit_dict(py, exit)).collect::<PyResult<_>>()?;
        Ok((exits, history.dropped))
    }

    /// What launches it; None for the native one.
    fn launcher(&self) -> Option<Launcher> {
        let launcher = self.0.launcher();
        (!launcher.knows_status_by_parenthood()).then(|| Launcher::new(launcher))
    }

    #[pyo3(signature = (launcher))]
    fn respawn(&self, py: Python<'_>, launcher: Option<PyRef<'_, Launcher>>) -> PyResult<()> {
        let core = current_core()?;
        core.refuse_while_ending()?;
        let host = core.host()?;
        let launcher = launcher.map_or_else(|| host.native_launcher(), |launcher| Arc::clone(&launcher.0));
        let slot = (*self.0).clone();
        py.detach(|| slot.respawn(Some(launcher))).map_err(value_error)
    }

    fn ready(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        if let Some(ready) = self.0.ready_now() {
            return Ok(Waiter::settled(ready.into()));
        }
        let proc_ = (*self.0).clone();
        Ok(Waiter::of_task(current_core()?.run_task(async move { proc_.ready().await.into() })))
    }

    fn ended(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        if let Some(exit) = self.0.ended_now() {
            return Ok(Waiter::settled(Outcome::Exit(exit)));
        }
        let proc_ = (*self.0).clone();
        Ok(Waiter::of_task(current_core()?.run_task(async move { Outcome::Exit(proc_.ended().await) })))
    }

    #[pyo3(signature = (reason, grace))]
    fn stop(&self, reason: String, grace: Option<f64>) -> PyResult<Waiter> {
        let grace = grace.map(|grace| duration("grace", grace)).transpose()?;
        self.ask(|slot, proc_| async move {
            proc_.stop(&reason, grace).await;
            slot.ended().await;
            Ok(())
        })
    }

    fn terminate(&self, timeout: f64, why: String) -> PyResult<Waiter> {
        let timeout = duration("timeout", timeout)?;
        self.ask(|_, proc_| async move { proc_.terminate(timeout, &why).await })
    }

    fn kill(&self, why: String) -> PyResult<Waiter> {
        self.ask(|_, proc_| async move { proc_.kill(&why).await })
    }

    #[pyo3(signature = (stream, lines))]
    fn output_tail(&self, py: Python<'_>, stream: &str, lines: Option<usize>) -> PyResult<Vec<String>> {
        refuse_in_fork()?;
        let stream = match stream {
            "stdout" => Stream::Stdout,
            "stderr" => Stream::Stderr,
            _ => {
                return Err(PyValueError::new_err(format!(
                    "stream = {stream:?}: give \"stdout\" or \"stderr\""
                )));
            }
        };
        Ok(match lines {
            None => self.0.output_tail(stream),
            Some(count) => py.detach(|| self.0.last_lines(stream, count)),
        })
    }

    fn __repr__(&self) -> String {
        format!("ProcHandle({:?})", *self.0)
    }
}

/// Waits until all of some procs are ready, or one of them never will be.
#[pyfunction]
pub(crate) fn all_ready(handles: Vec<PyRef<'_, ProcHandle>>) -> PyResult<Waiter> {
    let core = current_core()?;
    let procs: Vec<Slot> = handles.iter().map(|handle| (*handle.0).clone()).collect();
    let now: Vec<_> = procs.iter().map(Slot::ready_now).collect();
    if let Some(Some(Err(why))) = now.iter().find(|ready| matches!(ready, Some(Err(_)))) {
        return Ok(Waiter::settled(Outcome::Failed(why.clone())));
    }
    if now.iter().all(Option::is_some) {
        return Ok(Waiter::settled(Outcome::Nothing));
    }
    Ok(Waiter::of_task(core.run_task(async move {
        let mut ready: JoinSet<_> =
            procs.into_iter().map(|proc_| async move { proc_.ready().await }).collect();
        while let Some(one) = ready.join_next().await {
            if let Ok(Err(why)) = one {
                return Outcome::Failed(why);
            }
        }
        Outcome::Nothing
    })))
}

/// What starts, stops and watches procs.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Launcher(pub(crate) Owned<Arc<dyn ProcLauncher>>);

impl Launcher {
    pub(crate) fn new(launcher: Arc<dyn ProcLauncher>) -> Self {
        Self(Owned::new(launcher))
    }
}

#[pymethods]
impl Launcher {
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// What it would ask for to launch that. Nothing is launched.
    fn dry_run(&self, py: Python<'_>, spec: &ProcSpec) -> PyResult<String> {
        let core = current_core()?;
        let (host, spec, launcher) = (core.host()?, spec.0.clone(), Arc::clone(&self.0));
        let shown = async move { host.dry_run(&spec, launcher.as_ref()).await };
        let shown = wait_for(py, &core.handle, shown)?.map_err(invalid_argument)?;
        shown.map_err(|error| failure(py, error.to_string()))
    }

    /// The same for the same launcher, for as long as there is one.
    #[getter]
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.0).cast::<()>().addr()
    }

    fn __repr__(&self) -> String {
        format!("Launcher({})", self.0.name())
    }
}
