//! Gradient of the weights from planes: for every weight a vector of sums over pixels, whose lanes are added up at the end.

use crate::isa::{MAX_LANES, Simd, SimdOp};

/// `sums[tap][s][d][lane] += Σ_q planes[s][q + tap]·gradient[d][q]`, lane by lane; without `accumulate`
/// sums begin with zero.
pub(super) struct Products<'a> {
    pub planes: &'a [f32],
    /// Zero between lines and from `length` on.
    pub gradient: &'a [f32],
    /// Values from a plane to the next, of both.
    pub stride: usize,
    /// Distance of each kernel element.
    pub taps: &'a [usize],
    /// Planes of the source, and of the gradient.
    pub channels: [usize; 2],
    /// A vector for every weight.
    pub sums: &'a mut [f32],
    /// Whether to add to what `sums` holds.
    pub accumulate: bool,
    /// Pixels, with those between lines.
    pub length: usize,
}

impl Products<'_> {
    /// `COUNT` destinations from `first` on, `ROWS` pairs of a tap and a source at a time.
    ///
    /// # Safety
    /// `call` must have checked, and the destinations must exist.
    #[inline(always)]
    unsafe fn block<S: Simd, const COUNT: usize, const ROWS: usize>(&mut self, s: S, first: usize) {
        let rows = self.taps.len() * self.channels[0];
        let mut row = 0;
        // SAFETY: the caller's promise; the rows exist.
        unsafe {
            while row + ROWS <= rows {
                self.tile::<S, COUNT, ROWS>(s, first, row);
                row += ROWS;
            }
            while row + 3 <= rows {
                self.tile::<S, COUNT, 3>(s, first, row);
                row += 3;
            }
            while row < rows {
                self.tile::<S, COUNT, 1>(s, first, row);
                row += 1;
            }
        }
    }

    /// # Safety
    /// `call` must have checked, `COUNT` destinations must exist from `first` on and `ROWS` pairs of a tap and a source from `row` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const COUNT: usize, const ROWS: usize>(
        &mut self,
        s: S,
        first: usize,
        row: usize,
    ) {
        let [sources, destinations] = self.channels;
        // SAFETY: `call` compared the last vector, shifted by the largest tap, with the planes, and the sums with the weights.
        unsafe {
            let mut from = [self.planes.as_ptr(); ROWS];
            let mut sums = [[s.zero(); COUNT]; ROWS];
            let mut to = self.sums.as_mut_ptr();
            to = to.add((row * destinations + first) * S::LANES);
            for r in 0..ROWS {
                let (tap, source) = ((row + r) / sources, (row + r) % sources);
                from[r] = from[r].add(self.taps.get_unchecked(tap) + source * self.stride);
                if self.accumulate {
                    for d in 0..COUNT {
                        sums[r][d] = s.load(to.add((r * destinations + d) * S::LANES));
                    }
                }
            }
            let gradient = self.gradient.as_ptr().add(first * self.stride);
            for pixel in (0..self.length).step_by(S::LANES) {
                // The fewer of both are held in registers beside the sums.
                if COUNT < ROWS {
                    let mut values = [s.zero(); COUNT];
                    for d in 0..COUNT {
                        values[d] = s.load(gradient.add(d * self.stride + pixel));
                    }
                    for r in 0..ROWS {
                        let value = s.load(from[r].add(pixel));
                        for d in 0..COUNT {
                            sums[r][d] = s.fma(value, values[d], sums[r][d]);
                        }
                    }
                } else {
                    let mut values = [s.zero(); ROWS];
                    for r in 0..ROWS {
                        values[r] = s.load(from[r].add(pixel));
                    }
                    for d in 0..COUNT {
                        let value = s.load(gradient.add(d * self.stride + pixel));
                        for r in 0..ROWS {
                            sums[r][d] = s.fma(value, values[r], sums[r][d]);
                        }
                    }
                }
            }
            for r in 0..ROWS {
                for d in 0..COUNT {
                    s.store(sums[r][d], to.add((r * destinations + d) * S::LANES));
                }
            }
        }
    }
}

impl SimdOp for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let [sources, destinations] = self.channels;
        let last = self.taps.iter().max().copied().unwrap_or(0);
        assert!(self.length + S::LANES + last <= self.stride);
        assert!(sources * self.stride <= self.planes.len());
        assert!(destinations * self.stride <= self.gradient.len());
        let weights = self.taps.len() * sources * destinations;
        assert!(weights * S::LANES <= self.sums.len());
        let wide = S::REGISTERS >= 32;
        let blocks = destinations.div_ceil(if wide { 8 } else { 4 });
        for block in 0..blocks {
            let first = block * destinations / blocks;
            let count = (block + 1) * destinations / blocks - first;
            // SAFETY: checked above, and the blocks divide the destinations.
            unsafe {
                match (count, wide) {
                    (1, _) => self.block::<S, 1, 9>(s, first),
                    (2, true) => self.block::<S, 2, 9>(s, first),
                    (2, false) => self.block::<S, 2, 6>(s, first),
                    (3, true) => self.block::<S, 3, 6>(s, first),
                    (3, false) => self.block::<S, 3, 3>(s, first),
                    (4, true) => self.block::<S, 4, 6>(s, first),
                    (4, false) => self.block::<S, 4, 3>(s, first),
                    (5, _) => self.block::<S, 5, 3>(s, first),
                    (6, _) => self.block::<S, 6, 3>(s, first),
                    (7, _) => self.block::<S, 7, 3>(s, first),
                    _ => self.block::<S, 8, 3>(s, first),
                }
            }
        }
    }
}

/// Values of the sums of `weights` weights: a vector for each, filled up to a square of lanes.
pub(super) fn sums_length(weights: usize, lanes: usize) -> usize {
    weights.next_multiple_of(lanes) * lanes
}

/// `totals[weight] = Σ_lanes sums[weight][lane]`.
pub(super) struct Totals<'a> {
    /// Of [`sums_length`].
    pub sums: &'a [f32],
    pub totals: &'a mut [f32],
}

impl SimdOp for Totals<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        assert_eq!(self.sums.len(), sums_length(self.totals.len(), S::LANES));
        let squares = self.sums.chunks_exact(S::LANES * S::LANES);
        for (square, totals) in squares.zip(self.totals.chunks_mut(S::LANES)) {
            let mut vectors = [s.zero(); MAX_LANES];
            for i in 0..S::LANES {
                // SAFETY: vector i of a square of lanes.
                vectors[i] = unsafe { s.load(square.as_ptr().add(i * S::LANES)) };
            }
            // Neighbouring lanes of two vectors are added into one, until the sums of all are the lanes of one: lane i depends on
            // vector i alone, so what fills the last square up does not matter.
            macro_rules! halve {
                ($($left:literal)*) => {$(
                    if S::LANES > $left {
                        for i in 0..$left {
                            let halves = s.take_apart([vectors[2 * i], vectors[2 * i + 1]]);
                            vectors[i] = s.add(halves[0], halves[1]);
                        }
                    }
                )*};
            }
            halve!(8 4 2 1);
            // SAFETY: there are at most LANES totals.
            unsafe { s.store_partial(vectors[0], totals.as_mut_ptr(), totals.len()) };
        }
    }
}
