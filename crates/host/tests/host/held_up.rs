//! The thread of the runtime is blocked for seconds.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use procession_host::{Observer, ProcEvent};
use procession_model::ProcExitKind;
use procession_sys::Process;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::common::{host, lives, script, shut_down, soon, spawn, within};

/// The warnings of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn find(&self, what: &str) -> Option<String> {
        self.0.lock().unwrap().iter().find(|line| line.contains(what)).cloned()
    }

    /// Waits for a line, on a thread that is not the runtime's.
    fn until(&self, what: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(line) = self.find(what) {
                return line;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no {what:?} in {:?}", self.0.lock().unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

struct Message<'a>(&'a mut String);

impl Visit for Message<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        self.0.push_str(&format!("{value:?} "));
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut line = String::new();
        event.record(&mut Message(&mut line));
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

mod f80 {
    use super::*;

    #[tokio::test]
    async fn what_holds_the_runtime_up_is_named_in_the_log_and_no_exit_is_lost_or_invented() {
        let log = Log::default();
        tracing::subscriber::set_global_default(log.clone()).unwrap();
        let host = host().await;
        let lasting = spawn(&host, script("lasting", "exec sleep 1000"));
        let ending = spawn(&host, script("ending", "exec sleep 1000"));
        soon(lasting.ready()).await.unwrap();
        soon(ending.ready()).await.unwrap();
        let pid = ending.status().pid.unwrap();

        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let blocked = Arc::new(AtomicBool::new(false));
        let blocks = Arc::clone(&blocked);
        let observer: Observer = Arc::new(move |event| {
            if matches!(event, ProcEvent::Exit(_)) {
                blocks.store(true, Ordering::SeqCst);
                released.lock().unwrap().recv_timeout(Duration::from_secs(25)).unwrap();
            }
        });
        let meanwhile = std::thread::spawn({
            let log = log.clone();
            move || {
                let said = log.until("held up by");
                Process::look(pid).unwrap().signal(9);
                let start = Instant::now();
                while lives(pid) {
                    assert!(start.elapsed() < Duration::from_secs(20));
                    std::thread::sleep(Duration::from_millis(2));
                }
                release.send(()).unwrap();
                said
            }
        });
        let blocking =
            host.spawn_watched(script("blocking", "exit 3"), host.native_launcher(), Some(observer)).unwrap();
        assert_eq!(soon(blocking.ended()).await.kind, ProcExitKind::Exited { code: 3 });
        let exit = soon(ending.ended()).await;
        assert_eq!(exit.kind, ProcExitKind::Signaled { signal: 9, core_dumped: false });
        within(Duration::from_secs(10), "the log says that it is over", || {
            log.find("runs again after").is_some()
        })
        .await;
        assert!(blocked.load(Ordering::SeqCst));
        let said = meanwhile.join().unwrap();
        assert!(said.contains(&format!("an observer of {}", blocking.id())), "{said}");
        assert!(lasting.exit().is_none() && lives(lasting.status().pid.unwrap()));
        shut_down(host).await;
    }
}
