use std::collections::{HashMap, VecDeque};

use procession_model::ProcId;

/// How many earlier incarnations of a slot lead on: the first one, and the latest. A reference to one in between is
/// one to a proc that has ended.
const KEPT: usize = 256;

/// Where messages to the actors of ended procs go: to the latest incarnation of each one's slot.
#[derive(Debug, Default)]
pub(crate) struct Leads {
    latest: HashMap<ProcId, ProcId>,
    /// By the latest incarnation, what leads there: the oldest first.
    earlier: HashMap<ProcId, VecDeque<ProcId>>,
}

impl Leads {
    /// From now on `ended`, and all that led there, leads to `next`.
    pub(crate) fn follow(&mut self, ended: &ProcId, next: &ProcId) {
        let mut earlier = self.take_earlier(ended);
        if earlier.back() != Some(ended) {
            earlier.push_back(ended.clone());
        }
        if earlier.len() > KEPT
            && let Some(left_out) = earlier.remove(1)
        {
            self.latest.remove(&left_out);
        }
        for proc_id in &earlier {
            self.latest.insert(proc_id.clone(), next.clone());
        }
        self.earlier.insert(next.clone(), earlier);
    }

    /// Nothing will follow `last` any more: what led there is as ended as that.
    pub(crate) fn end(&mut self, last: &ProcId) {
        for proc_id in self.take_earlier(last) {
            self.latest.remove(&proc_id);
        }
    }

    /// What leads to `proc_id`, or with it to a launch that was planned and withdrawn.
    fn take_earlier(&mut self, proc_id: &ProcId) -> VecDeque<ProcId> {
        let planned = self.latest.get(proc_id).unwrap_or(proc_id);
        self.earlier.remove(planned).unwrap_or_default()
    }

    /// The latest incarnation in the place of `proc_id`; none for one that leads nowhere.
    pub(crate) fn latest(&self, proc_id: &ProcId) -> Option<&ProcId> {
        self.latest.get(proc_id)
    }
}

#[cfg(test)]
mod tests {
    use procession_model::HostId;

    use super::*;

    #[test]
    fn the_first_and_the_latest_incarnations_lead_on_and_memory_is_bounded() {
        let host = HostId::fresh("m");
        let mut leads = Leads::default();
        let of_slot =
            |name: &str| -> Vec<ProcId> { (0..2000).map(|_| ProcId::fresh(name, &host).unwrap()).collect() };
        let (one, other) = (of_slot("one"), of_slot("other"));
        for (ids, launches) in [(&one, 2000), (&other, 2)] {
            for pair in ids[..launches].windows(2) {
                leads.follow(&pair[0], &pair[1]);
            }
        }
        let last = one.last();
        assert_eq!(leads.latest(&one[0]), last, "whoever has kept a reference from the beginning");
        assert_eq!(leads.latest(&one[1000]), None);
        assert!(one[1999 - (KEPT - 1)..1999].iter().all(|earlier| leads.latest(earlier) == last));
        assert_eq!(leads.latest(&one[1999]), None, "it is the latest");
        assert_eq!((leads.latest.len(), leads.earlier.len()), (KEPT + 1, 2));
        let (withdrawn, by_hand) = (&other[100], &other[101]);
        leads.follow(&other[1], withdrawn);
        leads.follow(&other[1], by_hand);
        assert!(other[..2].iter().all(|earlier| leads.latest(earlier) == Some(by_hand)));
        leads.follow(by_hand, &other[102]);
        leads.end(by_hand);
        assert!(other.iter().all(|id| leads.latest(id).is_none()));
        leads.follow(&other[0], &other[1]);
        leads.end(&one[1999]);
        assert_eq!((leads.latest.len(), leads.earlier.len()), (1, 1));
        assert_eq!(leads.latest(&other[0]), Some(&other[1]), "another slot goes on");
    }
}
