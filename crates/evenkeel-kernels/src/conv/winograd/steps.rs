//! The steps of a Winograd pass, each one kernel: transform the source, multiply, transform back.
//!
//! Transforms lie in memory element by element: element `e` of tile `t` begins at `e * element + t * tile`, its channels side by side.

use super::ahead::Soon;
use super::lines::{Elements, Lines, Pair, Transposed};
use super::squares::{Biased, Cut, Even, Scattered, Sums};
use super::tiles::{Tiling, transform_input};
use crate::gemm::TILE_ROWS;
use crate::gemm::ahead::{Ahead, Ask, Nothing};
use crate::gemm::columns::strip;
use crate::gemm::panels::{Panel, Panels};
use crate::gemm::rows::{Rows, Run, Start, row_strip};
use crate::gemm::target::Target;
use crate::isa::{Simd, SimdOp, dispatch};
use std::marker::PhantomData;
use std::ops::Range;

/// How transforms lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Tiles that there is room for.
    pub tiles: usize,
    /// Elements of a transform.
    pub elements: usize,
    /// Floats between neighbouring tiles.
    pub tile: usize,
    /// Floats between neighbouring elements.
    pub element: usize,
}

impl Layout {
    /// Room for `tiles` tiles of `channels` channels. Elements are a line further apart than a power of two would put them, and
    /// long tiles an odd number of lines, so that neighbours do not all fall into the same sets of the cache.
    pub(super) fn new(tiles: usize, channels: usize, elements: usize) -> Layout {
        const LINE: usize = 16;
        let lines = channels.div_ceil(LINE);
        let tile = LINE * if lines < 8 { lines } else { lines | 1 };
        Layout {
            tiles,
            elements,
            tile,
            element: tiles * tile + LINE,
        }
    }

    /// Floats in all.
    pub(super) fn length(&self) -> usize {
        self.elements * self.element
    }

    /// The layout of one panel's products or gradients, in a matrix of several panels: panels lie one after another.
    fn panel(&self, panel: Panel) -> Layout {
        Layout {
            tile: panel.width,
            ..*self
        }
    }
}

/// How the matrices of all elements lie in memory, panel after panel: transformed kernels, or sums on their way to a kernel's
/// gradient. As in [`Layout`], those of different products are a line further apart than a power of two would put them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Matrices {
    /// Rows of each matrix.
    pub rows: usize,
    /// Matrices.
    pub elements: usize,
    /// Products that they are added to: those of one product lie side by side.
    pub products: usize,
}

impl Matrices {
    const LINE: usize = 16;

    /// Where the matrix at `place` begins in a panel.
    fn offset(&self, panel: Panel, place: usize, pair: Pair) -> usize {
        place * self.rows * panel.width + pair.product * Self::LINE
    }

    /// Where the matrix of each element, by row and column, begins in a panel.
    pub(super) fn offsets<const KERNEL: usize>(
        &self,
        panel: Panel,
        elements: &Elements<KERNEL>,
    ) -> [[usize; KERNEL]; KERNEL] {
        let pairs = elements.pairs.as_flattened();
        elements
            .places
            .map(|row| row.map(|place| self.offset(panel, place, pairs[place])))
    }

    /// Floats of a panel.
    pub(super) fn panel_length(&self, panel: Panel) -> usize {
        self.elements * self.rows * panel.width + self.products * Self::LINE
    }

    /// Where panel `index` begins.
    pub(super) fn start(&self, panels: Panels, index: usize) -> usize {
        self.elements * self.rows * panels.panel(index).start + index * self.products * Self::LINE
    }

    /// Floats of all panels.
    pub(super) fn length(&self, panels: Panels) -> usize {
        self.elements * self.rows * panels.padded_columns()
            + panels.count() * self.products * Self::LINE
    }
}

/// `Bᵀ·d·B` of the source under some tiles.
pub(super) struct TransformSource<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    pub tiling: &'a Tiling,
    pub tiles: Range<usize>,
    /// Channels of the source to transform.
    pub channels: Range<usize>,
    pub source: &'a [f32],
    /// At least as many zeros as there are channels to transform.
    pub zeros: &'a [f32],
    pub layout: Layout,
    /// Where the first tile goes; the layout reaches to its end.
    pub to: Target<'a>,
    pub lines: PhantomData<L>,
}

impl<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> SimdOp for TransformSource<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (tiling, layout) = (self.tiling, self.layout);
        let channels = self.channels.len().next_multiple_of(S::LANES);
        assert!(self.channels.end <= tiling.channels);
        assert_eq!((tiling.width, tiling.step), (OUT, L::STEP));
        assert_eq!(self.source.len(), tiling.source_length());
        assert!(self.tiles.end <= tiling.count());
        assert!(self.zeros.len() >= channels && layout.tile >= channels);
        assert!(layout.elements == SOURCE * SOURCE && self.tiles.len() <= layout.tiles);
        let reach = (layout.elements - 1) * layout.element + self.tiles.len() * layout.tile;
        assert!(reach <= self.to.length());
        for (index, tile) in tiling.tiles(self.tiles.clone()).enumerate() {
            // SAFETY: the asserts above compared the source with the batch, the zeros with the channels, and the furthest store
            // with the room there is.
            unsafe {
                transform_input::<S, L, SOURCE, KERNEL, PRODUCT, OUT>(
                    s,
                    tiling,
                    tile,
                    self.channels.clone(),
                    self.source.as_ptr(),
                    self.zeros.as_ptr(),
                    self.to.pointer().add(index * layout.tile),
                    layout.element,
                );
            }
        }
    }
}

/// For every product, the sum over its elements of the transformed source times the transformed kernel: some rows of the kernel, one
/// panel.
pub(super) struct Multiply<'a> {
    /// The elements in the kernel's order.
    pub pairs: &'a [Pair],
    /// The transformed source.
    pub a: &'a [f32],
    pub a_layout: Layout,
    /// Tiles to multiply.
    pub tiles: Range<usize>,
    /// Channels of the source to sum over.
    pub channels: Range<usize>,
    /// The transformed kernel, from the panel on: a row for each of these channels.
    pub b: &'a [f32],
    pub b_layout: Matrices,
    pub panel: Panel,
    /// The products, of the panel alone.
    pub c: &'a mut [f32],
    pub c_layout: Layout,
    /// Adds to what `c` holds.
    pub accumulate: bool,
    pub lanes: usize,
    /// What transforms will touch, asked for meanwhile.
    pub soon: [Soon; 2],
}

/// Most elements that share a product.
const SHARED: usize = 4;
/// Tiles multiplied between two requests for memory: a multiple of the rows of all tiles of registers but the smallest.
const TURN: usize = 24;

/// Evenly spaced rows.
#[derive(Clone, Copy)]
struct Spaced {
    a: *const f32,
    a_stride: usize,
    c: *mut f32,
    c_stride: usize,
    count: usize,
}

impl Rows for Spaced {
    #[inline(always)]
    fn count(self) -> usize {
        self.count
    }
    #[inline(always)]
    unsafe fn a(self, row: usize) -> *const f32 {
        // SAFETY: the row exists, so it lies inside what `a` points to.
        unsafe { self.a.add(row * self.a_stride) }
    }
    #[inline(always)]
    unsafe fn c(self, row: usize) -> *mut f32 {
        // SAFETY: as above.
        unsafe { self.c.add(row * self.c_stride) }
    }
}

impl Multiply<'_> {
    /// Multiplies.
    pub(super) fn run(self) {
        // Compiled apart: with requests in its loops, a product that asks for nothing took 3 % longer.
        if self.soon.iter().all(|soon| soon.is_nothing()) {
            dispatch(Product::<_, false>(self, Nothing));
        } else if self.panel.vectors == 1 {
            dispatch(Product::<_, true>(self, Nothing));
        } else {
            let steps =
                self.pairs.len() * self.channels.len() * self.tiles.len().div_ceil(TILE_ROWS);
            let ahead = Ahead::all(self.soon.map(Soon::range), steps, self.b.as_ptr());
            dispatch(Product::<_, false>(self, ahead));
        }
    }
}

/// [`Multiply`] with what comes soon asked for by the micro-kernel, or in `TURNS`: one vector is bound by loads.
struct Product<'a, A, const TURNS: bool>(Multiply<'a>, A);

impl<A: Ask, const TURNS: bool> SimdOp for Product<'_, A, TURNS> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let Product(multiply, mut ahead) = self;
        let (a_layout, c_layout) = (multiply.a_layout, multiply.c_layout.panel(multiply.panel));
        let (depth, tiles) = (multiply.channels.len(), multiply.tiles.len());
        assert_eq!(
            multiply.lanes,
            S::LANES,
            "the instruction set changed during a call"
        );
        for pair in multiply.pairs {
            assert!(pair.source < a_layout.elements && pair.product < c_layout.elements);
        }
        assert!(multiply.tiles.end <= a_layout.tiles && multiply.channels.end <= a_layout.tile);
        assert!(a_layout.length() <= multiply.a.len());
        assert_eq!(multiply.panel.width, multiply.panel.vectors * S::LANES);
        assert_eq!(
            (multiply.b_layout.rows, multiply.b_layout.elements),
            (depth, multiply.pairs.len())
        );
        assert_eq!(multiply.b_layout.products, c_layout.elements);
        assert!(multiply.b_layout.panel_length(multiply.panel) <= multiply.b.len());
        assert!(
            (c_layout.elements - 1) * c_layout.element + tiles * c_layout.tile <= multiply.c.len()
        );
        let turn = if TURNS { TURN } else { tiles.max(1) };
        let turns = c_layout.elements * tiles.div_ceil(turn);
        let mut soon = multiply.soon.map(|soon| soon.in_turns(turns));
        let mut place = 0;
        for pairs in multiply.pairs.chunk_by(|a, b| a.product == b.product) {
            let mut runs = [Run {
                offset: 0,
                length: depth,
            }; SHARED];
            let runs = &mut runs[..pairs.len()];
            for (run, pair) in runs.iter_mut().zip(pairs) {
                run.offset = pair.source * a_layout.element;
            }
            let start = if multiply.accumulate {
                Start::Output
            } else {
                Start::Zero
            };
            let mut first = 0;
            while first < tiles {
                // SAFETY: tiles, channels and elements end inside the layouts, and the asserts compared those with the slices.
                unsafe {
                    let a =
                        (multiply.tiles.start + first) * a_layout.tile + multiply.channels.start;
                    let c = pairs[0].product * c_layout.element + first * c_layout.tile;
                    let rows = Spaced {
                        a: multiply.a.as_ptr().add(a),
                        a_stride: a_layout.tile,
                        c: multiply.c.as_mut_ptr().add(c),
                        c_stride: c_layout.tile,
                        count: turn.min(tiles - first),
                    };
                    let b = multiply.b_layout.offset(multiply.panel, place, pairs[0]);
                    let b = multiply.b.as_ptr().add(b);
                    row_strip(
                        s,
                        multiply.panel.vectors,
                        rows,
                        runs,
                        b,
                        S::LANES,
                        start,
                        &mut ahead,
                    );
                }
                if TURNS {
                    soon[0].advance(s);
                    soon[1].advance(s);
                }
                first += turn;
            }
            place += pairs.len();
        }
    }
}

/// `Aᵀ·m·A` of the products of one panel, with the bias, into the destination.
pub(super) struct TransformOutput<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    pub tiling: &'a Tiling,
    pub tiles: Range<usize>,
    /// The products, of the panel alone.
    pub products: &'a [f32],
    pub layout: Layout,
    pub panels: Panels,
    pub panel: Panel,
    pub bias: Option<&'a [f32]>,
    pub target: Target<'a>,
    pub lines: PhantomData<L>,
}

impl<
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> SimdOp for TransformOutput<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (tiling, panel, layout) = (self.tiling, self.panel, self.layout.panel(self.panel));
        let channels = self.panels.columns();
        assert_eq!(
            self.panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert_eq!(tiling.width, OUT);
        assert_eq!(self.target.length(), tiling.destination_length(channels));
        assert!(self.tiles.end <= tiling.count() && layout.elements == PRODUCT * PRODUCT);
        assert!(panel.start + panel.columns <= channels);
        let reach = (layout.elements - 1) * layout.element + self.tiles.len() * layout.tile;
        assert!(reach <= self.products.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == channels));
        let [height, width] = tiling.destination;
        for (index, tile) in tiling.tiles(self.tiles.clone()).enumerate() {
            let (rows, columns) = (OUT.min(height - tile.row), OUT.min(width - tile.column));
            let pixel = (tile.image * height + tile.row) * width + tile.column;
            for vector in 0..panel.vectors {
                let at = vector * S::LANES;
                let lanes = S::LANES.min(panel.columns - at);
                // SAFETY: the asserts above compared the furthest product with the slice; rows and columns end with the image,
                // lanes with the channels.
                unsafe {
                    let products = self.products.as_ptr().add(index * layout.tile + at);
                    let from = Even::elements(products.cast_mut(), PRODUCT, layout.element);
                    let to = Even {
                        first: self
                            .target
                            .pointer()
                            .add(pixel * channels + panel.start + at),
                        row: width * channels,
                        column: channels,
                    };
                    let bias = match self.bias {
                        Some(bias) => s.load_partial(bias.as_ptr().add(panel.start + at), lanes),
                        None => s.zero(),
                    };
                    if rows == OUT && columns == OUT && lanes == S::LANES {
                        L::output_square(s, from, Biased { to, bias });
                    } else {
                        let to = Cut {
                            all: to,
                            rows,
                            columns,
                            lanes,
                        };
                        L::output_square(s, from, Biased { to, bias });
                    }
                }
            }
        }
    }
}

/// `A·dY·Aᵀ` of the output's gradient in some tiles, one panel, with zeros for pixels and columns that do not exist.
pub(super) struct TransformGradient<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    pub tiling: &'a Tiling,
    pub tiles: Range<usize>,
    pub gradient: &'a [f32],
    pub panels: Panels,
    pub panel: Panel,
    pub layout: Layout,
    /// Where the panel's first tile goes.
    pub to: Target<'a>,
    pub lines: PhantomData<L>,
}

impl<
    L: Transposed<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> SimdOp for TransformGradient<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (tiling, panel, layout) = (self.tiling, self.panel, self.layout.panel(self.panel));
        let channels = self.panels.columns();
        assert_eq!(
            self.panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert_eq!(tiling.width, OUT);
        assert_eq!(self.gradient.len(), tiling.destination_length(channels));
        assert!(self.tiles.end <= tiling.count() && layout.elements == PRODUCT * PRODUCT);
        assert!(panel.start + panel.columns <= channels);
        let reach = (layout.elements - 1) * layout.element + self.tiles.len() * layout.tile;
        assert!(reach <= self.to.length());
        let [height, width] = tiling.destination;
        for (index, tile) in tiling.tiles(self.tiles.clone()).enumerate() {
            let (rows, columns) = (OUT.min(height - tile.row), OUT.min(width - tile.column));
            let pixel = (tile.image * height + tile.row) * width + tile.column;
            for vector in 0..panel.vectors {
                let at = vector * S::LANES;
                let lanes = S::LANES.min(panel.columns - at);
                // SAFETY: rows and columns end with the image, lanes with the channels; the asserts above compared the furthest
                // store with the room there is.
                unsafe {
                    let from = Even {
                        first: self
                            .gradient
                            .as_ptr()
                            .add(pixel * channels + panel.start + at)
                            .cast_mut(),
                        row: width * channels,
                        column: channels,
                    };
                    let to = self.to.pointer().add(index * layout.tile + at);
                    let to = Even::elements(to, PRODUCT, layout.element);
                    if rows == OUT && columns == OUT && lanes == S::LANES {
                        L::gradient_square(s, from, to);
                    } else {
                        let from = Cut {
                            all: from,
                            rows,
                            columns,
                            lanes,
                        };
                        L::gradient_square(s, from, to);
                    }
                }
            }
        }
    }
}

/// For every element, the sum over tiles of outer products of transformed input and transformed gradient: some channels, one
/// panel.
pub(super) struct SumOuterProducts<'a> {
    /// The elements in the sums' order.
    pub pairs: &'a [Pair],
    /// The transformed input.
    pub a: &'a [f32],
    pub a_layout: Layout,
    /// Tiles to sum over.
    pub tiles: usize,
    /// Channels of the input: rows of the sums.
    pub channels: Range<usize>,
    /// The transformed gradient, from the panel on.
    pub b: &'a [f32],
    pub b_layout: Layout,
    pub panel: Panel,
    /// The sums, from the panel on.
    pub c: Target<'a>,
    pub c_layout: Matrices,
    /// The row of the sums that belongs to the first of these channels.
    pub c_row: usize,
    /// Adds to what `c` holds.
    pub accumulate: bool,
    pub lanes: usize,
    /// What transforms will read, asked for meanwhile.
    pub soon: [Soon; 2],
}

impl SimdOp for SumOuterProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (a_layout, b_layout) = (self.a_layout, self.b_layout.panel(self.panel));
        let (rows, width) = (self.channels.len(), self.panel.width);
        assert_eq!(
            self.lanes,
            S::LANES,
            "the instruction set changed during a call"
        );
        for pair in self.pairs {
            assert!(pair.source < a_layout.elements && pair.product < b_layout.elements);
        }
        assert!(self.tiles <= a_layout.tiles && self.channels.end <= a_layout.tile);
        assert!(a_layout.length() <= self.a.len());
        assert_eq!(width, self.panel.vectors * S::LANES);
        assert!((b_layout.elements - 1) * b_layout.element + self.tiles * width <= self.b.len());
        assert!(self.c_row + rows <= self.c_layout.rows);
        assert_eq!(self.c_layout.elements, self.pairs.len());
        assert_eq!(self.c_layout.products, b_layout.elements);
        assert!(self.c_layout.panel_length(self.panel) <= self.c.length());
        let turns = self.pairs.len();
        let by_turns = self.panel.vectors == 1;
        let mut soon = self.soon.map(|soon| soon.in_turns(turns));
        let steps = turns * self.tiles * rows.div_ceil(TILE_ROWS);
        let mut ahead = Ahead::all(self.soon.map(Soon::range), steps, self.b.as_ptr());
        for (place, pair) in self.pairs.iter().enumerate() {
            // SAFETY: tiles, channels and elements end inside the layouts, and the asserts compared those with the slices.
            unsafe {
                strip(
                    s,
                    self.panel.vectors,
                    rows,
                    self.a
                        .as_ptr()
                        .add(pair.source * a_layout.element + self.channels.start),
                    (0..self.tiles).map(|tile| tile * a_layout.tile),
                    self.b.as_ptr().add(pair.product * b_layout.element),
                    width,
                    self.c
                        .pointer()
                        .add(self.c_layout.offset(self.panel, place, *pair) + self.c_row * width),
                    width,
                    S::LANES,
                    self.accumulate,
                    &mut ahead,
                );
            }
            if by_turns {
                soon[0].advance(s);
                soon[1].advance(s);
            }
        }
    }
}

/// `Gᵀ·m·G`: sums, added up over segments in their order, to the gradient of the kernel; some channels, one panel.
pub(super) struct TransformBack<
    'a,
    L,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> {
    /// The sums of the first segment, from the first of the channels on.
    pub sums: &'a [f32],
    pub layout: Matrices,
    pub segments: usize,
    /// Floats between segments.
    pub segment: usize,
    pub panels: Panels,
    pub panel: Panel,
    /// Input channels in all.
    pub inputs: usize,
    pub channels: Range<usize>,
    /// The whole gradient.
    pub target: Target<'a>,
    pub lines: PhantomData<L>,
}

impl<
    L: Transposed<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
> SimdOp for TransformBack<'_, L, SOURCE, KERNEL, PRODUCT, OUT>
{
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let (panel, outputs) = (self.panel, self.panels.columns());
        assert_eq!(
            self.panels.lanes(),
            S::LANES,
            "the instruction set changed during a call"
        );
        assert!(self.channels.end <= self.inputs && panel.start + panel.columns <= outputs);
        assert_eq!(self.layout.elements, KERNEL * KERNEL);
        let offsets = self.layout.offsets(panel, &L::ELEMENTS);
        let reach = (self.segments - 1) * self.segment
            + offsets.as_flattened().iter().copied().fold(0, usize::max)
            + self.channels.len() * panel.width;
        assert!(reach <= self.sums.len());
        assert_eq!(self.target.length(), 9 * self.inputs * outputs);
        for (index, channel) in self.channels.clone().enumerate() {
            for vector in 0..panel.vectors {
                let at = vector * S::LANES;
                let lanes = S::LANES.min(panel.columns - at);
                // SAFETY: the asserts above compared the furthest sum and the gradient's length with the slices.
                unsafe {
                    let sums = Sums {
                        squares: Scattered {
                            first: self.sums.as_ptr().add(index * panel.width + at).cast_mut(),
                            offsets: &offsets,
                            lanes: S::LANES,
                        },
                        count: self.segments,
                        distance: self.segment,
                    };
                    let tap = channel * outputs + panel.start + at;
                    let all =
                        Even::elements(self.target.pointer().add(tap), 3, self.inputs * outputs);
                    let taps = Cut {
                        all,
                        rows: 3,
                        columns: 3,
                        lanes,
                    };
                    L::kernel_gradient_square(s, sums, taps);
                }
            }
        }
    }
}
