use std::sync::Arc;

use procession_launch_test::{Kit, Programs, Row, Table, checks};
use procession_model::{BootstrapCommand, Preload};
use pyo3::prelude::*;

use crate::blocking::wait_for;
use crate::core::current;
use crate::errors::value_error;
use crate::procs::Launcher;
use crate::time::duration;

/// The name of each check, and what it is that is promised.
#[pyfunction]
pub(crate) fn conformance_checks() -> Vec<(&'static str, &'static str)> {
    checks().iter().map(|check| (check.name, check.promise)).collect()
}

/// Runs the check of that name on the launcher, and gives what came out of it, as JSON.
///
/// None is the native launcher. `python`: what the programs of checks are run by where procs live; none runs them by a shell. `ready`: a command that calls
/// back, where it is an interpreter of ours that the launcher may replace by its own.
#[pyfunction]
pub(crate) fn conform(
    py: Python<'_>,
    launcher: Option<&Launcher>,
    name: String,
    python: Option<String>,
    ready: Vec<String>,
    patience: f64,
) -> PyResult<String> {
    let core = current()?;
    let host = core.host()?;
    let launcher = launcher.map_or_else(|| host.native_launcher(), |launcher| Arc::clone(&launcher.0));
    let mut kit = Kit::within(host.clone(), launcher).patience(duration("patience", patience)?);
    if let Some(python) = python {
        kit = kit.programs(Programs::Python { python });
    }
    if let Some((program, args)) = ready.split_first() {
        let mut command = BootstrapCommand::new(program);
        command.args = args.to_vec();
        // An interpreter finds its environment by the path that it was started as.
        command.arg0 = Some(program.clone());
        command.preload = Some(Preload::default());
        kit = kit.ready_command(command);
    }
    let found = wait_for(py, &core.handle, async move { (kit.run_one(&name).await, name) })?;
    match found {
        (Some(row), _) => serde_json::to_string(&row).map_err(value_error),
        (None, name) => Err(value_error(format!("name = {name:?}: there is no such check"))),
    }
}

/// Those rows as a page of HTML.
#[pyfunction]
pub(crate) fn conformance_page(launcher: String, rows: Vec<String>) -> PyResult<String> {
    let rows: Result<Vec<Row>, _> = rows.iter().map(|row| serde_json::from_str(row)).collect();
    Ok(Table { launcher, rows: rows.map_err(value_error)? }.to_html())
}
