//! First layers: 3×3 kernels with stride 1 over at most four input channels, forward and gradient of the weights.
//!
//! Winograd's F(4×4, 3×3) as in [`super::winograd`], but channels of the input are too few for lanes. So a vector of the source
//! holds neighbouring tiles, each with the channels of one pixel in four lanes ([`source`]); single values of it are multiplied with
//! vectors of output channels. Products are few for each tile and stay in registers until they are transformed ([`products`]); the
//! gradient of the weights sums in registers ([`gradient`]).

mod gradient;
mod kernel;
mod products;
mod source;

use super::geometry::Conv2dGeometry;
use super::plan;
use super::window::Parts;
use crate::gemm::lanes;
use crate::gemm::prepared::with_prepared_whole;
use crate::isa::dispatch;
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::with_scratch;
use gradient::Sums;
use kernel::{KernelGradient, KernelTransform};
use products::Outputs;
use source::{SQUARE, Tiling};

fn tiling(geometry: &Conv2dGeometry) -> Tiling {
    Tiling {
        size: geometry.size(),
        channels: geometry.in_channels(),
        padding: geometry.options().padding,
        out_size: geometry.out_size(),
        lanes: lanes(),
    }
}

/// Values of a transformed kernel.
fn kernel_length(geometry: &Conv2dGeometry) -> usize {
    SQUARE * geometry.in_channels() * geometry.out_channels().next_multiple_of(lanes())
}

/// Lines of tiles, in parts.
fn parts(geometry: &Conv2dGeometry, tiling: &Tiling) -> Parts {
    let [lines, tiles] = tiling.tiles();
    plan::first_parts(geometry.batch(), lines, tiles)
}

/// Output from input; lengths have been checked.
pub(super) fn forward(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let tiling = tiling(geometry);
    let parts = parts(geometry, &tiling);
    let columns = geometry.out_channels();
    let [height, width] = geometry.out_size();
    let outputs = DisjointMut::new(output);
    let transform = |to: &mut [f32]| {
        dispatch(KernelTransform {
            weight,
            channels: geometry.in_channels(),
            columns,
            to,
        });
    };
    with_prepared_whole(kernel_length(geometry), transform, |kernel| {
        for_each_task(parts.count(), geometry.work(), |task| {
            let part = parts.part(task);
            let first = (part.images.start * height + part.rows.start * source::OUTPUTS) * width;
            let last_row = (part.rows.end * source::OUTPUTS).min(height);
            let end = ((part.images.end - 1) * height + last_row) * width;
            // SAFETY: parts have different pixels.
            let to = unsafe { outputs.part(first * columns..end * columns) };
            let length = tiling.scratch_length();
            kernel.with(0..1, |kernel| {
                with_scratch(products::scratch_length(tiling.lanes), |halves| {
                    with_scratch(length, |scratch| {
                        tiling.for_each_group(
                            input,
                            part.images,
                            part.rows,
                            scratch,
                            |source, tiles| {
                                dispatch(&mut Outputs {
                                    source,
                                    tiles,
                                    channels: tiling.channels,
                                    kernel,
                                    bias,
                                    columns,
                                    width,
                                    to: &mut *to,
                                    first,
                                    halves: &mut *halves,
                                });
                            },
                        );
                    });
                });
            });
        });
    });
}

/// The gradient of the weights; lengths have been checked.
pub(super) fn backward_weights(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let tiling = tiling(geometry);
    let parts = parts(geometry, &tiling);
    let columns = geometry.out_channels();
    let width = geometry.out_size()[1];
    let count = parts.count();
    let segment_parts = count.div_ceil(plan::row_segments()).max(1);
    let segments = count.div_ceil(segment_parts);
    let length = kernel_length(geometry);
    with_scratch(segments * length, |partials| {
        let sums = DisjointMut::new(partials);
        for_each_task(segments, geometry.work(), |segment| {
            // SAFETY: segments have sums of their own.
            let sums = unsafe { sums.part(segment * length..(segment + 1) * length) };
            sums.fill(0.0);
            let length = tiling.scratch_length();
            with_scratch(gradient::scratch_length(tiling.lanes), |transformed| {
                with_scratch(length, |scratch| {
                    for index in piece(segment, segment_parts, count) {
                        let part = parts.part(index);
                        tiling.for_each_group(
                            input,
                            part.images,
                            part.rows,
                            &mut *scratch,
                            |source, tiles| {
                                dispatch(&mut Sums {
                                    source,
                                    tiles,
                                    channels: tiling.channels,
                                    gradient: output_gradient,
                                    columns,
                                    width,
                                    sums: &mut *sums,
                                    transformed: &mut *transformed,
                                });
                            },
                        );
                    }
                });
            });
        });
        dispatch(KernelGradient {
            partials,
            channels: geometry.in_channels(),
            columns,
            to: weight_gradient,
        });
    });
}
