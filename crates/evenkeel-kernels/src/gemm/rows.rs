//! The product of rows that lie anywhere with a packed matrix: the inner loop of forward convolution, of the gradient of its
//! input, and of `A·B`.
//!
//! A row of the left-hand matrix is a pointer, and its elements are a few *runs* of consecutive floats at the same distances
//! from it. So an image in NHWC is read where it lies: the rows of the matrix are the output's pixels, and the runs are
//! the kernel's rows (kernel width × channels consecutive floats), with no im2col.

use super::columns::Ahead;
use super::panels::{Panel, Panels};
use super::target::Target;
use crate::isa::{Simd, SimdOp};
use std::ops::Range;

/// Consecutive elements of every left-hand row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Distance of the first from the row's pointer.
    pub offset: usize,
    /// How many.
    pub length: usize,
}

/// `C[row] = start + Σ_runs A[row]·B` for all rows and a range of B's panels.
pub(crate) struct RowProduct<'a> {
    /// Where the left-hand rows lie.
    pub a: &'a [f32],
    /// The first element of each row in `a`.
    pub a_offsets: &'a [usize],
    /// The elements of a row.
    pub runs: &'a [Run],
    /// The packed right-hand matrix, or a part of it that begins with the range's first panel.
    pub b: &'a [f32],
    /// How it was cut.
    pub panels: Panels,
    /// Which panels to use.
    pub range: Range<usize>,
    /// The output.
    pub c: Target<'a>,
    /// The first element of each output row in `c`; as many as `a_offsets`.
    pub c_offsets: &'a [usize],
    /// Added to every row: one value per column.
    pub bias: Option<&'a [f32]>,
    /// Adds to what `c` holds (instead of the bias).
    pub accumulate: bool,
}

/// Depth (elements of a row times columns of a panel) that stays in the second-level cache beside the rows.
const PANEL_ELEMENTS: usize = 64 * 1024;

impl RowProduct<'_> {
    #[inline(always)]
    fn check(&self, lanes: usize) {
        assert_eq!(
            lanes,
            self.panels.lanes(),
            "the instruction set changed during a call"
        );
        assert_eq!(self.a_offsets.len(), self.c_offsets.len());
        assert!(self.range.end <= self.panels.count());
        let reach = self.runs.iter().map(|run| run.offset + run.length).max();
        if !self.a_offsets.is_empty() {
            // Largest offsets with folds, and inside the kernel, because they become vector code.
            let (mut last_a, mut last_c) = (0, 0);
            for (&a, &c) in self.a_offsets.iter().zip(self.c_offsets) {
                last_a = last_a.max(a);
                last_c = last_c.max(c);
            }
            assert!(reach.is_none_or(|reach| last_a + reach <= self.a.len()));
            assert!(last_c + self.panels.columns() <= self.c.length());
        }
        let depth: usize = self.runs.iter().map(|run| run.length).sum();
        if let (Some(first), Some(last)) = (self.range.clone().next(), self.range.clone().last()) {
            let last = self.panels.panel(last);
            let width = last.start + last.width - self.panels.panel(first).start;
            assert!(depth * width <= self.b.len());
        }
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), self.panels.columns());
        }
    }

    #[inline(always)]
    fn panel<S: Simd>(&self, s: S, panel: Panel, b: &[f32], between: usize) {
        let tail = panel.columns - (panel.vectors - 1) * S::LANES;
        let rows = Scattered {
            a: self.a.as_ptr(),
            a_offsets: self.a_offsets,
            c: self.c.pointer().wrapping_add(panel.start),
            c_offsets: self.c_offsets,
        };
        // Runs are taken in blocks, so that the panel's part for one block stays in the second-level cache for all rows.
        let (mut first, mut depth) = (0, 0);
        loop {
            let mut block = 0;
            let mut next = first;
            while next < self.runs.len()
                && (block == 0 || (block + self.runs[next].length) * panel.width <= PANEL_ELEMENTS)
            {
                block += self.runs[next].length;
                next += 1;
            }
            let b = &b[depth * panel.width..(depth + block) * panel.width];
            let start = match self.bias {
                _ if self.accumulate || first > 0 => Start::Output,
                Some(bias) => Start::Bias(&bias[panel.start..panel.start + panel.columns]),
                None => Start::Zero,
            };
            // SAFETY: `check` has compared every offset with the slices' lengths, and `b` holds the panel's width for each element
            // of these runs.
            unsafe {
                let runs = &self.runs[first..next];
                row_strip(
                    s,
                    panel.vectors,
                    rows,
                    runs,
                    b.as_ptr(),
                    tail,
                    start,
                    between,
                );
            }
            depth += block;
            first = next;
            if first == self.runs.len() {
                break;
            }
        }
    }
}

/// Where the rows of a strip lie.
pub(crate) trait Rows: Copy {
    /// How many.
    fn count(self) -> usize;
    /// A left-hand row.
    ///
    /// # Safety
    /// `row < self.count()`.
    unsafe fn a(self, row: usize) -> *const f32;
    /// An output row.
    ///
    /// # Safety
    /// `row < self.count()`.
    unsafe fn c(self, row: usize) -> *mut f32;
}

/// Rows anywhere.
#[derive(Clone, Copy)]
struct Scattered<'a> {
    a: *const f32,
    a_offsets: &'a [usize],
    c: *mut f32,
    c_offsets: &'a [usize],
}

impl Rows for Scattered<'_> {
    #[inline(always)]
    fn count(self) -> usize {
        self.a_offsets.len()
    }
    #[inline(always)]
    unsafe fn a(self, row: usize) -> *const f32 {
        // SAFETY: there are as many offsets as rows, each inside the slice that `a` points to.
        unsafe { self.a.add(*self.a_offsets.get_unchecked(row)) }
    }
    #[inline(always)]
    unsafe fn c(self, row: usize) -> *mut f32 {
        // SAFETY: as above, and both offset tables have the same length.
        unsafe { self.c.add(*self.c_offsets.get_unchecked(row)) }
    }
}

/// All rows of one panel of `vectors` vectors, cut into tiles that fill the registers: 24 of 32 sums, or 12 of 16.
///
/// While a tile is computed, the rows after it are asked for, where left-hand rows follow one another, `between` floats apart (0: they do
/// not, or they are in cache).
///
/// # Safety
/// As for [`row_tile`], for all rows together.
#[inline(always)]
pub(crate) unsafe fn row_strip<S: Simd, R: Rows>(
    s: S,
    vectors: usize,
    rows: R,
    runs: &[Run],
    b: *const f32,
    tail: usize,
    start: Start<'_>,
    between: usize,
) {
    // The last rows take the smallest tile that holds them; it computes its last row several times and stores it once.
    macro_rules! tiles {
        ($vectors:literal: $full:literal $($less:literal)+) => {{
            let mut row = 0;
            while row < rows.count() {
                let left = rows.count() - row;
                tiles!(@ $vectors row left $full $($less)+);
            }
        }};
        (@ $vectors:literal $row:ident $left:ident $rows:literal) => {
            tiles!(! $vectors $row $left $rows)
        };
        (@ $vectors:literal $row:ident $left:ident $rows:literal $next:literal $($less:literal)*) => {
            if $left > $next {
                tiles!(! $vectors $row $left $rows)
            } else {
                tiles!(@ $vectors $row $left $next $($less)*)
            }
        };
        (! $vectors:literal $row:ident $left:ident $rows:literal) => {{
            let last = $left.min($rows) - 1;
            // SAFETY: the caller's promise; rows past the last are the last.
            unsafe {
                let a: [*const f32; $rows] = std::array::from_fn(|i| rows.a($row + i.min(last)));
                let c: [*mut f32; $rows] = std::array::from_fn(|i| rows.c($row + i.min(last)));
                let ahead = if between > 0 {
                    Ahead::stream(a[0].wrapping_add($rows * between), 4 * $rows)
                } else {
                    Ahead::none(b)
                };
                row_tile::<S, $rows, $vectors>(s, a, runs, b, c, last + 1, tail, start, ahead);
            }
            $row += $rows;
        }};
    }
    if S::REGISTERS >= 32 {
        match vectors {
            1 => tiles!(1: 12 8 4),
            2 => tiles!(2: 12 8 4),
            _ => tiles!(3: 8 4),
        }
    } else {
        match vectors {
            1 => tiles!(1: 8 4),
            2 => tiles!(2: 6 3),
            _ => tiles!(3: 4 2),
        }
    }
}

/// What a tile adds the product to.
#[derive(Clone, Copy)]
pub(crate) enum Start<'a> {
    /// Zeros.
    Zero,
    /// One value per column of the panel.
    Bias(&'a [f32]),
    /// What the output holds.
    Output,
}

/// `MR` rows by `NV` vectors, kept in registers through all runs: the micro-kernel. Stores the first `rows` rows, and `tail` lanes
/// of the last vector.
///
/// A function of its own on AArch64, where that costs no instruction set: with all tiles in one function, the compiler kept half of
/// Winograd's sums in memory.
///
/// # Safety
/// Every row of `a` must be readable through the reach of the runs, `b` for `NV` vectors per element of the runs, and the first
/// `rows` rows of `c` (and with [`Start::Output`] all) readable and writable for `NV - 1` vectors and `tail` lanes. A bias must have as many values.
#[cfg_attr(target_arch = "aarch64", inline(never))]
#[cfg_attr(not(target_arch = "aarch64"), inline(always))]
pub(crate) unsafe fn row_tile<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: [*const f32; MR],
    runs: &[Run],
    mut b: *const f32,
    c: [*mut f32; MR],
    rows: usize,
    tail: usize,
    start: Start<'_>,
    mut ahead: Ahead,
) {
    // SAFETY: the caller's promise; vectors but the last are whole, and of the last no more than `tail` lanes are touched.
    unsafe {
        let load = |p: *const f32, j: usize| {
            let p = p.add(j * S::LANES);
            if j + 1 < NV || tail == S::LANES {
                s.load(p)
            } else {
                s.load_partial(p, tail)
            }
        };
        let mut sums = [[s.zero(); NV]; MR];
        match start {
            Start::Zero => {}
            Start::Bias(bias) => {
                for j in 0..NV {
                    let v = load(bias.as_ptr(), j);
                    for i in 0..MR {
                        sums[i][j] = v;
                    }
                }
            }
            Start::Output => {
                for i in 0..MR {
                    for j in 0..NV {
                        sums[i][j] = load(c[i], j);
                    }
                }
            }
        }
        for run in runs {
            let end = run.offset + run.length;
            let mut index = run.offset;
            while index < end {
                // One vector is bound by loads, of which this is one.
                if NV > 1 {
                    ahead.advance(s);
                }
                let mut vectors = [s.zero(); NV];
                for j in 0..NV {
                    vectors[j] = s.load(b.add(j * S::LANES));
                }
                for i in 0..MR {
                    let x = s.splat(*a[i].add(index));
                    for j in 0..NV {
                        sums[i][j] = s.fma(x, vectors[j], sums[i][j]);
                    }
                }
                b = b.add(NV * S::LANES);
                index += 1;
            }
        }
        if rows == MR && tail == S::LANES {
            for i in 0..MR {
                for j in 0..NV {
                    s.store(sums[i][j], c[i].add(j * S::LANES));
                }
            }
        } else {
            for i in 0..MR {
                if i < rows {
                    for j in 0..NV {
                        let p = c[i].add(j * S::LANES);
                        if j + 1 < NV {
                            s.store(sums[i][j], p);
                        } else {
                            s.store_partial(sums[i][j], p, tail);
                        }
                    }
                }
            }
        }
    }
}

impl SimdOp for RowProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        self.check(S::LANES);
        let depth: usize = self.runs.iter().map(|run| run.length).sum();
        let mut b = self.b;
        // The first panel brings the rows into the cache; for the others they are there.
        let mut between = match self.a_offsets {
            [first, second, ..] if self.runs.len() == 1 && second - first == depth => depth,
            _ => 0,
        };
        for index in self.range.clone() {
            let panel = self.panels.panel(index);
            let (this, rest) = b.split_at(depth * panel.width);
            b = rest;
            self.panel(s, panel, this, between);
            between = 0;
        }
    }
}
