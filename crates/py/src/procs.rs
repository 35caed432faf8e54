use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use procession_host::{LogSpec, Policy, ProcRef, Readiness, SpawnSpec, Stream};
use procession_launch::ProcLauncher;
use procession_model::BootstrapCommand;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::task::JoinSet;

use crate::core::current;
use crate::errors::value_error;
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
        setup, sys_path, ready_timeout, stop_grace, ack_timeout, tail_lines, want_stdio, log))]
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
        tail_lines: usize,
        want_stdio: bool,
        log: Option<(Vec<u8>, Option<u64>, u32)>,
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
        };
        let policy = Policy {
            readiness,
            ready_timeout: duration("ready_timeout", ready_timeout)?,
            stop_grace: duration("stop_grace", stop_grace)?,
            launch_ack: duration("ack_timeout", ack_timeout)?,
            ..Policy::default()
        };
        let mut spec = SpawnSpec::new(name, command);
        spec.rank = rank;
        spec.policy = policy;
        spec.setup = setup.into();
        spec.sys_path = sys_path;
        spec.tail_lines = tail_lines;
        spec.want_stdio = want_stdio;
        spec.log =
            log.map(|(directory, max_bytes, keep)| LogSpec { directory: path(directory), max_bytes, keep });
        spec.check().map_err(value_error)?;
        Ok(Self(spec))
    }
}

/// One launch.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct ProcHandle(pub(crate) Owned<ProcRef>);

impl ProcHandle {
    pub(crate) fn new(proc_: ProcRef) -> Self {
        Self(Owned::new(proc_))
    }

    /// Asks something of the proc, on the io thread. A proc that has ended needs nothing any more.
    fn ask<F>(&self, request: impl FnOnce(ProcRef) -> F) -> PyResult<Waiter>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        refuse_in_fork()?;
        if self.0.exit().is_some() {
            return Ok(Waiter::settled(Outcome::Nothing));
        }
        let answer = request((*self.0).clone());
        Ok(Waiter::once(current()?.run(async move { answer.await.into() })))
    }
}

#[pymethods]
impl ProcHandle {
    #[getter]
    fn proc_id(&self) -> &str {
        self.0.id().as_str()
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.id().name()
    }

    #[getter]
    fn rank(&self) -> usize {
        self.0.rank()
    }

    #[getter]
    fn incarnation(&self) -> u32 {
        self.0.incarnation()
    }

    #[getter]
    fn launch_id(&self) -> String {
        self.0.id().launch_id().to_string()
    }

    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        refuse_in_fork()?;
        let snapshot = self.0.status();
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
        Ok(dict)
    }

    fn exit<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        refuse_in_fork()?;
        self.0.exit().map(|exit| exit_dict(py, &exit)).transpose()
    }

    fn ready(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        if let Some(ready) = self.0.ready_now() {
            return Ok(Waiter::settled(ready.into()));
        }
        let proc_ = (*self.0).clone();
        Ok(Waiter::of_task(current()?.run_task(async move { proc_.ready().await.into() })))
    }

    fn ended(&self) -> PyResult<Waiter> {
        refuse_in_fork()?;
        if let Some(exit) = self.0.exit() {
            return Ok(Waiter::settled(Outcome::Exit(exit)));
        }
        let proc_ = (*self.0).clone();
        Ok(Waiter::of_task(current()?.run_task(async move { Outcome::Exit(proc_.ended().await) })))
    }

    #[pyo3(signature = (reason, grace))]
    fn stop(&self, reason: String, grace: Option<f64>) -> PyResult<Waiter> {
        let grace = grace.map(|grace| duration("grace", grace)).transpose()?;
        self.ask(|proc_| async move {
            proc_.stop(&reason, grace).await;
            Ok(())
        })
    }

    fn terminate(&self, timeout: f64, why: String) -> PyResult<Waiter> {
        let timeout = duration("timeout", timeout)?;
        self.ask(|proc_| async move { proc_.terminate(timeout, &why).await })
    }

    fn kill(&self, why: String) -> PyResult<Waiter> {
        self.ask(|proc_| async move { proc_.kill(&why).await })
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
        format!("ProcHandle({}, {})", self.0.id(), self.0.status().status)
    }
}

/// Waits until all of some procs are ready, or one of them never will be.
#[pyfunction]
pub(crate) fn all_ready(handles: Vec<PyRef<'_, ProcHandle>>) -> PyResult<Waiter> {
    let core = current()?;
    let procs: Vec<ProcRef> = handles.iter().map(|handle| (*handle.0).clone()).collect();
    let now: Vec<_> = procs.iter().map(ProcRef::ready_now).collect();
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

    fn __repr__(&self) -> String {
        format!("Launcher({})", self.0.name())
    }
}

/// The launcher of processes of this machine.
#[pyfunction]
pub(crate) fn native_launcher() -> PyResult<Launcher> {
    Ok(Launcher::new(current()?.host()?.native_launcher()))
}
