//! 3×3 kernels on every channel by itself, stride 1 or 2: the tensor is read where it lies.
//!
//! A tile is a few neighbouring pixels of one row and one vector of channels. Its sums stay in registers, and so do the source pixels
//! of a row, of which each serves up to three sums. Tiles go down the image and, inside, through the channels, so the source is read in
//! stretches of a few pixels with all their channels. Pixels outside the image are zeros that are never loaded.

use crate::gemm::target::Target;
use crate::isa::{MAX_LANES, Simd, SimdOp};
use std::ops::Range;

/// Source pixels under the widest tile: 8 pixels, stride 2.
const REACH: usize = 17;
/// A tile all of whose windows and source pixels exist.
const INNER: u8 = 0;
/// A tile all of whose windows exist, and all source pixels but perhaps the first and the last column.
const RIM: u8 = 1;
/// Any other tile.
const CUT: u8 = 2;
/// What lies outside an image.
static ZEROS: [f32; MAX_LANES] = [0.0; MAX_LANES];

/// The pixels of one source row under a tile; those that do not exist are zeros.
///
/// # Safety
/// `row` must be the start of `width` pixels of `channels` floats, at least `lanes` of them from `channel` on.
#[inline(always)]
unsafe fn load_row<
    S: Simd,
    const PIXELS: usize,
    const STRIDE: usize,
    const EDGE: u8,
    const WHOLE: bool,
>(
    s: S,
    row: *const f32,
    first: isize,
    width: usize,
    channels: usize,
    lanes: usize,
) -> [S::F32; REACH] {
    let mut values = [s.zero(); REACH];
    let count = (PIXELS - 1) * STRIDE + 3;
    for j in 0..count {
        let pixel = first.wrapping_add_unsigned(j);
        let mut p = row.wrapping_offset(pixel * channels as isize);
        // A choice of pointers, and not a branch around every load.
        let tested = EDGE == CUT || EDGE == RIM && (j == 0 || j + 1 == count);
        if tested && pixel as usize >= width {
            p = ZEROS.as_ptr();
        }
        // SAFETY: the pixel exists: tested, or promised by the caller for tiles that are not at an edge.
        values[j] = unsafe { load::<S, WHOLE>(s, p, lanes) };
    }
    values
}

/// One vector if `WHOLE`, or its first lanes.
///
/// # Safety
/// `p` must be valid for reading `lanes` f32, all of a vector if `WHOLE`.
#[inline(always)]
unsafe fn load<S: Simd, const WHOLE: bool>(s: S, p: *const f32, lanes: usize) -> S::F32 {
    // SAFETY: the caller's promise.
    unsafe {
        if WHOLE {
            s.load(p)
        } else {
            s.load_partial(p, lanes)
        }
    }
}

/// Stores one vector if `WHOLE`, or its first lanes.
///
/// # Safety
/// `p` must be valid for writing `lanes` f32, all of a vector if `WHOLE`.
#[inline(always)]
unsafe fn store<S: Simd, const WHOLE: bool>(s: S, v: S::F32, p: *mut f32, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if WHOLE {
            s.store(v, p);
        } else {
            s.store_partial(v, p, lanes);
        }
    }
}

/// Where windows lie in an image.
#[derive(Clone, Copy)]
pub(super) struct Windows {
    /// `[height, width]` of the source.
    pub source: [usize; 2],
    /// `[height, width]` of the positions of the window.
    pub positions: [usize; 2],
    /// Channels of both.
    pub channels: usize,
    /// Pixels that the first window lies above and left of the source.
    pub before: [usize; 2],
    /// Source pixels between neighbouring windows: 1 or 2 both ways.
    pub stride: usize,
}

impl Windows {
    /// The source row under row `r` of the windows at `row`, if it exists.
    #[inline(always)]
    fn source_row(&self, row: usize, r: usize) -> Option<usize> {
        let y = (row * self.stride + r).wrapping_sub(self.before[0]);
        (y < self.source[0]).then_some(y)
    }

    /// The first source column under the window at `column`.
    #[inline(always)]
    fn source_column(&self, column: usize) -> isize {
        (column * self.stride) as isize - self.before[1] as isize
    }

    /// Which pixels a tile of `pixels` windows from `column` on sees that do not exist: [`INNER`], [`RIM`] or [`CUT`].
    #[inline(always)]
    fn edge(&self, column: usize, pixels: usize) -> u8 {
        let first = self.source_column(column);
        let end = first.wrapping_add_unsigned((pixels - 1) * self.stride + 3);
        let width = self.source[1] as isize;
        if column + pixels > self.positions[1] || first < -1 || end > width + 1 {
            CUT
        } else if first < 0 || end > width {
            RIM
        } else {
            INNER
        }
    }

    fn check(&self, source: usize, images: &Range<usize>, rows: &Range<usize>) {
        assert!(self.stride == 1 || self.stride == 2);
        assert!(images.end * self.source[0] * self.source[1] * self.channels <= source);
        assert!(rows.end <= self.positions[0]);
    }
}

/// Calls `$tile::<S, PIXELS, STRIDE, EDGE, WHOLE>` for every tile and every vector of channels. Tiles go down the image, so that the
/// two source rows that neighbours share are still in the first-level cache.
macro_rules! all_tiles {
    ($this:ident, $tile:ident, $s:ident, $S:ty) => {{
        let windows = $this.windows;
        macro_rules! tiles {
            ($pixels:literal, $stride:literal) => {
                for image in $this.images.clone() {
                    for column in (0..windows.positions[1]).step_by($pixels) {
                        let edge = windows.edge(column, $pixels);
                        for row in $this.rows.clone() {
                            for channel in (0..windows.channels).step_by(<$S>::LANES) {
                                let lanes = <$S>::LANES.min(windows.channels - channel);
                                macro_rules! tile {
                                    ($edge:ident, $whole:literal) => {
                                        $this.$tile::<$S, $pixels, $stride, $edge, $whole>(
                                            $s, image, row, column, channel, lanes,
                                        )
                                    };
                                }
                                // SAFETY: image, row, column and channels exist; `edge` says which pixels may not.
                                unsafe {
                                    match (edge, lanes == <$S>::LANES) {
                                        (INNER, true) => tile!(INNER, true),
                                        (RIM, true) => tile!(RIM, true),
                                        (_, true) => tile!(CUT, true),
                                        (INNER, false) => tile!(INNER, false),
                                        (_, false) => tile!(CUT, false),
                                    }
                                }
                            }
                        }
                    }
                }
            };
        }
        let wide = <$S>::REGISTERS >= 32 && windows.positions[1] > 4;
        match (windows.stride, wide) {
            (1, true) => tiles!(8, 1),
            (1, false) => tiles!(4, 1),
            (_, true) => tiles!(8, 2),
            (_, false) => tiles!(4, 2),
        }
    }};
}

/// `destination[position][channel] = bias[channel] + Σ_taps source[window + tap][channel]·weight[tap][channel]` for some rows of some images.
pub(super) struct Sweep<'a> {
    pub windows: Windows,
    pub images: Range<usize>,
    pub rows: Range<usize>,
    pub source: &'a [f32],
    /// `[3, 3, channels]`.
    pub weight: &'a [f32],
    /// Whether the kernel is turned by 180°.
    pub turned: bool,
    pub bias: Option<&'a [f32]>,
    /// All images' positions.
    pub target: Target<'a>,
}

impl Sweep<'_> {
    /// # Safety
    /// `call` must have checked; image, row, column, and `lanes` channels from `channel` on must exist, and of the pixels
    /// under `PIXELS` windows, and of these windows, those that `EDGE` says; if `WHOLE`, `lanes` must be those of a vector.
    #[inline(always)]
    unsafe fn tile<
        S: Simd,
        const PIXELS: usize,
        const STRIDE: usize,
        const EDGE: u8,
        const WHOLE: bool,
    >(
        &self,
        s: S,
        image: usize,
        row: usize,
        column: usize,
        channel: usize,
        lanes: usize,
    ) {
        let windows = self.windows;
        let [height, width] = windows.source;
        let channels = windows.channels;
        let first = windows.source_column(column);
        // SAFETY: rows are tested, pixels in `load_row`; `call` compared images, weights and bias with the slices, and positions
        // with the target.
        unsafe {
            let start = match self.bias {
                Some(bias) => load::<S, WHOLE>(s, bias.as_ptr().add(channel), lanes),
                None => s.zero(),
            };
            let mut sums = [start; PIXELS];
            for r in 0..3 {
                let Some(y) = windows.source_row(row, r) else {
                    continue;
                };
                let line = (image * height + y) * width * channels + channel;
                let line = self.source.as_ptr().add(line);
                let values = load_row::<S, PIXELS, STRIDE, EDGE, WHOLE>(
                    s, line, first, width, channels, lanes,
                );
                for t in 0..3 {
                    let tap = r * 3 + t;
                    let tap = if self.turned { 8 - tap } else { tap };
                    let weight = self.weight.as_ptr().add(tap * channels + channel);
                    let weight = load::<S, WHOLE>(s, weight, lanes);
                    for i in 0..PIXELS {
                        sums[i] = s.fma(values[i * STRIDE + t], weight, sums[i]);
                    }
                }
            }
            let to = (image * windows.positions[0] + row) * windows.positions[1] + column;
            let to = self.target.pointer().add(to * channels + channel);
            for i in 0..PIXELS {
                if EDGE != CUT || column + i < windows.positions[1] {
                    store::<S, WHOLE>(s, sums[i], to.add(i * channels), lanes);
                }
            }
        }
    }
}

impl SimdOp for Sweep<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let windows = self.windows;
        windows.check(self.source.len(), &self.images, &self.rows);
        let positions = windows.positions[0] * windows.positions[1] * windows.channels;
        assert!(self.images.end * positions <= self.target.length());
        assert!(9 * windows.channels <= self.weight.len());
        assert!(self.bias.is_none_or(|bias| bias.len() == windows.channels));
        all_tiles!(self, tile, s, S);
    }
}

/// `sums[tap][channel] += Σ_positions source[window + tap][channel]·gradient[position][channel]` over some rows of some images.
pub(super) struct Gradient<'a> {
    pub windows: Windows,
    pub images: Range<usize>,
    pub rows: Range<usize>,
    pub source: &'a [f32],
    /// All images' positions.
    pub gradient: &'a [f32],
    /// `[3, 3, channels]`.
    pub sums: Target<'a>,
}

impl Gradient<'_> {
    /// # Safety
    /// As for [`Sweep::tile`].
    #[inline(always)]
    unsafe fn tile<
        S: Simd,
        const PIXELS: usize,
        const STRIDE: usize,
        const EDGE: u8,
        const WHOLE: bool,
    >(
        &self,
        s: S,
        image: usize,
        row: usize,
        column: usize,
        channel: usize,
        lanes: usize,
    ) {
        let windows = self.windows;
        let [height, width] = windows.source;
        let channels = windows.channels;
        let first = windows.source_column(column);
        // SAFETY: rows are tested, pixels in `load_row`; `call` compared images, positions and sums with the slices.
        unsafe {
            let from = (image * windows.positions[0] + row) * windows.positions[1] + column;
            let from = self.gradient.as_ptr().add(from * channels + channel);
            let mut gradients = [s.zero(); PIXELS];
            for i in 0..PIXELS {
                if EDGE != CUT || column + i < windows.positions[1] {
                    gradients[i] = load::<S, WHOLE>(s, from.add(i * channels), lanes);
                }
            }
            for r in 0..3 {
                let Some(y) = windows.source_row(row, r) else {
                    continue;
                };
                let line = (image * height + y) * width * channels + channel;
                let line = self.source.as_ptr().add(line);
                let values = load_row::<S, PIXELS, STRIDE, EDGE, WHOLE>(
                    s, line, first, width, channels, lanes,
                );
                let mut sums = [s.zero(); 3];
                for i in 0..PIXELS {
                    for t in 0..3 {
                        sums[t] = s.fma(values[i * STRIDE + t], gradients[i], sums[t]);
                    }
                }
                for t in 0..3 {
                    let to = self.sums.pointer().add((r * 3 + t) * channels + channel);
                    let sum = s.add(load::<S, WHOLE>(s, to, lanes), sums[t]);
                    store::<S, WHOLE>(s, sum, to, lanes);
                }
            }
        }
    }
}

impl SimdOp for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let windows = self.windows;
        windows.check(self.source.len(), &self.images, &self.rows);
        let positions = windows.positions[0] * windows.positions[1] * windows.channels;
        assert!(self.images.end * positions <= self.gradient.len());
        assert!(9 * windows.channels <= self.sums.length());
        all_tiles!(self, tile, s, S);
    }
}
