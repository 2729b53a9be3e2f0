//! The transformed kernel, and the kernel's gradient from that of its transform.

use super::source::{POINTS, SQUARE};
use crate::conv::winograd::{Four, Lines, Transposed};
use crate::isa::{Simd, SimdOp};

/// Taps along each axis.
const TAPS: usize = 3;

/// Transforms a kernel.
pub(super) struct KernelTransform<'a> {
    /// `[row, column, channel, output]`.
    pub weight: &'a [f32],
    pub channels: usize,
    /// Outputs.
    pub columns: usize,
    /// `[vector][column of points][row of points][channel][lane]`, with zeros in lanes past the last output.
    pub to: &'a mut [f32],
}

impl SimdOp for KernelTransform<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let vectors = self.columns.div_ceil(S::LANES);
        assert_eq!(
            self.weight.len(),
            TAPS * TAPS * self.channels * self.columns
        );
        assert_eq!(self.to.len(), vectors * SQUARE * self.channels * S::LANES);
        for column in (0..self.columns).step_by(S::LANES) {
            let lanes = S::LANES.min(self.columns - column);
            for channel in 0..self.channels {
                // SAFETY: every index lies in the shapes that have been compared with the lengths.
                unsafe {
                    let mut half = [[s.zero(); TAPS]; POINTS];
                    for tap in 0..TAPS {
                        let mut taps = [s.zero(); TAPS];
                        for row in 0..TAPS {
                            let from = (row * TAPS + tap) * self.channels + channel;
                            let from = self.weight.as_ptr().add(from * self.columns + column);
                            taps[row] = s.load_partial(from, lanes);
                        }
                        let points = Four::kernel(s, taps);
                        for row in 0..POINTS {
                            half[row][tap] = points[row];
                        }
                    }
                    let to = self.to.as_mut_ptr();
                    let to = to.add(column * SQUARE * self.channels + channel * S::LANES);
                    for row in 0..POINTS {
                        let points = Four::kernel(s, half[row]);
                        for k in 0..POINTS {
                            let index = (k * POINTS + row) * self.channels * S::LANES;
                            s.store(points[k], to.add(index));
                        }
                    }
                }
            }
        }
    }
}

/// Adds up sums of products in their order and transforms them to the gradient of the kernel.
pub(super) struct KernelGradient<'a> {
    /// `[segment][vector][column of points][row of points][channel][lane]`; the first is overwritten with the total.
    pub partials: &'a mut [f32],
    pub channels: usize,
    /// Outputs.
    pub columns: usize,
    /// `[row, column, channel, output]`.
    pub to: &'a mut [f32],
}

impl SimdOp for KernelGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let vectors = self.columns.div_ceil(S::LANES);
        let length = vectors * SQUARE * self.channels * S::LANES;
        assert_eq!(self.to.len(), TAPS * TAPS * self.channels * self.columns);
        if self.partials.is_empty() {
            self.to.fill(0.0);
            return;
        }
        let (totals, others) = self.partials.split_at_mut(length);
        for other in others.chunks_exact(length) {
            for index in (0..length).step_by(S::LANES) {
                // SAFETY: both hold `length` values, whole vectors.
                unsafe {
                    let to = totals.as_mut_ptr().add(index);
                    s.store(s.add(s.load(to), s.load(other.as_ptr().add(index))), to);
                }
            }
        }
        for column in (0..self.columns).step_by(S::LANES) {
            let lanes = S::LANES.min(self.columns - column);
            for channel in 0..self.channels {
                // SAFETY: every index lies in the shapes that have been compared with the lengths.
                unsafe {
                    let from = totals.as_ptr();
                    let from = from.add(column * SQUARE * self.channels + channel * S::LANES);
                    let mut half = [[s.zero(); POINTS]; TAPS];
                    for k in 0..POINTS {
                        let mut points = [s.zero(); POINTS];
                        for row in 0..POINTS {
                            let index = (k * POINTS + row) * self.channels * S::LANES;
                            points[row] = s.load(from.add(index));
                        }
                        let taps = Four::kernel_gradient(s, points);
                        for row in 0..TAPS {
                            half[row][k] = taps[row];
                        }
                    }
                    for row in 0..TAPS {
                        let taps = Four::kernel_gradient(s, half[row]);
                        for tap in 0..TAPS {
                            let to = (row * TAPS + tap) * self.channels + channel;
                            let to = self.to.as_mut_ptr().add(to * self.columns + column);
                            s.store_partial(taps[tap], to, lanes);
                        }
                    }
                }
            }
        }
    }
}
