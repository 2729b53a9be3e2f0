//! Products of a group of tiles, summed for the gradient of the weights.

use super::source::{OUTPUTS, POINTS, QUAD, SLOTS, SQUARE, Tile};
use crate::conv::winograd::{Four, Transposed};
use crate::isa::{Simd, SimdOp};

/// Scratch memory of [`Sums`].
pub(super) fn scratch_length(lanes: usize) -> usize {
    SLOTS * SQUARE * lanes
}

/// Adds the products of some tiles.
pub(super) struct Sums<'a> {
    /// `[column of points][row of points][slot][lane of a quad]`.
    pub source: &'a [f32],
    pub tiles: &'a [Tile],
    /// Channels of the source.
    pub channels: usize,
    /// The gradient of all outputs.
    pub gradient: &'a [f32],
    /// Channels of the output.
    pub columns: usize,
    /// Pixels of an output row.
    pub width: usize,
    /// `[vector][column of points][row of points][channel][lane]`.
    pub sums: &'a mut [f32],
    /// Of [`scratch_length`]: the transformed gradient, `[tile][column of points][row of points][lane]`.
    pub transformed: &'a mut [f32],
}

impl SimdOp for &mut Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        assert_eq!(self.source.len(), SQUARE * SLOTS * QUAD);
        assert_eq!(self.transformed.len(), scratch_length(S::LANES));
        let vectors = self.columns.div_ceil(S::LANES);
        assert_eq!(self.sums.len(), vectors * SQUARE * self.channels * S::LANES);
        assert!(self.tiles.len() <= SLOTS);
        for tile in self.tiles {
            let [height, width] = tile.size;
            assert!(tile.slot < SLOTS && (1..=OUTPUTS).contains(&height) && width <= OUTPUTS);
            let end = tile.pixel + (height - 1) * self.width + width;
            assert!(end * self.columns <= self.gradient.len());
        }
        for column in (0..self.columns).step_by(S::LANES) {
            // SAFETY: as asserted.
            unsafe {
                self.transform(s, column);
                // Points whose sums fit the registers, with a vector of the gradient and one of the source.
                match (self.channels, S::REGISTERS >= 32) {
                    (1, true) => self.multiply::<S, 1, 18>(s, column),
                    (1, false) => self.multiply::<S, 1, 12>(s, column),
                    (2, true) => self.multiply::<S, 2, 12>(s, column),
                    (2, false) => self.multiply::<S, 2, 6>(s, column),
                    (3, true) => self.multiply::<S, 3, 9>(s, column),
                    (3, false) => self.multiply::<S, 3, 4>(s, column),
                    (4, true) => self.multiply::<S, 4, 6>(s, column),
                    (4, false) => self.multiply::<S, 4, 3>(s, column),
                    (channels, _) => unreachable!("{channels} channels"),
                }
            }
        }
    }
}

impl Sums<'_> {
    /// Transforms one vector of channels of the gradient.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn transform<S: Simd>(&mut self, s: S, column: usize) {
        let lanes = S::LANES.min(self.columns - column);
        let mut to = self.transformed.as_mut_ptr();
        for tile in self.tiles {
            let [height, width] = tile.size;
            // SAFETY: the caller's promise; only pixels that exist are read.
            unsafe {
                let from = self
                    .gradient
                    .as_ptr()
                    .add(tile.pixel * self.columns + column);
                let mut half = [[s.zero(); POINTS]; OUTPUTS];
                if lanes == S::LANES && height == OUTPUTS && width == OUTPUTS {
                    for row in 0..OUTPUTS {
                        let from = from.add(row * self.width * self.columns);
                        let mut pixels = [s.zero(); OUTPUTS];
                        for i in 0..OUTPUTS {
                            pixels[i] = s.load(from.add(i * self.columns));
                        }
                        half[row] = Four::gradient(s, pixels);
                    }
                } else {
                    for row in 0..height {
                        let from = from.add(row * self.width * self.columns);
                        let mut pixels = [s.zero(); OUTPUTS];
                        for i in 0..OUTPUTS {
                            if i < width {
                                pixels[i] = s.load_partial(from.add(i * self.columns), lanes);
                            }
                        }
                        half[row] = Four::gradient(s, pixels);
                    }
                }
                for k in 0..POINTS {
                    let values = [half[0][k], half[1][k], half[2][k], half[3][k]];
                    let values = Four::gradient(s, values);
                    for row in 0..POINTS {
                        s.store(values[row], to.add((k * POINTS + row) * S::LANES));
                    }
                }
                to = to.add(SQUARE * S::LANES);
            }
        }
    }

    /// Multiplies one vector of channels, `BLOCK` points at a time.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const CHANNELS: usize, const BLOCK: usize>(
        &mut self,
        s: S,
        column: usize,
    ) {
        const { assert!(SQUARE.is_multiple_of(BLOCK)) };
        // SAFETY: the caller's promise.
        unsafe {
            let mut to = self.sums.as_mut_ptr().add(column * SQUARE * CHANNELS);
            for first in (0..SQUARE).step_by(BLOCK) {
                let source = self.source.as_ptr().add(first * SLOTS * QUAD);
                let mut gradient = self.transformed.as_ptr().add(first * S::LANES);
                let mut sums = [[s.zero(); CHANNELS]; BLOCK];
                for tile in self.tiles {
                    let source = source.add(tile.slot * QUAD);
                    for point in 0..BLOCK {
                        let gradient = s.load(gradient.add(point * S::LANES));
                        let source = source.add(point * SLOTS * QUAD);
                        for channel in 0..CHANNELS {
                            let value = s.splat(*source.add(channel));
                            sums[point][channel] = s.fma(value, gradient, sums[point][channel]);
                        }
                    }
                    gradient = gradient.wrapping_add(SQUARE * S::LANES);
                }
                for point in 0..BLOCK {
                    for channel in 0..CHANNELS {
                        s.store(s.add(sums[point][channel], s.load(to)), to);
                        to = to.wrapping_add(S::LANES);
                    }
                }
            }
        }
    }
}
