use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

use procession_model::ExitClass;

use crate::RestartPolicy;

/// Why something is not launched again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartLimit {
    /// It was, `count` times in `period`, and that is what the policy allows.
    Intensity {
        /// How many restarts.
        count: u32,
        /// In which time.
        period: Duration,
    },
    /// It was, `count` times after ends of this class, and that is its budget.
    Budget {
        /// The class.
        class: ExitClass,
        /// How many restarts.
        count: u32,
    },
}

impl fmt::Display for RestartLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Intensity { count, period } => {
                write!(f, "RestartLimit {count} in {} s", period.as_secs_f64())
            }
            Self::Budget { class, count } => write!(f, "RestartLimit {count} for {class}"),
        }
    }
}

/// A restart that was admitted.
pub(crate) struct Admitted {
    pub(crate) after: Duration,
    /// Which restart of the current period it is, from 1.
    pub(crate) attempt: u32,
}

/// What the restarts of one slot, or of a group, have come to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Count {
    /// When it was launched again, in the last period.
    launched: VecDeque<Duration>,
    /// How many restarts there were since it was last healthy.
    streak: u32,
    spent: HashMap<ExitClass, u32>,
}

impl Count {
    /// Asks for one more restart; `chance` is from 0 to 1.
    pub(crate) fn admit(
        &mut self,
        policy: &RestartPolicy,
        class: ExitClass,
        at: Duration,
        chance: f64,
    ) -> Result<Admitted, RestartLimit> {
        while self.launched.front().is_some_and(|launched| at.saturating_sub(*launched) >= policy.period) {
            self.launched.pop_front();
        }
        let count = u32::try_from(self.launched.len()).unwrap_or(u32::MAX);
        if count >= policy.intensity {
            return Err(RestartLimit::Intensity { count: policy.intensity, period: policy.period });
        }
        let spent = self.spent.entry(class).or_default();
        if let Some(count) = policy.budgets.of(class).filter(|budget| *spent >= *budget) {
            return Err(RestartLimit::Budget { class, count });
        }
        *spent += 1;
        let after = self.wait(policy, chance);
        self.streak = self.streak.saturating_add(1);
        Ok(Admitted { after, attempt: count + 1 })
    }

    fn wait(&self, policy: &RestartPolicy, chance: f64) -> Duration {
        let backoff = &policy.backoff;
        let power = i32::try_from(self.streak).unwrap_or(i32::MAX);
        let grown = backoff.first.as_secs_f64() * backoff.factor.powi(power);
        let base = Duration::try_from_secs_f64(grown).unwrap_or(backoff.most).min(backoff.most);
        base.mul_f64(1.0 - backoff.jitter * chance).min(base)
    }

    pub(crate) fn launched(&mut self, at: Duration) {
        self.launched.push_back(at);
    }

    /// It was healthy, or somebody launched it by hand. That it was launched lately is still true.
    pub(crate) fn begin_anew(&mut self) {
        self.streak = 0;
        self.spent.clear();
    }
}
