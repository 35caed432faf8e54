use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// What became of those who are gone, for those who still ask: of the last ones only.
#[derive(Debug)]
pub struct Obituaries<K> {
    keep: usize,
    texts: Mutex<(HashMap<K, String>, VecDeque<K>)>,
}

impl<K: Clone + Eq + Hash> Obituaries<K> {
    /// Remembers the last `keep`.
    pub fn new(keep: usize) -> Self {
        Self { keep, texts: Mutex::new((HashMap::new(), VecDeque::new())) }
    }

    /// Remembers what became of `who`; a later word replaces an earlier one.
    pub fn write(&self, who: K, text: String) {
        let (texts, order) = &mut *self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.insert(who.clone(), text).is_none() {
            order.push_back(who);
        }
        while order.len() > self.keep {
            if let Some(oldest) = order.pop_front() {
                texts.remove(&oldest);
            }
        }
    }

    /// What became of `who`; none when that was never known, or is no more.
    pub fn read(&self, who: &K) -> Option<String> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner).0.get(who).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_remembered_and_no_more() {
        let all = Obituaries::new(2);
        for who in 0..5 {
            all.write(who, format!("end of {who}"));
        }
        all.write(4, "a later word".to_owned());
        assert_eq!(
            [all.read(&2), all.read(&3), all.read(&4)],
            [None, Some("end of 3".to_owned()), Some("a later word".to_owned())]
        );
    }
}
