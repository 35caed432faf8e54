use procession_model::ProcId;

/// Numbers that look random, and are the same for the same seed, text and number: of one launch, whatever else is launched.
#[derive(Debug)]
pub(super) struct Odds(u64);

impl Odds {
    pub(super) fn of(seed: u64, text: &str, number: u32) -> Self {
        // FNV-1a, mixed below.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        let mut odds = Self(seed ^ hash);
        odds.0 = odds.next() ^ u64::from(number);
        odds
    }

    /// Of one launch, and no other.
    pub(super) fn of_launch(proc_id: &ProcId) -> Self {
        let bytes = proc_id.launch_id().to_bytes();
        Self(bytes.iter().fold(0, |all, byte| (all << 8) ^ (all >> 56) ^ u64::from(*byte)))
    }

    /// `splitmix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to, and never, 1.
    pub(super) fn share(&mut self) -> f64 {
        // What a double can tell apart: exact.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_even_and_the_same_for_the_same_launch() {
        let shares = |seed| (0..1000).map(move |n| Odds::of(seed, &format!("worker-{n}"), 1).share());
        assert!(shares(7).eq(shares(7)));
        assert!(!shares(7).eq(shares(8)));
        let below_a_tenth = shares(7).filter(|share| *share < 0.1).count();
        assert!((60..140).contains(&below_a_tenth), "{below_a_tenth} of 1000");
        assert_ne!(Odds::of(7, "worker-1", 1).share(), Odds::of(7, "worker-1", 2).share());
    }
}
