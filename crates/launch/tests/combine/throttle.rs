//! Throttle: how many at once, and how many in a second.

use std::sync::Arc;
use std::time::Duration;

use procession_launch::{Admission, ProcLauncher, Throttle};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::common::{Late, refusing};

const A_SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn no_more_launches_go_on_at_once_than_were_asked_for() {
    let throttle = Throttle::new(refusing(0) as _, Some(8), None).unwrap();
    let mut rooms: Vec<Admission> = Vec::new();
    for _ in 0..8 {
        rooms.push(throttle.admit().await.unwrap());
    }
    assert!(timeout(A_SECOND, throttle.admit()).await.is_err());
    rooms.pop();
    assert!(timeout(A_SECOND, throttle.admit()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn launches_begin_evenly_spread_and_not_faster_than_asked_for() {
    let throttle = Arc::new(Throttle::new(refusing(0) as _, None, Some(20.0)).unwrap());
    let (mut all, start) = (JoinSet::new(), Instant::now());
    for _ in 0..64 {
        let throttle = Arc::clone(&throttle);
        all.spawn(async move {
            drop(throttle.admit().await.unwrap());
            start.elapsed()
        });
    }
    let mut times = all.join_all().await;
    times.sort();
    for (n, time) in times.iter().enumerate() {
        let due = Duration::from_millis(50 * n as u64);
        assert!(*time >= due && *time < due + Duration::from_millis(70), "{n}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_its_turn_to_the_next() {
    let throttle = Throttle::new(refusing(0) as _, Some(1), Some(0.1)).unwrap();
    drop(throttle.admit().await.unwrap());
    for _ in 0..3 {
        assert!(timeout(A_SECOND, throttle.admit()).await.is_err());
    }
    let start = Instant::now();
    drop(throttle.admit().await.unwrap());
    assert!(start.elapsed() <= Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_room_of_the_launcher_itself_is_kept_too() {
    let inner = Late::new("late", 0, 1);
    let throttle = Throttle::new(Arc::clone(&inner) as _, Some(4), None).unwrap();
    let room = throttle.admit().await.unwrap();
    assert_eq!(inner.room.available_permits(), 0);
    drop(room);
    sleep(A_SECOND).await;
    assert_eq!(inner.room.available_permits(), 1);
}

#[tokio::test]
async fn what_nothing_could_ever_be_launched_with_is_refused() {
    for (at_once, per_second) in
        [(Some(0), None), (None, Some(0.0)), (None, Some(-1.0)), (None, Some(f64::NAN))]
    {
        assert!(Throttle::new(refusing(0) as _, at_once, per_second).is_err(), "{at_once:?} {per_second:?}");
    }
}
