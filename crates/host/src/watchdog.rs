//! Says so when the runtime that everything of a host happens on runs no task for a while, and what holds it up.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use procession_model::ProcId;
use tokio::runtime::Handle;

use crate::observers::Launch;

/// Between two looks.
const PAUSE: Duration = Duration::from_secs(1);
/// So long no task runs until it is said: connections of procs bear as much.
const HELD_UP: Duration = Duration::from_secs(3);
/// Who was stopped as a whole answers at once when it goes on.
const AWAKE: Duration = Duration::from_millis(300);

/// What code that is not ours is called for, or may take long.
#[derive(Clone)]
pub(crate) enum Doing {
    Supervises(ProcId),
    AsksLauncher(ProcId),
    TellsObserver(Arc<Launch>),
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Supervises(proc_id) => write!(f, "the supervision of {proc_id}"),
            Self::AsksLauncher(proc_id) => write!(f, "the launcher of {proc_id}"),
            Self::TellsObserver(launch) => write!(f, "an observer of {}", launch.proc_id),
        }
    }
}

/// What goes on in this process right now, the outer before the inner.
static GOES_ON: Mutex<Vec<(u64, Instant, Doing)>> = Mutex::new(Vec::new());

fn goes_on() -> MutexGuard<'static, Vec<(u64, Instant, Doing)>> {
    GOES_ON.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Goes on until it is dropped.
struct GoesOn(u64);

fn begin(doing: Doing) -> GoesOn {
    let mut all = goes_on();
    let number = all.last().map_or(0, |(last, ..)| last + 1);
    all.push((number, Instant::now(), doing));
    GoesOn(number)
}

impl Drop for GoesOn {
    fn drop(&mut self) {
        goes_on().retain(|(number, ..)| *number != self.0);
    }
}

/// Calls `work`, known as `doing`.
pub(crate) fn known_as<T>(doing: Doing, work: impl FnOnce() -> T) -> T {
    let _goes_on = begin(doing);
    work()
}

/// Does `work`, which is known as `doing` while it holds the thread.
pub(crate) async fn named<F: Future>(doing: Doing, work: F) -> F::Output {
    let mut work = pin!(work);
    poll_fn(|context| {
        let _goes_on = begin(doing.clone());
        work.as_mut().poll(context)
    })
    .await
}

/// Watches one runtime until it is dropped.
pub(crate) struct Watchdog {
    _watches: Sender<()>,
}

impl Watchdog {
    /// # Errors
    /// The thread could not be started.
    pub(crate) fn start(runtime: Handle) -> io::Result<Self> {
        let (watches, over) = mpsc::channel();
        let run = move || {
            while look(&runtime, &over) && over.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {}
        };
        thread::Builder::new().name("procession-watchdog".to_owned()).spawn(run)?;
        Ok(Self { _watches: watches })
    }
}

/// Waits until a task runs; false when none will, or nobody wants to know.
fn look(runtime: &Handle, over: &Receiver<()>) -> bool {
    let asked = Instant::now();
    let (answer, answered) = mpsc::channel();
    runtime.spawn(async move {
        let _nobody_waits = answer.send(());
    });
    let mut heard = answered.recv_timeout(HELD_UP);
    if heard == Err(RecvTimeoutError::Timeout) {
        heard = answered.recv_timeout(AWAKE);
    }
    if heard == Err(RecvTimeoutError::Timeout) {
        let by: Vec<_> = goes_on()
            .iter()
            .filter(|(_, since, _)| since.elapsed() >= HELD_UP)
            .map(|(.., doing)| doing.to_string())
            .collect();
        let by = if by.is_empty() { "a task without a name".to_owned() } else { by.join(", ") };
        tracing::warn!(
            "the runtime has run no task for {} s, held up by {by}: exits and deadlines wait for it; observers and \
             launchers in this process must not block",
            HELD_UP.as_secs()
        );
        while heard == Err(RecvTimeoutError::Timeout) && over.try_recv() == Err(TryRecvError::Empty) {
            heard = answered.recv_timeout(PAUSE);
        }
        if heard.is_ok() {
            tracing::warn!("the runtime runs again after {:.1} s", asked.elapsed().as_secs_f64());
        }
    }
    heard.is_ok()
}
