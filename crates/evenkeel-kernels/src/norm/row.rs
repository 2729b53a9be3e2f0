//! One row: its statistics, and the loop over its vectors.

use super::columns::load;
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

/// Mean (0 unless `CENTRED`) and inverse deviation of a row.
#[inline(always)]
pub(super) fn row_statistics<S: Simd, const CENTRED: bool>(
    simd: S,
    x: &[f32],
    epsilon: f32,
) -> Saved {
    let count = x.len() as f64;
    let mut shift = 0.0;
    if CENTRED {
        let mut sum = simd.zero();
        for_each_vector(
            simd,
            x.len(),
            #[inline(always)]
            |column, lanes| {
                // SAFETY: `column + lanes <= x.len()`.
                sum = simd.add(sum, unsafe { load(simd, x.as_ptr().add(column), lanes) });
            },
        );
        shift = simd.sum(sum) / x.len() as f32;
    }
    // Deviations from the rounded mean: their own mean is what the rounding lost.
    let (mut first, mut second) = (simd.zero(), simd.zero());
    let center = simd.splat(shift);
    for_each_vector(
        simd,
        x.len(),
        #[inline(always)]
        |column, lanes| {
            // SAFETY: `column + lanes <= x.len()`; lanes past the end are read from ones as zeros.
            let d = unsafe {
                let x = load(simd, x.as_ptr().add(column), lanes);
                if !CENTRED {
                    x
                } else if lanes == S::LANES {
                    simd.sub(x, center)
                } else {
                    let inside = load(simd, [1.0f32; MAX_LANES].as_ptr(), lanes);
                    simd.mul(simd.sub(x, center), inside)
                }
            };
            if CENTRED {
                first = simd.add(first, d);
            }
            second = simd.fma(d, d, second);
        },
    );
    let first = if CENTRED { simd.sum(first) as f64 } else { 0.0 };
    let second = simd.sum(second) as f64;
    let mut mean = shift as f64 + first / count;
    let mut squares = second - first * first / count;
    if squares < 0.0 {
        squares = 0.0;
    }
    if unreliable(&[squares], x.len(), epsilon) || !mean.is_finite() {
        (mean, squares) = row_in_f64(x, CENTRED);
    }
    Saved::new(mean, squares / count, epsilon)
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
