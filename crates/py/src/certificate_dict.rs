use std::time::{Duration, SystemTime};

use procession_host::Record;
use procession_model::{BootTiming, Certificate, FlightRecord, Handling, Verdict};
use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::exit_dict::exit_dict;
use crate::time::epoch_seconds;

/// A list of dicts, one of each of `items`.
fn dicts<'py, T>(
    py: Python<'py>,
    items: &[T],
    fill: impl Fn(&Bound<'py, PyDict>, &T) -> PyResult<()>,
) -> PyResult<Bound<'py, PyList>> {
    let list = PyList::empty(py);
    for item in items {
        let dict = PyDict::new(py);
        fill(&dict, item)?;
        list.append(dict)?;
    }
    Ok(list)
}

/// Seconds of each phase by its name, None for what is not known.
pub(crate) fn boot_dict<'py>(py: Python<'py>, boot: &BootTiming) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (phase, took) in boot.phases() {
        dict.set_item(phase.name(), took.as_ref().map(Duration::as_secs_f64))?;
    }
    Ok(dict)
}

/// The fields of `procession.launch.Certificate`.
pub(crate) fn certificate_dict<'py>(
    py: Python<'py>,
    certificate: &Certificate,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "verdict"), certificate.verdict.as_str())?;
    dict.set_item(intern!(py, "class"), certificate.verdict.class().as_str())?;
    let phase = match certificate.verdict {
        Verdict::BootFailed { phase } => Some(phase.name()),
        _ => None,
    };
    dict.set_item(intern!(py, "phase"), phase)?;
    let evidence = dicts(py, &certificate.evidence, |dict, witness| {
        dict.set_item(intern!(py, "source"), witness.source.as_str())?;
        dict.set_item(intern!(py, "at"), epoch_seconds(witness.at))?;
        dict.set_item(intern!(py, "says"), &witness.says)
    })?;
    dict.set_item(intern!(py, "evidence"), evidence)?;
    dict.set_item(intern!(py, "missing"), &certificate.missing)?;
    dict.set_item(intern!(py, "contradictions"), &certificate.contradictions)?;
    let stops = dicts(py, &certificate.stops, |dict, stop| {
        dict.set_item(intern!(py, "by"), &stop.request.by)?;
        dict.set_item(intern!(py, "at"), epoch_seconds(stop.request.at))?;
        dict.set_item(intern!(py, "why"), &stop.request.why)?;
        dict.set_item(intern!(py, "rung"), stop.from.as_str())
    })?;
    dict.set_item(intern!(py, "stops"), stops)?;
    dict.set_item(intern!(py, "more_stops"), certificate.more_stops)?;
    let rungs = certificate.rungs.iter().map(|(rung, at)| (rung.as_str(), epoch_seconds(*at)));
    dict.set_item(intern!(py, "rungs"), rungs.collect::<Vec<_>>())?;
    dict.set_item(intern!(py, "boot"), boot_dict(py, &certificate.boot)?)?;
    let flight = certificate.flight.as_ref().map(|flight| flight_dict(py, flight)).transpose()?;
    dict.set_item(intern!(py, "flight"), flight)?;
    let failed = dicts(py, &certificate.actors_failed, |dict, failed| {
        dict.set_item(intern!(py, "actor"), &failed.actor)?;
        dict.set_item(intern!(py, "at"), epoch_seconds(failed.at))?;
        dict.set_item(intern!(py, "failure"), &failed.failure)
    })?;
    dict.set_item(intern!(py, "actors_failed"), failed)?;
    dict.set_item(intern!(py, "stdout_head"), &certificate.stdout_head)?;
    dict.set_item(intern!(py, "stderr_head"), &certificate.stderr_head)?;
    dict.set_item(intern!(py, "launched_in"), certificate.launched_in.as_ref().map(ToString::to_string))?;
    Ok(dict)
}

fn flight_dict<'py>(py: Python<'py>, flight: &FlightRecord) -> PyResult<Bound<'py, PyDict>> {
    let pairs = |list: &[(SystemTime, u64)]| -> Vec<(f64, u64)> {
        list.iter().map(|(at, bytes)| (epoch_seconds(*at), *bytes)).collect()
    };
    let dict = PyDict::new(py);
    dict.set_item("version", &flight.version)?;
    dict.set_item("pid", flight.pid)?;
    let booting = flight.booting.map(|(phase, since)| (phase.name(), epoch_seconds(since)));
    dict.set_item("booting", booting)?;
    dict.set_item("messages", flight.messages)?;
    dict.set_item("in_progress", dicts(py, &flight.in_progress, handling)?)?;
    let last = dicts(py, flight.last_done.as_slice(), handling)?;
    dict.set_item("last_done", last.get_item(0).ok())?;
    dict.set_item("unnoted", flight.unnoted)?;
    let said = flight.said.iter().map(|(at, text)| (epoch_seconds(*at), text));
    dict.set_item("said", said.collect::<Vec<_>>())?;
    dict.set_item("rss", pairs(&flight.rss))?;
    dict.set_item("torn", flight.torn)?;
    Ok(dict)
}

fn handling(dict: &Bound<'_, PyDict>, handling: &Handling) -> PyResult<()> {
    dict.set_item("actor", &handling.actor)?;
    dict.set_item("endpoint", &handling.endpoint)?;
    dict.set_item("sender", &handling.sender)?;
    dict.set_item("number", handling.number)?;
    dict.set_item("since", epoch_seconds(handling.since))
}

/// What the file of a record holds: its exit, and what is kept beside it.
#[pyfunction]
pub(crate) fn read_record<'py>(py: Python<'py>, file: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyDict>> {
    let Record { version, exit, machine, host_pid, program, cwd, env, env_removed, handle, core, run_dir } =
        procession_host::read_record(file.as_bytes()).map_err(PyValueError::new_err)?;
    let dict = PyDict::new(py);
    dict.set_item("version", version)?;
    dict.set_item("exit", exit_dict(py, &exit)?)?;
    dict.set_item("host", exit.proc_id.host())?;
    dict.set_item("machine", machine)?;
    dict.set_item("host_pid", host_pid)?;
    dict.set_item("program", program.to_string_lossy())?;
    dict.set_item("cwd", cwd.map(|cwd| cwd.to_string_lossy().into_owned()))?;
    dict.set_item("env", env)?;
    dict.set_item("env_removed", env_removed)?;
    dict.set_item("handle", handle)?;
    dict.set_item("core", core)?;
    dict.set_item("run_dir", run_dir.to_string_lossy())?;
    Ok(dict)
}

/// Where records of ended procs are kept; None where they are not.
#[pyfunction]
pub(crate) fn records_dir() -> Option<std::ffi::OsString> {
    procession_host::records_dir().map(Into::into)
}
