//! Children of this very process that nobody may forget: to drop one kills it and takes its zombie away.

use std::os::fd::{AsRawFd, RawFd};

use procession_sys::{self as sys, Pidfd, SpawnError, Spawning};

/// One that runs, or has ended.
#[derive(Debug)]
pub(crate) struct Own {
    /// Some until the end of this.
    child: Option<sys::Child>,
    reaped: bool,
}

impl Own {
    pub(crate) fn new(child: sys::Child) -> Self {
        Self { child: Some(child), reaped: false }
    }

    /// None once it is reaped.
    pub(crate) fn get(&self) -> Option<&sys::Child> {
        self.child.as_ref().filter(|_| !self.reaped)
    }

    pub(crate) fn get_mut(&mut self) -> Option<&mut sys::Child> {
        self.child.as_mut().filter(|_| !self.reaped)
    }

    /// Takes the zombie away of one that has ended; its number may mean another process from here on.
    pub(crate) fn reap(&mut self) {
        // To fail is to be too late: the status was taken, and the zombie with it.
        self.get().map(|child| child.pidfd.reap());
        self.reaped = true;
    }
}

impl AsRawFd for Own {
    /// Readable when it has ended.
    fn as_raw_fd(&self) -> RawFd {
        self.child.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.get().map(sys::Child::kill_group);
        if let Some(child) = self.child.take().filter(|_| !self.reaped) {
            reap_later(child.pidfd);
        }
    }
}

/// One that does not execute its program yet.
#[derive(Debug)]
pub(crate) struct Starting(Option<Spawning>);

impl Starting {
    pub(crate) fn new(spawning: Spawning) -> Self {
        Self(Some(spawning))
    }

    /// Whether [`Self::finish`] knows what became of it, though nothing may have told.
    pub(crate) fn is_over(&self) -> bool {
        let over = |it: &Spawning| it.executes() || it.child.pidfd.has_ended().unwrap_or(false);
        self.0.as_ref().is_none_or(over)
    }

    /// What became of it; none when that was asked before.
    pub(crate) fn finish(mut self) -> Option<Result<Own, SpawnError>> {
        let spawning = self.0.take()?;
        Some(spawning.finish().map(Own::new))
    }
}

impl AsRawFd for Starting {
    /// Readable when it executes its program or has failed to, but for forks at the wrong moment.
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        drop(self.0.take().map(|spawning| Own::new(spawning.child)));
    }
}

/// Reaps a child that has ended or is about to, without waiting for it.
pub(crate) fn reap_later(pidfd: Pidfd) {
    if matches!(pidfd.reap(), Ok(None)) {
        let reaper = std::thread::Builder::new().name("procession-reap".into());
        // Without a thread the zombie stays until this process ends, which harms nobody.
        let _ = reaper.spawn(move || drop(pidfd.wait()));
    }
}
