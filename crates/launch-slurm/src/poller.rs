use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::row::{Row, rows};
use crate::tools::Tools;

/// How soon it looks again when something was asked for.
const SOON: Duration = Duration::from_millis(100);
/// It spends at most this share of its time asking, unless it would not look for longer than that.
const SHARE: (u32, Duration) = (10, Duration::from_secs(30));
/// How long it waits when nobody answers, first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// What the queue looked like.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    number: u64,
    pub(crate) found: Result<Arc<HashMap<String, Row>>, String>,
}

/// Looks at the queue for all jobs of a launcher at once, as long as somebody wants to know.
#[derive(Debug)]
pub(crate) struct Poller {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    told: watch::Sender<Told>,
    begun: AtomicU64,
    watchers: AtomicUsize,
    nudge: Notify,
}

/// One that wants to know; it sees what was asked after it came, and nothing older.
pub(crate) struct Watching {
    shared: Arc<Shared>,
    told: watch::Receiver<Told>,
    seen: u64,
}

impl Poller {
    pub(crate) fn new(runtime: &Handle, tools: Tools, most: Duration) -> Self {
        let nothing = Told { number: 0, found: Ok(Arc::default()) };
        let shared = Arc::new(Shared {
            told: watch::Sender::new(nothing),
            begun: AtomicU64::new(0),
            watchers: AtomicUsize::new(0),
            nudge: Notify::new(),
        });
        let task = runtime.spawn(poll(Arc::clone(&shared), tools, most));
        Self { shared, task }
    }

    pub(crate) fn watch(&self) -> Watching {
        let shared = Arc::clone(&self.shared);
        shared.watchers.fetch_add(1, Ordering::SeqCst);
        let (told, seen) = (shared.told.subscribe(), shared.begun.load(Ordering::SeqCst));
        shared.nudge.notify_one();
        Watching { shared, told, seen }
    }

    /// Something was asked for whose effect will show soon.
    pub(crate) fn nudge(&self) {
        self.shared.nudge.notify_one();
    }

    /// What is known of one, as of the last look.
    pub(crate) fn last(&self, handle: &str) -> Option<Row> {
        self.shared.told.borrow().found.as_ref().ok()?.get(handle).cloned()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    /// The next look at the queue; none when the runtime that the poller runs in is gone.
    pub(crate) async fn next(&mut self) -> Option<Told> {
        let told = self.told.wait_for(|told| told.number > self.seen).await.ok()?.clone();
        self.seen = told.number;
        Some(told)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shared.watchers.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn poll(shared: Arc<Shared>, tools: Tools, most: Duration) {
    let (mut calm, mut away) = (SOON, BACK_OFF.0);
    loop {
        while shared.watchers.load(Ordering::SeqCst) == 0 {
            shared.nudge.notified().await;
            calm = SOON;
        }
        let number = shared.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let began = Instant::now();
        let found = rows(&tools, false).await.map(Arc::new);
        let answered = found.is_ok();
        shared.told.send_replace(Told { number, found });
        if !answered {
            sleep(uneven(away)).await;
            away = (away * 2).min(BACK_OFF.1);
            continue;
        }
        away = BACK_OFF.0;
        let least = (began.elapsed() * SHARE.0).min(SHARE.1);
        let pause = uneven(calm.min(most).max(least));
        calm = (calm * 2).min(most);
        tokio::select! {
            () = sleep(pause) => {}
            () = shared.nudge.notified() => {
                calm = SOON;
                sleep(uneven(SOON.min(most).max(least))).await;
            }
        }
    }
}

/// A little more or less, so that many launchers do not ask at the same moment.
fn uneven(pause: Duration) -> Duration {
    let nanos = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    pause.mul_f64(0.75 + f64::from(nanos % 1000) / 2000.0)
}
