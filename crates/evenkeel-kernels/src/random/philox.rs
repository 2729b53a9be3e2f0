//! Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// Blocks that are generated side by side, so that the compiler can use whole vectors.
pub(super) const SIDE_BY_SIDE: usize = 16;

/// Random words that [`Generator::group`] makes at once.
pub const GROUP: usize = 4 * SIDE_BY_SIDE;

/// Four random words for a counter and a key.
#[inline(always)]
pub fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut words = counter.map(|word| [word]);
    rounds(&mut words, key);
    words.map(|[word]| word)
}

/// All rounds on `N` counters side by side.
///
/// Words live in the lower halves of u64, whose upper halves hold anything: that is what vector instructions multiply, so nothing is
/// packed or unpacked between the rounds.
#[inline(always)]
fn rounds<const N: usize>(words: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    const LOWER: u64 = 0xffff_ffff;
    let mut wide = [[0u64; N]; 4];
    for word in 0..4 {
        for lane in 0..N {
            wide[word][lane] = u64::from(words[word][lane]);
        }
    }
    for _ in 0..ROUNDS {
        for lane in 0..N {
            let first = (wide[0][lane] & LOWER) * u64::from(MULTIPLIERS[0]);
            let second = (wide[2][lane] & LOWER) * u64::from(MULTIPLIERS[1]);
            wide[0][lane] = second >> 32 ^ wide[1][lane] ^ u64::from(key[0]);
            wide[2][lane] = first >> 32 ^ wide[3][lane] ^ u64::from(key[1]);
            wide[1][lane] = second;
            wide[3][lane] = first;
        }
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    for word in 0..4 {
        for lane in 0..N {
            words[word][lane] = wide[word][lane] as u32;
        }
    }
}

/// A sequence of random words: a pure function of the seed, the sequence's number and the position, so that any part of it can
/// be made again, in any order, by any number of threads, on any instruction set.
///
/// Sequences of one seed do not overlap. Numbers below 2^32 are for callers; those above set other uses apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generator {
    /// The run's seed.
    pub seed: u64,
    /// Which sequence of that seed; use each number once.
    pub sequence: u64,
}

impl Generator {
    /// The words of positions `64 * index` to `64 * index + 63`.
    ///
    /// Word `w` of the group is word `w / 16` of counter `16 * index + w % 16`: neighbours come from neighbouring counters, which
    /// is how vectors make them.
    #[inline(always)]
    pub fn group(&self, index: u64) -> [[u32; SIDE_BY_SIDE]; 4] {
        let first = index.wrapping_mul(SIDE_BY_SIDE as u64);
        let mut words = [[0u32; SIDE_BY_SIDE]; 4];
        for lane in 0..SIDE_BY_SIDE {
            let block = first.wrapping_add(lane as u64);
            words[0][lane] = block as u32;
            words[1][lane] = (block >> 32) as u32;
            words[2][lane] = self.sequence as u32;
            words[3][lane] = (self.sequence >> 32) as u32;
        }
        rounds(&mut words, [self.seed as u32, (self.seed >> 32) as u32]);
        words
    }

    /// The word at one position.
    pub fn word(&self, position: u64) -> u32 {
        let within = (position % GROUP as u64) as usize;
        let block = position / GROUP as u64 * SIDE_BY_SIDE as u64 + (within % SIDE_BY_SIDE) as u64;
        let counter = [
            block as u32,
            (block >> 32) as u32,
            self.sequence as u32,
            (self.sequence >> 32) as u32,
        ];
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        philox4x32(counter, key)[within / SIDE_BY_SIDE]
    }
}
