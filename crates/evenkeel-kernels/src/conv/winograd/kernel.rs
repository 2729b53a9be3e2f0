//! Transformed kernels, packed for the micro-kernels: `[panel][element][row][column]`.

use super::super::geometry::Conv2dGeometry;
use super::lines::Lines;
use crate::gemm::panels::{Panel, Panels, Strided, pack_panel};
use crate::gemm::scratch::with_scratch;
use crate::isa::{Simd, SimdOp, dispatch};
use std::ops::Range;

/// Which way a kernel is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Rows are input channels, columns output channels.
    Forward,
    /// Rows are output channels, columns input channels, and the kernel is turned by 180°.
    Backward,
}

impl Direction {
    /// Rows and columns of the matrix.
    pub(super) fn sizes(self, geometry: &Conv2dGeometry) -> (usize, usize) {
        match self {
            Direction::Forward => (geometry.in_channels(), geometry.out_channels()),
            Direction::Backward => (geometry.out_channels(), geometry.in_channels()),
        }
    }
}

/// Rows transformed at a time: with nine taps and two vectors they stay in the first-level cache.
const ROWS: usize = 16;

/// Transforms some rows of one panel of the kernel into `packed`: ALPHA² matrices of `range.len() × panel.width`.
pub(super) fn transform_panel<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize>(
    geometry: &Conv2dGeometry,
    direction: Direction,
    panels: Panels,
    panel: Panel,
    range: Range<usize>,
    weight: &[f32],
    packed: &mut [f32],
) {
    let outputs = geometry.out_channels();
    with_scratch(9 * ROWS * panel.width, |taps| {
        for first in range.clone().step_by(ROWS) {
            let count = ROWS.min(range.end - first);
            for (tap, to) in taps.chunks_exact_mut(ROWS * panel.width).enumerate() {
                let at = match direction {
                    Direction::Forward => tap,
                    Direction::Backward => 8 - tap,
                };
                let (row_stride, column_stride) = match direction {
                    Direction::Forward => (outputs, 1),
                    Direction::Backward => (1, outputs),
                };
                let source = Strided {
                    values: weight,
                    origin: at * geometry.in_channels() * outputs + first * row_stride,
                    row_stride,
                    column_stride,
                };
                pack_panel(to, panel, count, source);
            }
            dispatch(Transform::<L, OUT, ALPHA> {
                lanes: panels.lanes(),
                taps,
                tap_stride: ROWS * panel.width,
                length: count * panel.width,
                packed: &mut packed[(first - range.start) * panel.width..],
                element_stride: range.len() * panel.width,
                _lines: std::marker::PhantomData,
            });
        }
    });
}

/// `U = G·g·Gᵀ` for `length` kernels side by side.
struct Transform<'a, L, const OUT: usize, const ALPHA: usize> {
    lanes: usize,
    taps: &'a [f32],
    tap_stride: usize,
    length: usize,
    packed: &'a mut [f32],
    element_stride: usize,
    _lines: std::marker::PhantomData<L>,
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> SimdOp
    for Transform<'_, L, OUT, ALPHA>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        assert_eq!(
            self.lanes,
            S::LANES,
            "the instruction set changed during a call"
        );
        assert!(self.length.is_multiple_of(S::LANES));
        assert!(8 * self.tap_stride + self.length <= self.taps.len());
        assert!((ALPHA * ALPHA - 1) * self.element_stride + self.length <= self.packed.len());
        for start in (0..self.length).step_by(S::LANES) {
            // SAFETY: whole vectors inside `length`, which was compared with both slices for every tap and element.
            unsafe {
                let mut taps = [[s.zero(); 3]; 3];
                for (i, line) in taps.iter_mut().enumerate() {
                    for (j, tap) in line.iter_mut().enumerate() {
                        *tap = s.load(
                            self.taps
                                .as_ptr()
                                .add((i * 3 + j) * self.tap_stride + start),
                        );
                    }
                }
                let elements = L::kernel_square(s, taps);
                for i in 0..ALPHA {
                    for j in 0..ALPHA {
                        let at = (i * ALPHA + j) * self.element_stride + start;
                        s.store(elements[i][j], self.packed.as_mut_ptr().add(at));
                    }
                }
            }
        }
    }
}
