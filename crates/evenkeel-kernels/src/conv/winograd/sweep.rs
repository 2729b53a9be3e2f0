//! Forward pass and gradient of the input, which is a forward pass with the kernel turned and transposed.

use super::super::geometry::Conv2dGeometry;
use super::super::plan;
use super::kernel::{Direction, transform_panel};
use super::lines::Lines;
use super::tiles::{Tile, Tiling, transform_input};
use crate::gemm::lanes;
use crate::gemm::panels::{Panel, Panels};
use crate::gemm::rows::{Run, Start, row_tile};
use crate::gemm::scratch::with_scratch;
use crate::gemm::target::Target;
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use std::marker::PhantomData;
use std::ops::Range;

/// Output from input; lengths have been checked, the kernel is 3×3 with stride 1.
pub(in super::super) fn forward<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize>(
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
    };
    sweep::<L, OUT, ALPHA>(
        geometry,
        Direction::Forward,
        &tiling,
        input,
        weight,
        bias,
        output,
    );
}

/// Gradient of the input; lengths have been checked, the kernel is 3×3 with stride 1 and at most 2 of padding.
pub(in super::super) fn backward_data<
    L: Lines<OUT, ALPHA>,
    const OUT: usize,
    const ALPHA: usize,
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
        before: geometry.options().padding.map(|padding| 2 - padding),
        destination: geometry.size(),
        width: OUT,
    };
    sweep::<L, OUT, ALPHA>(
        geometry,
        Direction::Backward,
        &tiling,
        output_gradient,
        weight,
        None,
        input_gradient,
    );
}

fn sweep<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize>(
    geometry: &Conv2dGeometry,
    direction: Direction,
    tiling: &Tiling,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    destination: &mut [f32],
) {
    let (rows, columns) = direction.sizes(geometry);
    let elements = ALPHA * ALPHA;
    let panels = Panels::new(columns, lanes());
    let plan = plan::winograd(tiling.count(), rows, panels, elements);
    let layout = Layout::new(rows, panels, plan.group, elements);
    // SAFETY: tasks have different tiles or different panels.
    let target = unsafe { Target::new(destination) };
    with_scratch(elements * rows * panels.padded_columns(), |packed| {
        {
            let parts = DisjointMut::new(packed);
            for_each_task(panels.count(), weight.len() * 4, |index| {
                let panel = panels.panel(index);
                let start = elements * rows * panel.start;
                // SAFETY: panels do not overlap: each starts where the one before it ends.
                let part = unsafe { parts.part(start..start + elements * rows * panel.width) };
                transform_panel::<L, OUT, ALPHA>(
                    geometry,
                    direction,
                    panels,
                    panel,
                    0..rows,
                    weight,
                    part,
                );
            });
        }
        let packed = &*packed;
        let tile_tasks = tiling.count().div_ceil(plan.tiles);
        let panel_tasks = panels.count().div_ceil(plan.panels);
        let work = geometry.multiplications();
        for_each_task(tile_tasks * panel_tasks, work, |task| {
            let tiles = piece(task / panel_tasks, plan.tiles, tiling.count());
            let range = piece(task % panel_tasks, plan.panels, panels.count());
            with_scratch(layout.length, |scratch| {
                dispatch(Sweep::<L, OUT, ALPHA> {
                    tiling,
                    tiles,
                    source,
                    packed,
                    panels,
                    range,
                    bias,
                    target,
                    layout,
                    scratch,
                    _lines: PhantomData,
                });
            });
        });
    });
}

/// Where a task keeps its transforms. Elements are a line further apart than a power of two would put them, so that the
/// stores of one transform do not all fall into the same set of the cache.
#[derive(Clone, Copy)]
struct Layout {
    /// Tiles in a group.
    group: usize,
    /// Between the channels of neighbouring tiles in the transformed source.
    source_stride: usize,
    /// Between elements of the transformed source.
    source_element: usize,
    /// Between elements of the products.
    product_element: usize,
    /// Where the products begin.
    products: usize,
    /// Where the zeros begin.
    zeros: usize,
    /// Floats in all.
    length: usize,
}

impl Layout {
    fn new(rows: usize, panels: Panels, group: usize, elements: usize) -> Layout {
        const LINE: usize = 16;
        let source_stride = rows.next_multiple_of(LINE);
        let width = panels
            .panel(panels.count() - 1)
            .width
            .max(panels.panel(0).width);
        let source_element = group * source_stride + LINE;
        let product_element = (group * width).next_multiple_of(LINE) + LINE;
        let products = elements * source_element;
        let zeros = products + elements * product_element;
        Layout {
            group,
            source_stride,
            source_element,
            product_element,
            products,
            zeros,
            length: zeros + source_stride,
        }
    }
}

/// One task: some tiles, some panels.
struct Sweep<'a, L, const OUT: usize, const ALPHA: usize> {
    tiling: &'a Tiling,
    tiles: Range<usize>,
    source: &'a [f32],
    packed: &'a [f32],
    panels: Panels,
    range: Range<usize>,
    bias: Option<&'a [f32]>,
    target: Target<'a>,
    layout: Layout,
    scratch: &'a mut [f32],
    _lines: PhantomData<L>,
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> SimdOp
    for Sweep<'_, L, OUT, ALPHA>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (tiling, layout, panels) = (self.tiling, self.layout, self.panels);
        let elements = ALPHA * ALPHA;
        assert_eq!(
            panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert_eq!(tiling.width, OUT);
        let pixels = |size: [usize; 2]| tiling.batch * size[0] * size[1];
        assert_eq!(self.source.len(), pixels(tiling.source) * tiling.channels);
        assert_eq!(
            self.target.length(),
            pixels(tiling.destination) * panels.columns()
        );
        assert!(self.tiles.end <= tiling.count() && self.range.end <= panels.count());
        assert_eq!(
            self.packed.len(),
            elements * tiling.channels * panels.padded_columns()
        );
        assert!(self.bias.is_none_or(|bias| bias.len() == panels.columns()));
        assert_eq!(self.scratch.len(), layout.length);
        self.scratch[layout.zeros..].fill(0.0);
        let scratch = self.scratch.as_mut_ptr();
        let mut first = self.tiles.start;
        while first < self.tiles.end {
            let group = first..(first + layout.group).min(self.tiles.end);
            // SAFETY: the layout has room for `layout.group` tiles of every element, for the source's channels rounded up to
            // whole vectors and for the widest panel; the asserts above compared every other slice with the sizes that the
            // tiles and panels span.
            unsafe {
                let (products, zeros) = (scratch.add(layout.products), scratch.add(layout.zeros));
                for (index, tile) in tiling.tiles(group.clone()).enumerate() {
                    transform_input::<S, L, OUT, ALPHA>(
                        s,
                        tiling,
                        tile,
                        self.source.as_ptr(),
                        zeros,
                        scratch.add(index * layout.source_stride),
                        layout.source_element,
                    );
                }
                for index in self.range.clone() {
                    let panel = panels.panel(index);
                    for element in 0..elements {
                        let product = Product {
                            a: scratch.add(element * layout.source_element),
                            a_stride: layout.source_stride,
                            depth: tiling.channels,
                            b: self.packed.as_ptr().add(
                                tiling.channels * (elements * panel.start + element * panel.width),
                            ),
                            c: products.add(element * layout.product_element),
                            c_stride: panel.width,
                            rows: group.len(),
                        };
                        // The same tiles as in `RowProduct`.
                        if S::REGISTERS >= 32 {
                            match panel.vectors {
                                1 => product.run::<S, 12, 6, 1>(s),
                                2 => product.run::<S, 12, 6, 2>(s),
                                _ => product.run::<S, 8, 4, 3>(s),
                            }
                        } else {
                            match panel.vectors {
                                1 => product.run::<S, 8, 4, 1>(s),
                                2 => product.run::<S, 6, 3, 2>(s),
                                _ => product.run::<S, 4, 2, 3>(s),
                            }
                        }
                    }
                    for (index, tile) in tiling.tiles(group.clone()).enumerate() {
                        self.transform_output(s, panel, tile, products.add(index * panel.width));
                    }
                }
            }
            first = group.end;
        }
    }
}

impl<L: Lines<OUT, ALPHA>, const OUT: usize, const ALPHA: usize> Sweep<'_, L, OUT, ALPHA> {
    /// Transforms the products of a tile back and writes those pixels that exist.
    ///
    /// # Safety
    /// `products` must hold the panel's width at every element; `call` must have checked.
    #[inline(always)]
    unsafe fn transform_output<S: Simd>(
        &self,
        s: S,
        panel: Panel,
        tile: Tile,
        products: *const f32,
    ) {
        let [height, width] = self.tiling.destination;
        let (rows, columns) = (OUT.min(height - tile.row), OUT.min(width - tile.column));
        let channels = self.panels.columns();
        let pixel = (tile.image * height + tile.row) * width + tile.column;
        for vector in 0..panel.vectors {
            let at = vector * S::LANES;
            let lanes = S::LANES.min(panel.columns - at);
            // SAFETY: the caller's promise; rows and columns end with the image, lanes with the channels.
            unsafe {
                let mut values = [[s.zero(); ALPHA]; ALPHA];
                for i in 0..ALPHA {
                    for j in 0..ALPHA {
                        let element = (i * ALPHA + j) * self.layout.product_element;
                        values[i][j] = s.load(products.add(element + at));
                    }
                }
                let mut values = L::output_square(s, values);
                if let Some(bias) = self.bias {
                    let bias = s.load_partial(bias.as_ptr().add(panel.start + at), lanes);
                    for line in &mut values {
                        for value in line {
                            *value = s.add(*value, bias);
                        }
                    }
                }
                let to = self
                    .target
                    .pointer()
                    .add(pixel * channels + panel.start + at);
                if rows == OUT && columns == OUT && lanes == S::LANES {
                    for i in 0..OUT {
                        for j in 0..OUT {
                            s.store(values[i][j], to.add((i * width + j) * channels));
                        }
                    }
                } else {
                    for i in 0..OUT {
                        for j in 0..OUT {
                            if i < rows && j < columns {
                                let to = to.add((i * width + j) * channels);
                                s.store_partial(values[i][j], to, lanes);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// One matrix product of a group: evenly spaced rows.
struct Product {
    a: *const f32,
    a_stride: usize,
    depth: usize,
    b: *const f32,
    c: *mut f32,
    c_stride: usize,
    rows: usize,
}

impl Product {
    /// # Safety
    /// `a` must hold `rows` rows of `depth`, `b` `depth` rows of `NV` vectors, `c` `rows` rows of `NV` vectors.
    #[inline(always)]
    unsafe fn run<S: Simd, const FULL: usize, const HALF: usize, const NV: usize>(&self, s: S) {
        let mut row = 0;
        while row < self.rows {
            let left = self.rows - row;
            // SAFETY: rows below `self.rows`, by the caller's promise.
            unsafe {
                if left > HALF {
                    self.tile::<S, FULL, NV>(s, row, left);
                    row += FULL;
                } else {
                    self.tile::<S, HALF, NV>(s, row, left);
                    row += HALF;
                }
            }
        }
    }

    /// # Safety
    /// As for `run`, and `left > 0` rows must exist from `row` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const MR: usize, const NV: usize>(
        &self,
        s: S,
        row: usize,
        left: usize,
    ) {
        let rows = left.min(MR);
        let runs = [Run {
            offset: 0,
            length: self.depth,
        }];
        // SAFETY: the last row that exists stands in for those that do not, and is stored once.
        unsafe {
            let a = std::array::from_fn(|i| self.a.add((row + i.min(rows - 1)) * self.a_stride));
            let c = std::array::from_fn(|i| self.c.add((row + i.min(rows - 1)) * self.c_stride));
            row_tile::<S, MR, NV>(s, a, &runs, self.b, c, rows, S::LANES, Start::Zero);
        }
    }
}
