//! Gradient of the weights: outer products of transformed input and transformed gradient, summed over tiles, transformed back once.

use super::super::geometry::Conv2dGeometry;
use super::super::plan::{self, WinogradPlan};
use super::ahead::{Soon, pays_for_weights};
use super::lines::Transposed;
use super::steps::{
    Layout, Matrices, SumOuterProducts, TransformBack, TransformGradient, TransformSource,
};
use super::tiles::Tiling;
use crate::gemm::lanes;
use crate::gemm::panels::Panels;
use crate::gemm::target::Target;
use crate::isa::{MAX_LANES, dispatch};
use crate::operand::with_operand;
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_f32, with_scratch};
use std::marker::PhantomData;
use std::ops::Range;

/// The gradient of the weights; lengths have been checked, the kernel is 3×3 with the stride of `L`.
pub(in super::super) fn backward_weights<
    L: Transposed<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let tiling = Tiling {
        batch: geometry.batch(),
        source: geometry.size(),
        channels: geometry.in_channels(),
        before: geometry.options().padding,
        destination: geometry.out_size(),
        width: OUT,
        step: L::STEP,
    };
    if tiling.count() == 0 {
        weight_gradient.fill(0.0);
        return;
    }
    let panels = Panels::new(geometry.out_channels(), lanes());
    let plan = plan::winograd_weights(
        tiling.count(),
        tiling.channels,
        panels,
        [SOURCE * SOURCE, KERNEL * KERNEL, PRODUCT * PRODUCT],
    );
    let gradient = Gradient::<L, SOURCE, KERNEL, PRODUCT, OUT> {
        geometry,
        tiling: &tiling,
        panels,
        plan,
        input,
        output_gradient,
        // SAFETY: tasks have different channels or different panels.
        target: unsafe { Target::new(weight_gradient) },
        lines: PhantomData,
    };
    if plan.large {
        gradient.by_channels();
    } else {
        gradient.by_tiles();
    }
}

/// A pass with all that its tasks share.
struct Gradient<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    geometry: &'a Conv2dGeometry,
    tiling: &'a Tiling,
    panels: Panels,
    plan: WinogradPlan,
    input: &'a [f32],
    output_gradient: &'a [f32],
    target: Target<'a>,
    lines: PhantomData<L>,
}

impl<
    L: Transposed<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> Gradient<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    const SOURCES: usize = SOURCE * SOURCE;
    const PRODUCTS: usize = PRODUCT * PRODUCT;

    fn matrices(&self, rows: usize) -> Matrices {
        Matrices {
            rows,
            elements: KERNEL * KERNEL,
            products: Self::PRODUCTS,
        }
    }

    /// Where there are more pixels than weights: every task sums over some tiles; the sums are added up in order.
    fn by_tiles(&self) {
        let (tiling, panels, plan, rows) =
            (self.tiling, self.panels, self.plan, self.tiling.channels);
        let segments = tiling.count().div_ceil(plan.tiles);
        let layout = self.matrices(rows);
        let length = layout.length(panels);
        with_scratch(segments * length, |sums| {
            {
                // SAFETY: tasks have different segments, different panels or different channels, which are rows of the sums.
                let target = unsafe { Target::new(&mut *sums) };
                let panel_tasks = panels.count().div_ceil(plan.panels);
                let channel_tasks = rows.div_ceil(plan.channels);
                let segment_tasks = panel_tasks * channel_tasks;
                let work = self.geometry.work();
                for_each_task(segments * segment_tasks, work, |task| {
                    let (segment, task) = (task / segment_tasks, task % segment_tasks);
                    self.sum(
                        piece(segment, plan.tiles, tiling.count()),
                        piece(task % channel_tasks, plan.channels, rows),
                        piece(task / channel_tasks, plan.panels, panels.count()),
                        target.from(segment * length),
                    );
                });
            }
            const CHANNELS: usize = 16;
            let blocks = rows.div_ceil(CHANNELS);
            for_each_task(panels.count() * blocks, sums.len(), |task| {
                let index = task / blocks;
                let panel = panels.panel(index);
                let channels = piece(task % blocks, CHANNELS, rows);
                let start = layout.start(panels, index) + channels.start * panel.width;
                dispatch(TransformBack::<L, SOURCE, KERNEL, PRODUCT, OUT> {
                    sums: &sums[start..],
                    layout,
                    segments,
                    segment: length,
                    panels,
                    panel,
                    inputs: rows,
                    channels,
                    target: self.target,
                    lines: PhantomData,
                });
            });
        });
    }

    /// The sums over `tiles` for some channels and the panels of `range`, `[panel][element][channel][column]`.
    fn sum(
        &self,
        tiles: Range<usize>,
        channels: Range<usize>,
        range: Range<usize>,
        target: Target<'_>,
    ) {
        let panels = self.panels;
        let group = plan::even(tiles.len(), self.plan.group);
        let begin = panels.panel(range.start).start;
        let widths = range.clone().map(|index| panels.panel(index).width);
        let input_layout = Layout::new(group, channels.len(), Self::SOURCES);
        let gradient_layout = Layout::new(group, widths.sum(), Self::PRODUCTS);
        let layout = self.matrices(self.tiling.channels);
        let length = input_layout.length() + gradient_layout.length();
        // Parts of pixels do not lie together.
        let ahead = pays_for_weights(self.input.len() + self.output_gradient.len());
        let all_channels = ahead && channels.len() == self.tiling.channels;
        let all_panels = ahead && range.len() == panels.count();
        with_scratch(length + input_layout.tile, |scratch| {
            let (inputs, scratch) = scratch.split_at_mut(input_layout.length());
            let (gradients, zeros) = scratch.split_at_mut(gradient_layout.length());
            zeros.fill(0.0);
            for first in tiles.clone().step_by(group) {
                let group_tiles = first..(first + group).min(tiles.end);
                // SAFETY: this task's own.
                let to = unsafe { Target::new(inputs) };
                self.transform_input(
                    group_tiles.clone(),
                    channels.clone(),
                    zeros,
                    input_layout,
                    to,
                );
                for index in range.clone() {
                    let start = (panels.panel(index).start - begin) * group;
                    // SAFETY: this task's own.
                    let to = unsafe { Target::new(&mut gradients[start..]) };
                    self.transform_gradient(group_tiles.clone(), index, gradient_layout, to);
                }
                // What the next group reads, also if it is the next task's.
                let next = group_tiles.end..group_tiles.end + group;
                let read = [
                    if all_channels {
                        Soon::read(self.input, self.tiling.reads(next.clone(), SOURCE))
                    } else {
                        Soon::NOTHING
                    },
                    if all_panels {
                        let next = self.tiling.covers(next, panels.columns());
                        Soon::read(self.output_gradient, next)
                    } else {
                        Soon::NOTHING
                    },
                ];
                for index in range.clone() {
                    let panel = panels.panel(index);
                    dispatch(SumOuterProducts {
                        pairs: L::ELEMENTS.pairs.as_flattened(),
                        a: inputs,
                        a_layout: input_layout,
                        tiles: group_tiles.len(),
                        channels: 0..channels.len(),
                        b: &gradients[(panel.start - begin) * group..],
                        b_layout: gradient_layout,
                        panel,
                        c: target.from(layout.start(panels, index)),
                        c_layout: layout,
                        c_row: channels.start,
                        accumulate: first > tiles.start,
                        lanes: panels.lanes(),
                        soon: read.map(|soon| soon.part(index - range.start, range.len())),
                    });
                }
            }
        });
    }

    /// Where there are more weights than pixels: input and gradient are transformed first, then every task computes the gradient
    /// of some channels and panels from all tiles. So the sums, four to nine times the size of the weights, never leave the cache.
    fn by_channels(&self) {
        let (tiling, panels, rows) = (self.tiling, self.panels, self.tiling.channels);
        let tiles = tiling.count();
        let blocks = rows.div_ceil(self.plan.channels);
        // Channels that are transformed together: those of a block, if that leaves no part of a vector, or all.
        let together = if self.plan.channels.is_multiple_of(MAX_LANES) {
            self.plan.channels
        } else {
            rows
        };
        let input_parts = rows.div_ceil(together);
        let input_layout = Layout::new(tiles, together, Self::SOURCES);
        let gradient_layout = Layout::new(tiles, panels.padded_columns(), Self::PRODUCTS);
        let inputs_length = input_parts * input_layout.length();
        // The operand: blocks of the transformed input, then panels of the transformed gradient.
        let transform = |part: usize, all: &DisjointMut<'_, f32>| {
            // SAFETY: parts have different channels or different panels.
            let all = unsafe { Target::shared(all) };
            if part < input_parts {
                let to = all.from(part * input_layout.length());
                with_f32(input_layout.tile, |zeros| {
                    let channels = piece(part, together, rows);
                    self.transform_input(0..tiles, channels, zeros, input_layout, to);
                });
            } else {
                let index = part - input_parts;
                let to = all.from(inputs_length + panels.panel(index).start * tiles);
                self.transform_gradient(0..tiles, index, gradient_layout, to);
            }
        };
        let length = inputs_length + gradient_layout.length();
        let parts = input_parts + panels.count();
        with_operand(length, parts, length, transform, |operand| {
            let work = self.geometry.work();
            for_each_task(blocks * panels.count(), work, |task| {
                let channels = piece(task / panels.count(), self.plan.channels, rows);
                let index = task % panels.count();
                let panel = panels.panel(index);
                let input = channels.start / together;
                let first = input * together;
                let layout = self.matrices(channels.len());
                let sum = |operand: &[f32], sums: &mut [f32]| {
                    let (inputs, gradients) = operand.split_at(inputs_length);
                    dispatch(SumOuterProducts {
                        pairs: L::ELEMENTS.pairs.as_flattened(),
                        a: &inputs[input * input_layout.length()..],
                        a_layout: input_layout,
                        tiles,
                        channels: channels.start - first..channels.end - first,
                        b: &gradients[panel.start * tiles..],
                        b_layout: gradient_layout,
                        panel,
                        // SAFETY: this task's own.
                        c: unsafe { Target::new(&mut *sums) },
                        c_layout: layout,
                        c_row: 0,
                        accumulate: false,
                        lanes: panels.lanes(),
                        soon: [Soon::NOTHING; 2],
                    });
                    dispatch(TransformBack::<L, SOURCE, KERNEL, PRODUCT, OUT> {
                        sums,
                        layout,
                        segments: 1,
                        segment: 0,
                        panels,
                        panel,
                        inputs: rows,
                        channels: channels.clone(),
                        target: self.target,
                        lines: PhantomData,
                    });
                };
                operand.with([input, input_parts + index], |operand| {
                    with_scratch(layout.panel_length(panel), |sums| sum(operand, sums));
                });
            });
        });
    }

    fn transform_input(
        &self,
        tiles: Range<usize>,
        channels: Range<usize>,
        zeros: &[f32],
        layout: Layout,
        to: Target<'_>,
    ) {
        dispatch(TransformSource::<L, SOURCE, KERNEL, PRODUCT, OUT> {
            tiling: self.tiling,
            tiles,
            channels,
            source: self.input,
            zeros,
            layout,
            to,
            lines: PhantomData,
        });
    }

    fn transform_gradient(
        &self,
        tiles: Range<usize>,
        index: usize,
        layout: Layout,
        to: Target<'_>,
    ) {
        dispatch(TransformGradient::<L, SOURCE, KERNEL, PRODUCT, OUT> {
            tiling: self.tiling,
            tiles,
            gradient: self.output_gradient,
            panels: self.panels,
            panel: self.panels.panel(index),
            layout,
            to,
            lines: PhantomData,
        });
    }
}
