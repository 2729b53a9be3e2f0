//! Minimal filtering along rows, for the few channels of a first layer: forward, and gradient of the weights.
//!
//! With a horizontal stride s, s neighbouring pixels are one pixel of s times the channels and the kernel has a stride of 1
//! and a s-th of the taps (filled up with zeros): 7×7 with stride 2 on 3 channels becomes four taps of 6 elements. F(4, taps)
//! then takes `taps + 3` products where the definition takes `4·taps`. In one dimension a source row is transformed once for all
//! rows of the kernel, and with few channels that costs little beside the products of many outputs.
//! After Winograd, *Arithmetic Complexity of Computations* (1980); Lavin and Gray, arXiv:1509.09308.
//!
//! As with the two-dimensional algorithm, a NaN or an infinity in a pixel reaches the outputs of all tiles that see it.

mod narrow;
mod points;
mod steps;

use super::geometry::Conv2dGeometry;
use super::plan;
use super::window::{Frame, Part, Parts, Views};
use crate::gemm::columns::{ColumnProduct, Right};
use crate::gemm::lanes;
use crate::gemm::panels::{Panels, Strided, pack_panel};
use crate::gemm::prepared::with_prepared_whole;
use crate::gemm::rows::{RowProduct, Run};
use crate::gemm::target::Target;
use crate::isa::{MAX_LANES, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_indices, with_scratch};
use narrow::Narrow;
pub(super) use points::{Four, Three};
use points::{OUTPUTS, Points};
use std::marker::PhantomData;
use steps::{GradientTransform, Layout, ResultTransform, SourceTransform};

/// What both passes know of a convolution.
struct Pass {
    frame: Frame,
    parts: Parts,
    layout: Layout,
    panels: Panels,
    /// Columns of the left-hand matrix of each point.
    depth: usize,
    /// Elements of a row of the kernel.
    kernel_row: usize,
    /// `[height, width]` of the output.
    size: [usize; 2],
}

impl Pass {
    fn new<const TAPS: usize, const POINTS: usize>(geometry: &Conv2dGeometry) -> Pass {
        let stride = geometry.options().stride[1];
        let size = geometry.out_size();
        let mut frame = Views::forward(geometry).frame;
        let tiles = size[1].div_ceil(OUTPUTS);
        let inner = stride * geometry.in_channels();
        frame.padded[1] = (OUTPUTS * tiles + TAPS - 1) * stride;
        let parts = plan::row_parts(geometry, POINTS * tiles * inner * frame.step[0] * 4);
        let largest = parts.largest();
        Pass {
            frame,
            parts,
            layout: Layout {
                tiles,
                rows: largest.images.len() * frame.source_rows(&largest.rows).len(),
                inner,
            },
            panels: Panels::new(geometry.out_channels(), lanes()),
            depth: geometry.kernel()[0] * inner,
            kernel_row: geometry.kernel()[1] * geometry.in_channels(),
            size,
        }
    }

    /// Appends where the left-hand row of every tile of a part begins; every part uses a beginning of that of the largest.
    fn offsets(&self, offsets: &mut Vec<usize>) {
        let Layout { tiles, rows, inner } = self.layout;
        let largest = self.parts.largest();
        let image_rows = self.frame.source_rows(&largest.rows).len();
        for image in 0..largest.images.len() {
            for row in 0..largest.rows.len() {
                let row = image * image_rows + row * self.frame.step[0];
                offsets.extend((0..tiles).map(|tile| (tile * rows + row) * inner));
            }
        }
    }

    /// The first pixel of a part, its pixels and its tiles.
    fn extent(&self, part: &Part) -> (usize, usize, usize) {
        let rows = part.images.len() * part.rows.len();
        let first = (part.images.start * self.size[0] + part.rows.start) * self.size[1];
        (first, rows * self.size[1], rows * self.layout.tiles)
    }

    /// Runs `body` with the transformed source of `part`.
    fn with_transformed<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
        &self,
        input: &[f32],
        part: &Part,
        body: impl FnOnce(&[f32]),
    ) {
        let length = self.frame.copy_length(part);
        with_scratch(POINTS * self.layout.point(), |transformed| {
            with_scratch(length + MAX_LANES, |copy| {
                self.frame.copy(input, part, &mut copy[..length]);
                dispatch(SourceTransform::<P, TAPS, POINTS> {
                    source: copy,
                    rows: part.images.len() * self.frame.source_rows(&part.rows).len(),
                    layout: self.layout,
                    to: &mut *transformed,
                    points: PhantomData,
                });
            });
            body(transformed);
        });
    }
}

/// Output from input; lengths have been checked.
pub(super) fn forward<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let pass = Pass::new::<TAPS, POINTS>(geometry);
    let (panels, columns) = (pass.panels, geometry.out_channels());
    let padded = panels.padded_columns();
    let runs = [Run {
        offset: 0,
        length: pass.depth,
    }];
    let matrix = pass.depth * padded;
    let group = plan::row_group(POINTS * padded);
    if panels.count() == 1 && padded == panels.lanes() {
        narrow_forward::<P, TAPS, POINTS>(geometry, &pass, input, weight, bias, output);
        return;
    }
    let outputs = DisjointMut::new(output);
    let pack = |packed: &mut [f32]| {
        pack_kernel::<P, TAPS, POINTS>(geometry, &pass, weight, packed);
    };
    with_prepared_whole(POINTS * matrix, pack, |packed| {
        with_indices(|offsets| {
            pass.offsets(offsets);
            let tiles = offsets.len();
            offsets.extend((0..group).map(|tile| tile * padded));
            let (a_offsets, c_offsets) = offsets.split_at(tiles);
            for_each_task(pass.parts.count(), geometry.work(), |task| {
                let part = pass.parts.part(task);
                let (first, pixels, tiles) = pass.extent(&part);
                // SAFETY: parts have different pixels.
                let to = unsafe { outputs.part(first * columns..(first + pixels) * columns) };
                let mut product = |transformed: &[f32], packed: &[f32]| {
                    with_scratch(POINTS * group * padded, |products| {
                        for start in (0..tiles).step_by(group) {
                            let range = start..(start + group).min(tiles);
                            for point in 0..POINTS {
                                let length = range.len() * padded;
                                let c = &mut products[point * length..(point + 1) * length];
                                dispatch(RowProduct {
                                    a: &transformed[point * pass.layout.point()..],
                                    a_offsets: &a_offsets[range.clone()],
                                    runs: &runs,
                                    b: &packed[point * matrix..(point + 1) * matrix],
                                    panels,
                                    range: 0..panels.count(),
                                    // SAFETY: nothing else uses these products while they are written.
                                    c: unsafe { Target::new(c) },
                                    c_offsets: &c_offsets[..range.len()],
                                    bias: None,
                                    accumulate: false,
                                });
                            }
                            dispatch(ResultTransform::<P, TAPS, POINTS> {
                                products,
                                panels,
                                bias,
                                range,
                                to: &mut *to,
                                width: pass.size[1],
                                points: PhantomData,
                            });
                        }
                    });
                };
                packed.with(0..1, |packed| {
                    pass.with_transformed::<P, TAPS, POINTS>(input, &part, |transformed| {
                        product(transformed, packed);
                    });
                });
            });
        });
    });
}

/// [`forward`] for outputs of one vector.
fn narrow_forward<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
    geometry: &Conv2dGeometry,
    pass: &Pass,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let (columns, lanes) = (geometry.out_channels(), pass.panels.lanes());
    let length = POINTS * pass.depth * lanes;
    let outputs = DisjointMut::new(output);
    let pack = |kernel: &mut [f32]| {
        with_scratch(length, |packed| {
            pack_kernel::<P, TAPS, POINTS>(geometry, pass, weight, packed);
            for (index, row) in packed.chunks_exact(lanes).enumerate() {
                let (point, element) = (index / pass.depth, index % pass.depth);
                kernel[(element * POINTS + point) * lanes..][..lanes].copy_from_slice(row);
            }
        });
    };
    with_prepared_whole(length, pack, |kernel| {
        with_indices(|offsets| {
            pass.offsets(offsets);
            let offsets = &offsets[..];
            for_each_task(pass.parts.count(), geometry.work(), |task| {
                let part = pass.parts.part(task);
                let (first, pixels, tiles) = pass.extent(&part);
                // SAFETY: parts have different pixels.
                let to = unsafe { outputs.part(first * columns..(first + pixels) * columns) };
                kernel.with(0..1, |kernel| {
                    pass.with_transformed::<P, TAPS, POINTS>(input, &part, |source| {
                        dispatch(Narrow::<P, TAPS, POINTS> {
                            source,
                            layout: pass.layout,
                            offsets: &offsets[..tiles],
                            depth: pass.depth,
                            kernel,
                            bias,
                            columns,
                            to,
                            width: pass.size[1],
                            points: PhantomData,
                        });
                    });
                });
            });
        });
    });
}

/// Transforms and packs the kernel: for every point the panels of a matrix of `depth` rows.
fn pack_kernel<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
    geometry: &Conv2dGeometry,
    pass: &Pass,
    weight: &[f32],
    packed: &mut [f32],
) {
    let (columns, inner) = (geometry.out_channels(), pass.layout.inner);
    let matrix = pass.depth * pass.panels.padded_columns();
    let parts = DisjointMut::new(packed);
    for_each_task(POINTS, POINTS * TAPS * pass.depth * columns, |point| {
        // SAFETY: points do not overlap.
        let packed = unsafe { parts.part(point * matrix..(point + 1) * matrix) };
        with_scratch(pass.depth * columns, |rows| {
            rows.fill(0.0);
            let kernel_rows = weight.chunks_exact(pass.kernel_row * columns);
            for (to, from) in rows.chunks_exact_mut(inner * columns).zip(kernel_rows) {
                let factors = P::MATRICES.kernel[point];
                for (from, factor) in from.chunks(inner * columns).zip(factors) {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to += factor * from;
                    }
                }
            }
            for index in 0..pass.panels.count() {
                let panel = pass.panels.panel(index);
                let from = pass.depth * panel.start;
                let source = Strided {
                    values: rows,
                    origin: 0,
                    row_stride: columns,
                    column_stride: 1,
                };
                let to = &mut packed[from..from + pass.depth * panel.width];
                pack_panel(to, panel, pass.depth, source);
            }
        });
    });
}

/// The gradient of the weights; lengths have been checked.
pub(super) fn backward_weights<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let pass = Pass::new::<TAPS, POINTS>(geometry);
    let (panels, columns) = (pass.panels, geometry.out_channels());
    let padded = panels.padded_columns();
    let group = plan::row_gradient_group(POINTS * padded);
    let matrix = pass.depth * columns;
    let count = pass.parts.count();
    let segment_parts = count.div_ceil(plan::row_segments()).max(1);
    let segments = count.div_ceil(segment_parts);
    with_scratch(segments * POINTS * matrix, |partials| {
        // SAFETY: segments and points have sums of their own.
        let target = unsafe { Target::new(&mut *partials) };
        with_indices(|offsets| {
            pass.offsets(offsets);
            let offsets = &offsets[..];
            for_each_task(segments, geometry.work(), |segment| {
                let range = piece(segment, segment_parts, count);
                for index in range.clone() {
                    let part = pass.parts.part(index);
                    let (first, pixels, tiles) = pass.extent(&part);
                    let gradient = &output_gradient[first * columns..(first + pixels) * columns];
                    pass.with_transformed::<P, TAPS, POINTS>(input, &part, |transformed| {
                        with_scratch(POINTS * group * padded, |panels_of_points| {
                            for start in (0..tiles).step_by(group) {
                                let strip = start..(start + group).min(tiles);
                                dispatch(GradientTransform::<P, TAPS, POINTS> {
                                    gradient,
                                    width: pass.size[1],
                                    range: strip.clone(),
                                    panels,
                                    to: &mut *panels_of_points,
                                    points: PhantomData,
                                });
                                let length = strip.len() * padded;
                                for point in 0..POINTS {
                                    dispatch(ColumnProduct {
                                        a: &transformed[point * pass.layout.point()..],
                                        a_offsets: &offsets[strip.clone()],
                                        a_start: 0,
                                        count: pass.depth,
                                        b: Right::Packed {
                                            values: &panels_of_points[point * length..][..length],
                                            rows: strip.len(),
                                            first: 0,
                                        },
                                        panels,
                                        range: 0..panels.count(),
                                        c: target.from((segment * POINTS + point) * matrix),
                                        c_stride: columns,
                                        accumulate: index > range.start || start > 0,
                                        ahead: [&[]; 2],
                                    });
                                }
                            }
                        });
                    });
                }
            });
        });
        unpack_gradient::<P, TAPS, POINTS>(geometry, &pass, partials, weight_gradient);
    });
}

/// Adds up the segments in their order and transforms their points to the gradient of the kernel.
fn unpack_gradient<P: Points<TAPS, POINTS>, const TAPS: usize, const POINTS: usize>(
    geometry: &Conv2dGeometry,
    pass: &Pass,
    partials: &[f32],
    weight_gradient: &mut [f32],
) {
    let columns = geometry.out_channels();
    let (row, kernel_row) = (pass.layout.inner * columns, pass.kernel_row * columns);
    let matrix = pass.depth * columns;
    let parts = DisjointMut::new(weight_gradient);
    for_each_task(geometry.kernel()[0], partials.len(), |number| {
        // SAFETY: rows of the kernel do not overlap.
        let to = unsafe { parts.part(number * kernel_row..(number + 1) * kernel_row) };
        to.fill(0.0);
        with_scratch(row, |sum| {
            for point in 0..POINTS {
                sum.fill(0.0);
                for segment in partials.chunks_exact(POINTS * matrix) {
                    let from = &segment[point * matrix + number * row..][..row];
                    for (sum, from) in sum.iter_mut().zip(from) {
                        *sum += from;
                    }
                }
                for (to, factor) in to.chunks_mut(row).zip(P::MATRICES.kernel[point]) {
                    for (to, sum) in to.iter_mut().zip(&*sum) {
                        *to += factor * sum;
                    }
                }
            }
        });
    });
}
