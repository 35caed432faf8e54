use std::time::Duration;

use procession_model::{ExitClass, InvalidArgument};
use serde::{Deserialize, Serialize};

/// After which ends a slot is launched again. An end that somebody asked for is none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartWhen {
    /// After none.
    #[default]
    Never,
    /// After every end but a clean one.
    OnFailure,
    /// After every end.
    Always,
}

/// Which slots of a group are launched again when one of them has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartStrategy {
    /// That one.
    #[default]
    OneForOne,
    /// All of them: those that live are stopped first.
    OneForAll,
    /// That one and those of higher index: those that live are stopped first.
    RestForOne,
}

/// What becomes of references to actors of an earlier incarnation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActorsAfter {
    /// Calls fail at once, and say that there is a new incarnation.
    #[default]
    Fail,
    /// They lead to the actors of the same name in the current incarnation, and wait for it to be ready.
    Respawn,
}

/// How long a restart waits: `first`, then `factor` times as long each time, up to `most`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Backoff {
    /// Before the first restart.
    pub first: Duration,
    /// How much longer each further one waits; 1 or more.
    pub factor: f64,
    /// None waits longer than this.
    pub most: Duration,
    /// How much of each wait is left to chance, from 0 (nothing) to 1: a wait of `d` takes between `d * (1 - jitter)`
    /// and `d`.
    pub jitter: f64,
}

/// How many restarts failures of each class get, since the slot was last healthy; none: as many as the intensity allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budgets {
    /// It failed by itself.
    pub app: Option<u32>,
    /// It ran out of memory.
    pub oom: Option<u32>,
    /// It never became ready.
    pub boot: Option<u32>,
    /// What it ran on took its place away: it was preempted, or its time was over.
    pub evicted: Option<u32>,
    /// It could not be launched, or its launcher lost it.
    pub launcher: Option<u32>,
}

impl Budgets {
    pub(crate) fn of(&self, class: ExitClass) -> Option<u32> {
        match class {
            ExitClass::Clean => None,
            ExitClass::App | ExitClass::Stopped => self.app,
            ExitClass::Oom => self.oom,
            ExitClass::Boot => self.boot,
            ExitClass::Evicted => self.evicted,
            ExitClass::Launcher | ExitClass::Lost => self.launcher,
        }
    }
}

/// When, how often, how soon and with which others a slot is launched again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// After which ends.
    pub when: RestartWhen,
    /// At most so many restarts in any `period`; 0 never restarts. Of each slot, or of the group, where its slots are
    /// restarted together.
    pub intensity: u32,
    /// See `intensity`; on the monotonic clock.
    pub period: Duration,
    /// How long a restart waits.
    pub backoff: Backoff,
    /// After it has been ready for so long, the back-off and the budgets of a slot start anew.
    pub healthy_after: Duration,
    /// How many restarts failures of each class get, beside the intensity.
    pub budgets: Budgets,
    /// Which others are restarted too.
    pub strategy: RestartStrategy,
    /// What becomes of references to actors of an earlier incarnation.
    pub actors: ActorsAfter,
}

impl Default for RestartPolicy {
    /// Never; the figures are those that `on_failure` starts from: 3 in 60 s, 0.1 s doubled up to 30 s.
    fn default() -> Self {
        Self {
            when: RestartWhen::Never,
            intensity: 3,
            period: Duration::from_secs(60),
            backoff: Backoff {
                first: Duration::from_millis(100),
                factor: 2.0,
                most: Duration::from_secs(30),
                jitter: 0.2,
            },
            healthy_after: Duration::from_secs(60),
            budgets: Budgets::default(),
            strategy: RestartStrategy::OneForOne,
            actors: ActorsAfter::Fail,
        }
    }
}

impl RestartPolicy {
    /// After every failure, with the default figures.
    pub fn on_failure() -> Self {
        Self { when: RestartWhen::OnFailure, ..Self::default() }
    }

    /// Refuses figures that make no policy.
    ///
    /// # Errors
    /// Names the field, what was given and the rule.
    pub fn check(&self) -> Result<(), InvalidArgument> {
        let Backoff { first, factor, most, jitter } = self.backoff;
        let refuse = |field: &str, value: String, rule: &str| Err(InvalidArgument::new(field, value, rule));
        if self.period.is_zero() {
            return refuse(
                "period",
                "0".to_owned(),
                "has to be more than 0 seconds; intensity=0 never restarts",
            );
        }
        if first > most {
            let given = format!("({}, {})", first.as_secs_f64(), most.as_secs_f64());
            return refuse("backoff", given, "the first wait cannot be longer than the longest");
        }
        if !(factor.is_finite() && factor >= 1.0) {
            return refuse("factor", factor.to_string(), "has to be a finite number of at least 1");
        }
        if !(0.0..=1.0).contains(&jitter) {
            return refuse("jitter", jitter.to_string(), "has to be a number from 0 to 1");
        }
        Ok(())
    }

    /// Whether it can restart anything at all.
    pub fn restarts(&self) -> bool {
        self.when != RestartWhen::Never && self.intensity > 0
    }

    pub(crate) fn restarts_after(&self, class: ExitClass) -> bool {
        self.restarts() && (self.when == RestartWhen::Always || class != ExitClass::Clean)
    }
}
