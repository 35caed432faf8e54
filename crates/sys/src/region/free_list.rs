use std::collections::BTreeMap;

/// Which ranges of a region are free. The lowest that suffices is taken, so that what was used before, and has its pages,
/// is used again first.
#[derive(Debug)]
pub(super) struct FreeList {
    /// Start to length; no two touch.
    ranges: BTreeMap<usize, usize>,
}

impl FreeList {
    pub(super) fn new(length: usize) -> Self {
        Self { ranges: BTreeMap::from([(0, length)]) }
    }

    /// The start of a range of `length`, which is above 0.
    pub(super) fn take(&mut self, length: usize) -> Option<usize> {
        let (&start, &found) = self.ranges.iter().find(|&(_, &found)| found >= length)?;
        self.ranges.remove(&start);
        if found > length {
            self.ranges.insert(start + length, found - length);
        }
        Some(start)
    }

    pub(super) fn give_back(&mut self, mut start: usize, mut length: usize) {
        if let Some(after) = self.ranges.remove(&(start + length)) {
            length += after;
        }
        if let Some((&before, &found)) = self.ranges.range(..start).next_back()
            && before + found == start
        {
            self.ranges.remove(&before);
            (start, length) = (before, found + length);
        }
        self.ranges.insert(start, length);
    }

    pub(super) fn is_whole(&self, length: usize) -> bool {
        self.ranges.get(&0) == Some(&length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_never_overlap_and_grow_together_again() {
        const LENGTH: usize = 64;
        let mut free = FreeList::new(LENGTH);
        let mut taken: Vec<(usize, usize)> = Vec::new();
        let mut number = 0x5eed_u64;
        for _ in 0..20_000 {
            number ^= number << 13;
            number ^= number >> 7;
            number ^= number << 17;
            if number.is_multiple_of(3) && !taken.is_empty() {
                let (start, length) = taken.swap_remove(number as usize / 3 % taken.len());
                free.give_back(start, length);
            } else {
                let length = 1 + (number >> 8) as usize % 9;
                let Some(start) = free.take(length) else { continue };
                assert!(start + length <= LENGTH, "{start} + {length}");
                for &(other, size) in &taken {
                    assert!(
                        start + length <= other || other + size <= start,
                        "{start} + {length}, {other} + {size}"
                    );
                }
                taken.push((start, length));
            }
            assert_eq!(free.is_whole(LENGTH), taken.is_empty());
        }
        taken.into_iter().for_each(|(start, length)| free.give_back(start, length));
        assert!(free.is_whole(LENGTH));
    }

    #[test]
    fn the_lowest_that_suffices_is_taken() {
        let mut free = FreeList::new(10);
        assert_eq!(
            [free.take(2), free.take(3), free.take(5), free.take(1)],
            [Some(0), Some(2), Some(5), None]
        );
        free.give_back(5, 5);
        free.give_back(0, 2);
        assert_eq!([free.take(3), free.take(2), free.take(3)], [Some(5), Some(0), None]);
    }
}
