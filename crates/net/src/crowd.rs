use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

/// How many peers may be connected that have not proved themselves.
const PENDING: usize = 256;
/// In a crowd, who is nobody we know after so long may have to make room for the next.
const PATIENCE: Duration = Duration::from_millis(250);

/// The peers that have not proved themselves, of all listeners that share it: 256 at most.
#[derive(Clone)]
pub struct Crowd(Arc<Inner>);

struct Inner {
    room: Arc<Semaphore>,
    /// In the order in which they came.
    pending: Mutex<BTreeMap<u64, Pending>>,
    next: AtomicU64,
}

struct Pending {
    since: Instant,
    source: String,
    standing: Arc<Standing>,
    /// Dropped to cut the peer off.
    _keep: oneshot::Sender<()>,
}

/// How much is known of a peer; it only grows.
#[derive(Default)]
pub(crate) struct Standing(AtomicU8);

const MUTE: u8 = 0;
const HEARD: u8 = 1;
const KNOWN: u8 = 2;

impl Standing {
    /// It has said something, as anybody can.
    pub(crate) fn heard(&self) {
        self.0.fetch_max(HEARD, Ordering::Relaxed);
    }

    /// It named a launch that is expected, or has a certificate of the session.
    pub(crate) fn known(&self) {
        self.0.fetch_max(KNOWN, Ordering::Relaxed);
    }

    fn is(&self, standing: u8) -> bool {
        self.0.load(Ordering::Relaxed) == standing
    }
}

/// One peer's place in the crowd.
pub(crate) struct Place {
    crowd: Crowd,
    key: u64,
    pub(crate) standing: Arc<Standing>,
    cut_off: oneshot::Receiver<()>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Waits until the place is needed for somebody else. Cancel safe.
    pub(crate) async fn taken(&mut self) {
        let _nothing_is_sent = (&mut self.cut_off).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.pending().remove(&self.key);
    }
}

impl Default for Crowd {
    fn default() -> Self {
        let room = Arc::new(Semaphore::new(PENDING));
        Self(Arc::new(Inner { room, pending: Mutex::default(), next: AtomicU64::new(0) }))
    }
}

impl Crowd {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a peer from `source`, as soon as there is one. A burst of real diallers passes by
    /// itself; of the others one has to go.
    pub(crate) async fn join(&self, source: &str) -> Place {
        let permit = self.room().await;
        let (keep, cut_off) = oneshot::channel();
        let (key, standing) = (self.0.next.fetch_add(1, Ordering::Relaxed), Arc::<Standing>::default());
        let (since, source) = (Instant::now(), source.to_owned());
        self.pending().insert(key, Pending { since, source, standing: Arc::clone(&standing), _keep: keep });
        Place { crowd: self.clone(), key, standing, cut_off, _permit: permit }
    }

    async fn room(&self) -> OwnedSemaphorePermit {
        const NEVER_CLOSED: &str = "nobody closes it";
        let mut permit = std::pin::pin!(Arc::clone(&self.0.room).acquire_owned());
        loop {
            let first = self.first_to_go();
            let patience_ends = first.map(|(_, since)| since + PATIENCE);
            tokio::select! {
                biased;
                permit = &mut permit => return permit.expect(NEVER_CLOSED),
                () = sleep_until(patience_ends.unwrap_or_else(Instant::now)), if first.is_some() => {}
            }
            // It may have made itself known meanwhile.
            let first = self.first_to_go().filter(|(_, since)| since.elapsed() >= PATIENCE);
            if let Some((key, _)) = first {
                self.pending().remove(&key);
                return permit.await.expect(NEVER_CLOSED);
            }
        }
    }

    /// Who says nothing, the oldest first; where nobody has been mute for long, the oldest of the
    /// source that has most peers of whom nothing is known. One byte buys no place.
    fn first_to_go(&self) -> Option<(u64, Instant)> {
        let pending = self.pending();
        let mute = pending.iter().find(|(_, it)| it.standing.is(MUTE)).map(|(key, it)| (*key, it.since));
        let mut sources = HashMap::<&str, (usize, u64, Instant)>::new();
        for (key, it) in pending.iter().filter(|(_, it)| it.standing.is(HEARD)) {
            sources.entry(&it.source).or_insert((0, *key, it.since)).0 += 1;
        }
        let most = sources.into_values().max_by_key(|(count, ..)| *count).map(|(_, key, since)| (key, since));
        match (mute, most) {
            // Who came just now has had no time to speak.
            (Some(mute), Some(most)) if mute.1.elapsed() < PATIENCE => {
                Some(if most.1 < mute.1 { most } else { mute })
            }
            (mute, most) => mute.or(most),
        }
    }
}

impl fmt::Debug for Crowd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Crowd").field(&self.pending().len()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test says what is wrong by failing")]
mod tests {
    use super::*;

    /// A full crowd in which each peer's source and standing are what `of` makes of its number.
    async fn full(of: impl Fn(usize) -> (&'static str, u8)) -> (Crowd, Vec<Option<Place>>) {
        let crowd = Crowd::default();
        let mut places = Vec::new();
        for index in 0..PENDING {
            let (source, standing) = of(index);
            let place = crowd.join(source).await;
            place.standing.0.store(standing, Ordering::Relaxed);
            places.push(Some(place));
        }
        (crowd, places)
    }

    /// Asserts that the peer at `index`, and nobody else, makes room for one more, and when.
    async fn makes_room((crowd, mut places): (Crowd, Vec<Option<Place>>), index: usize) {
        let start = Instant::now();
        let mut place = places[index].take();
        let ((), next) = tokio::join!(
            async {
                place.as_mut().unwrap().taken().await;
                drop(place.take());
            },
            crowd.join("new")
        );
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(crowd.pending().len(), PENDING);
        drop(next);
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_who_says_nothing_makes_room() {
        makes_room(full(|index| ("all", if index % 7 == 6 { MUTE } else { HEARD })).await, 6).await;
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_talk_the_source_with_most_strangers_loses_its_oldest() {
        let of = |index| match index {
            0..100 => ("known", KNOWN),
            100..170 => ("few", HEARD),
            _ => ("many", HEARD),
        };
        makes_room(full(of).await, 170).await;
    }

    #[tokio::test(start_paused = true)]
    async fn of_those_who_are_known_nobody_has_to_go() {
        let (crowd, mut places) = full(|_| ("all", KNOWN)).await;
        let waiting = tokio::time::timeout(100 * PATIENCE, crowd.join("new")).await;
        assert!(waiting.is_err());
        drop(places.pop());
        crowd.join("new").await;
    }
}
