//! The product of a few rows with a matrix that is read once, where it lies: a fully connected layer and a small batch. Packing would move
//! the matrix three times, and need as much memory again (411 MB in the first such layer of a VGG).

use super::target::Target;
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, multiply_adds, piece};
use crate::scratch::with_scratch;

/// Most rows that are few. Each has sums of its own for all that is read, in registers or the first-level cache.
const FEW_ROWS: usize = 8;
/// Tasks, at least, that columns are cut into.
const TASKS: usize = 4;
/// Sums of one task, at most, where its columns lie side by side: they stay in the first-level cache.
const SUMS: usize = 4096;
/// Elements of one task where every column is a row of memory.
const ELEMENTS: usize = 1 << 15;
/// How many columns a dot product takes at a time, so that each vector of the few rows serves as many.
const DOTS: usize = 4;

/// `C = A·B`, or `C += A·B`.
#[derive(Clone, Copy)]
pub(super) struct FewRows<'a> {
    /// At most [`FEW_ROWS`].
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    /// `[rows, depth]`.
    pub a: &'a [f32],
    /// `[depth, columns]`, or `[columns, depth]` where `transposed`.
    pub b: &'a [f32],
    pub transposed: bool,
    /// Added to every row: one value per column.
    pub bias: Option<&'a [f32]>,
    /// Adds to what `c` holds.
    pub accumulate: bool,
    /// `[rows, columns]`.
    pub c: Target<'a>,
}

impl FewRows<'_> {
    /// Whether packing the matrix costs more than its sums, or dot products, do without it. (8 rows, 2,048 of depth and 10 columns take ten times
    /// as long without.)
    pub fn pays(rows: usize, columns: usize, depth: usize, transposed: bool) -> bool {
        let side = if transposed { depth } else { columns };
        (1..=FEW_ROWS).contains(&rows) && side >= 128 && columns * depth >= 1 << 16
    }

    /// Multiplies. The lengths must have been checked.
    pub fn run(self) {
        let (columns, depth) = (self.columns, self.depth);
        let width = if self.transposed {
            (ELEMENTS / depth.max(1)).max(1).next_multiple_of(DOTS)
        } else {
            let share = columns.div_ceil(TASKS).next_multiple_of(64);
            share.min(SUMS / self.rows)
        };
        let work = multiply_adds(self.rows * columns * depth);
        for_each_task(columns.div_ceil(width), work, |task| {
            let range = piece(task, width, columns);
            let stride = range.len().next_multiple_of(MAX_LANES);
            with_scratch(self.rows * stride, |sums| {
                macro_rules! block {
                    ($($rows:literal)+) => {
                        match self.rows {
                            $($rows => dispatch(Block::<$rows> {
                                product: self,
                                first: range.start,
                                columns: range.len(),
                                sums,
                            }),)+
                            rows => unreachable!("{rows} rows are not few"),
                        }
                    };
                }
                block!(1 2 3 4 5 6 7 8);
            });
        });
    }
}

/// Some columns of a product of `M` rows.
struct Block<'a, const M: usize> {
    product: FewRows<'a>,
    first: usize,
    columns: usize,
    /// Their sums, row after row, side by side: where the output's rows lie a power of two apart, they would share few sets of a cache.
    sums: &'a mut [f32],
}

impl<const M: usize> SimdOp for Block<'_, M> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let (first, columns, stride) = (self.first, self.columns, self.stride());
        let FewRows {
            rows,
            columns: all,
            depth,
            a,
            b,
            transposed,
            bias,
            c,
            ..
        } = self.product;
        assert!(rows == M && first + columns <= all);
        assert!(a.len() == M * depth && b.len() == depth * all && c.length() == M * all);
        assert!(bias.is_none_or(|bias| bias.len() == all));
        assert!(columns <= stride);
        self.start();
        // SAFETY: the asserts compared the block with every array.
        unsafe {
            if transposed {
                self.dots(s);
            } else if M * 4 + 8 <= S::REGISTERS {
                self.add_all::<S, 4>(s);
            } else if M * 3 + 8 <= S::REGISTERS {
                self.add_all::<S, 3>(s);
            } else {
                self.add_all::<S, 2>(s);
            }
        }
        for row in 0..M {
            self.output(row)
                .copy_from_slice(&self.sums[row * stride..][..columns]);
        }
    }
}

impl<'a, const M: usize> Block<'a, M> {
    /// Sums between rows.
    #[inline(always)]
    fn stride(&self) -> usize {
        self.sums.len() / M
    }

    /// The block's columns of a row of the output: a task's own.
    #[inline(always)]
    fn output(&self, row: usize) -> &'a mut [f32] {
        let to = self.product.c.from(row * self.product.columns + self.first);
        assert!(self.columns <= to.length());
        // SAFETY: inside of the output; tasks have different columns, and a task uses one such slice at a time.
        unsafe { std::slice::from_raw_parts_mut(to.pointer(), self.columns) }
    }

    /// Fills the sums with what the products are added to.
    #[inline(always)]
    fn start(&mut self) {
        let (first, columns, stride) = (self.first, self.columns, self.stride());
        let product = self.product;
        for row in 0..M {
            let to = row * stride..row * stride + columns;
            if product.accumulate {
                let from = self.output(row);
                self.sums[to].copy_from_slice(from);
            } else if let Some(bias) = product.bias {
                self.sums[to].copy_from_slice(&bias[first..first + columns]);
            } else {
                self.sums[to].fill(0.0);
            }
        }
    }

    /// Adds row after row of the matrix, `P` of them at a time, in the order in which a packed product adds them.
    ///
    /// # Safety
    /// The block must be inside of all arrays.
    #[inline(always)]
    unsafe fn add_all<S: Simd, const P: usize>(&mut self, s: S) {
        let depth = self.product.depth;
        let mut row = 0;
        // SAFETY: rows below `depth`, and the caller's promise.
        unsafe {
            while row + P <= depth {
                self.add_rows::<S, P>(s, row);
                row += P;
            }
            while row < depth {
                self.add_rows::<S, 1>(s, row);
                row += 1;
            }
        }
    }

    /// Adds the products with `P` rows of the matrix from `row` on.
    ///
    /// # Safety
    /// As [`Self::add_all`], and `row + P <= depth`.
    #[inline(always)]
    unsafe fn add_rows<S: Simd, const P: usize>(&mut self, s: S, row: usize) {
        let (first, columns, stride) = (self.first, self.columns, self.stride());
        let FewRows {
            columns: all,
            depth,
            a,
            b,
            ..
        } = self.product;
        // SAFETY: elements of rows below `depth` and of columns in the block, by the caller's promise; nothing is read at addresses that
        // are only asked for.
        unsafe {
            let mut factors = [[s.zero(); P]; M];
            for i in 0..M {
                for p in 0..P {
                    factors[i][p] = s.splat(*a.as_ptr().add(i * depth + row + p));
                }
            }
            let b = b.as_ptr().add(row * all + first);
            let sums = self.sums.as_mut_ptr();
            let mut column = 0;
            while column + S::LANES <= columns {
                let mut vectors = [s.zero(); P];
                for p in 0..P {
                    let from = b.add(p * all + column);
                    s.prefetch(from.wrapping_add(P * all));
                    vectors[p] = s.load(from);
                }
                for i in 0..M {
                    let to = sums.add(i * stride + column);
                    let mut sum = s.load(to);
                    for p in 0..P {
                        sum = s.fma(factors[i][p], vectors[p], sum);
                    }
                    s.store(sum, to);
                }
                column += S::LANES;
            }
            if column < columns {
                let lanes = columns - column;
                for i in 0..M {
                    let to = sums.add(i * stride + column);
                    let mut sum = s.load_partial(to, lanes);
                    for p in 0..P {
                        let vector = s.load_partial(b.add(p * all + column), lanes);
                        sum = s.fma(factors[i][p], vector, sum);
                    }
                    s.store_partial(sum, to, lanes);
                }
            }
        }
    }

    /// Adds dot products with the rows of the transposed matrix.
    ///
    /// # Safety
    /// The block must be inside of all arrays.
    #[inline(always)]
    unsafe fn dots<S: Simd>(&mut self, s: S) {
        let columns = self.columns;
        let mut column = 0;
        // SAFETY: columns of the block, and the caller's promise.
        unsafe {
            while column + DOTS <= columns {
                self.dot::<S, DOTS>(s, column);
                column += DOTS;
            }
            while column < columns {
                self.dot::<S, 1>(s, column);
                column += 1;
            }
        }
    }

    /// Adds the dot products of all rows with `N` columns.
    ///
    /// # Safety
    /// As [`Self::dots`], and the columns must be in the block.
    #[inline(always)]
    unsafe fn dot<S: Simd, const N: usize>(&mut self, s: S, column: usize) {
        let FewRows { depth, a, b, .. } = self.product;
        let (first, stride) = (self.first, self.stride());
        // SAFETY: `depth` elements of rows of both matrices, by the caller's promise.
        unsafe {
            let (a, b) = (a.as_ptr(), b.as_ptr().add((first + column) * depth));
            let mut sums = [[s.zero(); N]; M];
            let mut at = 0;
            while at < depth {
                let lanes = S::LANES.min(depth - at);
                let load = |p: *const f32| {
                    if lanes == S::LANES {
                        s.load(p)
                    } else {
                        // Zeros beyond the lanes add nothing.
                        s.load_partial(p, lanes)
                    }
                };
                let mut vectors = [s.zero(); N];
                for j in 0..N {
                    vectors[j] = load(b.add(j * depth + at));
                }
                for i in 0..M {
                    let x = load(a.add(i * depth + at));
                    for j in 0..N {
                        sums[i][j] = s.fma(x, vectors[j], sums[i][j]);
                    }
                }
                at += S::LANES;
            }
            for i in 0..M {
                for j in 0..N {
                    self.sums[i * stride + column + j] += s.sum(sums[i][j]);
                }
            }
        }
    }
}
