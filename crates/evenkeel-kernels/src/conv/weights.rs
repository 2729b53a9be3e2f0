//! Gradient of the weights: a sum over pixels of outer products of the window and the output's gradient.

use super::geometry::Conv2dGeometry;
use super::plan;
use super::sweep::with_source;
use super::window::{Part, Views, source_offsets};
use crate::gemm::columns::{ColumnProduct, Right};
use crate::gemm::lanes;
use crate::gemm::panels::{Panels, Strided, pack_rows};
use crate::gemm::target::Target;
use crate::isa::dispatch;
use crate::parallel::{DisjointMut, for_each_task, for_each_task_backwards, piece};
use crate::scratch::{with_indices, with_scratch};

/// Bytes of one panel of the output's gradient that is multiplied with all strips of the input: two thirds of the first-level cache.
const STRIP_BYTES: usize = 32 * 1024;

/// Rows of the gradient that lie in one run of kernel elements and channels.
struct Rows {
    /// The first source element, relative to the window's.
    offset: usize,
    /// How many.
    count: usize,
    /// The first row of the gradient.
    row: usize,
}

/// The gradient of the weights; lengths have been checked.
pub(super) fn backward_weights(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let views = Views::forward(geometry);
    let view = &views.views[0];
    let groups = geometry.options().groups;
    let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
    let panels = Panels::new(outputs, lanes());
    let longest = view.runs.iter().map(|run| run.length).max().unwrap_or(0);
    let plan = plan::weights(geometry, &views, longest);
    let parts = plan.parts;
    // One panel lies as if it were packed.
    let in_place = panels.padded_columns() == panels.columns()
        && (plan.small || panels.count() == 1 && groups == 1);
    let segment_parts = parts.count().div_ceil(plan.segments).max(1);
    let segments = parts.count().div_ceil(segment_parts);
    if segments == 0 {
        weight_gradient.fill(0.0);
        return;
    }
    let mut row = 0;
    let mut blocks = Vec::new();
    for run in &view.runs {
        for start in (0..run.length).step_by(plan.rows) {
            let count = plan.rows.min(run.length - start);
            blocks.push(Rows {
                offset: run.offset + start,
                count,
                row,
            });
            row += count;
        }
    }
    // Either every task takes all rows, or each takes one block of them.
    let row_tasks = if plan.whole { 1 } else { blocks.len() };
    let task_blocks = blocks.len() / row_tasks;
    let length = weight_gradient.len();
    let tables = parts.largest();
    let partial_length = if segments > 1 { segments * length } else { 0 };
    with_scratch(partial_length, |partials| {
        {
            // SAFETY: tasks have different segments or different rows of the gradient.
            let target = unsafe {
                Target::new(if segments > 1 {
                    &mut *partials
                } else {
                    &mut *weight_gradient
                })
            };
            with_indices(|offsets| {
                source_offsets(&views.frame, view, &tables, offsets);
                let offsets = &offsets[..];
                // The gradient of the input has just read the output's gradient from front to back: its end is still in cache.
                let work = geometry.work();
                for_each_task_backwards(segments * row_tasks, work, |task| {
                    let segment = task / row_tasks;
                    let blocks = &blocks[piece(task % row_tasks, task_blocks, blocks.len())];
                    let target = target.from(segment * length);
                    let range = piece(segment, segment_parts, parts.count());
                    let gradient_of = |part: &Part| {
                        let pixel =
                            (part.images.start * views.size[0] + part.rows.start) * views.size[1];
                        let pixels = part.images.len() * part.rows.len() * view.count[1];
                        (pixel * views.channels, pixels)
                    };
                    for index in range.clone() {
                        let part = parts.part(index);
                        let (origin, pixels) = gradient_of(&part);
                        let next = if index + 1 < range.end {
                            let part = parts.part(index + 1);
                            let (origin, pixels) = gradient_of(&part);
                            let gradient = &output_gradient[origin..][..pixels * views.channels];
                            let source = if plan.small {
                                &input[views.frame.reads(&part)]
                            } else {
                                &[]
                            };
                            [gradient, source]
                        } else {
                            [&[][..]; 2]
                        };
                        with_source(&views, input, &part, |source| {
                            for group in 0..groups {
                                let gradient = Strided {
                                    values: output_gradient,
                                    origin: origin + group * outputs,
                                    row_stride: views.channels,
                                    column_stride: 1,
                                };
                                with_right(gradient, panels, pixels, in_place, |right| {
                                    let strip = strip_pixels(pixels, panels);
                                    for first in (0..pixels).step_by(strip) {
                                        let count = strip.min(pixels - first);
                                        for (number, block) in blocks.iter().enumerate() {
                                            let done = first * blocks.len() + number * count;
                                            let all = pixels * blocks.len();
                                            dispatch(ColumnProduct {
                                                a: &source[group * inputs..],
                                                a_offsets: &offsets[first..first + count],
                                                a_start: block.offset,
                                                count: block.count,
                                                b: right.from(first),
                                                panels,
                                                range: 0..panels.count(),
                                                c: target.from(
                                                    block.row * views.channels + group * outputs,
                                                ),
                                                c_stride: views.channels,
                                                accumulate: index % segment_parts > 0 || first > 0,
                                                ahead: next.map(|next| {
                                                    let end = (done + count) * next.len() / all;
                                                    &next[done * next.len() / all..end]
                                                }),
                                            });
                                        }
                                    }
                                });
                            }
                        });
                    }
                });
            });
        }
        if segments > 1 {
            add_up(partials, length, weight_gradient);
        }
    });
}

/// Pixels in one strip: equal strips whose panels stay in the first-level cache.
fn strip_pixels(pixels: usize, panels: Panels) -> usize {
    let width = panels.panel(0).width;
    let most = (STRIP_BYTES / (width * 4)).max(1);
    pixels.div_ceil(pixels.div_ceil(most).max(1)).max(1)
}

/// Runs `body` with the gradient of some pixels: where it lies, or packed.
fn with_right<R>(
    gradient: Strided<'_>,
    panels: Panels,
    pixels: usize,
    in_place: bool,
    body: impl FnOnce(Right<'_>) -> R,
) -> R {
    if in_place {
        return body(Right::InPlace {
            values: &gradient.values[gradient.origin..],
            stride: gradient.row_stride,
        });
    }
    with_scratch(pixels * panels.padded_columns(), |packed| {
        pack_rows(packed, panels, pixels, gradient);
        body(Right::Packed {
            values: packed,
            rows: pixels,
            first: 0,
        })
    })
}

/// Adds the partial gradients in their order.
fn add_up(partials: &[f32], length: usize, gradient: &mut [f32]) {
    const PIECE: usize = 4096;
    let parts = DisjointMut::new(gradient);
    for_each_task(length.div_ceil(PIECE), partials.len(), |task| {
        let range = piece(task, PIECE, length);
        // SAFETY: pieces do not overlap.
        let to = unsafe { parts.part(range.clone()) };
        to.copy_from_slice(&partials[range.clone()]);
        for partial in partials.chunks_exact(length).skip(1) {
            for (to, from) in to.iter_mut().zip(&partial[range.clone()]) {
                *to += from;
            }
        }
    });
}
