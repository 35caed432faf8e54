use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use procession_launch::{FakeEnd, FakeLauncher as Faking, FakeStep, ProcLauncher, Script, Terminated};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::procs::Launcher;
use crate::time::duration;

/// What happens, how many seconds after the step before it, a number and a text that belong to it.
type Step = (String, f64, f64, String);
/// Steps, and what terminating does: None for SIGTERM, a text of "ignores", or a step.
type Scripted = (Vec<Step>, Option<Step>);
/// For each launch, the last for all later ones.
type Lives = Vec<Script>;

/// A launcher of procs that are no processes.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct FakeLauncher {
    lives: Arc<Mutex<HashMap<String, Lives>>>,
    launcher: Arc<Faking>,
}

#[pymethods]
impl FakeLauncher {
    #[new]
    fn new() -> Self {
        let lives = Arc::<Mutex<HashMap<String, Lives>>>::default();
        let all = Arc::clone(&lives);
        let launcher = Faking::new(move |proc_id, number| {
            let all = all.lock().unwrap_or_else(PoisonError::into_inner);
            let lives = all.get(proc_id.name()).map_or(&[][..], Vec::as_slice);
            lives.get(number as usize - 1).or(lives.last()).cloned().unwrap_or_default()
        });
        Self { lives, launcher: Arc::new(launcher) }
    }

    /// What procs of that name do from here on.
    fn plays(&self, name: String, lives: Vec<Scripted>) -> PyResult<()> {
        let lives = lives.into_iter().map(script).collect::<PyResult<_>>()?;
        self.lives.lock().unwrap_or_else(PoisonError::into_inner).insert(name, lives);
        Ok(())
    }

    fn launches(&self, name: &str) -> u32 {
        self.launcher.launches(name)
    }

    fn launcher(&self) -> Launcher {
        let launcher: Arc<dyn ProcLauncher> = Arc::<Faking>::clone(&self.launcher);
        Launcher::new(launcher)
    }
}

fn script((steps, terminated): Scripted) -> PyResult<Script> {
    let steps = steps.into_iter().map(step).collect::<PyResult<_>>()?;
    let terminated = match terminated {
        None => Terminated::Dies,
        Some((kind, ..)) if kind == "ignores" => Terminated::Ignores,
        Some((kind, after, number, _)) => Terminated::Ends(duration("after", after)?, end(&kind, number)?),
    };
    Ok(Script { steps, terminated })
}

fn step((kind, after, number, text): Step) -> PyResult<(std::time::Duration, FakeStep)> {
    let step = match kind.as_str() {
        "fails_to_launch" => FakeStep::FailsToLaunch(text),
        "boots" => FakeStep::Boots,
        "progresses" => FakeStep::Progresses(text),
        "prints" => FakeStep::Prints { text, to_stderr: number != 0.0 },
        "unreachable" => FakeStep::Unreachable(duration("seconds", number)?, text),
        kind => FakeStep::Ends(end(kind, number)?),
    };
    Ok((duration("after", after)?, step))
}

fn end(kind: &str, number: f64) -> PyResult<FakeEnd> {
    match kind {
        // The conversion was checked where it was made.
        "exits" => Ok(FakeEnd::Exits(number as u8)),
        "signaled" => Ok(FakeEnd::Signaled(number as i32)),
        "oom" => Ok(FakeEnd::Oom),
        _ => Err(PyValueError::new_err(format!("{kind:?} is no step of a script"))),
    }
}
