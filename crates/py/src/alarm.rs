use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// Wakes one thread after some time, which others may set for it without waking it.
pub(crate) struct Alarm(OwnedFd);

impl Alarm {
    /// # Errors
    /// There is no descriptor left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?))
    }

    /// It goes off after `time`, and whatever was set before does not; zero means at once.
    pub(crate) fn set(&self, time: Duration) {
        let time = time.max(Duration::from_nanos(1));
        let tv_sec = time.as_secs().try_into().unwrap_or(i64::MAX);
        self.settime(Timespec { tv_sec, tv_nsec: time.subsec_nanos().into() });
    }

    /// It does not go off until it is set again.
    pub(crate) fn clear(&self) {
        self.settime(NONE);
    }

    fn settime(&self, it_value: Timespec) {
        let value = Itimerspec { it_interval: NONE, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &value).expect("a timer takes any time");
    }

    /// Blocks this thread until it goes off.
    pub(crate) fn wait(&self) {
        let mut times = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut times) {
                Err(Errno::INTR) => {}
                Ok(_) => return,
                Err(error) => panic!("a timer cannot be waited for: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn an_alarm_goes_off_for_a_thread_that_waits_already() {
        let alarm = Arc::new(Alarm::new().unwrap());
        let waiting = thread::spawn({
            let alarm = Arc::clone(&alarm);
            move || alarm.wait()
        });
        alarm.set(Duration::from_hours(1));
        alarm.set(Duration::ZERO);
        waiting.join().unwrap();
    }

    #[test]
    fn an_alarm_that_was_cleared_goes_off_when_it_is_set_again_and_not_before() {
        let alarm = Alarm::new().unwrap();
        alarm.set(Duration::from_millis(1));
        alarm.clear();
        let start = std::time::Instant::now();
        alarm.set(Duration::from_millis(20));
        alarm.wait();
        assert!(start.elapsed() >= Duration::from_millis(20));
    }
}
