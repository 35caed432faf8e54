use std::path::Path;

use procession_model::{ProcExit, ProcExitKind, ProcExitResult};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::certificate_dict::certificate_dict;
use crate::time::epoch_seconds;

/// An exit kind, as the five facts that Python shows.
struct Facts<'a> {
    kind: &'static str,
    exit_code: Option<i32>,
    signal: Option<i32>,
    core_dumped: bool,
    failed_reason: Option<&'a str>,
}

impl<'a> From<&'a ProcExitKind> for Facts<'a> {
    fn from(kind: &'a ProcExitKind) -> Self {
        let none = Self { kind: "", exit_code: None, signal: None, core_dumped: false, failed_reason: None };
        match kind {
            ProcExitKind::Exited { code } => Self { kind: "exited", exit_code: Some(*code), ..none },
            ProcExitKind::Signaled { signal, core_dumped } => {
                Self { kind: "signaled", signal: Some(*signal), core_dumped: *core_dumped, ..none }
            }
            ProcExitKind::Failed { reason } => Self { kind: "failed", failed_reason: Some(reason), ..none },
            ProcExitKind::Lost { reason } => Self { kind: "lost", failed_reason: Some(reason), ..none },
        }
    }
}

/// The fields of `procession.launch.ProcExit`.
pub(crate) fn exit_dict<'py>(py: Python<'py>, exit: &ProcExit) -> PyResult<Bound<'py, PyDict>> {
    let facts = Facts::from(&exit.kind);
    let dict = PyDict::new(py);
    dict.set_item(intern!(py, "proc_id"), exit.proc_id.as_str())?;
    dict.set_item(intern!(py, "name"), exit.proc_id.name())?;
    dict.set_item(intern!(py, "rank"), exit.rank)?;
    dict.set_item(intern!(py, "incarnation"), exit.incarnation)?;
    dict.set_item(intern!(py, "launch_id"), exit.proc_id.launch_id().to_string())?;
    dict.set_item(intern!(py, "kind"), facts.kind)?;
    dict.set_item(intern!(py, "exit_code"), facts.exit_code)?;
    dict.set_item(intern!(py, "signal"), facts.signal)?;
    dict.set_item(intern!(py, "core_dumped"), facts.core_dumped)?;
    dict.set_item(intern!(py, "failed_reason"), facts.failed_reason)?;
    dict.set_item(intern!(py, "stderr_tail"), &exit.stderr_tail)?;
    dict.set_item(intern!(py, "stdout_tail"), &exit.stdout_tail)?;
    dict.set_item(intern!(py, "stdout_path"), exit.stdout_path.as_deref().map(Path::as_os_str))?;
    dict.set_item(intern!(py, "stderr_path"), exit.stderr_path.as_deref().map(Path::as_os_str))?;
    dict.set_item(intern!(py, "log_dropped_bytes"), exit.log_dropped_bytes)?;
    dict.set_item(intern!(py, "oom"), exit.oom)?;
    let requested = exit.requested.as_ref();
    dict.set_item(
        intern!(py, "requested"),
        requested.map(|asked| (&asked.by, epoch_seconds(asked.at), &asked.why)),
    )?;
    dict.set_item(intern!(py, "started_at"), epoch_seconds(exit.started_at))?;
    dict.set_item(intern!(py, "ready_at"), exit.ready_at.map(epoch_seconds))?;
    dict.set_item(intern!(py, "ended_at"), epoch_seconds(exit.ended_at))?;
    dict.set_item(intern!(py, "verdict"), &exit.verdict)?;
    dict.set_item(intern!(py, "launcher"), &exit.launcher)?;
    dict.set_item(intern!(py, "pid"), exit.pid)?;
    dict.set_item(intern!(py, "certificate"), certificate_dict(py, &exit.certificate)?)?;
    Ok(dict)
}

/// `(exit_code, signal, core_dumped, failed_reason, stderr_tail, stdout_tail)` of a supervised process.
pub(crate) fn supervised_tuple(py: Python<'_>, result: &ProcExitResult) -> PyResult<Py<PyAny>> {
    let facts = Facts::from(&result.kind);
    let tail = |lines: &Option<Vec<String>>| lines.clone().unwrap_or_default();
    let tuple = (
        facts.exit_code,
        facts.signal,
        facts.core_dumped,
        facts.failed_reason,
        tail(&result.stderr_tail),
        tail(&result.stdout_tail),
    );
    Ok(tuple.into_pyobject(py)?.into_any().unbind())
}
