//! The product of rows that lie anywhere with a packed matrix: the inner loop of forward convolution, of the gradient of its
//! input, and of `A·B`.
//!
//! A row of the left-hand matrix is a pointer, and its elements are a few *runs* of consecutive floats at the same distances
//! from it. So an image in NHWC is read where it lies: the rows of the matrix are the output's pixels, and the runs are
//! the kernel's rows (kernel width × channels consecutive floats), with no im2col.

use super::TILE_ROWS;
use super::ahead::{Ahead, Ask};
use super::panels::{Panel, Panels};
use super::target::Target;
use crate::isa::{Simd, SimdOp};
use crate::parallel::piece;
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

/// Elements of the packed matrix, at most, where rows go in blocks through all panels: then the output is written from its beginning to its
/// end, and what the next block reads and writes is asked for. (64→256 on 56×56, Zen 4: 0.78 of the time of one panel after another, whose
/// every second line of the output is in another part of memory.) A larger one would go through the second-level cache for every block.
const BLOCK_MATRIX: usize = 128 * 1024;
/// Elements of the left-hand rows of a block: with a panel they fit the first-level cache.
const BLOCK_ELEMENTS: usize = 3 * 1024;

/// Left-hand rows that go through all panels before the next.
fn block(rows: usize, depth: usize, panels: usize, width: usize) -> usize {
    if panels <= 1 || depth * width > BLOCK_MATRIX {
        return rows.max(1);
    }
    // Whole tiles of registers.
    (BLOCK_ELEMENTS / depth.max(1) / TILE_ROWS * TILE_ROWS).clamp(24, 96)
}

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
        assert!(depth * self.columns().len() <= self.b.len());
        if let Some(bias) = self.bias {
            assert_eq!(bias.len(), self.panels.columns());
        }
    }

    #[inline(always)]
    fn panel<S: Simd>(&self, s: S, panel: Panel, rows: Range<usize>, b: &[f32], ahead: &mut Ahead) {
        let tail = panel.columns - (panel.vectors - 1) * S::LANES;
        let rows = Scattered {
            a: self.a.as_ptr(),
            a_offsets: &self.a_offsets[rows.clone()],
            c: self.c.pointer().wrapping_add(panel.start),
            c_offsets: &self.c_offsets[rows],
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
                row_strip(s, panel.vectors, rows, runs, b.as_ptr(), tail, start, ahead);
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
/// Meanwhile `ahead` is asked for, a step for every element of a row and tile of several vectors.
///
/// # Safety
/// As for [`row_tile`], for all rows together.
#[inline(always)]
pub(crate) unsafe fn row_strip<S: Simd, R: Rows, A: Ask>(
    s: S,
    vectors: usize,
    rows: R,
    runs: &[Run],
    b: *const f32,
    tail: usize,
    start: Start<'_>,
    ahead: &mut A,
) {
    // The first tile whose condition holds. The last rows take one that has room for them; it computes its last row several times and
    // stores it once.
    macro_rules! tiles {
        ($vectors:literal, $left:ident: $($rows:literal if $fits:expr),+) => {{
            let mut row = 0;
            while row < rows.count() {
                let $left = rows.count() - row;
                $(if $fits {
                    let last = $left.min($rows) - 1;
                    // SAFETY: the caller's promise; rows past the last are the last.
                    unsafe {
                        let a: [*const f32; $rows] = std::array::from_fn(|i| rows.a(row + i.min(last)));
                        let c: [*mut f32; $rows] = std::array::from_fn(|i| rows.c(row + i.min(last)));
                        row_tile::<S, A, $rows, $vectors>(s, a, runs, b, c, last + 1, tail, start, ahead);
                    }
                    row += $rows;
                } else)+ {
                    unreachable!("a tile for any number of rows");
                }
            }
        }};
    }
    if S::REGISTERS >= 32 {
        match vectors {
            1 => tiles!(1, left: 12 if left > 8, 8 if left > 4, 4 if true),
            // So that few rows are computed in vain and few tiles are small: 25 rows are 9, 8 and 8, and not 12, 12 and 4.
            2 => tiles!(
                2, left:
                9 if matches!(left, 9 | 13 | 17 | 18 | 25..=27),
                12 if left > 8 && left != 16,
                8 if left > 4,
                4 if true
            ),
            _ => tiles!(3, left: 8 if left > 4, 4 if true),
        }
    } else {
        match vectors {
            1 => tiles!(1, left: 8 if left > 4, 4 if true),
            2 => tiles!(2, left: 6 if left > 3, 3 if true),
            _ => tiles!(3, left: 4 if left > 2, 2 if true),
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
pub(crate) unsafe fn row_tile<S: Simd, A: Ask, const MR: usize, const NV: usize>(
    s: S,
    a: [*const f32; MR],
    runs: &[Run],
    mut b: *const f32,
    c: [*mut f32; MR],
    rows: usize,
    tail: usize,
    start: Start<'_>,
    ahead: &mut A,
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
        let mut next = *ahead;
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
                    next.advance(s);
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
        if NV > 1 {
            *ahead = next;
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
        let columns = self.columns();
        let all = self.a_offsets.len();
        let block = block(all, depth, self.range.len(), columns.len());
        for first in (0..all).step_by(block) {
            let rows = piece(first / block, block, all);
            let mut ahead = if block < all {
                let next = piece(first / block + 1, block, all);
                let soon = [self.lines_of_a(next.clone(), depth), self.lines_of_c(next)];
                let steps = rows.len().div_ceil(TILE_ROWS) * self.range.len() * depth;
                Ahead::all(soon, steps, self.b.as_ptr())
            } else {
                self.next_tiles::<S>(depth)
            };
            for index in self.range.clone() {
                let panel = self.panels.panel(index);
                let b = &self.b[depth * (panel.start - columns.start)..][..depth * panel.width];
                self.panel(s, panel, rows.clone(), b, &mut ahead);
                if block >= all {
                    // The first panel brought the rows into the cache.
                    ahead = Ahead::none(b.as_ptr());
                }
            }
        }
    }
}

impl RowProduct<'_> {
    /// The columns of the range's panels, with those that fill up the last vector.
    #[inline(always)]
    fn columns(&self) -> Range<usize> {
        let panel = |index: Option<usize>| index.map(|index| self.panels.panel(index));
        let first = panel(self.range.clone().next());
        let last = panel(self.range.clone().last());
        first.map_or(0, |panel| panel.start)..last.map_or(0, |panel| panel.start + panel.width)
    }

    /// The left-hand row at `row`, where one follows another.
    #[inline(always)]
    fn row(&self, row: usize, depth: usize) -> Option<*const f32> {
        let follow =
            |offsets: &[usize]| matches!(offsets, [first, second, ..] if second - first == depth);
        let follow = self.runs.len() == 1 && follow(self.a_offsets);
        let offset = self.a_offsets.get(row).filter(|_| follow)?;
        Some(self.a.as_ptr().wrapping_add(offset + self.runs[0].offset))
    }

    /// The left-hand rows of `rows`; nothing where one does not follow another.
    #[inline(always)]
    fn lines_of_a(&self, rows: Range<usize>, depth: usize) -> Range<*const f32> {
        let nothing = self.a.as_ptr()..self.a.as_ptr();
        self.row(rows.start, depth).map_or(nothing, |first| {
            first..first.wrapping_add(rows.len() * depth)
        })
    }

    /// The rows of the output, where they are whole and one follows another.
    #[inline(always)]
    fn lines_of_c(&self, rows: Range<usize>) -> Range<*const f32> {
        let c = self.c.pointer().cast_const();
        let columns = self.panels.columns();
        match self.c_offsets[rows.clone()] {
            [first, second, ..]
                if second - first == columns && self.range.len() == self.panels.count() =>
            {
                let first = c.wrapping_add(first);
                first..first.wrapping_add(rows.len() * columns)
            }
            _ => c..c,
        }
    }

    /// While a tile of registers is computed, the rows of the next, where one row follows another.
    #[inline(always)]
    fn next_tiles<S: Simd>(&self, depth: usize) -> Ahead {
        let rows = if S::REGISTERS >= 32 {
            TILE_ROWS
        } else {
            TILE_ROWS / 2
        };
        self.row(0, depth)
            .map_or(Ahead::none(self.b.as_ptr()), |first| {
                Ahead::stream(first.wrapping_add(rows * depth), 4 * rows)
            })
    }
}
