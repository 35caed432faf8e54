use std::future::Future;
use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::lead::Lead;
use crate::monitor::{Due, Monitor};

const HAS_ENDED: Due<bool> = (|ended, _| *ended, 0);
/// For what still runs on threads of the runtime's pool when it ends, such as a name that is being looked up.
const POOL_GRACE: Duration = Duration::from_millis(200);

/// The thread on which everything of the runtime happens, unless another one has the [`Lead`]; it never touches the
/// interpreter.
pub(crate) struct IoThread {
    lead: Arc<Lead>,
    stop: Mutex<Option<oneshot::Sender<()>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: Arc<Monitor<bool>>,
}

impl IoThread {
    /// Starts the thread, runs `connect` on it and gives what that gives; the thread lives on if that is `Ok`.
    ///
    /// # Errors
    /// The thread could not be made (outer), or what `connect` says (inner).
    pub(crate) fn start<T, E, F>(
        connect: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<Result<(T, Handle, Self), E>>
    where
        T: Send + 'static,
        E: Send + 'static,
        F: Future<Output = Result<T, E>>,
    {
        let (connected_tx, connected) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let ended = Arc::new(Monitor::new(false));
        let at_end = SetAtEnd(Arc::clone(&ended));
        let thread = thread::Builder::new().name("procession-io".to_owned()).spawn(move || {
            let _at_end = at_end;
            let runtime =
                match Builder::new_current_thread().enable_all().thread_name("procession-pool").build() {
                    Ok(runtime) => runtime,
                    Err(error) => return drop(connected_tx.send(Err(error))),
                };
            let lead = match Lead::new(runtime) {
                Ok(lead) => Arc::new(lead),
                Err(error) => return drop(connected_tx.send(Err(error))),
            };
            let (result, lives_on) = lead.block_on(async {
                let result = connect().await.map(|part| (part, Handle::current()));
                let lives_on = result.is_ok();
                (result, lives_on)
            });
            let _starter_gone =
                connected_tx.send(Ok(result.map(|(part, handle)| (part, handle, Arc::clone(&lead)))));
            if lives_on {
                lead.serve(async { drop(stopped.await) });
            }
            lead.shut_down(POOL_GRACE);
        })?;
        let gone = || io::Error::other("the io thread ended while it was starting");
        let result = connected.recv().unwrap_or_else(|_| Err(gone()));
        match result {
            Ok(Ok((part, handle, lead))) => {
                let (stop, thread) = (Mutex::new(Some(stop)), Mutex::new(Some(thread)));
                Ok(Ok((part, handle, Self { lead, stop, thread, ended })))
            }
            Ok(Err(error)) => {
                let _panicked = thread.join();
                Ok(Err(error))
            }
            Err(error) => {
                let _panicked = thread.join();
                Err(error)
            }
        }
    }

    /// Who runs the runtime.
    pub(crate) fn lead(&self) -> &Arc<Lead> {
        &self.lead
    }

    /// Asks the thread to end.
    pub(crate) fn stop(&self) {
        let _asked_before = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.lead.end();
    }

    /// Waits for the end of the thread; false at `deadline`.
    pub(crate) fn join(&self, deadline: Option<Instant>) -> bool {
        if !self.ended.wait(HAS_ENDED, deadline) {
            return false;
        }
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _panicked = thread.join();
        }
        true
    }
}

/// Says that the thread has ended, also when it panics.
struct SetAtEnd(Arc<Monitor<bool>>);

impl Drop for SetAtEnd {
    fn drop(&mut self) {
        self.0.update(|ended| *ended = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_thread_lives_until_it_is_stopped_and_is_joined() {
        let started = IoThread::start(|| async { Ok::<_, ()>(thread::current().id()) });
        let (id, handle, io) = started.unwrap().unwrap();
        assert_ne!(id, thread::current().id());
        let (tx, rx) = mpsc::channel();
        handle.spawn(async move { tx.send(thread::current().id()).unwrap() });
        assert_eq!(rx.recv().unwrap(), id);
        assert!(!io.join(Some(Instant::now())));
        io.stop();
        assert!(io.join(None));
        assert!(io.join(None));
    }

    #[test]
    fn a_failed_start_leaves_no_thread() {
        let started = IoThread::start(|| async { Err::<(), _>("no") });
        assert_eq!(started.unwrap().err(), Some("no"));
    }

    #[test]
    fn a_panic_at_the_start_is_an_error() {
        let started = IoThread::start(|| async { panic!("as the test wants it") as Result<(), ()> });
        assert!(started.is_err());
    }
}
