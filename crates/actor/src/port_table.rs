use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use procession_model::ProcId;

use crate::answer::Answer;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering, PoisonError};

type OnceSink = Box<dyn FnOnce(Answer) + Send>;
type ManySink = Arc<dyn Fn(Answer) + Send + Sync>;

enum Entry {
    Once {
        sink: OnceSink,
        holder: Option<ProcId>,
    },
    /// A once port whose answer nobody waits for any more, until its holder has heard of that and lets it go.
    Cancelled {
        holder: Option<ProcId>,
    },
    Many(ManySink),
}

/// Where a once port was when it was cancelled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Cancelled {
    /// It is answered, closed or cancelled already, or takes many values.
    Nowhere,
    /// In this process.
    Here,
    /// In another one, which is to be told.
    At(ProcId),
}

#[derive(Default)]
struct Entries {
    by_index: HashMap<u64, Entry>,
    /// The once ports that other processes hold, so that the end of one of many costs only its own.
    held_by: HashMap<ProcId, HashSet<u64>>,
}

impl Entries {
    fn remove(&mut self, index: u64) -> Option<Entry> {
        self.set_holder(index, None);
        self.by_index.remove(&index)
    }

    fn set_holder(&mut self, index: u64, new: Option<ProcId>) -> bool {
        let (holder, cancelled) = match self.by_index.get_mut(&index) {
            Some(Entry::Once { holder, .. }) => (holder, false),
            Some(Entry::Cancelled { holder }) => (holder, true),
            _ => return false,
        };
        if *holder == new {
            return cancelled;
        }
        if let Some(old) = std::mem::replace(holder, new.clone())
            && let Some(held) = self.held_by.get_mut(&old)
        {
            held.remove(&index);
            if held.is_empty() {
                self.held_by.remove(&old);
            }
        }
        if let Some(new) = new {
            self.held_by.entry(new).or_default().insert(index);
        }
        cancelled
    }
}

/// The ports that this process has opened and that others can send to.
#[derive(Default)]
pub(crate) struct PortTable {
    next: AtomicU64,
    entries: Mutex<Entries>,
    late: AtomicU64,
    /// How many ports were ever cancelled.
    cancelled: AtomicU64,
}

impl PortTable {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        // No sink runs and none is dropped under this lock, so a poisoned table is still a whole one.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An index that no port has and none will have.
    pub(crate) fn unused(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn open(&self, entry: Entry) -> u64 {
        let index = self.unused();
        self.entries().by_index.insert(index, entry);
        index
    }

    pub(crate) fn open_once(&self, sink: OnceSink) -> u64 {
        self.open(Entry::Once { sink, holder: None })
    }

    pub(crate) fn open_many(&self, sink: ManySink) -> u64 {
        self.open(Entry::Many(sink))
    }

    pub(crate) fn close(&self, index: u64) {
        // A binding, so that the sink is dropped outside of the lock.
        let _entry = self.entries().remove(index);
    }

    /// Notes which other process holds the once port, none for this one; whether that is to be told that nobody waits.
    pub(crate) fn set_holder(&self, index: u64, holder: Option<ProcId>) -> bool {
        self.entries().set_holder(index, holder)
    }

    /// Nobody waits for the answer of a once port any more; an answer that comes all the same is dropped.
    pub(crate) fn cancel(&self, index: u64) -> Cancelled {
        let mut entries = self.entries();
        let Some(entry) = entries.by_index.get_mut(&index) else { return Cancelled::Nowhere };
        let Entry::Once { holder, .. } = entry else { return Cancelled::Nowhere };
        let holder = holder.take();
        let before = std::mem::replace(entry, Entry::Cancelled { holder: holder.clone() });
        // Under the lock: whoever moves the port either sees here that it is cancelled, or had moved it before.
        self.cancelled.fetch_add(1, Ordering::SeqCst);
        drop(entries);
        // The sink, outside of the lock.
        drop(before);
        holder.map_or(Cancelled::Here, Cancelled::At)
    }

    /// Whether any port was ever cancelled here.
    pub(crate) fn any_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst) != 0
    }

    /// Who is to be told that nobody waits for an answer on that once port: it is cancelled, and somebody else has it.
    pub(crate) fn holder_to_tell(&self, index: u64) -> Option<ProcId> {
        match self.entries().by_index.get(&index) {
            Some(Entry::Cancelled { holder }) => holder.clone(),
            _ => None,
        }
    }

    /// Whether that once port is cancelled.
    pub(crate) fn is_cancelled(&self, index: u64) -> bool {
        self.any_cancelled() && matches!(self.entries().by_index.get(&index), Some(Entry::Cancelled { .. }))
    }

    /// Hands `answer` to the port; a once port is done with it. An answer nobody waits for counts as late.
    pub(crate) fn answer(&self, index: u64, answer: Answer) {
        let mut entries = self.entries();
        match entries.by_index.get(&index) {
            Some(Entry::Many(sink)) => {
                let sink = Arc::clone(sink);
                drop(entries);
                sink(answer);
            }
            Some(Entry::Once { .. } | Entry::Cancelled { .. }) => {
                let entry = entries.remove(index);
                drop(entries);
                if let Some(Entry::Once { sink, .. }) = entry {
                    sink(answer);
                }
            }
            None => {
                drop(entries);
                if let Answer::Value { tag, .. } = answer {
                    self.count_late();
                    tracing::debug!(port = index, tag, "an answer came that nobody waits for any more");
                }
            }
        }
    }

    /// Closes every once port whose holder is `gone`.
    pub(crate) fn holder_gone(&self, gone: &ProcId, reason: &str) {
        let orphaned: Vec<Entry> = {
            let mut entries = self.entries();
            let held = entries.held_by.remove(gone).unwrap_or_default();
            held.iter().filter_map(|index| entries.by_index.remove(index)).collect()
        };
        close_entries(orphaned, reason);
    }

    /// Closes every once port that another process holds which is `gone`.
    pub(crate) fn holders_gone(&self, gone: impl Fn(&ProcId) -> bool, reason: &str) {
        let orphaned: Vec<Entry> = {
            let mut entries = self.entries();
            let held: Vec<u64> =
                entries.held_by.extract_if(|holder, _| gone(holder)).flat_map(|(_, held)| held).collect();
            held.iter().filter_map(|index| entries.by_index.remove(index)).collect()
        };
        close_entries(orphaned, reason);
    }

    /// Closes everything; for the end of the process's connection.
    pub(crate) fn close_all(&self, reason: &str) {
        let all = std::mem::take(&mut *self.entries());
        close_entries(all.by_index.into_values(), reason);
    }

    pub(crate) fn count_late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().by_index.len()
    }
}

fn close_entries(entries: impl IntoIterator<Item = Entry>, reason: &str) {
    for entry in entries {
        match entry {
            Entry::Once { sink, .. } => sink(Answer::Closed(reason.to_owned())),
            Entry::Cancelled { .. } => {}
            Entry::Many(sink) => sink(Answer::Closed(reason.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use procession_model::HostId;

    use super::*;

    #[test]
    fn the_index_of_holders_follows_every_move_and_ends_empty() {
        crate::sync::model(|| {
            let table = PortTable::default();
            let host = HostId::fresh("test");
            let [first, second] =
                ["first", "second"].map(|name| ProcId::fresh(name, &host).expect("a good name"));
            let open = || {
                let index = table.open_once(Box::new(|_| {}));
                table.set_holder(index, Some(first.clone()));
                index
            };
            let [moved, answered, closed, home, lost] = std::array::from_fn(|_| open());
            table.set_holder(moved, Some(second.clone()));
            table.answer(answered, Answer::Closed("dropped".to_owned()));
            table.close(closed);
            table.set_holder(home, None);

            let held_by = |holder| table.entries().held_by.get(holder).cloned().unwrap_or_default();
            assert_eq!(held_by(&first), HashSet::from([lost]));
            assert_eq!(held_by(&second), HashSet::from([moved]));
            table.holder_gone(&first, "gone");
            assert_eq!(table.len(), 2);
            table.holders_gone(|_| true, "all are gone");
            table.close(home);
            table.answer(moved, Answer::Closed("dropped".to_owned()));
            let given_up = open();
            assert_eq!(table.cancel(given_up), Cancelled::At(first.clone()));
            assert_eq!(table.cancel(given_up), Cancelled::Nowhere);
            assert!(table.set_holder(given_up, Some(second.clone())), "the new holder is to be told");
            assert_eq!(table.holder_to_tell(given_up), Some(second.clone()));
            table.holder_gone(&second, "gone");
            assert!(!table.is_cancelled(given_up));
            // News about ports that are closed leaves no trace.
            table.set_holder(moved, Some(second.clone()));
            assert!(table.entries().by_index.is_empty() && table.entries().held_by.is_empty());
        });
    }
}
