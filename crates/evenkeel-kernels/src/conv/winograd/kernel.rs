//! Transformed kernels, packed for the micro-kernels: `[panel][element][row][column]`.

use super::super::geometry::Conv2dGeometry;
use super::lines::Lines;
use super::squares::Scattered;
use super::steps::Matrices;
use crate::gemm::panels::{Panel, Panels, Strided, pack_panel};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::scratch::with_scratch;
use std::marker::PhantomData;
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

/// Rows copied or transposed at a time: long enough stretches of every column for the prefetcher, and with nine taps they stay in cache.
const ROWS: usize = 64;
/// Output channels from which kernels are copied before they are transformed. The nine taps of many channels lie in few sets of a
/// cache, and a copy, which computes nothing, waits for more of them at a time. Forward, one 7×7 image, two threads: 512 channels take 0.78
/// of the time, 256 (on 14×14) 0.88, 128 (on 28×28) the same.
const COPIED_OUTPUTS: usize = 128;

/// Transforms some rows of one panel of the kernel into `packed`, laid out as [`Matrices`] of that many rows.
pub(super) fn transform_panel<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    geometry: &Conv2dGeometry,
    direction: Direction,
    panels: Panels,
    panel: Panel,
    range: Range<usize>,
    weight: &[f32],
    packed: &mut [f32],
) {
    let (inputs, outputs) = (geometry.in_channels(), geometry.out_channels());
    let layout = Matrices {
        rows: range.len(),
        elements: KERNEL * KERNEL,
        products: PRODUCT * PRODUCT,
    };
    let transform =
        |taps: &[f32], starts, row_stride, columns, rows: Range<usize>, packed: &mut [f32]| {
            dispatch(Transform::<L, SOURCE, KERNEL, PRODUCT, OUT> {
                lanes: panels.lanes(),
                taps,
                starts,
                row_stride,
                columns,
                rows: rows.len(),
                panel,
                packed,
                layout,
                lines: PhantomData,
            });
        };
    if direction == Direction::Forward && outputs < COPIED_OUTPUTS {
        let starts =
            std::array::from_fn(|tap| (tap * inputs + range.start) * outputs + panel.start);
        transform(weight, starts, outputs, panel.columns, range, packed);
        return;
    }
    with_scratch(9 * ROWS * panel.width, |taps| {
        for first in range.clone().step_by(ROWS) {
            let rows = first..(first + ROWS).min(range.end);
            for (tap, to) in taps.chunks_exact_mut(ROWS * panel.width).enumerate() {
                let source = match direction {
                    Direction::Forward => Strided {
                        values: weight,
                        origin: (tap * inputs + first) * outputs,
                        row_stride: outputs,
                        column_stride: 1,
                    },
                    Direction::Backward => Strided {
                        values: weight,
                        origin: (8 - tap) * inputs * outputs + first,
                        row_stride: 1,
                        column_stride: outputs,
                    },
                };
                pack_panel(to, panel, rows.len(), source);
            }
            let starts = std::array::from_fn(|tap| tap * ROWS * panel.width);
            let packed = &mut packed[(first - range.start) * panel.width..];
            transform(taps, starts, panel.width, panel.width, rows, packed);
        }
    });
}

/// `U = G·g·Gᵀ` for some rows of a panel.
struct Transform<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    lanes: usize,
    taps: &'a [f32],
    /// The first row and column of each tap.
    starts: [usize; 9],
    row_stride: usize,
    /// Columns that exist.
    columns: usize,
    rows: usize,
    panel: Panel,
    packed: &'a mut [f32],
    layout: Matrices,
    lines: PhantomData<L>,
}

impl<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> SimdOp for Transform<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        if self.rows == 0 {
            return;
        }
        let width = self.panel.width;
        assert_eq!(
            self.lanes,
            S::LANES,
            "the instruction set changed during a call"
        );
        assert!(width == self.panel.vectors * S::LANES && self.columns <= width);
        assert!(self.columns > width - S::LANES);
        let reach = (self.rows - 1) * self.row_stride + self.columns;
        assert!(
            self.starts
                .iter()
                .all(|start| start + reach <= self.taps.len())
        );
        assert!(self.rows <= self.layout.rows && self.layout.elements == KERNEL * KERNEL);
        let offsets = self.layout.offsets(self.panel, &L::ELEMENTS);
        let last = offsets.as_flattened().iter().copied().fold(0, usize::max);
        assert!(last + self.rows * width <= self.packed.len());
        let [a, b, c, d, e, f, g, h, i] = self.starts;
        let starts = [[a, b, c], [d, e, f], [g, h, i]];
        for row in 0..self.rows {
            for vector in 0..self.panel.vectors {
                let at = vector * S::LANES;
                let lanes = S::LANES.min(self.columns - at);
                // SAFETY: rows and lanes that exist, whose reach was compared with the taps, and whole vectors of the panel's
                // width, compared with `packed` for the last element.
                unsafe {
                    let taps = Scattered {
                        first: self
                            .taps
                            .as_ptr()
                            .add(row * self.row_stride + at)
                            .cast_mut(),
                        offsets: &starts,
                        lanes,
                    };
                    let elements = Scattered {
                        first: self.packed.as_mut_ptr().add(row * width + at),
                        offsets: &offsets,
                        lanes: S::LANES,
                    };
                    L::kernel_square(s, taps, elements);
                }
            }
        }
    }
}
