//! The transforms of tiles: four neighbouring outputs of a row, and the source pixels they are computed from.

use super::points::{OUTPUTS, Points};
use crate::gemm::panels::Panels;
use crate::isa::{MAX_LANES, Simd, SimdOp};
use std::marker::PhantomData;
use std::ops::Range;

/// Where transformed source rows lie: `[point][tile][row][element]`, so that the rows of a kernel are consecutive.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    /// Tiles of a row.
    pub tiles: usize,
    /// Source rows with room in every tile.
    pub rows: usize,
    /// Elements of a tap: the channels of as many pixels as the stride.
    pub inner: usize,
}

impl Layout {
    /// Distance of two points; a vector that begins inside may end behind the last element.
    pub fn point(self) -> usize {
        self.tiles * self.rows * self.inner + MAX_LANES
    }
}

/// Transforms all tiles of `rows` padded source rows.
pub(super) struct SourceTransform<'a, P, const TAPS: usize, const POINTS: usize> {
    /// The rows, and after them room for one more vector.
    pub source: &'a [f32],
    pub rows: usize,
    pub layout: Layout,
    /// The transformed rows.
    pub to: &'a mut [f32],
    pub points: PhantomData<P>,
}

impl<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize> SimdOp
    for SourceTransform<'_, P, TAPS, POINTS>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let Layout { tiles, rows, inner } = self.layout;
        let row_length = (OUTPUTS * tiles + TAPS - 1) * inner;
        assert!(self.rows <= rows);
        assert!(self.rows * row_length + MAX_LANES <= self.source.len());
        assert!(POINTS * self.layout.point() <= self.to.len());
        // Ascending addresses: lanes of a vector that belong to what follows are overwritten by it.
        for tile in 0..tiles {
            for row in 0..self.rows {
                for element in (0..inner).step_by(S::LANES) {
                    let from = row * row_length + OUTPUTS * tile * inner + element;
                    let to = (tile * rows + row) * inner + element;
                    // SAFETY: a tile reads `POINTS = OUTPUTS + TAPS - 1` taps, the last of which ends within the row, and up to
                    // `LANES - 1` floats behind it, which the first assertion allows. `to` begins inside a point of the layout, which
                    // ends with room for a vector.
                    unsafe {
                        let mut pixels = [s.zero(); POINTS];
                        for i in 0..POINTS {
                            pixels[i] = s.load(self.source.as_ptr().add(from + i * inner));
                        }
                        for k in 0..POINTS {
                            let mut sum = s.zero();
                            for i in 0..POINTS {
                                let factor = P::MATRICES.source[k][i];
                                if factor != 0.0 {
                                    sum = s.fma(s.splat(factor), pixels[i], sum);
                                }
                            }
                            s.store(sum, self.to.as_mut_ptr().add(k * self.layout.point() + to));
                        }
                    }
                }
            }
        }
    }
}

/// Outputs from the products of some tiles.
pub(super) struct ResultTransform<'a, P, const TAPS: usize, const POINTS: usize> {
    /// `[point][tile][padded column]`, from the first of `range` on.
    pub products: &'a [f32],
    pub panels: Panels,
    pub bias: Option<&'a [f32]>,
    /// Which tiles of `to`.
    pub range: Range<usize>,
    /// Whole rows of outputs.
    pub to: &'a mut [f32],
    /// Pixels of a row.
    pub width: usize,
    pub points: PhantomData<P>,
}

/// How far the pixels of a tile reach: its first pixel, and how many exist.
#[inline(always)]
pub(super) fn pixels_of(tile: usize, width: usize) -> (usize, usize) {
    let tiles = width.div_ceil(OUTPUTS);
    let (row, column) = (tile / tiles, tile % tiles * OUTPUTS);
    (row * width + column, OUTPUTS.min(width - column))
}

impl<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize> SimdOp
    for ResultTransform<'_, P, TAPS, POINTS>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (columns, padded) = (self.panels.columns(), self.panels.padded_columns());
        let point = self.range.len() * padded;
        assert_eq!(self.panels.lanes(), S::LANES);
        assert!(POINTS * point <= self.products.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == columns));
        for (index, tile) in self.range.clone().enumerate() {
            let (pixel, count) = pixels_of(tile, self.width);
            assert!((pixel + count) * columns <= self.to.len());
            for column in (0..columns).step_by(S::LANES) {
                let lanes = S::LANES.min(columns - column);
                // SAFETY: tile and padded columns lie inside each point of `products`; of the outputs, only pixels that exist and
                // `lanes` columns are touched, inside by the assertion, as are the bias's.
                unsafe {
                    let start = match self.bias {
                        Some(bias) => s.load_partial(bias.as_ptr().add(column), lanes),
                        None => s.zero(),
                    };
                    let mut sums = [start; OUTPUTS];
                    for k in 0..POINTS {
                        let from = k * point + index * padded + column;
                        let product = s.load(self.products.as_ptr().add(from));
                        for i in 0..OUTPUTS {
                            let factor = P::MATRICES.result[i][k];
                            if factor == 1.0 {
                                sums[i] = s.add(sums[i], product);
                            } else if factor != 0.0 {
                                sums[i] = s.fma(s.splat(factor), product, sums[i]);
                            }
                        }
                    }
                    let to = self.to.as_mut_ptr().add(pixel * columns + column);
                    for i in 0..OUTPUTS {
                        if i < count {
                            let to = to.add(i * columns);
                            if lanes == S::LANES {
                                s.store(sums[i], to);
                            } else {
                                s.store_partial(sums[i], to, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The transposed [`ResultTransform`]: from the gradient of some tiles' outputs to panels of each point.
pub(super) struct GradientTransform<'a, P, const TAPS: usize, const POINTS: usize> {
    /// Whole rows of the output's gradient.
    pub gradient: &'a [f32],
    /// Pixels of a row.
    pub width: usize,
    /// Which tiles of them.
    pub range: Range<usize>,
    pub panels: Panels,
    /// For every point, the panels of a matrix with a row for each tile.
    pub to: &'a mut [f32],
    pub points: PhantomData<P>,
}

impl<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize> SimdOp
    for GradientTransform<'_, P, TAPS, POINTS>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let columns = self.panels.columns();
        let point = self.range.len() * self.panels.padded_columns();
        assert_eq!(self.panels.lanes(), S::LANES);
        assert!(POINTS * point <= self.to.len());
        for (index, tile) in self.range.clone().enumerate() {
            let (pixel, count) = pixels_of(tile, self.width);
            assert!((pixel + count) * columns <= self.gradient.len());
            for number in 0..self.panels.count() {
                let panel = self.panels.panel(number);
                for vector in 0..panel.vectors {
                    let column = panel.start + vector * S::LANES;
                    let lanes = S::LANES.min(columns - column);
                    // SAFETY: pixels that exist lie inside the gradient by the assertion; row `index` of this panel lies inside
                    // each point.
                    unsafe {
                        let from = self.gradient.as_ptr().add(pixel * columns + column);
                        let mut pixels = [s.zero(); OUTPUTS];
                        for i in 0..OUTPUTS {
                            if i < count {
                                let from = from.add(i * columns);
                                pixels[i] = if lanes == S::LANES {
                                    s.load(from)
                                } else {
                                    s.load_partial(from, lanes)
                                };
                            }
                        }
                        let to = self.to.as_mut_ptr().add(
                            panel.start * self.range.len()
                                + index * panel.width
                                + vector * S::LANES,
                        );
                        for k in 0..POINTS {
                            let mut sum = s.zero();
                            for i in 0..OUTPUTS {
                                let factor = P::MATRICES.result[i][k];
                                if factor != 0.0 {
                                    sum = s.fma(s.splat(factor), pixels[i], sum);
                                }
                            }
                            s.store(sum, to.add(k * point));
                        }
                    }
                }
            }
        }
    }
}
