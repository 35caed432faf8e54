use std::path::PathBuf;
use std::sync::Arc;

use procession_launch::{
    Chaos, ChaosRates, Fallback, ProcLauncher, Recording, Replay, Retry, TapeError, Throttle,
};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use crate::core::current;
use crate::errors::invalid_argument;
use crate::procs::Launcher;
use crate::time::duration;

type Part<'py> = Option<PyRef<'py, Launcher>>;

/// None is the launcher of this machine.
fn part(part: &Part<'_>) -> PyResult<Arc<dyn ProcLauncher>> {
    match part {
        Some(launcher) => Ok(Arc::clone(&launcher.0)),
        None => Ok(current()?.host()?.native_launcher()),
    }
}

fn of(launcher: impl ProcLauncher) -> Launcher {
    Launcher::new(Arc::new(launcher))
}

fn tape_error(error: TapeError) -> PyErr {
    match error {
        TapeError::File { .. } => PyOSError::new_err(error.to_string()),
        TapeError::Line { .. } => PyValueError::new_err(error.to_string()),
    }
}

/// Launchers made of launchers.
#[pyfunction]
pub(crate) fn throttle(
    launcher: Part<'_>,
    at_once: Option<usize>,
    per_second: Option<f64>,
) -> PyResult<Launcher> {
    Throttle::new(part(&launcher)?, at_once, per_second).map(of).map_err(invalid_argument)
}

#[pyfunction]
pub(crate) fn retry(launcher: Part<'_>, times: u32, pause: f64) -> PyResult<Launcher> {
    Ok(of(Retry::new(part(&launcher)?, times, duration("pause", pause)?)))
}

#[pyfunction]
pub(crate) fn fallback(launchers: Vec<Part<'_>>) -> PyResult<Launcher> {
    let parts = launchers.iter().map(part).collect::<PyResult<_>>()?;
    Fallback::new(parts).map(of).map_err(invalid_argument)
}

#[pyfunction]
pub(crate) fn chaos(
    launcher: Part<'_>,
    seed: u64,
    launch_fails: f64,
    exits_early: f64,
    early_within: f64,
    delay: f64,
) -> PyResult<Launcher> {
    let (early_within, delay) = (duration("early_within", early_within)?, duration("delay", delay)?);
    let rates = ChaosRates { launch_fails, exits_early, early_within, delay };
    Chaos::new(part(&launcher)?, seed, rates).map(of).map_err(invalid_argument)
}

#[pyfunction]
pub(crate) fn record(launcher: Part<'_>, file: PathBuf) -> PyResult<Launcher> {
    Recording::new(part(&launcher)?, &file).map(of).map_err(tape_error)
}

#[pyfunction]
pub(crate) fn replay(file: PathBuf) -> PyResult<Launcher> {
    Replay::new(&file).map(of).map_err(tape_error)
}
