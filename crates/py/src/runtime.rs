use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use procession_actor::ActorHandle;
use procession_host::Ownership;
use procession_launch::Capabilities;
use procession_model::{DialBack, ProcId};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::actor_launcher::ActorProcLauncher;
use crate::blocking::block_on;
use crate::confinement::read_confines;
use crate::core::{self, Core, Side, current};
use crate::errors::{invalid_argument, value_error};
use crate::exit_dict::exit_dict;
use crate::fork::refuse_in_fork;
use crate::inbox_py::Inbox;
use crate::port::PortRef;
use crate::port_receiver::{PortReceiver, open_once_port, open_port};
use crate::procs::{Launcher, ProcHandle, ProcSpec};
use crate::restart::RestartPolicy;
use crate::subscription::Subscription;
use crate::time::{deadline, duration};
use crate::waiter::{IS_SETTLED, Once, Outcome};

/// How much longer than its timeout a shutdown may take: a kill that hangs, the keeper's own end.
const SHUTDOWN_SLACK: Duration = Duration::from_secs(10);
/// For what was posted to be written before a proc ends.
const GOODBYE_BOUND: Duration = Duration::from_secs(5);

/// The runtime of this process.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct Runtime(&'static Arc<Core>);

/// The runtime of a client.
#[pyfunction]
pub(crate) fn start_client(py: Python<'_>) -> PyResult<Runtime> {
    py.detach(core::start_client).map(Runtime)
}

/// What hosts of a directory hand on: the procs that were spawned together, and the exits of others.
type Handed<'py> = (Vec<Vec<ProcHandle>>, Vec<Bound<'py, PyDict>>);

/// Starts the runtime of a client whose procs may outlive it, and takes over those of an earlier one of that directory.
#[pyfunction]
pub(crate) fn start_client_in(py: Python<'_>, directory: PathBuf) -> PyResult<Handed<'_>> {
    let inherited = py.detach(|| core::start_client_in(directory))?;
    let handles = |slots: Vec<_>| slots.into_iter().map(ProcHandle::new).collect();
    let groups = inherited.groups.into_iter().map(handles).collect();
    let ended = inherited.ended.iter().map(|exit| exit_dict(py, exit)).collect::<PyResult<_>>()?;
    Ok((groups, ended))
}

/// The runtime of a launched proc, which becomes a host too where it `is_host`.
#[pyfunction]
#[pyo3(signature = (payload, imports = 0.0, is_host = false))]
pub(crate) fn start_proc(py: Python<'_>, payload: String, imports: f64, is_host: bool) -> PyResult<Runtime> {
    let imports = duration("imports", imports)?;
    py.detach(|| core::start_proc(payload, imports, is_host)).map(Runtime)
}

/// The runtime of this process, if one was started.
#[pyfunction(name = "current")]
pub(crate) fn current_runtime() -> PyResult<Option<Runtime>> {
    Ok(core::started()?.map(Runtime))
}

/// Waits for `once`; none at the deadline.
fn outcome(py: Python<'_>, once: &Once, deadline: Option<Instant>) -> PyResult<Option<Outcome>> {
    block_on(py, deadline, |until| {
        once.wait(IS_SETTLED, until).then(|| once.peek(|slot| slot.clone())).flatten()
    })
}

#[pymethods]
impl Runtime {
    #[getter]
    fn proc_id(&self) -> &str {
        self.0.proc_.id().as_str()
    }

    #[getter]
    fn host_id(&self) -> String {
        match &self.0.side {
            Side::Client(host) => host.id().as_str().to_owned(),
            Side::Launched(_, Some(host)) => host.id().as_str().to_owned(),
            Side::Launched(child, None) => child.host().host().to_owned(),
            Side::Embedded(proc_) => proc_.id().host().to_owned(),
        }
    }

    /// The node of the host; of the last one, while there is none.
    #[getter]
    fn host_node(&self) -> String {
        match &self.0.side {
            Side::Launched(child, None) => child.host().as_str().to_owned(),
            _ => self.0.proc_.id().as_str().to_owned(),
        }
    }

    #[getter]
    fn is_host(&self) -> bool {
        self.0.host().is_ok()
    }

    #[getter]
    fn is_client(&self) -> bool {
        matches!(self.0.side, Side::Client(_))
    }

    #[getter]
    fn rank(&self) -> usize {
        match &self.0.side {
            Side::Launched(child, _) => child.rank(),
            Side::Client(_) | Side::Embedded(_) => 0,
        }
    }

    #[getter]
    fn sys_path(&self) -> &[String] {
        match &self.0.side {
            Side::Launched(child, _) => child.sys_path(),
            Side::Client(_) | Side::Embedded(_) => &[],
        }
    }

    /// As a str, like `os.getcwd()`.
    #[getter]
    fn cwd(&self) -> Option<&OsStr> {
        match &self.0.side {
            Side::Launched(child, _) => child.cwd().map(Path::as_os_str),
            Side::Client(_) | Side::Embedded(_) => None,
        }
    }

    fn setup(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let child = Arc::clone(current()?.child()?);
        let setup = self.0.run(async move { Outcome::Bytes(child.setup().await) });
        outcome(py, &setup, None)?.unwrap_or(Outcome::Nothing).into_python(py)
    }

    fn ready(&self) -> PyResult<()> {
        current()?.child()?.ready();
        Ok(())
    }

    fn say(&self, text: &str) -> PyResult<()> {
        current()?.child()?.say(text);
        Ok(())
    }

    #[pyo3(signature = (timeout))]
    fn stopped(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        current()?.child()?;
        let deadline = deadline(timeout)?;
        outcome(py, &self.0.stop_reason, deadline)?.unwrap_or(Outcome::Nothing).into_python(py)
    }

    fn register_actor(&self, name: &str) -> PyResult<Inbox> {
        current()?.register_actor(name).map(Inbox::new).map_err(value_error)
    }

    fn open_port(&self) -> PyResult<(PortRef, PortReceiver)> {
        open_port()
    }

    fn open_once_port(&self) -> PyResult<(PortRef, PortReceiver)> {
        open_once_port()
    }

    fn lives(&self, proc_id: &str) -> PyResult<bool> {
        let proc_id = proc_id.parse().map_err(value_error)?;
        Ok(current()?.host()?.lives(&proc_id))
    }

    fn live(&self) -> PyResult<HashMap<String, u32>> {
        Ok(current()?.host()?.live())
    }

    #[pyo3(signature = (specs, launcher, subscription = None, restart = None, owner = None))]
    fn spawn_procs(
        &self,
        py: Python<'_>,
        specs: Vec<PyRef<'_, ProcSpec>>,
        launcher: Option<PyRef<'_, Launcher>>,
        subscription: Option<PyRef<'_, Subscription>>,
        restart: Option<PyRef<'_, RestartPolicy>>,
        owner: Option<(String, String)>,
    ) -> PyResult<Vec<ProcHandle>> {
        let core = current()?;
        core.refuse_while_ending()?;
        let host = core.host()?;
        let launcher = launcher.map_or_else(|| host.native_launcher(), |launcher| Arc::clone(&launcher.0));
        let mut specs: Vec<_> = specs.iter().map(|spec| spec.0.clone()).collect();
        let followers = subscription.map_or_else(Vec::new, |subscription| {
            if let Some(gate) = subscription.gate() {
                specs.iter_mut().for_each(|spec| spec.gate = gate.clone());
            }
            subscription.expect(specs.len());
            specs.iter().map(|_| subscription.follow()).collect()
        });
        let restart = restart.map(|restart| restart.0.clone()).unwrap_or_default();
        let owner = match owner {
            None => None,
            Some((proc_id, who)) => Some(Ownership { proc_id: proc_id.parse().map_err(value_error)?, who }),
        };
        let spawn = || match &owner {
            None => host.spawn_group(specs, &launcher, restart, followers),
            Some(owner) => host.spawn_owned(owner, specs, &launcher, restart, followers),
        };
        let slots = py.detach(spawn).map_err(invalid_argument)?;
        Ok(slots.into_iter().map(ProcHandle::new).collect())
    }

    fn actor_launcher(
        &self,
        actor_id: &str,
        name: String,
        dial_back: (String, Option<String>, Option<String>),
        capabilities: HashMap<String, bool>,
        own_proc: bool,
        refusal: Option<String>,
    ) -> PyResult<Launcher> {
        let core = current()?;
        core.host()?;
        let spawner = ActorHandle::attach(&core.proc_, actor_id.parse().map_err(value_error)?);
        let capabilities = read_capabilities(&capabilities, read_dial_back(dial_back)?)?;
        let launcher = ActorProcLauncher::new(spawner, core.mailbox.clone(), core.proc_.instance());
        let launcher = launcher.with_name(name).with_capabilities(capabilities);
        let launcher = match refusal {
            None => launcher,
            Some(why) => launcher.refusing(why),
        };
        let launcher = if own_proc { launcher.in_its_own_proc() } else { launcher };
        Ok(Launcher::new(Arc::new(launcher)))
    }

    fn stop_procs(&self, py: Python<'_>, reason: String, timeout: f64) -> PyResult<()> {
        let (host, timeout) = (current()?.host()?.clone(), duration("timeout", timeout)?);
        let stopped = self.0.run(async move {
            host.stop_procs(&reason, timeout).await;
            Outcome::Nothing
        });
        outcome(py, &stopped, Instant::now().checked_add(timeout.saturating_add(SHUTDOWN_SLACK)))?;
        Ok(())
    }

    fn stop_actors(&self, reason: &str) -> PyResult<()> {
        current()?.proc_.stop_actors(reason);
        Ok(())
    }

    fn proc_actors_ended(&self, py: Python<'_>) -> PyResult<()> {
        current()?.child()?;
        self.end(py, Duration::ZERO, GOODBYE_BOUND)
    }

    fn shutdown(&self, py: Python<'_>, timeout: f64) -> PyResult<()> {
        refuse_in_fork()?;
        let timeout = duration("timeout", timeout)?;
        let bound = if self.is_client() { timeout.saturating_add(SHUTDOWN_SLACK) } else { GOODBYE_BOUND };
        self.end(py, timeout, bound)
    }

    fn __repr__(&self) -> String {
        format!("Runtime({})", self.0.proc_.id())
    }
}

impl Runtime {
    fn end(&self, py: Python<'_>, timeout: Duration, bound: Duration) -> PyResult<()> {
        let ended = py.detach(|| self.0.begin_end(timeout));
        outcome(py, &ended, Instant::now().checked_add(bound))?;
        py.detach(|| self.0.finish_end());
        Ok(())
    }
}

fn read_dial_back((kind, bind, advertise): (String, Option<String>, Option<String>)) -> PyResult<DialBack> {
    match (kind.as_str(), bind) {
        ("local", _) => Ok(DialBack::Local),
        ("network", Some(bind)) => Ok(DialBack::Network { bind, advertise }),
        ("network", None) => {
            Err(PyValueError::new_err("dial_back: a network needs an address to bind: \"127.0.0.1:0\""))
        }
        ("stdio", _) => Ok(DialBack::Stdio),
        _ => Err(PyValueError::new_err(format!(
            "dial_back = {kind:?}: give \"local\", \"network\" or \"stdio\""
        ))),
    }
}

fn read_capabilities(given: &HashMap<String, bool>, dial_back: DialBack) -> PyResult<Capabilities> {
    const KNOWN: [&str; 13] = [
        "pid",
        "stdio",
        "tail",
        "tree_kill",
        "raw_paths",
        "command_attributes",
        "resources",
        "user",
        "rlimits",
        "security",
        "proc_bind",
        "folds_signals",
        "one_stream",
    ];
    if let Some(unknown) = given.keys().find(|key| !KNOWN.contains(&key.as_str())) {
        return Err(PyValueError::new_err(format!(
            "capabilities[{unknown:?}]: known are {}",
            KNOWN.join(", ")
        )));
    }
    let can = |what: &str| given.get(what).copied().unwrap_or(false);
    Ok(Capabilities {
        pid: can("pid"),
        stdio: can("stdio"),
        tail: can("tail"),
        tree_kill: can("tree_kill"),
        raw_paths: can("raw_paths"),
        command_attributes: can("command_attributes"),
        confines: read_confines(given),
        group_kill: false,
        oom_facts: false,
        folds_signals: can("folds_signals"),
        one_stream: can("one_stream"),
        adopt: false,
        dial_back,
    })
}

/// From a launcher, at any time and from any thread: what it knows about a launch.
#[pyfunction]
#[pyo3(signature = (proc_id, pid, handle, progress))]
pub(crate) fn report_launch(
    proc_id: &str,
    pid: Option<u32>,
    handle: Option<String>,
    progress: Option<String>,
) -> PyResult<()> {
    let core = current()?;
    let proc_id: ProcId = proc_id.parse().map_err(value_error)?;
    match &core.side {
        Side::Client(host) | Side::Launched(_, Some(host)) => host.report(&proc_id, pid, handle, progress),
        Side::Launched(child, None) => child.report_launch(&proc_id, pid, handle, progress),
        Side::Embedded(_) => {
            core.host()?;
        }
    }
    Ok(())
}

/// From a launcher: what the launch runs on cannot be asked, until it is reported on again.
#[pyfunction]
pub(crate) fn report_unreachable(proc_id: &str, why: String) -> PyResult<()> {
    let core = current()?;
    let proc_id: ProcId = proc_id.parse().map_err(value_error)?;
    match &core.side {
        Side::Client(host) | Side::Launched(_, Some(host)) => host.unreachable(&proc_id, Some(why)),
        Side::Launched(child, None) => child.report_unreachable(&proc_id, why),
        Side::Embedded(_) => drop(core.host()?),
    }
    Ok(())
}

/// From a launcher: the exit was reported once more, and its sender was told that it counts for nothing.
#[pyfunction]
pub(crate) fn reported_again(proc_id: &str) -> PyResult<()> {
    let core = current()?;
    let proc_id: ProcId = proc_id.parse().map_err(value_error)?;
    match &core.side {
        Side::Client(host) | Side::Launched(_, Some(host)) => host.reported_again(&proc_id),
        Side::Launched(child, None) => child.reported_again(&proc_id),
        Side::Embedded(_) => {}
    }
    Ok(())
}

/// Refuses what is no legal name.
#[pyfunction]
pub(crate) fn check_name(field: &str, name: &Bound<'_, PyString>) -> PyResult<()> {
    procession_model::check_name(field, &name.to_string_lossy()).map_err(value_error)
}

/// `proc_id` in a form safe as a container, unit, job or file name.
#[pyfunction]
pub(crate) fn safe_name(proc_id: &str) -> PyResult<String> {
    proc_id.parse().map(|proc_id: ProcId| proc_id.safe_name()).map_err(value_error)
}
