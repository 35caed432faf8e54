use std::collections::HashMap;

/// How many names are remembered whose procs have all ended, and how many more there may be until the oldest are forgotten.
const KEPT: usize = 8192;
const SLACK: usize = 1024;

/// The number of the last launch of each name: names that are in use, and the latest others.
#[derive(Debug, Default)]
pub(crate) struct Incarnations {
    /// With the count of all launches at that time.
    last: HashMap<String, (u32, u64)>,
    launches: u64,
    /// How many were left when the oldest were forgotten.
    left: usize,
}

impl Incarnations {
    /// The number of the last launch of this name; 0 when none is remembered.
    pub(crate) fn last(&self, name: &str) -> u32 {
        self.last.get(name).map_or(0, |(number, _)| *number)
    }

    /// The last launch of this name had at least this number.
    pub(crate) fn at_least(&mut self, name: &str, number: u32) {
        self.launches += 1;
        let last = self.last.entry(name.to_owned()).or_default();
        *last = (last.0.max(number), self.launches);
    }

    /// Whether there are so many that [`Self::forget`] is to be called.
    pub(crate) fn are_many(&self) -> bool {
        self.last.len() > self.left.max(KEPT) + SLACK
    }

    /// Forgets the oldest that are not in use; a proc of such a name begins at 1 again.
    pub(crate) fn forget(&mut self, in_use: impl Fn(&str) -> bool) {
        let mut others: Vec<_> =
            self.last.iter().filter(|(name, _)| !in_use(name)).map(|(_, (_, at))| *at).collect();
        if let Some(too_many) = others.len().checked_sub(KEPT).filter(|&count| count > 0) {
            let (_, &mut oldest_kept, _) = others.select_nth_unstable(too_many);
            self.last.retain(|name, (_, at)| *at >= oldest_kept || in_use(name));
        }
        self.left = self.last.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_use_and_the_latest_others_are_remembered_and_no_more() {
        let mut all = Incarnations::default();
        let in_use = |name: &str| name == "lives";
        all.at_least("lives", 3);
        all.at_least("ended", 2);
        for number in 0..3 * (KEPT + SLACK) {
            all.at_least(&format!("other-{number}"), 1);
            if all.are_many() {
                all.forget(in_use);
            }
            assert!(all.last.len() <= 1 + KEPT + SLACK, "one is in use");
        }
        assert_eq!((all.last("lives"), all.last("ended"), all.last("other-0")), (3, 0, 0));
        assert_eq!(all.last(&format!("other-{}", 3 * (KEPT + SLACK) - 1)), 1);
        all.at_least("lives", 2);
        assert_eq!(all.last("lives"), 3, "numbers only rise");
    }
}
