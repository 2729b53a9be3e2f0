//! Gradient of the weights: outer products of transformed input and transformed gradient, summed over tiles, transformed back once.

use super::super::geometry::Conv2dGeometry;
use super::super::plan;
use super::lines::Lines;
use super::tiles::{Tile, Tiling, transform_input};
use crate::gemm::columns::strip;
use crate::gemm::lanes;
use crate::gemm::panels::{Panel, Panels};
use crate::gemm::scratch::with_scratch;
use crate::gemm::target::Target;
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};
use std::marker::PhantomData;
use std::ops::Range;

/// The gradient of the weights; lengths have been checked, the kernel is 3×3 with stride 1.
pub(in super::super) fn backward_weights<
    L: Lines<OUT, ALPHA>,
    const OUT: usize,
    const ALPHA: usize,
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
    };
    if tiling.count() == 0 {
        weight_gradient.fill(0.0);
        return;
    }
    let elements = ALPHA * ALPHA;
    let rows = geometry.in_channels();
    let panels = Panels::new(geometry.out_channels(), lanes());
    let plan = plan::winograd_weights(tiling.count(), rows, panels, elements);
    let segments = tiling.count().div_ceil(plan.tiles);
    let length = elements * rows * panels.padded_columns();
    with_scratch(segments * length, |sums| {
        {
            // SAFETY: tasks have different segments or different panels.
            let target = unsafe { Target::new(&mut *sums) };
            let panel_tasks = panels.count().div_ceil(plan.panels);
            let work = geometry.multiplications();
            for_each_task(segments * panel_tasks, work, |task| {
                let segment = task / panel_tasks;
                let range = piece(task % panel_tasks, plan.panels, panels.count());
                let layout = Layout::new(rows, panels, range.clone(), plan.group, elements);
                with_scratch(layout.length, |scratch| {
                    dispatch(Sums::<L, OUT, ALPHA> {
                        tiling: &tiling,
                        tiles: piece(segment, plan.tiles, tiling.count()),
                        input,
                        gradient: output_gradient,
                        panels,
                        range: range.clone(),
                        target: target.from(segment * length),
                        layout,
                        scratch,
                        _lines: PhantomData,
                    });
                });
            });
        }
        const ROWS: usize = 16;
        let blocks = rows.div_ceil(ROWS);
        // SAFETY: tasks have different panels or different rows.
        let target = unsafe { Target::new(weight_gradient) };
        for_each_task(panels.count() * blocks, sums.len(), |task| {
            dispatch(TransformBack::<L, OUT, ALPHA> {
                sums,
                segments,
                length,
                panels,
                index: task / blocks,
                inputs: rows,
                rows: piece(task % blocks, ROWS, rows),
                target,
                _lines: PhantomData,
            });
        });
    });
}

/// Where a task keeps its transforms; see the layout of the sweep.
#[derive(Clone, Copy)]
struct Layout {
    /// Tiles in a group.
    group: usize,
    /// Between the channels of neighbouring tiles in the transformed input.
    input_stride: usize,
    /// Between elements of the transformed input.
    input_element: usize,
    /// Where the transformed gradient begins.
    gradients: usize,
    /// Between elements of the transformed gradient, in which panels lie one after another.
    gradient_element: usize,
    /// Where the zeros begin.
    zeros: usize,
    /// Floats in all.
    length: usize,
}

impl Layout {
    fn new(
        rows: usize,
        panels: Panels,
        range: Range<usize>,
        group: usize,
        elements: usize,
    ) -> Layout {
        const LINE: usize = 16;
        let input_stride = rows.next_multiple_of(LINE);
        let input_element = group * input_stride + LINE;
        let width: usize = range.map(|index| panels.panel(index).width).sum();
        let gradient_element = (group * width).next_multiple_of(LINE) + LINE;
        let gradients = elements * input_element;
        let zeros = gradients + elements * gradient_element;
        Layout {
            group,
            input_stride,
            input_element,
            gradients,
            gradient_element,
            zeros,
            length: zeros + input_stride,
        }
    }
}

/// One task: the sums over some tiles for some panels, `[panel][element][row][column]`.
struct Sums<'a, L, const OUT: usize, const ALPHA: usize> {
    tiling: &'a Tiling,
    tiles: Range<usize>,
    input: &'a [f32],
    gradient: &'a [f32],
    panels: Panels,
    range: Range<usize>,
    target: Target<'a>,
    layout: Layout,
    scratch: &'a mut [f32],
    _lines: PhantomData<L>,
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> SimdOp
    for Sums<'_, L, OUT, ALPHA>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (tiling, layout, panels) = (self.tiling, self.layout, self.panels);
        let elements = ALPHA * ALPHA;
        let rows = tiling.channels;
        assert_eq!(
            panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert_eq!(tiling.width, OUT);
        let pixels = |size: [usize; 2]| tiling.batch * size[0] * size[1];
        assert_eq!(self.input.len(), pixels(tiling.source) * rows);
        assert_eq!(
            self.gradient.len(),
            pixels(tiling.destination) * panels.columns()
        );
        assert!(self.tiles.end <= tiling.count() && self.range.end <= panels.count());
        assert!(elements * rows * panels.padded_columns() <= self.target.length());
        assert_eq!(self.scratch.len(), layout.length);
        self.scratch[layout.zeros..].fill(0.0);
        let scratch = self.scratch.as_mut_ptr();
        let begin = panels.panel(self.range.start).start;
        let mut first = self.tiles.start;
        while first < self.tiles.end {
            let group = first..(first + layout.group).min(self.tiles.end);
            // SAFETY: the layout has room for `layout.group` tiles of every element, for the input's channels rounded up to
            // whole vectors and for the range's panels; the asserts above compared every other slice with the sizes that the
            // tiles and panels span.
            unsafe {
                let (gradients, zeros) = (scratch.add(layout.gradients), scratch.add(layout.zeros));
                for (index, tile) in tiling.tiles(group.clone()).enumerate() {
                    transform_input::<S, L, OUT, ALPHA>(
                        s,
                        tiling,
                        tile,
                        self.input.as_ptr(),
                        zeros,
                        scratch.add(index * layout.input_stride),
                        layout.input_element,
                    );
                    for at in self.range.clone() {
                        let panel = panels.panel(at);
                        let to = (panel.start - begin) * layout.group + index * panel.width;
                        self.transform_gradient(s, panel, tile, gradients.add(to));
                    }
                }
                for element in 0..elements {
                    for at in self.range.clone() {
                        let panel = panels.panel(at);
                        let a = scratch.add(element * layout.input_element);
                        let b = gradients.add(
                            element * layout.gradient_element
                                + (panel.start - begin) * layout.group,
                        );
                        let c = self
                            .target
                            .pointer()
                            .add(rows * (elements * panel.start + element * panel.width));
                        let accumulate = first > self.tiles.start;
                        strip(
                            s,
                            panel.vectors,
                            rows,
                            a,
                            (0..group.len()).map(|tile| tile * layout.input_stride),
                            b,
                            c,
                            panel.width,
                            S::LANES,
                            accumulate,
                        );
                    }
                }
            }
            first = group.end;
        }
    }
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> Sums<'_, L, OUT, ALPHA> {
    /// Transforms the output's gradient in a tile, with zeros for pixels and columns that do not exist.
    ///
    /// # Safety
    /// `to` must have room for the panel's width at every element; `call` must have checked.
    #[inline(always)]
    unsafe fn transform_gradient<S: Simd>(&self, s: S, panel: Panel, tile: Tile, to: *mut f32) {
        let [height, width] = self.tiling.destination;
        let (rows, columns) = (OUT.min(height - tile.row), OUT.min(width - tile.column));
        let channels = self.panels.columns();
        let pixel = (tile.image * height + tile.row) * width + tile.column;
        for vector in 0..panel.vectors {
            let at = vector * S::LANES;
            let lanes = S::LANES.min(panel.columns - at);
            // SAFETY: the caller's promise; rows and columns end with the image, lanes with the channels.
            unsafe {
                let from = self
                    .gradient
                    .as_ptr()
                    .add(pixel * channels + panel.start + at);
                let mut values = [[s.zero(); OUT]; OUT];
                for i in 0..OUT {
                    for j in 0..OUT {
                        if i < rows && j < columns {
                            let from = from.add((i * width + j) * channels);
                            values[i][j] = if lanes == S::LANES {
                                s.load(from)
                            } else {
                                s.load_partial(from, lanes)
                            };
                        }
                    }
                }
                let values = L::gradient_square(s, values);
                for i in 0..ALPHA {
                    for j in 0..ALPHA {
                        let element = (i * ALPHA + j) * self.layout.gradient_element;
                        s.store(values[i][j], to.add(element + at));
                    }
                }
            }
        }
    }
}

/// Adds up the segments in their order and transforms some rows of one panel back: `dg = Gᵀ·m·G`.
struct TransformBack<'a, L, const OUT: usize, const ALPHA: usize> {
    sums: &'a [f32],
    segments: usize,
    length: usize,
    panels: Panels,
    index: usize,
    inputs: usize,
    rows: Range<usize>,
    target: Target<'a>,
    _lines: PhantomData<L>,
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> SimdOp
    for TransformBack<'_, L, OUT, ALPHA>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let elements = ALPHA * ALPHA;
        let columns = self.panels.columns();
        assert_eq!(
            self.panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert_eq!(
            self.length,
            elements * self.inputs * self.panels.padded_columns()
        );
        assert!(self.segments * self.length <= self.sums.len() && self.rows.end <= self.inputs);
        assert_eq!(self.target.length(), 9 * self.inputs * columns);
        let panel = self.panels.panel(self.index);
        for row in self.rows.clone() {
            for vector in 0..panel.vectors {
                let at = vector * S::LANES;
                let lanes = S::LANES.min(panel.columns - at);
                // SAFETY: element, row and vector lie inside a segment's sums, tap, row and lanes inside the gradient: the
                // asserts compared both lengths.
                unsafe {
                    let mut values = [[s.zero(); ALPHA]; ALPHA];
                    for i in 0..ALPHA {
                        for j in 0..ALPHA {
                            let element = elements * panel.start + (i * ALPHA + j) * panel.width;
                            let from = self
                                .sums
                                .as_ptr()
                                .add(self.inputs * element + row * panel.width + at);
                            let mut sum = s.load(from);
                            for segment in 1..self.segments {
                                sum = s.add(sum, s.load(from.add(segment * self.length)));
                            }
                            values[i][j] = sum;
                        }
                    }
                    let taps = L::kernel_gradient_square(s, values);
                    for i in 0..3 {
                        for j in 0..3 {
                            let to = ((i * 3 + j) * self.inputs + row) * columns + panel.start + at;
                            s.store_partial(taps[i][j], self.target.pointer().add(to), lanes);
                        }
                    }
                }
            }
        }
    }
}
