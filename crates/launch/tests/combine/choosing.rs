//! Retry and Fallback: a launch is tried until it was started, and not again after that.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use procession_launch::{
    Capabilities, FakeLauncher, Fallback, LaunchResult, ProcLauncher, Report, Retry, Script, StdioHandling,
    Throttle,
};
use procession_model::{DialBack, ProcExitKind};
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{Late, exits, options, proc_id, reason_of, refusing, said, signal_of};

const HALF: Duration = Duration::from_millis(500);
const SOON: Duration = Duration::from_secs(60);

#[tokio::test(start_paused = true)]
async fn a_launch_that_is_refused_is_tried_again_after_pauses_that_double() {
    let inner = refusing(3);
    let retry = Retry::new(Arc::clone(&inner) as _, 3, HALF);
    let (one, start) = (proc_id("w-0"), Instant::now());
    let launched = retry.launch(&one, options()).await.unwrap();
    // 0.5 + 1 + 2 seconds, each up to a half more or less.
    let took = start.elapsed();
    assert!(took >= HALF * 7 / 2 && took <= HALF * 7 * 3 / 2, "{took:?}");
    assert_eq!(inner.launches("w-0"), 4);
    retry.kill(&one).await.unwrap();
    assert_eq!(signal_of(&launched.exit_rx.await.unwrap()), Some(9));
    // Of one that has ended this is fine too.
    retry.kill(&one).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn when_no_attempt_is_left_the_launch_fails_with_the_reasons() {
    let retry = Retry::new(refusing(9) as _, 2, HALF);
    let error = retry.launch(&proc_id("w-0"), options()).await.unwrap_err().to_string();
    assert_eq!(error, "tried 3 times: fake: refusal 1; then fake: refusal 2; then fake: refusal 3");
}

#[tokio::test(start_paused = true)]
async fn what_was_started_is_never_launched_again() {
    let inner = Arc::new(FakeLauncher::new(|_, _| Script::default().then(HALF, exits(3))));
    let retry = Retry::new(Arc::clone(&inner) as _, 5, HALF);
    let launched = retry.launch(&proc_id("w-0"), options()).await.unwrap();
    assert_eq!(launched.exit_rx.await.unwrap().kind, ProcExitKind::Exited { code: 3 });
    sleep(SOON).await;
    assert_eq!(inner.launches("w-0"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_launch_that_was_answered_and_fails_before_it_is_started_is_tried_again() {
    let inner = Late::new("late", 2, 1);
    let retry = Retry::new(Arc::clone(&inner) as _, 3, HALF);
    let launched = retry.launch(&proc_id("w-0"), options()).await.unwrap();
    let LaunchResult { stdio, exit_rx, mut reports, .. } = launched;
    let text = |n: u32| Report::Progress(format!("pulls for {n}"));
    let failed = |n: u32| Report::Progress(format!("attempt {n} of 4 failed: no image for {n}"));
    let handle = Report::Handle("late/3".to_owned());
    assert_eq!(
        said(reports.as_mut().unwrap()).await,
        [text(1), failed(1), text(2), failed(2), text(3), handle]
    );
    let StdioHandling::Captured { mut stdout, .. } = stdio else { panic!("{stdio:?}") };
    let mut written = String::new();
    stdout.read_to_string(&mut written).await.unwrap();
    assert_eq!(written, "late 3", "the output is that of the attempt that was started");
    retry.kill(&proc_id("other")).await.unwrap();
    assert_eq!(signal_of(&exit_rx.await.unwrap()), Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_kill_that_comes_while_a_retry_waits_ends_it() {
    for answers in [false, true] {
        let inner: Arc<dyn ProcLauncher> = if answers { Late::new("late", 9, 1) } else { refusing(9) };
        let retry = Arc::new(Retry::new(inner, 5, SOON));
        let one = proc_id("w-0");
        let launching = {
            let (retry, one) = (Arc::clone(&retry), one.clone());
            tokio::spawn(async move { retry.launch(&one, options()).await })
        };
        sleep(Duration::from_secs(1)).await;
        let asked = Instant::now();
        retry.kill(&one).await.unwrap();
        let why = match launching.await.unwrap() {
            Err(error) => error.to_string(),
            Ok(launched) => reason_of(&launched.exit_rx.await.unwrap()).to_owned(),
        };
        assert!(why.starts_with("cancelled before it was started; the last attempt failed: "), "{why}");
        assert_eq!(asked.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn sixty_four_at_a_time_have_one_exit_each() {
    let retry = Arc::new(Retry::new(refusing(2) as _, 3, HALF));
    let mut all = JoinSet::new();
    for n in 0..64 {
        let (retry, one) = (Arc::clone(&retry), proc_id(&format!("w-{n}")));
        all.spawn(async move {
            let launched = retry.launch(&one, options()).await.unwrap();
            if n % 2 == 0 {
                retry.terminate(&one, SOON).await.unwrap();
            } else {
                retry.kill(&one).await.unwrap();
            }
            (n, launched.exit_rx.await.unwrap())
        });
    }
    for (n, exit) in all.join_all().await {
        assert_eq!(signal_of(&exit), Some(if n % 2 == 0 { 15 } else { 9 }));
    }
}

#[tokio::test(start_paused = true)]
async fn the_next_launcher_takes_what_the_first_one_refuses_and_gets_its_stops() {
    let (first, second) = (refusing(9), refusing(0));
    let fallback = Fallback::new(vec![Arc::clone(&first) as _, Arc::clone(&second) as _]).unwrap();
    let one = proc_id("w-0");
    let launched = fallback.launch(&one, options()).await.unwrap();
    assert_eq!((first.launches("w-0"), second.launches("w-0")), (1, 1));
    fallback.terminate(&one, SOON).await.unwrap();
    assert_eq!(signal_of(&launched.exit_rx.await.unwrap()), Some(15));
}

#[tokio::test(start_paused = true)]
async fn launches_that_fail_late_fall_through_in_crowds_though_both_launchers_have_little_room() {
    let first = Late::new("first", usize::MAX, 2);
    let second = Late::new("second", 0, 2);
    let fallback = Fallback::new(vec![Arc::clone(&first) as _, Arc::clone(&second) as _]).unwrap();
    let fallback = Arc::new(fallback);
    let mut all = JoinSet::new();
    for n in 0..64 {
        let (fallback, one) = (Arc::clone(&fallback), proc_id(&format!("w-{n}")));
        all.spawn(async move {
            let mut launched = fallback.launch(&one, options()).await.unwrap();
            let said = said(launched.reports.as_mut().unwrap()).await;
            (said.last().cloned(), launched.exit_rx)
        });
    }
    let launched = timeout(SOON, all.join_all()).await.unwrap();
    assert_eq!(first.asked.load(Ordering::SeqCst), 64);
    assert_eq!(second.asked.load(Ordering::SeqCst), 64);
    assert_eq!((first.room.available_permits(), second.room.available_permits()), (2, 2));
    second.kill(&proc_id("w-0")).await.unwrap();
    for (last, exit) in launched {
        assert!(matches!(last, Some(Report::Handle(handle)) if handle.starts_with("second/")));
        assert_eq!(signal_of(&exit.await.unwrap()), Some(9));
    }
}

#[tokio::test(start_paused = true)]
async fn one_launcher_twice_has_room_for_itself() {
    let only = Late::new("only", 8, 1);
    let twice = Fallback::new(vec![Arc::clone(&only) as _, Arc::clone(&only) as _]).unwrap();
    let mut launched = twice.launch(&proc_id("w-0"), options()).await.unwrap();
    let said = timeout(SOON, said(launched.reports.as_mut().unwrap())).await.unwrap();
    assert_eq!(said.len(), 3, "{said:?}");
    let exit = timeout(SOON, launched.exit_rx).await.unwrap().unwrap();
    assert_eq!(reason_of(&exit), "no image for 2");
}

#[tokio::test]
async fn launchers_that_reach_back_in_different_ways_are_not_combined() {
    let far = Late {
        dial_back: DialBack::Network { bind: "10.0.0.1:0".to_owned(), advertise: None },
        ..one("far")
    };
    let refused = Fallback::new(vec![Late::new("near", 0, 1) as _, Arc::new(far)]).unwrap_err().to_string();
    assert!(refused.contains("near (Local), far (Network") && refused.contains("same"), "{refused}");
    assert!(Fallback::new(Vec::new()).is_err());
}

fn one(name: &'static str) -> Late {
    Arc::try_unwrap(Late::new(name, 0, 1)).unwrap_or_else(|_| panic!("nobody else has it"))
}

#[tokio::test]
async fn a_combination_can_do_what_all_of_its_parts_can() {
    let fallback = Fallback::new(vec![Late::new("one", 0, 1) as _, Late::new("two", 0, 1) as _]).unwrap();
    let all = Capabilities { stdio: true, ..Capabilities::default() };
    assert_eq!(fallback.capabilities(), all);
    assert_eq!(Retry::new(refusing(0) as _, 1, HALF).capabilities(), refusing(0).capabilities());
    assert!(!fallback.knows_status_by_parenthood());
}

#[tokio::test]
async fn a_dry_run_is_that_of_the_launcher_that_is_asked_first() {
    let first = Retry::new(Late::new("first", 0, 1) as _, 2, HALF);
    let both = Fallback::new(vec![Arc::new(first), Late::new("second", 0, 1)]).unwrap();
    let throttled = Throttle::new(Arc::new(both), Some(1), None).unwrap();
    assert_eq!(throttled.dry_run(&proc_id("w-0"), &options()).await.unwrap(), "first runs w-0");
    let refused = refusing(0).dry_run(&proc_id("w-0"), &options()).await.unwrap_err().to_string();
    assert!(refused.starts_with("launcher \"fake\" has no request"), "{refused}");
}
