use procession_host::{DeadHost, LeftProcess};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// What hosts have left that were killed together with their keeper and guard.
#[pyfunction]
pub(crate) fn dead_hosts(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let found = py.detach(procession_host::dead_hosts);
    found.into_iter().map(|host| host_dict(py, host)).collect()
}

fn host_dict(py: Python<'_>, host: DeadHost) -> PyResult<Bound<'_, PyDict>> {
    let DeadHost { run_dir, pid, processes } = host;
    let processes = processes.into_iter().map(|LeftProcess { pid, command }| {
        let dict = PyDict::new(py);
        dict.set_item("pid", pid)?;
        dict.set_item("command", command)?;
        Ok(dict)
    });
    let dict = PyDict::new(py);
    dict.set_item("run_dir", run_dir.into_os_string())?;
    dict.set_item("pid", pid)?;
    dict.set_item("processes", processes.collect::<PyResult<Vec<_>>>()?)?;
    Ok(dict)
}
