use std::collections::HashMap;

use procession_host::{ActorsAfter, Backoff, Budgets, RestartStrategy, RestartWhen};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::errors::value_error;
use crate::time::duration;

/// When, how often, how soon and with which others a slot is launched again.
#[pyclass(frozen, module = "procession._native")]
pub(crate) struct RestartPolicy(pub(crate) procession_host::RestartPolicy);

#[pymethods]
impl RestartPolicy {
    #[new]
    #[pyo3(signature = (*, when, intensity, period, backoff, factor, jitter, healthy_after, budgets, strategy, actors))]
    #[expect(clippy::too_many_arguments, reason = "all keywords: one for each figure of a policy")]
    fn new(
        when: &str,
        intensity: u32,
        period: f64,
        backoff: (f64, f64),
        factor: f64,
        jitter: f64,
        healthy_after: f64,
        mut budgets: HashMap<String, u32>,
        strategy: &str,
        actors: &str,
    ) -> PyResult<Self> {
        let when = choose(
            "when",
            when,
            &[
                ("never", RestartWhen::Never),
                ("on_failure", RestartWhen::OnFailure),
                ("always", RestartWhen::Always),
            ],
        )?;
        let strategy = choose(
            "strategy",
            strategy,
            &[
                ("one_for_one", RestartStrategy::OneForOne),
                ("one_for_all", RestartStrategy::OneForAll),
                ("rest_for_one", RestartStrategy::RestForOne),
            ],
        )?;
        let actors =
            choose("actors", actors, &[("fail", ActorsAfter::Fail), ("respawn", ActorsAfter::Respawn)])?;
        let mut take = |class: &str| budgets.remove(class);
        let budgets_of = Budgets {
            app: take("app"),
            oom: take("oom"),
            boot: take("boot"),
            evicted: take("evicted"),
            launcher: take("launcher"),
        };
        if let Some(unknown) = budgets.keys().next() {
            return Err(PyValueError::new_err(format!(
                "budgets = {unknown:?}: known classes are app, oom, boot, evicted, launcher"
            )));
        }
        let policy = procession_host::RestartPolicy {
            when,
            intensity,
            period: duration("period", period)?,
            backoff: Backoff {
                first: duration("backoff", backoff.0)?,
                factor,
                most: duration("backoff", backoff.1)?,
                jitter,
            },
            healthy_after: duration("healthy_after", healthy_after)?,
            budgets: budgets_of,
            strategy,
            actors,
        };
        policy.check().map_err(value_error)?;
        Ok(Self(policy))
    }
}

fn choose<T: Copy>(field: &str, given: &str, known: &[(&str, T)]) -> PyResult<T> {
    let found = known.iter().find(|(name, _)| *name == given).map(|(_, meant)| *meant);
    found.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| format!("{name:?}")).collect();
        PyValueError::new_err(format!("{field} = {given:?}: has to be {}", names.join(" or ")))
    })
}
