//! One row: its statistics, and the loop over its vectors.

use super::columns::{Place, load};
use super::moments::{Saved, unreliable};
use crate::isa::{MAX_LANES, Simd};

/// Calls `body(column, lanes)` for every vector of a row, with constant lanes but for the last.
///
/// Mark `body` `#[inline(always)]`: it is called from two places, and a closure that is not inlined here is compiled without
/// the instruction set's features.
#[inline(always)]
pub(super) fn for_each_vector<S: Simd>(_: S, channels: usize, mut body: impl FnMut(usize, usize)) {
    let full = channels - channels % S::LANES;
    let mut column = 0;
    while column < full {
        body(column, S::LANES);
        column += S::LANES;
    }
    if column < channels {
        body(column, channels - column);
    }
}

/// A row's statistics in every lane.
#[derive(Clone, Copy)]
pub(super) struct Row<S: Simd> {
    center: S::F32,
    pub inverse: S::F32,
    /// The mean's rest in units of the deviation, negative.
    rest: S::F32,
}

impl<S: Simd> Row<S> {
    #[inline(always)]
    pub fn new(simd: S, unit: Saved) -> Self {
        Row {
            center: simd.splat(unit.mean),
            inverse: simd.splat(unit.inverse_deviation),
            rest: simd.splat(-unit.mean_rest * unit.inverse_deviation),
        }
    }

    #[inline(always)]
    pub fn normalize<const CENTRED: bool>(&self, simd: S, x: S::F32) -> S::F32 {
        if CENTRED {
            simd.fma(simd.sub(x, self.center), self.inverse, self.rest)
        } else {
            simd.mul(x, self.inverse)
        }
    }
}

/// Mean (0 unless `CENTRED`) and inverse deviation of each of `R` neighbouring rows. Rows are independent: several at once only
/// keep the processor busy while their sums run through the lanes.
#[inline(always)]
pub(super) fn row_statistics<S: Simd, const CENTRED: bool, const R: usize>(
    simd: S,
    x: &[f32],
    channels: usize,
    epsilon: f32,
) -> [Saved; R] {
    assert_eq!(x.len(), R * channels);
    let count = channels as f64;
    let mut shift = [0.0; R];
    if CENTRED {
        let mut sums = [simd.zero(); R];
        for_each_vector(
            simd,
            channels,
            #[inline(always)]
            |column, lanes| {
                for row in 0..R {
                    // SAFETY: `column + lanes <= channels`, in one of R rows.
                    let x =
                        unsafe { load(simd, x, Place::in_order(row * channels + column, lanes)) };
                    sums[row] = simd.add(sums[row], x);
                }
            },
        );
        for row in 0..R {
            shift[row] = simd.sum(sums[row]) / channels as f32;
        }
    }
    // Deviations from the rounded mean: their own mean is what the rounding lost.
    let mut first = [simd.zero(); R];
    let mut second = [simd.zero(); R];
    for_each_vector(
        simd,
        channels,
        #[inline(always)]
        |column, lanes| {
            for row in 0..R {
                // SAFETY: `column + lanes <= channels`, in one of R rows, and at most as many as there are ones.
                let d = unsafe {
                    let x = load(simd, x, Place::in_order(row * channels + column, lanes));
                    if !CENTRED {
                        x
                    } else if lanes == S::LANES {
                        simd.sub(x, simd.splat(shift[row]))
                    } else {
                        // Lanes past the end must not count.
                        let inside = load(simd, &[1.0; MAX_LANES], Place::in_order(0, lanes));
                        simd.mul(simd.sub(x, simd.splat(shift[row])), inside)
                    }
                };
                if CENTRED {
                    first[row] = simd.add(first[row], d);
                }
                second[row] = simd.fma(d, d, second[row]);
            }
        },
    );
    // A loop, not `map`: what the library does not inline is compiled without the instruction set.
    let mut units = [Saved::default(); R];
    for row in 0..R {
        let first = if CENTRED {
            simd.sum(first[row]) as f64
        } else {
            0.0
        };
        let second = simd.sum(second[row]) as f64;
        let mut mean = shift[row] as f64 + first / count;
        let mut squares = second - first * first / count;
        if squares < 0.0 {
            squares = 0.0;
        }
        if unreliable(&[squares], channels, epsilon) || !mean.is_finite() {
            (mean, squares) = row_in_f64(&x[row * channels..][..channels], CENTRED);
        }
        units[row] = Saved::new(mean, squares / count, epsilon);
    }
    units
}

/// The slow way, for values whose squares do not fit in f32.
#[cold]
#[inline(never)]
fn row_in_f64(x: &[f32], centred: bool) -> (f64, f64) {
    let mean = if centred {
        x.iter().map(|&x| x as f64).sum::<f64>() / x.len() as f64
    } else {
        0.0
    };
    let squares = x.iter().map(|&x| (x as f64 - mean) * (x as f64 - mean));
    (mean, squares.sum())
}
