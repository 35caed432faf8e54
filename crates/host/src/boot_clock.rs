use std::sync::OnceLock;
use std::time::Duration;

use procession_model::{BootTiming, OwnBoot};
use tokio::time::Instant;

/// When a launch reached what, on this host's own clock; each is set once.
#[derive(Debug)]
pub(crate) struct BootClock {
    requested: Instant,
    /// The launcher is asked.
    pub(crate) asked: OnceLock<Instant>,
    /// The launcher acknowledged the launch.
    pub(crate) acknowledged: OnceLock<Instant>,
    /// The program runs, for certain.
    pub(crate) running: OnceLock<Instant>,
    /// It has dialled back.
    pub(crate) linked: OnceLock<Instant>,
    /// It has called back.
    pub(crate) ready: OnceLock<Instant>,
    /// What the proc itself has measured, on a clock of its own.
    pub(crate) own: OnceLock<OwnBoot>,
    /// What an earlier host has measured of a launch that was taken over: this clock was started for nothing.
    pub(crate) earlier: Option<BootTiming>,
}

impl BootClock {
    /// `earlier` is what is known of the boot of a proc that is taken over.
    pub(crate) fn start(earlier: Option<BootTiming>, requested: Instant) -> Self {
        Self {
            earlier,
            requested,
            asked: OnceLock::new(),
            acknowledged: OnceLock::new(),
            running: OnceLock::new(),
            linked: OnceLock::new(),
            ready: OnceLock::new(),
            own: OnceLock::new(),
        }
    }

    /// On a task of the runtime.
    pub(crate) fn reached(what: &OnceLock<Instant>) {
        let _first = what.set(Instant::now());
    }

    /// What is known by now. Durations of two clocks are never subtracted from each other's times, only
    /// from each other: so it does not matter where the proc runs.
    pub(crate) fn timing(&self) -> BootTiming {
        if let Some(earlier) = &self.earlier {
            return earlier.clone();
        }
        let asked = self.asked.get();
        let runs = self.running.get().or(self.acknowledged.get());
        let since =
            |from: Option<&Instant>, to: Option<&Instant>| Some(to?.saturating_duration_since(*from?));
        let own = self.own.get();
        let spent = own.map(|own| own.imports + own.dial);
        let until_linked = since(runs, self.linked.get());
        let interpreter = until_linked.zip(spent).map(|(all, spent)| all.saturating_sub(spent));
        BootTiming {
            queue: since(Some(&self.requested), asked),
            exec: since(asked, runs),
            interpreter,
            imports: own.map(|own| own.imports).filter(|imports| *imports > Duration::ZERO),
            dial: own.map(|own| own.dial),
            ready: since(self.linked.get().or(runs), self.ready.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_of_a_boot_add_up_to_all_of_it() {
        let clock = BootClock::start(None, Instant::now());
        let at = |milliseconds| clock.requested + Duration::from_millis(milliseconds);
        for (what, when) in
            [(&clock.asked, 2), (&clock.acknowledged, 5), (&clock.linked, 105), (&clock.ready, 125)]
        {
            what.set(at(when)).unwrap();
        }
        let ms = |milliseconds| Some(Duration::from_millis(milliseconds));
        assert_eq!(clock.timing().interpreter, None, "only the proc can tell");
        let own = OwnBoot {
            imports: Duration::from_millis(20),
            dial: Duration::from_millis(7),
            set_up: Duration::ZERO,
        };
        clock.own.set(own).unwrap();
        let boot = clock.timing();
        assert_eq!((boot.queue, boot.exec, boot.interpreter), (ms(2), ms(3), ms(73)));
        assert_eq!((boot.imports, boot.dial, boot.ready, boot.total()), (ms(20), ms(7), ms(20), ms(125)));
        clock.running.set(at(25)).unwrap();
        assert_eq!(
            (clock.timing().exec, clock.timing().interpreter),
            (ms(23), ms(53)),
            "a pid says it better"
        );
    }
}
