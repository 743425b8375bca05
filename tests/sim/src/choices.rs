//! What a scenario decides by chance: a sequence of numbers that a seed fixes.

/// SplitMix64. Clones go on independently from the same place.
#[derive(Debug, Clone)]
pub struct Choices(u64);

impl Choices {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Choices {
        Choices(seed)
    }

    /// A sequence of its own, so that what one actor decides does not depend on how often others do.
    pub fn fork(&mut self) -> Choices {
        Choices(self.bits())
    }

    /// 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True with so many chances in 100.
    pub fn percent(&mut self, chances: u64) -> bool {
        self.below(100) < chances
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
