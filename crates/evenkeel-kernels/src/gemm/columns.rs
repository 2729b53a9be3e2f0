//! The product `Aᵀ·B` as a sum of outer products: the inner loop of the gradient of convolution weights and of `Aᵀ·B`.
//!
//! In NHWC both factors of every rank-one update are consecutive floats (the window's channels, the gradient's channels), so
//! the left-hand matrix is read where it lies.

use super::TILE_ROWS;
use super::ahead::{Ahead, Ask};
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
    /// The right-hand matrix, of which the product uses `a_offsets.len()` rows.
    pub b: Right<'a>,
    /// How it is cut.
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
    pub ahead: [&'a [f32]; 2],
}

/// How a right-hand matrix lies in memory.
#[derive(Clone, Copy)]
pub(crate) enum Right<'a> {
    /// Packed, all panels.
    Packed {
        /// Panel after panel.
        values: &'a [f32],
        /// Rows of the packed matrix ...
        rows: usize,
        /// ... of which the product uses those from this one on.
        first: usize,
    },
    /// Row after row; of whole vectors.
    InPlace {
        /// From the first row on.
        values: &'a [f32],
        /// Distance between rows.
        stride: usize,
    },
}

impl Right<'_> {
    /// Whether it holds `rows` rows.
    #[inline(always)]
    fn holds(self, rows: usize, panels: Panels) -> bool {
        match self {
            Right::Packed {
                values,
                rows: all,
                first,
            } => first + rows <= all && all * panels.padded_columns() <= values.len(),
            Right::InPlace { values, stride } => {
                panels.padded_columns() == panels.columns()
                    && (rows == 0 || (rows - 1) * stride + panels.columns() <= values.len())
            }
        }
    }

    /// The same from row `row` on.
    pub(crate) fn from(self, row: usize) -> Self {
        match self {
            Right::Packed {
                values,
                rows,
                first,
            } => Right::Packed {
                values,
                rows,
                first: first + row,
            },
            Right::InPlace { values, stride } => Right::InPlace {
                values: &values[row * stride..],
                stride,
            },
        }
    }

    /// The first row of a panel, and the distance between its rows.
    #[inline(always)]
    fn panel(self, panel: Panel) -> (*const f32, usize) {
        match self {
            Right::Packed {
                values,
                rows,
                first,
            } => {
                let start = panel.start * rows + first * panel.width;
                (values.as_ptr().wrapping_add(start), panel.width)
            }
            Right::InPlace { values, stride } => {
                (values.as_ptr().wrapping_add(panel.start), stride)
            }
        }
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
        assert!(self.b.holds(self.a_offsets.len(), self.panels));
        if self.count > 0 {
            assert!((self.count - 1) * self.c_stride + self.panels.columns() <= self.c.length());
        }
    }
}

/// `MR` rows by `NV` vectors of a sum of outer products, kept in registers: the micro-kernel. `a` and each of the offsets give `MR`
/// consecutive floats; rows of `b` are `b_stride` apart, those of `c` `c_stride`, and `tail` lanes of their last vector are used.
///
/// # Safety
/// `a` must be readable for `MR` floats at every offset, `b` for `NV` vectors `b_stride` apart per offset, and `MR` rows of `c` readable and
/// writable for `NV - 1` vectors and `tail` lanes.
#[inline(always)]
pub(crate) unsafe fn column_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: *const f32,
    offsets: impl Iterator<Item = usize>,
    mut b: *const f32,
    b_stride: usize,
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
            b = b.wrapping_add(b_stride);
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
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    tail: usize,
    accumulate: bool,
    ahead: &mut Ahead,
) {
    // Nine rows are a 3x3 window of one channel, or a row of it of three; at least eight sums hide an addition's latency, but where
    // they are only eight, the multipliers still wait: sixteen rows are two tiles of eight and not twelve and four.
    macro_rules! tiles {
        ($vectors:literal: $($rows:literal)+) => {{
            let mut row = 0;
            while row < rows {
                let left = rows - row;
                // SAFETY: the caller's promise; a tile never has more rows than are left.
                unsafe {
                    let (a, c) = (a.add(row), c.add(row * c_stride));
                    $(if left >= $rows && !(left == 16 && $vectors == 2 && $rows > 8) {
                        column_tile::<S, $rows, $vectors>(
                            s, a, offsets.clone(), b, b_stride, c, c_stride, tail, accumulate, ahead,
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
            2 => tiles!(2: 12 9 8 4 2 1),
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
        let tiles = self.count.div_ceil(TILE_ROWS) * self.range.len();
        let soon = self.ahead.map(<[f32]>::as_ptr_range);
        let mut ahead = Ahead::all(soon, tiles * self.a_offsets.len(), self.a.as_ptr());
        for first in (0..self.count).step_by(BLOCK) {
            let rows = first..(first + BLOCK).min(self.count);
            for index in self.range.clone() {
                let panel = self.panels.panel(index);
                let (b, b_stride) = self.b.panel(panel);
                // SAFETY: rows of `a`, `b` and `c` lie inside by `check`.
                unsafe {
                    strip(
                        s,
                        panel.vectors,
                        rows.len(),
                        self.a.as_ptr().add(self.a_start + rows.start),
                        self.a_offsets.iter().copied(),
                        b,
                        b_stride,
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
