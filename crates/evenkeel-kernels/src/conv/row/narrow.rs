//! Outputs of one vector: products and their transform in registers, because storing them would take as long as computing them.

use super::points::{OUTPUTS, Points};
use super::steps::{Layout, pixels_of};
use crate::isa::{Simd, SimdOp};
use std::marker::PhantomData;

/// All outputs of a part whose channels fit one vector.
pub(super) struct Narrow<'a, P, const TAPS: usize, const POINTS: usize> {
    /// The transformed source.
    pub source: &'a [f32],
    pub layout: Layout,
    /// Where the rows of each tile begin in every point of `source`.
    pub offsets: &'a [usize],
    /// Consecutive elements of a tile's row.
    pub depth: usize,
    /// The transformed kernel, `[element][point][lane]`.
    pub kernel: &'a [f32],
    pub bias: Option<&'a [f32]>,
    pub columns: usize,
    /// Whole rows of outputs.
    pub to: &'a mut [f32],
    /// Pixels of a row.
    pub width: usize,
    pub points: PhantomData<P>,
}

impl<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize> SimdOp
    for Narrow<'_, P, TAPS, POINTS>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let last = self.offsets.iter().copied().fold(0, usize::max);
        assert!(last + self.depth <= self.layout.point());
        assert!(POINTS * self.layout.point() <= self.source.len());
        assert!(self.columns <= S::LANES);
        assert!(self.depth * POINTS * S::LANES <= self.kernel.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == self.columns));
        // With six or seven points, four tiles fill 32 registers with sums, two fill 16.
        // SAFETY: as asserted.
        unsafe {
            if S::REGISTERS >= 32 {
                self.tiles::<S, 4>(s);
            } else {
                self.tiles::<S, 2>(s);
            }
        }
    }
}

impl<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize> Narrow<'_, P, TAPS, POINTS> {
    /// # Safety
    /// Every offset leaves `depth` floats of a point, `source` and `kernel` hold all points, `columns` is at most one vector and
    /// the bias has as many values.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const TILES: usize>(&mut self, s: S) {
        let point = self.layout.point();
        for first in (0..self.offsets.len()).step_by(TILES) {
            let tiles = TILES.min(self.offsets.len() - first);
            // SAFETY: the caller's promise; tiles past the last are the last, and not stored.
            unsafe {
                let mut from = [self.source.as_ptr(); TILES];
                for i in 0..TILES {
                    from[i] = from[i].add(self.offsets[first + i.min(tiles - 1)]);
                }
                let mut kernel = self.kernel.as_ptr();
                let mut products = [[s.zero(); TILES]; POINTS];
                for element in 0..self.depth {
                    for k in 0..POINTS {
                        let factor = s.load(kernel.add(k * S::LANES));
                        for i in 0..TILES {
                            let x = s.splat(*from[i].add(k * point + element));
                            products[k][i] = s.fma(x, factor, products[k][i]);
                        }
                    }
                    kernel = kernel.add(POINTS * S::LANES);
                }
                let start = match self.bias {
                    Some(bias) => s.load_partial(bias.as_ptr(), self.columns),
                    None => s.zero(),
                };
                for i in 0..TILES {
                    if i < tiles {
                        let mut sums = [start; OUTPUTS];
                        for k in 0..POINTS {
                            for j in 0..OUTPUTS {
                                let factor = P::MATRICES.result[j][k];
                                if factor == 1.0 {
                                    sums[j] = s.add(sums[j], products[k][i]);
                                } else if factor != 0.0 {
                                    sums[j] = s.fma(s.splat(factor), products[k][i], sums[j]);
                                }
                            }
                        }
                        let (pixel, count) = pixels_of(first + i, self.width);
                        let to = &mut self.to[pixel * self.columns..(pixel + count) * self.columns];
                        for j in 0..OUTPUTS {
                            if j < count {
                                let to = to.as_mut_ptr().add(j * self.columns);
                                if self.columns == S::LANES {
                                    s.store(sums[j], to);
                                } else {
                                    s.store_partial(sums[j], to, self.columns);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}
