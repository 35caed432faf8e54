//! Chaos: what goes wrong is the same for the same seed, and says that it was injected.

use std::sync::Arc;
use std::time::Duration;

use procession_launch::{
    Chaos, ChaosRates, FakeLauncher, FakeStep, ProcLauncher, Retry, Script, StdioHandling,
};
use procession_model::ProcExitKind;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep};

use crate::common::{exits, options, proc_id, refusing, signal_of};

const SHORT: Duration = Duration::from_secs(2);

/// Which of a hundred launches fail, which procs are killed, and when each was over.
async fn run(seed: u64) -> Vec<(bool, Option<i32>, Duration)> {
    let inner = Arc::new(FakeLauncher::new(|_, _| Script::default().then(SHORT * 10, exits(0))));
    let rates = ChaosRates { launch_fails: 0.2, exits_early: 0.3, early_within: SHORT, delay: SHORT };
    let chaos = Chaos::new(inner, seed, rates).unwrap();
    let mut all = Vec::new();
    for n in 0..100 {
        let start = Instant::now();
        match chaos.launch(&proc_id(&format!("w-{n}")), options()).await {
            Err(error) => {
                assert_eq!(error.to_string(), format!("injected by chaos (seed {seed}): this launch fails"));
                all.push((true, None, start.elapsed()));
            }
            Ok(launched) => {
                all.push((false, signal_of(&launched.exit_rx.await.unwrap()), start.elapsed()));
            }
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn faults_are_the_same_for_the_same_seed_and_others_for_another() {
    let (first, again, other) = (run(7).await, run(7).await, run(8).await);
    assert_eq!(first, again);
    assert_ne!(first, other);
    let failed = first.iter().filter(|(failed, ..)| *failed).count();
    let killed = first.iter().filter(|(_, signal, _)| *signal == Some(9)).count();
    assert!((10..=32).contains(&failed) && (12..=38).contains(&killed), "{failed} failed, {killed} killed");
}

#[tokio::test(start_paused = true)]
async fn a_proc_that_was_killed_says_so_at_the_end_of_its_stderr() {
    let script = Script::default()
        .then(Duration::ZERO, FakeStep::Prints { text: "works\n".to_owned(), to_stderr: true });
    let inner = Arc::new(FakeLauncher::new(move |_, _| script.clone()));
    let rates = ChaosRates { exits_early: 1.0, ..ChaosRates::default() };
    let chaos = Chaos::new(inner, 3, rates).unwrap();
    let launched = chaos.launch(&proc_id("w-0"), options()).await.unwrap();
    let StdioHandling::Captured { mut stderr, .. } = launched.stdio else { panic!("{:?}", launched.stdio) };
    let mut text = String::new();
    stderr.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("works\ninjected by chaos (seed 3): killed 0."), "{text}");
    assert_eq!(signal_of(&launched.exit_rx.await.unwrap()), Some(9));
}

#[tokio::test(start_paused = true)]
async fn a_retry_over_it_gets_other_fates_for_the_next_attempts() {
    let rates = ChaosRates { launch_fails: 0.5, ..ChaosRates::default() };
    let chaos = Arc::new(Chaos::new(refusing(0) as _, 1, rates).unwrap());
    let retry = Retry::new(chaos, 20, SHORT);
    for n in 0..32 {
        let one = proc_id(&format!("w-{n}"));
        let launched = retry.launch(&one, options()).await.unwrap();
        retry.kill(&one).await.unwrap();
        assert!(matches!(launched.exit_rx.await.unwrap().kind, ProcExitKind::Signaled { .. }));
    }
}

#[tokio::test(start_paused = true)]
async fn a_kill_ends_a_launch_that_is_delayed() {
    let inner = refusing(0);
    let rates = ChaosRates { delay: SHORT * 1000, ..ChaosRates::default() };
    let chaos = Arc::new(Chaos::new(Arc::clone(&inner) as _, 5, rates).unwrap());
    let one = proc_id("w-0");
    let launching = {
        let (chaos, one) = (Arc::clone(&chaos), one.clone());
        tokio::spawn(async move { chaos.launch(&one, options()).await })
    };
    sleep(Duration::from_millis(1)).await;
    chaos.kill(&one).await.unwrap();
    let error = launching.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "cancelled before it was started");
    assert_eq!(inner.launches("w-0"), 0);
}

#[test]
fn what_is_no_share_is_refused() {
    for share in [-0.1, 1.1, f64::NAN] {
        assert!(
            Chaos::new(refusing(0) as _, 1, ChaosRates { exits_early: share, ..ChaosRates::default() })
                .is_err()
        );
    }
}
