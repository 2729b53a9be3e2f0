//! Channels as planes: NHWC pixels taken apart into one run of values per channel, and put together again.
//!
//! The lines of a plane lie one after another with the padding between them: the zeros right of one line are those left of the next,
//! and the zeros below one image those above the next. So a tap of the kernel is one distance for all pixels of a task, and vectors
//! run over line ends and images; what they compute between the lines is never read.

use super::interleave::{put_few_together, put_together, take_apart, take_few_apart};
use crate::isa::{MAX_LANES, Simd, SimdOp};
use std::ops::Range;

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
                16 => $this.$run::<$S, 16>($s),
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
                            let (from, to) = (from.add(pixel * CHANNELS), to.add(pixel));
                            take_apart::<S, CHANNELS>(s, from, to, stride);
                        }
                    } else {
                        take_few_apart::<S, CHANNELS>(s, from, width, to, stride);
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
                            let (from, to) = (from.add(pixel), to.add(pixel * CHANNELS));
                            put_together::<S, CHANNELS>(s, from, stride, to);
                        }
                    } else {
                        put_few_together::<S, CHANNELS>(s, from, stride, to, self.width);
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
