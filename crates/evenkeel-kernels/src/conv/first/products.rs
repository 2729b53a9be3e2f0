//! Outputs of a group of tiles.

use super::source::{OUTPUTS, POINTS, QUAD, SLOTS, SQUARE, Tile};
use crate::conv::winograd::{Four, Lines};
use crate::isa::{Simd, SimdOp};

/// Scratch memory of [`Outputs`].
pub(super) fn scratch_length(lanes: usize) -> usize {
    SLOTS * (POINTS - 1) * OUTPUTS * lanes
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
    /// Of [`scratch_length`]: products transformed along columns, `[tile][row][column of points but the last][lane]`.
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
                    1 => self.run::<S, 1>(s, column),
                    2 => self.run::<S, 2>(s, column),
                    3 => self.run::<S, 3>(s, column),
                    4 => self.run::<S, 4>(s, column),
                    channels => unreachable!("{channels} channels"),
                }
            }
        }
    }
}

impl Outputs<'_> {
    /// One vector of channels from `column` on.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn run<S: Simd, const CHANNELS: usize>(&mut self, s: S, column: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            for k in 0..POINTS - 1 {
                let factors = self.factors::<S, CHANNELS>(s, column, k);
                let mut to = self.halves.as_mut_ptr().add(k * S::LANES);
                for tile in self.tiles {
                    let values = self.multiply(s, factors, k, tile);
                    for row in 0..OUTPUTS {
                        s.store(values[row], to.add(row * (POINTS - 1) * S::LANES));
                    }
                    to = to.add(OUTPUTS * (POINTS - 1) * S::LANES);
                }
            }
            let factors = self.factors::<S, CHANNELS>(s, column, POINTS - 1);
            let mut halves = self.halves.as_ptr();
            let lanes = S::LANES.min(self.columns - column);
            let start = match self.bias {
                Some(bias) => s.load_partial(bias.as_ptr().add(column), lanes),
                None => s.zero(),
            };
            for tile in self.tiles {
                let last = self.multiply(s, factors, POINTS - 1, tile);
                let to = (tile.pixel - self.first) * self.columns + column;
                let to = self.to.as_mut_ptr().add(to);
                if tile.size == [OUTPUTS; 2] && lanes == S::LANES {
                    for row in 0..OUTPUTS {
                        let values = finish(s, halves, row, last[row]);
                        let to = to.add(row * self.width * self.columns);
                        for i in 0..OUTPUTS {
                            s.store(s.add(values[i], start), to.add(i * self.columns));
                        }
                    }
                } else {
                    for row in 0..OUTPUTS {
                        if row < tile.size[0] {
                            let values = finish(s, halves, row, last[row]);
                            let to = to.add(row * self.width * self.columns);
                            for i in 0..OUTPUTS {
                                if i < tile.size[1] {
                                    let value = s.add(values[i], start);
                                    s.store_partial(value, to.add(i * self.columns), lanes);
                                }
                            }
                        }
                    }
                }
                halves = halves.add(OUTPUTS * (POINTS - 1) * S::LANES);
            }
        }
    }

    /// The kernel's column of points `k`, which stays in registers.
    ///
    /// # Safety
    /// `call` must have checked, and the channels must exist.
    #[inline(always)]
    unsafe fn factors<S: Simd, const CHANNELS: usize>(
        &self,
        s: S,
        column: usize,
        k: usize,
    ) -> [[S::F32; CHANNELS]; POINTS] {
        let mut factors = [[s.zero(); CHANNELS]; POINTS];
        for row in 0..POINTS {
            for channel in 0..CHANNELS {
                let index = (k * POINTS + row) * CHANNELS + channel;
                let index = column * SQUARE * CHANNELS + index * S::LANES;
                // SAFETY: the caller's promise.
                factors[row][channel] = unsafe { s.load(self.kernel.as_ptr().add(index)) };
            }
        }
        factors
    }

    /// The products of a tile in a column of points, transformed along it.
    ///
    /// # Safety
    /// `call` must have checked.
    #[inline(always)]
    unsafe fn multiply<S: Simd, const CHANNELS: usize>(
        &self,
        s: S,
        factors: [[S::F32; CHANNELS]; POINTS],
        k: usize,
        tile: &Tile,
    ) -> [S::F32; OUTPUTS] {
        // SAFETY: the caller's promise.
        unsafe {
            let source = self.source.as_ptr();
            let source = source.add((k * POINTS * SLOTS + tile.slot) * QUAD);
            let mut products = [s.zero(); POINTS];
            for row in 0..POINTS {
                let source = source.add(row * SLOTS * QUAD);
                let mut sum = s.mul(s.splat(*source), factors[row][0]);
                for channel in 1..CHANNELS {
                    sum = s.fma(s.splat(*source.add(channel)), factors[row][channel], sum);
                }
                products[row] = sum;
            }
            Four::output(s, products)
        }
    }
}

/// The outputs of a row of a tile, from what was stored of all columns of points but the last.
///
/// # Safety
/// `halves` must hold a tile.
#[inline(always)]
unsafe fn finish<S: Simd>(s: S, halves: *const f32, row: usize, last: S::F32) -> [S::F32; OUTPUTS] {
    let mut products = [last; POINTS];
    for k in 0..POINTS - 1 {
        // SAFETY: the caller's promise.
        products[k] = unsafe { s.load(halves.add((row * (POINTS - 1) + k) * S::LANES)) };
    }
    Four::output(s, products)
}
