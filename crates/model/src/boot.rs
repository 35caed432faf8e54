use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How far a launch has come on its way to readiness: what goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum BootPhase {
    /// The launcher has not been asked yet.
    #[default]
    Queue,
    /// The launcher was asked; the program does not run yet, as far as is known.
    Exec,
    /// The program runs; our runtime in it does not, as far as is known.
    Interpreter,
    /// The runtime is being loaded.
    Imports,
    /// The host is being reached.
    Dial,
    /// The connection stands, and the proc is being set up.
    SetUp,
}

impl BootPhase {
    /// What goes on, after "while".
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queue | Self::Exec => "starting",
            Self::Interpreter => "running",
            Self::Imports => "importing",
            Self::Dial => "dialling",
            Self::SetUp => "setting up",
        }
    }

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Exec => "exec",
            Self::Interpreter => "interpreter",
            Self::Imports => "imports",
            Self::Dial => "dial",
            Self::SetUp => "ready",
        }
    }

    /// The phase with the number `number`.
    pub fn from_number(number: u64) -> Option<Self> {
        [Self::Queue, Self::Exec, Self::Interpreter, Self::Imports, Self::Dial, Self::SetUp]
            .into_iter()
            .find(|phase| *phase as u64 == number)
    }
}

/// How long each phase of a boot took; none for one that is not over, or that nobody measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTiming {
    /// From the request until the launcher was asked.
    pub queue: Option<Duration>,
    /// Until the program ran, as far as the launcher tells.
    pub exec: Option<Duration>,
    /// Until the first line of our runtime in it.
    pub interpreter: Option<Duration>,
    /// Until the runtime was loaded; none for programs that have it built in.
    pub imports: Option<Duration>,
    /// Until the handshake with the host was done.
    pub dial: Option<Duration>,
    /// Until the proc was set up and had called back.
    pub ready: Option<Duration>,
}

impl BootTiming {
    /// All phases together; none before readiness.
    pub fn total(&self) -> Option<Duration> {
        self.ready?;
        Some(self.phases().into_iter().filter_map(|(_, took)| took).sum())
    }

    /// The phases by name, in their order.
    pub fn phases(&self) -> [(BootPhase, Option<Duration>); 6] {
        [
            (BootPhase::Queue, self.queue),
            (BootPhase::Exec, self.exec),
            (BootPhase::Interpreter, self.interpreter),
            (BootPhase::Imports, self.imports),
            (BootPhase::Dial, self.dial),
            (BootPhase::SetUp, self.ready),
        ]
    }
}

/// What a proc itself measures of its boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OwnBoot {
    /// From its first line until the runtime was loaded; zero in a program that has it built in.
    pub imports: Duration,
    /// From there until the handshake was done.
    pub dial: Duration,
    /// From there until it was set up.
    pub set_up: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_have_their_numbers_and_nothing_else_has() {
        for (phase, _) in BootTiming::default().phases() {
            assert_eq!(BootPhase::from_number(phase as u64), Some(phase));
        }
        assert_eq!(BootPhase::from_number(6), None);
        assert_eq!(BootPhase::from_number(u64::MAX), None);
    }

    #[test]
    fn a_boot_has_a_total_once_it_is_over() {
        let second = Some(Duration::from_secs(1));
        let mut boot = BootTiming { queue: second, exec: second, dial: second, ..BootTiming::default() };
        assert_eq!(boot.total(), None);
        boot.ready = second;
        assert_eq!(boot.total(), Some(Duration::from_secs(4)));
    }
}
