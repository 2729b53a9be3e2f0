//! Forward pass and gradient of the input: a window slides over a source, and every position is a row of a matrix product.

use super::geometry::Conv2dGeometry;
use super::plan;
use super::window::{Part, View, Views, destination_offsets, source_offsets, view_rows};
use crate::gemm::lanes;
use crate::gemm::panels::{Panels, Strided, pack_panel};
use crate::gemm::prepared::with_prepared;
use crate::gemm::rows::RowProduct;
use crate::gemm::target::Target;
use crate::isa::dispatch;
use crate::parallel::{DisjointMut, for_each_task};
use crate::scratch::{with_indices, with_scratch};

/// Which way the weights are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Output from input; lengths have been checked.
pub(super) fn forward(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let views = Views::forward(geometry);
    sweep(
        geometry,
        &views,
        Direction::Forward,
        input,
        weight,
        bias,
        output,
    );
}

/// Gradient of the input from the gradient of the output; lengths have been checked.
pub(super) fn backward_data(
    geometry: &Conv2dGeometry,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let views = Views::backward(geometry);
    sweep(
        geometry,
        &views,
        Direction::Backward,
        output_gradient,
        weight,
        None,
        input_gradient,
    );
}

fn sweep(
    geometry: &Conv2dGeometry,
    views: &Views,
    direction: Direction,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    destination: &mut [f32],
) {
    let groups = geometry.options().groups;
    let (inner, outer) = match direction {
        Direction::Forward => (geometry.group_inputs(), geometry.group_outputs()),
        Direction::Backward => (geometry.group_outputs(), geometry.group_inputs()),
    };
    let panels = Panels::new(outer, lanes());
    let depth: usize = views.views.iter().map(View::depth).sum();
    let packed_length = depth * groups * panels.padded_columns();
    let plan = plan::sweep(views, panels.count(), packed_length);
    let tables = plan.parts.largest();
    // SAFETY: tasks have different destination pixels or different panels.
    let target = unsafe { Target::new(destination) };
    let pack = |panel: usize, packed: &DisjointMut<'_, f32>| {
        pack_weights(geometry, views, direction, panels, panel, weight, packed);
    };
    let (count, work) = (panels.count(), geometry.weight_length());
    with_prepared(packed_length, count, work, pack, |packed| {
        with_indices(|offsets| {
            for view in &views.views {
                source_offsets(&views.frame, view, &tables, offsets);
                destination_offsets(views, view, &tables, offsets);
            }
            let offsets = &offsets[..];
            let panel_tasks = panels.count().div_ceil(plan.panels);
            let work = geometry.work();
            for_each_task(plan.parts.count() * panel_tasks, work, |task| {
                let part = plan.parts.part(task / panel_tasks);
                let first_panel = task % panel_tasks * plan.panels;
                let range = first_panel..(first_panel + plan.panels).min(panels.count());
                let product = |source: &[f32], packed: &[f32]| {
                    let mut offsets = offsets;
                    let mut packed = packed;
                    for view in &views.views {
                        let pixels = tables.images.len() * view_rows(view, &tables) * view.count[1];
                        let (a_offsets, rest) = offsets.split_at(pixels);
                        let (c_offsets, rest) = rest.split_at(pixels);
                        offsets = rest;
                        let used = part.images.len() * view_rows(view, &part) * view.count[1];
                        for group in 0..groups {
                            let (b, rest) = packed.split_at(view.depth() * panels.padded_columns());
                            packed = rest;
                            if used == 0 {
                                continue;
                            }
                            let first = (part.images.start * views.size[0]
                                + part.rows.start * views.stride[0])
                                * views.size[1]
                                * views.channels;
                            dispatch(RowProduct {
                                a: &source[group * inner..],
                                a_offsets: &a_offsets[..used],
                                runs: &view.runs,
                                b: &b[view.depth() * panels.panel(range.start).start..],
                                panels,
                                range: range.clone(),
                                c: target.from(first + group * outer),
                                c_offsets: &c_offsets[..used],
                                bias: bias.map(|bias| &bias[group * outer..(group + 1) * outer]),
                                accumulate: false,
                            });
                        }
                    }
                };
                packed.with(range.clone(), |packed| {
                    with_source(views, source, &part, |source| product(source, packed));
                });
            });
        });
    });
}

/// Runs `body` with the source of `part`: a padded copy, or the tensor from the part's first row on.
pub(super) fn with_source<R>(
    views: &Views,
    source: &[f32],
    part: &Part,
    body: impl FnOnce(&[f32]) -> R,
) -> R {
    let frame = &views.frame;
    if frame.is_padded() {
        with_scratch(frame.copy_length(part), |copy| {
            frame.copy(source, part, copy);
            body(copy)
        })
    } else {
        let row = part.images.start * frame.size[0] + part.rows.start * frame.step[0];
        body(&source[row * frame.size[1] * frame.channels..])
    }
}

/// Packs a panel of the weights of every view and group, in the order in which `sweep` takes them.
fn pack_weights(
    geometry: &Conv2dGeometry,
    views: &Views,
    direction: Direction,
    panels: Panels,
    index: usize,
    weight: &[f32],
    packed: &DisjointMut<'_, f32>,
) {
    let groups = geometry.options().groups;
    let (inputs, outputs) = (geometry.group_inputs(), geometry.group_outputs());
    let all_outputs = geometry.out_channels();
    let panel = panels.panel(index);
    let mut start = 0;
    for view in &views.views {
        let depth = view.depth();
        for group in 0..groups {
            let begin = start + depth * panel.start;
            // SAFETY: every view, group and panel has its own place: `depth` rows of the panel's width, one after another.
            let to = unsafe { packed.part(begin..begin + depth * panel.width) };
            start += depth * panels.padded_columns();
            let rows = if direction == Direction::Forward {
                inputs
            } else {
                outputs
            };
            for (to, &tap) in to.chunks_exact_mut(rows * panel.width).zip(&view.weights) {
                let (row_stride, column_stride) = match direction {
                    Direction::Forward => (all_outputs, 1),
                    Direction::Backward => (1, all_outputs),
                };
                let source = Strided {
                    values: weight,
                    origin: tap * inputs * all_outputs + group * outputs,
                    row_stride,
                    column_stride,
                };
                pack_panel(to, panel, rows, source);
            }
        }
    }
}
