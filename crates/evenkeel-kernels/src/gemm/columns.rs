//! The product `Aᵀ·B` as a sum of outer products: the inner loop of the gradient of convolution weights and of `Aᵀ·B`.
//!
//! In NHWC both factors of every rank-one update are consecutive floats (the window's channels, the gradient's channels), so
//! the left-hand matrix is read where it lies.

use super::panels::Panels;
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
    /// What the next product will read from memory: asked for while this one computes.
    pub ahead: &'a [f32],
}

/// Memory that is asked for line by line while a kernel computes, so that reading it later does not wait.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    next: *const f32,
    /// Bytes for every step of the kernel's inner loop.
    step: usize,
}

impl Ahead {
    /// Nothing: `here` is asked for again and again, which costs nothing where it is in cache.
    #[inline(always)]
    pub(crate) fn none(here: *const f32) -> Ahead {
        Ahead {
            next: here,
            step: 0,
        }
    }

    /// All of `values` within `steps` steps, as far as a line a step gets; nothing, `here`, where there are none.
    #[inline(always)]
    fn all(values: &[f32], steps: usize, here: *const f32) -> Ahead {
        if values.is_empty() {
            return Ahead::none(here);
        }
        Ahead {
            next: values.as_ptr(),
            step: (size_of_val(values) / steps.max(1)).min(64),
        }
    }

    /// `step` bytes a step, from `next` on.
    #[inline(always)]
    pub(crate) fn stream(next: *const f32, step: usize) -> Ahead {
        Ahead { next, step }
    }

    /// The next `step` bytes.
    #[inline(always)]
    pub(crate) fn advance<S: Simd>(&mut self, s: S) {
        s.prefetch(self.next);
        self.next = self.next.wrapping_byte_add(self.step);
    }
}

impl ColumnProduct<'_> {
    #[inline(always)]
    fn check(&self, lanes: usize) {
        assert_eq!(
            lanes,
            self.panels.lanes(),
            "the instruction set changed during a call"
        );
        assert!(self.range.end <= self.panels.count());
        if !self.a_offsets.is_empty() {
            // With a fold, and inside the kernel, because that becomes vector code.
            let last = self.a_offsets.iter().copied().fold(0, usize::max);
            assert!(last + self.a_start + self.count <= self.a.len());
        }
        assert!(self.b_first + self.a_offsets.len() <= self.b_rows);
        assert!(self.b_rows * self.panels.padded_columns() <= self.b.len());
        if self.count > 0 {
            assert!((self.count - 1) * self.c_stride + self.panels.columns() <= self.c.length());
        }
    }
}

/// `MR` rows by `NV` vectors of a sum of outer products, kept in registers: the micro-kernel. `a` and each of the offsets give `MR`
/// consecutive floats; rows of `c` are `c_stride` apart, and `tail` lanes of their last vector are used.
///
/// # Safety
/// `a` must be readable for `MR` floats at every offset, `b` for `NV` vectors per offset, and `MR` rows of `c` readable and
/// writable for `NV - 1` vectors and `tail` lanes.
#[inline(always)]
pub(crate) unsafe fn column_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: *const f32,
    offsets: impl Iterator<Item = usize>,
    mut b: *const f32,
    c: *mut f32,
    c_stride: usize,
    tail: usize,
    accumulate: bool,
    ahead: &mut Ahead,
) {
    let mut next = *ahead;
    // SAFETY: the caller's promise; vectors but the last are whole, and of the last no more than `tail` lanes are touched.
    unsafe {
        let mut sums = [[s.zero(); NV]; MR];
        for offset in offsets {
            // One vector is bound by loads, of which this is one.
            if NV > 1 {
                next.advance(s);
            }
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
        *ahead = next;
        for i in 0..MR {
            for j in 0..NV {
                let p = c.add(i * c_stride + j * S::LANES);
                if j + 1 < NV || tail == S::LANES {
                    let sum = if accumulate {
                        s.add(s.load(p), sums[i][j])
                    } else {
                        sums[i][j]
                    };
                    s.store(sum, p);
                } else {
                    let sum = if accumulate {
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

/// `rows` rows of a sum of outer products and one panel of `vectors` vectors, cut into tiles that fill the registers.
///
/// # Safety
/// As for [`column_tile`], for all rows together.
#[inline(always)]
pub(crate) unsafe fn strip<S: Simd>(
    s: S,
    vectors: usize,
    rows: usize,
    a: *const f32,
    offsets: impl Iterator<Item = usize> + Clone,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    tail: usize,
    accumulate: bool,
    ahead: &mut Ahead,
) {
    // Nine rows are a 3x3 window of one channel, or a row of it of three; at least eight sums hide an addition's latency.
    macro_rules! tiles {
        ($vectors:literal: $($rows:literal)+) => {{
            let mut row = 0;
            while row < rows {
                let left = rows - row;
                // SAFETY: the caller's promise; a tile never has more rows than are left.
                unsafe {
                    let (a, c) = (a.add(row), c.add(row * c_stride));
                    $(if left >= $rows {
                        column_tile::<S, $rows, $vectors>(
                            s, a, offsets.clone(), b, c, c_stride, tail, accumulate, ahead,
                        );
                        row += $rows;
                        continue;
                    })+
                }
            }
        }};
    }
    if S::REGISTERS >= 32 {
        match vectors {
            1 => tiles!(1: 24 16 9 4 1),
            2 => tiles!(2: 12 9 4 2 1),
            _ => tiles!(3: 8 4 2 1),
        }
    } else {
        match vectors {
            1 => tiles!(1: 12 9 4 2 1),
            2 => tiles!(2: 6 4 2 1),
            _ => tiles!(3: 4 2 1),
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
        let tiles = self.count.div_ceil(12) * self.range.len();
        let mut ahead = Ahead::all(self.ahead, tiles * self.a_offsets.len(), self.b.as_ptr());
        for first in (0..self.count).step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(self.count);
            for index in self.range.clone() {
                let panel = self.panels.panel(index);
                // SAFETY: rows of `a` and `c` lie inside by `check`; `b` holds `width` floats for each row of A from the panel's
                // start.
                unsafe {
                    strip(
                        s,
                        panel.vectors,
                        rows.len(),
                        self.a.as_ptr().add(self.a_start + rows.start),
                        self.a_offsets.iter().copied(),
                        self.b
                            .as_ptr()
                            .add(panel.start * self.b_rows + self.b_first * panel.width),
                        self.c
                            .pointer()
                            .add(rows.start * self.c_stride + panel.start),
                        self.c_stride,
                        panel.columns - (panel.vectors - 1) * S::LANES,
                        self.accumulate,
                        &mut ahead,
                    );
                }
            }
        }
    }
}
