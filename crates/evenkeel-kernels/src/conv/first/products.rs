//! Outputs of a group of tiles.

use super::source::{OUTPUTS, POINTS, QUAD, SLOTS, SQUARE, Tile};
use crate::conv::winograd::{Four, Lines};
use crate::isa::{Simd, SimdOp};

/// Scratch memory of [`Outputs`].
pub(super) fn scratch_length(lanes: usize) -> usize {
    SLOTS * POINTS * OUTPUTS * lanes
}

/// The outputs of some tiles.
pub(super) struct Outputs<'a> {
    /// `[column of points][row of points][slot][lane of a quad]`.
    pub source: &'a [f32],
    pub tiles: &'a [Tile],
    /// Channels of the source.
    pub channels: usize,
    /// The transformed kernel, `[vector][column of points][row of points][channel][lane]`.
    pub kernel: &'a [f32],
    pub bias: Option<&'a [f32]>,
    /// Channels of the output.
    pub columns: usize,
    /// Pixels of an output row.
    pub width: usize,
    /// The outputs, from pixel `first` on.
    pub to: &'a mut [f32],
    pub first: usize,
    /// Of [`scratch_length`]: products transformed along columns, `[tile][row][column of points][lane]`.
    pub halves: &'a mut [f32],
}

impl SimdOp for &mut Outputs<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        assert_eq!(self.source.len(), SQUARE * SLOTS * QUAD);
        assert_eq!(self.halves.len(), scratch_length(S::LANES));
        let vectors = self.columns.div_ceil(S::LANES);
        assert_eq!(
            self.kernel.len(),
            vectors * SQUARE * self.channels * S::LANES
        );
        assert!(self.bias.is_none_or(|bias| bias.len() == self.columns));
        assert!(self.tiles.len() <= SLOTS);
        for tile in self.tiles {
            let [height, width] = tile.size;
            assert!(tile.slot < SLOTS && (1..=OUTPUTS).contains(&height) && width <= OUTPUTS);
            let end = tile.pixel - self.first + (height - 1) * self.width + width;
            assert!(tile.pixel >= self.first && end * self.columns <= self.to.len());
        }
        for column in (0..self.columns).step_by(S::LANES) {
            // SAFETY: as asserted.
            unsafe {
                match self.channels {
                    1 => self.multiply::<S, 1>(s, column),
                    2 => self.multiply::<S, 2>(s, column),
                    3 => self.multiply::<S, 3>(s, column),
                    4 => self.multiply::<S, 4>(s, column),
                    channels => unreachable!("{channels} channels"),
                }
                self.finish(s, column);
            }
        }
    }
}

impl Outputs<'_> {
    /// Multiplies one vector of channels from `column` on, a column of points at a time, whose kernel stays in registers.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const CHANNELS: usize>(&mut self, s: S, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            let kernel = self.kernel.as_ptr().add(column * SQUARE * CHANNELS);
            for k in 0..POINTS {
                let kernel = kernel.add(k * POINTS * CHANNELS * S::LANES);
                let mut factors = [[s.zero(); CHANNELS]; POINTS];
                for row in 0..POINTS {
                    for channel in 0..CHANNELS {
                        let index = row * CHANNELS + channel;
                        factors[row][channel] = s.load(kernel.add(index * S::LANES));
                    }
                }
                let source = self.source.as_ptr().add(k * POINTS * SLOTS * QUAD);
                let mut to = self.halves.as_mut_ptr().add(k * S::LANES);
                for tile in self.tiles {
                    let source = source.add(tile.slot * QUAD);
                    let mut products = [s.zero(); POINTS];
                    for row in 0..POINTS {
                        let source = source.add(row * SLOTS * QUAD);
                        let mut sum = s.mul(s.splat(*source), factors[row][0]);
                        for channel in 1..CHANNELS {
                            sum = s.fma(s.splat(*source.add(channel)), factors[row][channel], sum);
                        }
                        products[row] = sum;
                    }
                    let values = Four::output(s, products);
                    for row in 0..OUTPUTS {
                        s.store(values[row], to.add(row * POINTS * S::LANES));
                    }
                    to = to.add(OUTPUTS * POINTS * S::LANES);
                }
            }
        }
    }

    /// Transforms the products along rows and stores the outputs.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&mut self, s: S, column: usize) {
        let lanes = S::LANES.min(self.columns - column);
        // SAFETY: the caller's promise.
        unsafe {
            let start = match self.bias {
                Some(bias) => s.load_partial(bias.as_ptr().add(column), lanes),
                None => s.zero(),
            };
            for (index, tile) in self.tiles.iter().enumerate() {
                let [height, width] = tile.size;
                let mut from = self
                    .halves
                    .as_ptr()
                    .add(index * OUTPUTS * POINTS * S::LANES);
                let to = (tile.pixel - self.first) * self.columns + column;
                let mut to = self.to.as_mut_ptr().add(to);
                for _ in 0..height {
                    let mut products = [s.zero(); POINTS];
                    for k in 0..POINTS {
                        products[k] = s.load(from.add(k * S::LANES));
                    }
                    let values = Four::output(s, products);
                    if width == OUTPUTS && lanes == S::LANES {
                        for i in 0..OUTPUTS {
                            s.store(s.add(values[i], start), to.add(i * self.columns));
                        }
                    } else {
                        for i in 0..OUTPUTS {
                            if i < width {
                                let to = to.add(i * self.columns);
                                s.store_partial(s.add(values[i], start), to, lanes);
                            }
                        }
                    }
                    from = from.add(POINTS * S::LANES);
                    to = to.wrapping_add(self.width * self.columns);
                }
            }
        }
    }
}
