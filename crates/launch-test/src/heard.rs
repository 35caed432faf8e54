use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use procession_host::{Observer, ProcEvent, Stream};
use tokio::sync::watch;

/// What a proc has said, and what was told of it, in order.
pub(crate) struct Heard {
    state: Mutex<State>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// The lines of each stream; the last one may be open.
    lines: [Vec<String>; 2],
    open: [bool; 2],
    exits: usize,
}

impl Heard {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: watch::channel(()).0 })
    }

    pub(crate) fn observer(self: &Arc<Self>) -> Observer {
        let own = Arc::clone(self);
        Arc::new(move |event| {
            own.hear(event);
            own.changed.send_replace(());
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: &ProcEvent) {
        let mut state = self.state();
        match event {
            ProcEvent::Output { stream, line, ends } => {
                let which = *stream as usize;
                let was_open = std::mem::replace(&mut state.open[which], !ends);
                match state.lines[which].last_mut().filter(|_| was_open) {
                    Some(open) => open.push_str(line),
                    None => state.lines[which].push(line.clone()),
                }
            }
            ProcEvent::Exit(_) => state.exits += 1,
            _ => {}
        }
    }

    /// The whole lines of a stream so far.
    pub(crate) fn lines(&self, stream: Stream) -> Vec<String> {
        let state = self.state();
        let mut lines = state.lines[stream as usize].clone();
        if state.open[stream as usize] {
            lines.pop();
        }
        lines
    }

    /// How often an exit was told.
    pub(crate) fn exits(&self) -> usize {
        self.state().exits
    }

    /// Waits until there is `something`; none once the proc has ended without it. Cancel safe.
    pub(crate) async fn wait<T>(&self, mut something: impl FnMut() -> Option<T>) -> Option<T> {
        let mut changes = self.changed.subscribe();
        loop {
            // Nothing follows an exit: so what is not there after it never will be.
            let over = self.exits() > 0;
            if let Some(found) = something() {
                return Some(found);
            }
            if over || changes.changed().await.is_err() {
                return None;
            }
        }
    }
}
