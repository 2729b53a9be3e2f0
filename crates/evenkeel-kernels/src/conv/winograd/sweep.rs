//! Forward pass and gradient of the input, which is a forward pass with the kernel turned and transposed.

use super::super::geometry::Conv2dGeometry;
use super::super::plan::{self, WinogradPlan};
use super::ahead::{Soon, pays};
use super::kernel::{Direction, transform_panel};
use super::lines::Lines;
use super::steps::{Layout, Matrices, Multiply, TransformOutput, TransformSource};
use super::tiles::{Tiling, groups};
use crate::gemm::lanes;
use crate::gemm::panels::{Panel, Panels};
use crate::gemm::prepared::with_prepared;
use crate::gemm::target::Target;
use crate::isa::dispatch;
use crate::operand::with_operand;
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_f32, with_scratch};
use std::marker::PhantomData;
use std::ops::Range;

/// Output from input; lengths have been checked, the kernel is 3×3 with the stride of `L`.
pub(in super::super) fn forward<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
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
    sweep::<L, SOURCE, KERNEL, PRODUCT, OUT>(
        geometry,
        Direction::Forward,
        &tiling,
        input,
        weight,
        bias,
        output,
    );
}

/// Gradient of the input; lengths have been checked, the kernel is 3×3 with the stride of `L`; with stride 1 it has at
/// most 2 of padding, with stride 2 it has 1.
pub(in super::super) fn backward_data<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    geometry: &Conv2dGeometry,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let tiling = Tiling {
        batch: geometry.batch(),
        source: geometry.out_size(),
        channels: geometry.out_channels(),
        // With stride 2 and a padding of 1, the windows that see the first pixel begin with the first.
        before: if geometry.options().stride == [1, 1] {
            geometry.options().padding.map(|padding| 2 - padding)
        } else {
            [0, 0]
        },
        destination: geometry.size(),
        width: OUT,
        step: L::STEP,
    };
    sweep::<L, SOURCE, KERNEL, PRODUCT, OUT>(
        geometry,
        Direction::Backward,
        &tiling,
        output_gradient,
        weight,
        None,
        input_gradient,
    );
}

/// A pass with all that its tasks share.
struct Sweep<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    geometry: &'a Conv2dGeometry,
    direction: Direction,
    tiling: &'a Tiling,
    panels: Panels,
    plan: WinogradPlan,
    source: &'a [f32],
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    target: Target<'a>,
    lines: PhantomData<L>,
}

fn sweep<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    geometry: &Conv2dGeometry,
    direction: Direction,
    tiling: &Tiling,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    destination: &mut [f32],
) {
    let (rows, columns) = direction.sizes(geometry);
    let panels = Panels::new(columns, lanes());
    let plan = plan::winograd(
        tiling.count(),
        rows,
        panels,
        [SOURCE * SOURCE, KERNEL * KERNEL],
    );
    let sweep = Sweep::<L, SOURCE, KERNEL, PRODUCT, OUT> {
        geometry,
        direction,
        tiling,
        panels,
        plan,
        source,
        weight,
        bias,
        // SAFETY: tasks have different tiles or different panels.
        target: unsafe { Target::new(destination) },
        lines: PhantomData,
    };
    if plan.large {
        sweep.by_panels();
    } else {
        sweep.by_tiles();
    }
}

/// Channels of the source whose kernels are transformed together where kernels are large.
const CHANNELS: usize = 64;

impl<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> Sweep<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
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

    /// Where there are more pixels than weights: every task takes some tiles through all kernels, which are transformed before the
    /// first of a thread's tasks.
    fn by_tiles(&self) {
        let (panels, plan, rows) = (self.panels, self.plan, self.tiling.channels);
        let widest = (0..panels.count())
            .map(|index| panels.panel(index).width)
            .max();
        let tasks = self.tiling.count().div_ceil(plan.tiles);
        let tiles = |task| piece(task, plan.tiles, self.tiling.count());
        let room = [0, tasks.saturating_sub(1)]
            .into_iter()
            .flat_map(|task| groups(tiles(task), plan.group))
            .map(|group| group.len())
            .max()
            .unwrap_or(0);
        let source_layout = Layout::new(room, rows, Self::SOURCES);
        let product_layout = Layout::new(room, widest.unwrap_or(0), Self::PRODUCTS);
        let kernel_layout = self.matrices(rows);
        let ahead = pays(self.direction, self.source.len() + self.target.length());
        let transform =
            |panel: usize, packed: &DisjointMut<'_, f32>| self.transform_kernels(panel, packed);
        let (length, work) = (kernel_layout.length(panels), 4 * self.weight.len());
        with_prepared(length, panels.count(), work, transform, |packed| {
            let multiply = |task: usize, packed: &[f32]| {
                let length = source_layout.length() + product_layout.length();
                with_scratch(length + source_layout.tile, |scratch| {
                    let (transformed, scratch) = scratch.split_at_mut(source_layout.length());
                    let (products, zeros) = scratch.split_at_mut(product_layout.length());
                    zeros.fill(0.0);
                    for group in groups(tiles(task), plan.group) {
                        // SAFETY: this task's own.
                        let to = unsafe { Target::new(transformed) };
                        self.transform_source(group.clone(), zeros, source_layout, to);
                        // What the next group reads, also if it is the next task's; and what this one will write.
                        let (next, written) = if ahead {
                            let next = group.end..group.end + plan.group;
                            let written = self.tiling.covers(group.clone(), panels.columns());
                            (
                                Soon::read(self.source, self.tiling.reads(next, SOURCE)),
                                Soon::write(self.target, written),
                            )
                        } else {
                            (Soon::NOTHING, Soon::NOTHING)
                        };
                        for index in 0..panels.count() {
                            let panel = panels.panel(index);
                            Multiply {
                                pairs: L::ELEMENTS.pairs.as_flattened(),
                                a: transformed,
                                a_layout: source_layout,
                                tiles: 0..group.len(),
                                channels: 0..rows,
                                b: &packed[kernel_layout.start(panels, index)..],
                                b_layout: kernel_layout,
                                panel,
                                c: products,
                                c_layout: product_layout,
                                accumulate: false,
                                lanes: panels.lanes(),
                                soon: [
                                    next.part(index, panels.count()),
                                    if index == 0 { written } else { Soon::NOTHING },
                                ],
                            }
                            .run();
                            self.transform_output(group.clone(), panel, products, product_layout);
                        }
                    }
                });
            };
            for_each_task(tasks, self.geometry.work(), |task| {
                packed.with(0..panels.count(), |packed| multiply(task, packed));
            });
        });
    }

    /// Transforms all channels of the source under `tiles`.
    fn transform_source(&self, tiles: Range<usize>, zeros: &[f32], layout: Layout, to: Target<'_>) {
        dispatch(TransformSource::<L, SOURCE, KERNEL, PRODUCT, OUT> {
            tiling: self.tiling,
            tiles,
            channels: 0..self.tiling.channels,
            source: self.source,
            zeros,
            layout,
            to,
            lines: PhantomData,
        });
    }

    /// Transforms the products of `panel` to the destination's pixels under `tiles`.
    fn transform_output(
        &self,
        tiles: Range<usize>,
        panel: Panel,
        products: &[f32],
        layout: Layout,
    ) {
        dispatch(TransformOutput::<L, SOURCE, KERNEL, PRODUCT, OUT> {
            tiling: self.tiling,
            tiles,
            products,
            layout,
            panels: self.panels,
            panel,
            bias: self.bias,
            target: self.target,
            lines: PhantomData,
        });
    }

    /// Transforms the kernels of panel `index`.
    fn transform_kernels(&self, index: usize, packed: &DisjointMut<'_, f32>) {
        let (panels, rows) = (self.panels, self.tiling.channels);
        let layout = self.matrices(rows);
        let panel = panels.panel(index);
        let start = layout.start(panels, index);
        // SAFETY: panels do not overlap: each starts where the one before it ends.
        let part = unsafe { packed.part(start..start + layout.panel_length(panel)) };
        transform_panel::<L, SOURCE, KERNEL, PRODUCT, OUT>(
            self.geometry,
            self.direction,
            panels,
            panel,
            0..rows,
            self.weight,
            part,
        );
    }

    /// Where there are more weights than pixels: every task takes the transformed source through some panels, whose kernels it
    /// transforms a few channels at a time. So transformed kernels, four to nine times the size of the weights,
    /// never leave the cache.
    fn by_panels(&self) {
        let (panels, plan, rows) = (self.panels, self.plan, self.tiling.channels);
        for first in (0..self.tiling.count()).step_by(plan.tiles) {
            let tiles = first..(first + plan.tiles).min(self.tiling.count());
            let source_layout = Layout::new(tiles.len(), rows, Self::SOURCES);
            // Some tiles of the source are a part.
            const TILES: usize = 8;
            let parts = tiles.len().div_ceil(TILES);
            let transform = |part: usize, all: &DisjointMut<'_, f32>| {
                let part = piece(part, TILES, tiles.len());
                // SAFETY: parts have different tiles.
                let to = unsafe { Target::shared(all) }.from(part.start * source_layout.tile);
                let part = first + part.start..first + part.end;
                with_f32(source_layout.tile, |zeros| {
                    self.transform_source(part, zeros, source_layout, to);
                });
            };
            let length = source_layout.length();
            with_operand(length, parts, length, transform, |source| {
                // Group after group, so that a thread takes the tiles that it transformed.
                let groups = tiles.len().div_ceil(plan.group);
                let panel_tasks = panels.count().div_ceil(plan.panels);
                for_each_task(groups * panel_tasks, self.geometry.work(), |task| {
                    let group = piece(task / panel_tasks, plan.group, tiles.len());
                    let range = piece(task % panel_tasks, plan.panels, panels.count());
                    let begin = panels.panel(range.start).start;
                    let widths = range.clone().map(|index| panels.panel(index).width);
                    let product_layout = Layout::new(plan.group, widths.sum(), Self::PRODUCTS);
                    let kernel_length = range
                        .clone()
                        .map(|index| self.matrices(CHANNELS).panel_length(panels.panel(index)))
                        .max()
                        .unwrap_or(0);
                    let multiply = |transformed: &[f32], scratch: &mut [f32]| {
                        let (kernel, products) = scratch.split_at_mut(kernel_length);
                        for channel in (0..rows).step_by(CHANNELS) {
                            let channels = channel..(channel + CHANNELS).min(rows);
                            for index in range.clone() {
                                let panel = panels.panel(index);
                                transform_panel::<L, SOURCE, KERNEL, PRODUCT, OUT>(
                                    self.geometry,
                                    self.direction,
                                    panels,
                                    panel,
                                    channels.clone(),
                                    self.weight,
                                    kernel,
                                );
                                Multiply {
                                    pairs: L::ELEMENTS.pairs.as_flattened(),
                                    a: transformed,
                                    a_layout: source_layout,
                                    tiles: group.clone(),
                                    channels: channels.clone(),
                                    b: kernel,
                                    b_layout: self.matrices(channels.len()),
                                    panel,
                                    c: &mut products[(panel.start - begin) * plan.group..],
                                    c_layout: product_layout,
                                    accumulate: channel > 0,
                                    lanes: panels.lanes(),
                                    soon: [Soon::NOTHING; 2],
                                }
                                .run();
                            }
                        }
                        for index in range.clone() {
                            let panel = panels.panel(index);
                            let tiles = first + group.start..first + group.end;
                            let products = &products[(panel.start - begin) * plan.group..];
                            self.transform_output(tiles, panel, products, product_layout);
                        }
                    };
                    let needed = group.start / TILES..group.end.div_ceil(TILES);
                    source.with(needed, |transformed| {
                        let length = kernel_length + product_layout.length();
                        with_scratch(length, |scratch| multiply(transformed, scratch));
                    });
                });
            });
        }
    }
}
