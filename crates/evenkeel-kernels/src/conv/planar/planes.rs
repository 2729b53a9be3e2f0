//! Channels as planes: NHWC pixels taken apart into one run of values per channel, and put together again.
//!
//! The lines of a plane lie one after another with the padding between them: the zeros right of one line are those left of the next,
//! and the zeros below one image those above the next. So a tap of the kernel is one distance for all pixels of a task, and vectors
//! run over line ends and images; what they compute between the lines is never read.

use crate::isa::{MAX_LANES, Simd, SimdOp};
use std::ops::Range;

/// Most channels that are taken apart.
pub(super) const MOST_CHANNELS: usize = 8;

/// Where values lie in planes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    /// Values from a line to the next.
    pub pitch: usize,
    /// Lines from an image to the next.
    pub image_lines: usize,
    /// Values from a plane to the next.
    pub stride: usize,
}

impl Layout {
    /// Planes of up to `lines` lines that are read up to `reach` values and one vector past their end.
    pub(super) fn new(pitch: usize, image_lines: usize, lines: usize, reach: usize) -> Layout {
        let lines_of_cache = (lines * pitch + reach + MAX_LANES).div_ceil(MAX_LANES) + 1;
        Layout {
            pitch,
            image_lines,
            // An odd number of cache lines: the same pixel of all planes would fall into one set of the first-level cache otherwise.
            stride: (lines_of_cache | 1) * MAX_LANES,
        }
    }
}

/// Four sequences by twos: even and odd ones first.
#[inline(always)]
fn apart_4<S: Simd>(s: S, v: [S::F32; 4]) -> [S::F32; 4] {
    let (a, b) = (s.take_apart([v[0], v[1]]), s.take_apart([v[2], v[3]]));
    let (even, odd) = (s.take_apart([a[0], b[0]]), s.take_apart([a[1], b[1]]));
    [even[0], odd[0], even[1], odd[1]]
}

/// The inverse of [`apart_4`].
#[inline(always)]
fn together_4<S: Simd>(s: S, v: [S::F32; 4]) -> [S::F32; 4] {
    let (even, odd) = (s.put_together([v[0], v[2]]), s.put_together([v[1], v[3]]));
    let (low, high) = (
        s.put_together([even[0], odd[0]]),
        s.put_together([even[1], odd[1]]),
    );
    [low[0], low[1], high[0], high[1]]
}

/// `CHANNELS` planes of the pixels in `v`: [`Simd::take_apart`] with fewer permutations where the channels have a factor of two.
#[inline(always)]
fn apart<S: Simd, const CHANNELS: usize>(s: S, v: [S::F32; CHANNELS]) -> [S::F32; CHANNELS] {
    let mut to = v;
    match CHANNELS {
        1 => {}
        4 => to.copy_from_slice(&apart_4(s, [v[0], v[1], v[2], v[3]])),
        6 => {
            let pairs: [[S::F32; 2]; 3] = [
                s.take_apart([v[0], v[1]]),
                s.take_apart([v[2], v[3]]),
                s.take_apart([v[4], v[5]]),
            ];
            for parity in 0..2 {
                let three = s.take_apart([pairs[0][parity], pairs[1][parity], pairs[2][parity]]);
                for k in 0..3 {
                    to[2 * k + parity] = three[k];
                }
            }
        }
        8 => {
            let pairs: [[S::F32; 2]; 4] = [
                s.take_apart([v[0], v[1]]),
                s.take_apart([v[2], v[3]]),
                s.take_apart([v[4], v[5]]),
                s.take_apart([v[6], v[7]]),
            ];
            for parity in 0..2 {
                let four = [
                    pairs[0][parity],
                    pairs[1][parity],
                    pairs[2][parity],
                    pairs[3][parity],
                ];
                let four = apart_4(s, four);
                for k in 0..4 {
                    to[2 * k + parity] = four[k];
                }
            }
        }
        _ => to = s.take_apart(v),
    }
    to
}

/// The inverse of [`apart`].
#[inline(always)]
fn together<S: Simd, const CHANNELS: usize>(s: S, v: [S::F32; CHANNELS]) -> [S::F32; CHANNELS] {
    let mut to = v;
    match CHANNELS {
        1 => {}
        4 => to.copy_from_slice(&together_4(s, [v[0], v[1], v[2], v[3]])),
        6 => {
            let even = s.put_together([v[0], v[2], v[4]]);
            let odd = s.put_together([v[1], v[3], v[5]]);
            for k in 0..3 {
                let pair = s.put_together([even[k], odd[k]]);
                (to[2 * k], to[2 * k + 1]) = (pair[0], pair[1]);
            }
        }
        8 => {
            let even = together_4(s, [v[0], v[2], v[4], v[6]]);
            let odd = together_4(s, [v[1], v[3], v[5], v[7]]);
            for k in 0..4 {
                let pair = s.put_together([even[k], odd[k]]);
                (to[2 * k], to[2 * k + 1]) = (pair[0], pair[1]);
            }
        }
        _ => to = s.put_together(v),
    }
    to
}

/// Calls `$this.$run::<S, channels>($s)` for the number of channels.
macro_rules! for_channels {
    ($this:ident.$run:ident($s:ident: $S:ty), $channels:expr) => {
        // SAFETY: the caller has checked.
        unsafe {
            match $channels {
                1 => $this.$run::<$S, 1>($s),
                2 => $this.$run::<$S, 2>($s),
                3 => $this.$run::<$S, 3>($s),
                4 => $this.$run::<$S, 4>($s),
                5 => $this.$run::<$S, 5>($s),
                6 => $this.$run::<$S, 6>($s),
                7 => $this.$run::<$S, 7>($s),
                8 => $this.$run::<$S, 8>($s),
                channels => unreachable!("{channels} channels are not taken apart"),
            }
        }
    };
}

/// Takes rows of images apart.
pub(super) struct TakeApart<'a> {
    /// `[images, height, width, channels]`.
    pub tensor: &'a [f32],
    /// `[height, width]`.
    pub size: [usize; 2],
    pub channels: usize,
    pub images: Range<usize>,
    /// The row in the first line of each image; before 0 lines are zeros.
    pub first_row: isize,
    /// Rows from this one on are zeros.
    pub end_row: usize,
    /// Lines of all images.
    pub lines: usize,
    /// Zeros at the beginning of each line.
    pub left: usize,
    pub layout: Layout,
    /// Planes that are overwritten, to their last value.
    pub planes: &'a mut [f32],
}

impl TakeApart<'_> {
    /// # Safety
    /// `call` must have checked, and there must be `CHANNELS` channels.
    #[inline(always)]
    unsafe fn run<S: Simd, const CHANNELS: usize>(&mut self, s: S) {
        let [height, width] = self.size;
        let Layout { pitch, stride, .. } = self.layout;
        let to = self.planes.as_mut_ptr();
        let right = pitch - self.left - width;
        // What a vector writes past its end is written again with what follows, so this goes down the lines.
        let mut start = 0;
        for image in self.images.clone() {
            // The last image has all lines that are left.
            let lines = if image + 1 < self.images.end {
                self.layout.image_lines
            } else {
                self.lines - (self.images.len() - 1) * self.layout.image_lines
            };
            for line in 0..lines {
                let row = line as isize + self.first_row;
                let line = start;
                start += pitch;
                // SAFETY: `call` compared images and rows with the tensor, and the lines and a vector past them with the planes.
                unsafe {
                    if row < 0 || row as usize >= self.end_row {
                        for k in 0..CHANNELS {
                            clear(s, to.add(k * stride + line), pitch);
                        }
                        continue;
                    }
                    let from = (image * height + row as usize) * width;
                    let from = self.tensor.as_ptr().add(from * CHANNELS);
                    let to = to.add(line);
                    if self.left > 0 {
                        for k in 0..CHANNELS {
                            s.store(s.zero(), to.add(k * stride));
                        }
                    }
                    let to = to.add(self.left);
                    if width >= S::LANES {
                        for pixel in (0..width).step_by(S::LANES) {
                            // The last vector takes pixels of the one before once more.
                            let pixel = pixel.min(width - S::LANES);
                            let mut vectors = [s.zero(); CHANNELS];
                            for k in 0..CHANNELS {
                                vectors[k] = s.load(from.add(pixel * CHANNELS + k * S::LANES));
                            }
                            let planes = apart::<S, CHANNELS>(s, vectors);
                            for k in 0..CHANNELS {
                                s.store(planes[k], to.add(k * stride + pixel));
                            }
                        }
                    } else {
                        let mut vectors = [s.zero(); CHANNELS];
                        for k in 0..CHANNELS {
                            let start = (k * S::LANES).min(width * CHANNELS);
                            let count = (width * CHANNELS - start).min(S::LANES);
                            vectors[k] = s.load_partial(from.add(start), count);
                        }
                        let planes = apart::<S, CHANNELS>(s, vectors);
                        for k in 0..CHANNELS {
                            s.store(planes[k], to.add(k * stride));
                        }
                    }
                    if right > 0 {
                        for k in 0..CHANNELS {
                            s.store(s.zero(), to.add(k * stride + width));
                        }
                    }
                }
            }
        }
        let end = self.lines * pitch;
        for k in 0..CHANNELS {
            self.planes[k * stride + end..(k + 1) * stride].fill(0.0);
        }
    }
}

/// Writes zeros to `count` values and up to one vector past them.
///
/// # Safety
/// `to` must be valid for writing that many.
#[inline(always)]
unsafe fn clear<S: Simd>(s: S, to: *mut f32, count: usize) {
    for i in (0..count).step_by(S::LANES) {
        // SAFETY: the caller's promise.
        unsafe { s.store(s.zero(), to.add(i)) };
    }
}

impl SimdOp for TakeApart<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let [height, width] = self.size;
        let Layout { pitch, stride, .. } = self.layout;
        assert!(self.images.end * height * width * self.channels <= self.tensor.len());
        let between = self.images.len().saturating_sub(1) * self.layout.image_lines;
        assert!(!self.images.is_empty() && self.end_row <= height && between <= self.lines);
        assert!(self.left + width <= pitch && self.lines * pitch + S::LANES <= stride);
        // A single vector of zeros on either side.
        assert!(self.left.max(pitch - self.left - width) <= S::LANES);
        assert_eq!(self.planes.len(), self.channels * stride);
        for_channels!(self.run(s: S), self.channels);
    }
}

/// Puts rows of images together.
pub(super) struct PutTogether<'a> {
    pub planes: &'a [f32],
    pub layout: Layout,
    pub channels: usize,
    pub images: usize,
    pub rows: usize,
    /// Pixels of a row.
    pub width: usize,
    /// `[images, rows, width, channels]`.
    pub to: &'a mut [f32],
}

impl PutTogether<'_> {
    /// # Safety
    /// `call` must have checked, and there must be `CHANNELS` channels.
    #[inline(always)]
    unsafe fn run<S: Simd, const CHANNELS: usize>(&mut self, s: S) {
        let Layout {
            pitch,
            image_lines,
            stride,
        } = self.layout;
        for image in 0..self.images {
            for row in 0..self.rows {
                let from = (image * image_lines + row) * pitch;
                let to = (image * self.rows + row) * self.width * CHANNELS;
                // SAFETY: `call` compared the last line, and a vector past it, with the planes, and the rows with `to`.
                unsafe {
                    let from = self.planes.as_ptr().add(from);
                    let to = self.to.as_mut_ptr().add(to);
                    if self.width >= S::LANES {
                        for pixel in (0..self.width).step_by(S::LANES) {
                            // The last vector takes pixels of the one before once more.
                            let pixel = pixel.min(self.width - S::LANES);
                            let mut vectors = [s.zero(); CHANNELS];
                            for k in 0..CHANNELS {
                                vectors[k] = s.load(from.add(k * stride + pixel));
                            }
                            let values = together::<S, CHANNELS>(s, vectors);
                            for k in 0..CHANNELS {
                                s.store(values[k], to.add(pixel * CHANNELS + k * S::LANES));
                            }
                        }
                    } else {
                        let mut vectors = [s.zero(); CHANNELS];
                        for k in 0..CHANNELS {
                            vectors[k] = s.load(from.add(k * stride));
                        }
                        let values = together::<S, CHANNELS>(s, vectors);
                        for k in 0..CHANNELS {
                            let start = (k * S::LANES).min(self.width * CHANNELS);
                            let count = (self.width * CHANNELS - start).min(S::LANES);
                            s.store_partial(values[k], to.add(start), count);
                        }
                    }
                }
            }
        }
    }
}

impl SimdOp for PutTogether<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let Layout {
            pitch,
            image_lines,
            stride,
        } = self.layout;
        let lines = self.images.saturating_sub(1) * image_lines + self.rows;
        assert!(self.width <= pitch && lines * pitch + S::LANES <= stride);
        assert!(self.channels * stride <= self.planes.len());
        let pixels = self.images * self.rows * self.width;
        assert_eq!(self.to.len(), pixels * self.channels);
        for_channels!(self.run(s: S), self.channels);
    }
}
