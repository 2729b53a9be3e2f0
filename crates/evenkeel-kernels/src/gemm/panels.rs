//! The right-hand matrix of a product, cut into panels of a few vectors' width and copied so that a micro-kernel reads it in order.

use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::for_each_task;

/// Vectors in a panel, except perhaps the last one, which takes 1, 2 or 3.
const VECTORS: usize = 2;

/// How the columns of a matrix are cut into panels for vectors of `lanes`.
///
/// Two vectors by twelve rows is the tile of choice with 32 registers: a row of the panel (two vectors) is loaded once per 24
/// multiply-adds, so a panel streams from the second-level cache at 11 bytes a cycle, which Zen 5 hides completely; wider tiles
/// with fewer rows were no faster from the first level (99 % of peak all) and need twice that rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panels {
    columns: usize,
    lanes: usize,
}

/// One panel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Panel {
    /// The first column.
    pub start: usize,
    /// Columns that exist; the rest of the width is zeros.
    pub columns: usize,
    /// Vectors: 1, 2 or 3.
    pub vectors: usize,
    /// `vectors * lanes`.
    pub width: usize,
}

impl Panels {
    pub(crate) fn new(columns: usize, lanes: usize) -> Self {
        Panels { columns, lanes }
    }

    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    pub(crate) fn lanes(&self) -> usize {
        self.lanes
    }

    fn vectors(&self) -> usize {
        self.columns.div_ceil(self.lanes)
    }

    /// How many panels there are (none where there are no columns).
    pub(crate) fn count(&self) -> usize {
        (self.vectors() / VECTORS).max(usize::from(self.columns > 0))
    }

    /// Panel `index`.
    pub(crate) fn panel(&self, index: usize) -> Panel {
        debug_assert!(index < self.count());
        let vectors = if index + 1 == self.count() {
            self.vectors() - index * VECTORS
        } else {
            VECTORS
        };
        let (start, width) = (index * VECTORS * self.lanes, vectors * self.lanes);
        Panel {
            start,
            columns: width.min(self.columns - start),
            vectors,
            width,
        }
    }

    /// Columns with the zeros that fill up the last panel. A packed matrix of `depth` rows has `depth * padded_columns`
    /// elements, and the panel that starts at column `start` begins at `depth * start`.
    pub(crate) fn padded_columns(&self) -> usize {
        self.vectors() * self.lanes
    }
}

/// A matrix seen through strides: element (row, column) is `values[origin + row * row_stride + column * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct Strided<'a> {
    pub values: &'a [f32],
    pub origin: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

/// Copies `rows` rows of one panel to `packed[row * width + column]`, with zeros where the panel has no columns.
pub(crate) fn pack_panel(packed: &mut [f32], panel: Panel, rows: usize, source: Strided<'_>) {
    let origin = source.origin + panel.start * source.column_stride;
    if source.column_stride == 1 {
        dispatch(Copy {
            packed,
            panel,
            rows,
            source,
            origin,
        });
        return;
    }
    if source.row_stride == 1 {
        dispatch(Transpose {
            packed,
            panel,
            rows,
            source,
            origin,
        });
        return;
    }
    for (row, to) in packed[..rows * panel.width]
        .chunks_exact_mut(panel.width)
        .enumerate()
    {
        to[panel.columns..].fill(0.0);
        for (column, to) in to[..panel.columns].iter_mut().enumerate() {
            *to = source.values[origin + row * source.row_stride + column * source.column_stride];
        }
    }
}

/// Packs a panel of a matrix whose rows are consecutive in memory: vector by vector, since rows are too short for `memcpy`.
struct Copy<'a> {
    packed: &'a mut [f32],
    panel: Panel,
    rows: usize,
    source: Strided<'a>,
    origin: usize,
}

impl SimdOp for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (panel, stride) = (self.panel, self.source.row_stride);
        if self.rows == 0 || panel.columns == 0 {
            return;
        }
        let from = &self.source.values[self.origin..];
        let packed = &mut self.packed[..self.rows * panel.width];
        assert_eq!(
            panel.width,
            panel.vectors * S::LANES,
            "the instruction set changed during a call"
        );
        assert!(panel.columns <= panel.width && panel.columns > panel.width - S::LANES);
        assert!((self.rows - 1) * stride + panel.columns <= from.len());
        let tail = panel.columns - (panel.vectors - 1) * S::LANES;
        for row in 0..self.rows {
            // SAFETY: whole vectors but the last, which ends with the panel's columns; the asserts compared the last row with both
            // slices.
            unsafe {
                let from = from.as_ptr().add(row * stride);
                let to = packed.as_mut_ptr().add(row * panel.width);
                let last = (panel.vectors - 1) * S::LANES;
                for at in (0..last).step_by(S::LANES) {
                    s.store(s.load(from.add(at)), to.add(at));
                }
                s.store(s.load_partial(from.add(last), tail), to.add(last));
            }
        }
    }
}

/// Packs all panels of a matrix whose rows are consecutive in memory, row by row: the matrix is read in the order of memory.
pub(crate) fn pack_rows(packed: &mut [f32], panels: Panels, rows: usize, source: Strided<'_>) {
    assert_eq!(source.column_stride, 1);
    dispatch(CopyRows {
        packed,
        panels,
        rows,
        source,
    });
}

/// See [`pack_rows`].
struct CopyRows<'a> {
    packed: &'a mut [f32],
    panels: Panels,
    rows: usize,
    source: Strided<'a>,
}

impl SimdOp for CopyRows<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (panels, rows, stride) = (self.panels, self.rows, self.source.row_stride);
        if rows == 0 || panels.columns() == 0 {
            return;
        }
        assert_eq!(
            panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        let from = &self.source.values[self.source.origin..];
        assert!((rows - 1) * stride + panels.columns() <= from.len());
        let packed = &mut self.packed[..rows * panels.padded_columns()];
        let last = panels.panel(panels.count() - 1);
        // Columns in panels of two whole vectors; what follows is the last panel's.
        let whole = last.start;
        let tail = last.columns - (last.vectors - 1) * S::LANES;
        for row in 0..rows {
            // SAFETY: the asserts compared the last row with both slices: panels of two vectors lie `rows * width` apart, the last one
            // behind them, and of its last vector only the columns that exist are read.
            unsafe {
                let from = from.as_ptr().add(row * stride);
                let width = VECTORS * S::LANES;
                let mut to = packed.as_mut_ptr().add(row * width);
                for start in (0..whole).step_by(width) {
                    for vector in 0..VECTORS {
                        let at = vector * S::LANES;
                        s.store(s.load(from.add(start + at)), to.add(at));
                    }
                    to = to.wrapping_add(rows * width);
                }
                let to = packed.as_mut_ptr().add(rows * whole + row * last.width);
                let from = from.add(whole);
                for at in (0..last.width - S::LANES).step_by(S::LANES) {
                    s.store(s.load(from.add(at)), to.add(at));
                }
                let at = last.width - S::LANES;
                s.store(s.load_partial(from.add(at), tail), to.add(at));
            }
        }
    }
}

/// Packs a panel of a matrix whose columns are consecutive in memory: by squares that are transposed in registers.
struct Transpose<'a> {
    packed: &'a mut [f32],
    panel: Panel,
    rows: usize,
    source: Strided<'a>,
    origin: usize,
}

impl SimdOp for Transpose<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (panel, stride) = (self.panel, self.source.column_stride);
        let packed = &mut self.packed[..self.rows * panel.width];
        if self.rows == 0 || panel.columns == 0 {
            return;
        }
        let from = &self.source.values[self.origin..];
        assert!((panel.columns - 1) * stride + self.rows <= from.len());
        let whole_columns = panel.columns / S::LANES * S::LANES;
        let whole_rows = self.rows / S::LANES * S::LANES;
        for column in (0..whole_columns).step_by(S::LANES) {
            for row in (0..whole_rows).step_by(S::LANES) {
                // SAFETY: a square of rows and columns that exist; the assert compared the last of them with the source.
                unsafe {
                    s.transpose(
                        from.as_ptr().add(column * stride + row),
                        stride,
                        packed.as_mut_ptr().add(row * panel.width + column),
                        panel.width,
                    );
                }
            }
        }
        for (row, to) in packed.chunks_exact_mut(panel.width).enumerate() {
            let first = if row < whole_rows { whole_columns } else { 0 };
            for column in first..panel.width {
                to[column] = if column < panel.columns {
                    from[column * stride + row]
                } else {
                    0.0
                };
            }
        }
    }
}

/// Packs a whole matrix of `rows` rows, panel after panel, in parallel.
pub(crate) fn pack(packed: &mut [f32], panels: Panels, rows: usize, source: Strided<'_>) {
    let parts = crate::parallel::DisjointMut::new(packed);
    for_each_task(panels.count(), rows * panels.columns(), |index| {
        let panel = panels.panel(index);
        let start = rows * panel.start;
        // SAFETY: panels do not overlap: each starts where the one before it ends.
        let part = unsafe { parts.part(start..start + rows * panel.width) };
        pack_panel(part, panel, rows, source);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_cover_all_columns_once() {
        for lanes in [4, 8, 16] {
            for columns in 0..200 {
                let panels = Panels::new(columns, lanes);
                let mut next = 0;
                for index in 0..panels.count() {
                    let panel = panels.panel(index);
                    assert_eq!(panel.start, next);
                    assert!((1..=3).contains(&panel.vectors));
                    assert!(panel.columns > (panel.vectors - 1) * lanes);
                    assert!(panel.columns <= panel.width);
                    next += panel.columns;
                }
                assert_eq!(next, columns);
            }
        }
    }

    #[test]
    fn packing_transposes_and_fills_with_zeros() {
        crate::testing::at_every_level(check_packing);
    }

    fn check_packing() {
        let (rows, columns) = (19, 37);
        let values: Vec<f32> = (0..rows * columns).map(|x| x as f32 + 1.0).collect();
        let panels = Panels::new(columns, crate::gemm::lanes());
        let mut straight = vec![f32::NAN; rows * panels.padded_columns()];
        let mut transposed = straight.clone();
        pack(
            &mut straight,
            panels,
            rows,
            Strided {
                values: &values,
                origin: 0,
                row_stride: columns,
                column_stride: 1,
            },
        );
        pack(
            &mut transposed,
            panels,
            rows,
            Strided {
                values: &values,
                origin: 0,
                row_stride: 1,
                column_stride: rows,
            },
        );
        for index in 0..panels.count() {
            let panel = panels.panel(index);
            for row in 0..rows {
                for lane in 0..panel.width {
                    let at = rows * panel.start + row * panel.width + lane;
                    let column = panel.start + lane;
                    if lane < panel.columns {
                        assert_eq!(straight[at], values[row * columns + column]);
                        assert_eq!(transposed[at], values[column * rows + row]);
                    } else {
                        assert_eq!((straight[at], transposed[at]), (0.0, 0.0));
                    }
                }
            }
        }
    }
}
