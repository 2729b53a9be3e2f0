//! The product `Aᵀ·B` as a sum of outer products: the inner loop of the gradient of convolution weights and of `Aᵀ·B`.
//!
//! In NHWC both factors of every rank-one update are consecutive floats (the window's channels, the gradient's channels), so
//! the left-hand matrix is read where it lies.

use super::panels::{Panel, Panels};
use super::target::Target;
use crate::isa::{Simd, SimdOp};
use std::ops::Range;

/// `C[i][j] (+)= Σ_p A[p][i]·B[p][j]` for `i` in a range of columns of A and `j` in a range of B's panels.
pub(crate) struct ColumnProduct<'a> {
    /// Where the left-hand rows lie.
    pub a: &'a [f32],
    /// The first element of each row `p` in `a`.
    pub a_offsets: &'a [usize],
    /// Added to every offset.
    pub a_start: usize,
    /// Columns of A to use (from `a_start` on): rows of C.
    pub count: usize,
    /// The packed right-hand matrix, all panels.
    pub b: &'a [f32],
    /// Rows of the packed matrix, of which the product uses `a_offsets.len()` ...
    pub b_rows: usize,
    /// ... from this one on.
    pub b_first: usize,
    /// How it was cut.
    pub panels: Panels,
    /// Which panels to use.
    pub range: Range<usize>,
    /// The output: its first element belongs to column `a_start` of A.
    pub c: Target<'a>,
    /// Distance between rows of C.
    pub c_stride: usize,
    /// Adds to what `c` holds.
    pub accumulate: bool,
}

impl ColumnProduct<'_> {
    fn check(&self, lanes: usize) {
        assert_eq!(
            lanes,
            self.panels.lanes(),
            "the instruction set changed during a call"
        );
        assert!(self.range.end <= self.panels.count());
        if let Some(last) = self.a_offsets.iter().max() {
            assert!(last + self.a_start + self.count <= self.a.len());
        }
        assert!(self.b_first + self.a_offsets.len() <= self.b_rows);
        assert!(self.b_rows * self.panels.padded_columns() <= self.b.len());
        if self.count > 0 {
            assert!((self.count - 1) * self.c_stride + self.panels.columns() <= self.c.length());
        }
    }

    /// Rows `row..row + MR` of C and one panel.
    ///
    /// # Safety
    /// `check` must have passed and `row + MR <= count`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        panel: Panel,
        row: usize,
    ) {
        let tail = panel.columns - (NV - 1) * S::LANES;
        // SAFETY: rows of `a` and `c` lie inside by `check`; `b` holds `width` floats for each row of A from the panel's start.
        unsafe {
            let a = self.a.as_ptr().add(self.a_start + row);
            let mut b = self
                .b
                .as_ptr()
                .add(panel.start * self.b_rows + self.b_first * panel.width);
            let mut sums = [[s.zero(); NV]; MR];
            for &offset in self.a_offsets {
                let a = a.add(offset);
                let mut vectors = [s.zero(); NV];
                for j in 0..NV {
                    vectors[j] = s.load(b.add(j * S::LANES));
                }
                for i in 0..MR {
                    let x = s.splat(*a.add(i));
                    for j in 0..NV {
                        sums[i][j] = s.fma(x, vectors[j], sums[i][j]);
                    }
                }
                b = b.add(NV * S::LANES);
            }
            for i in 0..MR {
                let c = self
                    .c
                    .pointer()
                    .add((row + i) * self.c_stride + panel.start);
                for j in 0..NV {
                    let p = c.add(j * S::LANES);
                    if j + 1 < NV || tail == S::LANES {
                        let sum = if self.accumulate {
                            s.add(s.load(p), sums[i][j])
                        } else {
                            sums[i][j]
                        };
                        s.store(sum, p);
                    } else {
                        let sum = if self.accumulate {
                            s.add(s.load_partial(p, tail), sums[i][j])
                        } else {
                            sums[i][j]
                        };
                        s.store_partial(sum, p, tail);
                    }
                }
            }
        }
    }

    /// Rows `rows` of C and one panel, with tiles of `MR1`, then `MR2`, `MR3` and single rows.
    #[inline(always)]
    fn strip<S: Simd, const MR1: usize, const MR2: usize, const MR3: usize, const NV: usize>(
        &self,
        s: S,
        panel: Panel,
        rows: Range<usize>,
    ) {
        let mut row = rows.start;
        while row < rows.end {
            let left = rows.end - row;
            // SAFETY: `call` has checked, and a tile never has more rows than are left.
            unsafe {
                if left >= MR1 {
                    self.tile::<S, MR1, NV>(s, panel, row);
                    row += MR1;
                } else if left >= MR2 {
                    self.tile::<S, MR2, NV>(s, panel, row);
                    row += MR2;
                } else if left >= MR3 {
                    self.tile::<S, MR3, NV>(s, panel, row);
                    row += MR3;
                } else {
                    self.tile::<S, 1, NV>(s, panel, row);
                    row += 1;
                }
            }
        }
    }
}

/// Rows of C taken together through all panels: three cache lines of every left-hand row, and a multiple of every tile.
const BLOCK: usize = 48;

impl SimdOp for ColumnProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        self.check(S::LANES);
        for first in (0..self.count).step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(self.count);
            for index in self.range.clone() {
                let panel = self.panels.panel(index);
                if S::REGISTERS >= 32 {
                    match panel.vectors {
                        1 => self.strip::<S, 24, 9, 3, 1>(s, panel, rows.clone()),
                        2 => self.strip::<S, 12, 6, 3, 2>(s, panel, rows.clone()),
                        _ => self.strip::<S, 8, 4, 2, 3>(s, panel, rows.clone()),
                    }
                } else {
                    match panel.vectors {
                        1 => self.strip::<S, 12, 6, 3, 1>(s, panel, rows.clone()),
                        2 => self.strip::<S, 6, 3, 2, 2>(s, panel, rows.clone()),
                        _ => self.strip::<S, 4, 3, 2, 3>(s, panel, rows.clone()),
                    }
                }
            }
        }
    }
}
