//! Mean and variance: measured piece by piece, merged in order.

use super::columns::{Columns, Place, Sum, TILE_ROWS, Terms, load, sum_columns};
use crate::isa::Simd;
use crate::scratch::{with_f32, with_f64};

/// Rows whose mean is the shift of a piece.
const SHIFT_ROWS: usize = 4 * TILE_ROWS;

/// Σ(x - shift) and Σ(x - shift)², where the shift is the parameter of a column.
struct Centred<'a> {
    x: &'a [f32],
}

// SAFETY: `length` is the slice's; nothing else is read.
unsafe impl Terms<2, 1> for Centred<'_> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        [shift]: &[S::F32; 1],
        sums: &mut [S::F32; 2],
    ) {
        // SAFETY: `place` is inside of `length`.
        let x = unsafe { load(simd, self.x, place) };
        let d = simd.sub(x, *shift);
        sums[0] = simd.add(sums[0], d);
        sums[1] = simd.fma(d, d, sums[1]);
    }
}

/// Below this, a mean square has lost digits to f32's smallest numbers.
const SMALL_SQUARE: f64 = 1e-30;

/// Whether sums of squares over `count` values, made in f32, must be made again in f64: where they overflowed, or where they are
/// so small that digits are lost and epsilon is too small to hide that.
pub(super) fn unreliable(squares: &[f64], count: usize, epsilon: f32) -> bool {
    let small = if (epsilon as f64) < SMALL_SQUARE {
        SMALL_SQUARE * count as f64
    } else {
        -1.0
    };
    !squares
        .iter()
        .all(|&square| square.is_finite() && square > small)
}

/// Measures `x`, rows of `columns.channels`: `out` receives the means of the channels, then the sums of squared deviations.
pub(super) fn measure(columns: Columns, x: &[f32], epsilon: f32, out: &mut [f64]) {
    let (channels, padded) = (columns.channels, columns.padded);
    let (mean, deviations) = out.split_at_mut(channels);
    if x.is_empty() {
        mean.fill(0.0);
        deviations.fill(0.0);
        return;
    }
    with_f64(2 * padded, |sums| {
        with_f32(padded, |shift| {
            let lead = x.len().min(SHIFT_ROWS * columns.width);
            sum_columns(columns, &[], Sum(&x[..lead]), &mut sums[..padded]);
            columns.gather(&mut sums[..padded]);
            let inverse = 1.0 / (lead / channels) as f64;
            for (shift, sum) in shift.iter_mut().zip(&sums[..channels]) {
                *shift = (sum * inverse) as f32;
            }
            columns.spread(shift);

            sums.fill(0.0);
            sum_columns(columns, shift, Centred { x }, sums);
            let (first, second) = sums.split_at_mut(padded);
            columns.gather(first);
            columns.gather(second);
            let inverse = 1.0 / (x.len() / channels) as f64;
            for channel in 0..channels {
                mean[channel] = shift[channel] as f64 + first[channel] * inverse;
                let spread = second[channel] - first[channel] * first[channel] * inverse;
                // `max` would hide a NaN.
                deviations[channel] = if spread < 0.0 { 0.0 } else { spread };
            }
        });
    });
    if !all_finite(mean) || unreliable(deviations, x.len() / channels, epsilon) {
        measure_in_f64(x, mean, deviations);
    }
}

/// The slow way, for values whose squares do not fit in f32: two passes in f64.
#[cold]
fn measure_in_f64(x: &[f32], mean: &mut [f64], deviations: &mut [f64]) {
    let channels = mean.len();
    let count = (x.len() / channels) as f64;
    mean.fill(0.0);
    deviations.fill(0.0);
    for row in x.chunks_exact(channels) {
        for (sum, &x) in mean.iter_mut().zip(row) {
            *sum += x as f64;
        }
    }
    mean.iter_mut().for_each(|sum| *sum /= count);
    for row in x.chunks_exact(channels) {
        for ((sum, &x), mean) in deviations.iter_mut().zip(row).zip(&*mean) {
            *sum += (x as f64 - mean) * (x as f64 - mean);
        }
    }
}

/// Whether every value is finite.
pub(super) fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// Moves running statistics towards those of a batch: `running = (1 - momentum) running + momentum value`, in f64.
pub(super) fn blend(running: &mut [f32], values: impl Iterator<Item = f64>, momentum: f32) {
    let momentum = f64::from(momentum);
    for (running, value) in running.iter_mut().zip(values) {
        *running = ((1.0 - momentum) * f64::from(*running) + momentum * value) as f32;
    }
}

/// Merges the measurements of pieces (as [`measure`] writes them, one after another) of `counts` rows into the first, in order,
/// and returns the rows in all.
pub(super) fn merge_pieces(
    pieces: &mut [f64],
    channels: usize,
    counts: impl Iterator<Item = usize>,
) -> usize {
    let mut total = 0;
    let mut rest = pieces;
    let mut first: &mut [f64] = &mut [];
    for (index, count) in counts.enumerate() {
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(2 * channels);
        rest = after;
        if index == 0 {
            first = piece;
            total = count;
            continue;
        }
        if count == 0 {
            continue;
        }
        let whole = (total + count) as f64;
        let (share, between) = (count as f64 / whole, total as f64 * (count as f64 / whole));
        let (mean, deviations) = first.split_at_mut(channels);
        let (piece_mean, piece_deviations) = piece.split_at(channels);
        for channel in 0..channels {
            let delta = piece_mean[channel] - mean[channel];
            mean[channel] += delta * share;
            deviations[channel] += piece_deviations[channel] + delta * delta * between;
        }
        total += count;
    }
    total
}

/// Merges the means and squared deviations of neighbouring channels, each over `count` values, into those of a group.
#[inline(always)]
pub(super) fn merge_channels(mean: &[f64], deviations: &[f64], count: usize) -> (f64, f64) {
    if let ([mean], [deviations]) = (mean, deviations) {
        return (*mean, *deviations);
    }
    let group_mean = mean.iter().sum::<f64>() / mean.len() as f64;
    let mut within = 0.0;
    let mut between = 0.0;
    for (mean, deviations) in mean.iter().zip(deviations) {
        within += deviations;
        between += (mean - group_mean) * (mean - group_mean);
    }
    (group_mean, within + between * count as f64)
}

/// What a forward pass keeps of the mean and variance of one unit (a channel, a sample's group, a row).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Saved {
    /// The mean, rounded to f32.
    pub mean: f32,
    /// What that rounding lost.
    pub mean_rest: f32,
    /// `1 / sqrt(variance + epsilon)`.
    pub inverse_deviation: f32,
}

impl Saved {
    /// From the mean and the variance.
    #[inline(always)]
    pub fn new(mean: f64, variance: f64, epsilon: f32) -> Self {
        let rounded = mean as f32;
        Saved {
            mean: rounded,
            mean_rest: (mean - rounded as f64) as f32,
            inverse_deviation: inverse_root(variance, epsilon as f64),
        }
    }

    /// Reads unit `index` of three arrays `[units]` that lie one after another.
    #[inline(always)]
    pub fn read(saved: &[f32], index: usize) -> Self {
        let units = saved.len() / 3;
        Saved {
            mean: saved[index],
            mean_rest: saved[units + index],
            inverse_deviation: saved[2 * units + index],
        }
    }

    /// Reads row `index` of `[rows, 3]`.
    #[inline(always)]
    pub fn read_row(saved: &[f32], index: usize) -> Self {
        let row = &saved[3 * index..3 * index + 3];
        Saved {
            mean: row[0],
            mean_rest: row[1],
            inverse_deviation: row[2],
        }
    }

    /// Writes row `index` of `[rows, 3]`.
    #[inline(always)]
    pub fn write_row(self, saved: &mut [f32], index: usize) {
        let Saved {
            mean,
            mean_rest,
            inverse_deviation,
        } = self;
        saved[3 * index..3 * index + 3].copy_from_slice(&[mean, mean_rest, inverse_deviation]);
    }
}

/// `1 / sqrt(variance + epsilon)`, at most the largest f32 (a constant with epsilon 0 has no deviation to divide by).
#[inline(always)]
pub(super) fn inverse_root(variance: f64, epsilon: f64) -> f32 {
    let inverse = (1.0 / (variance + epsilon).sqrt()) as f32;
    if inverse == f32::INFINITY {
        f32::MAX
    } else {
        inverse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(x: &[f32], channels: usize) -> (f64, f64) {
        let mut out = vec![0.0; 2 * channels];
        measure(
            Columns::new(channels, x.len() / channels),
            x,
            1e-5,
            &mut out,
        );
        (out[0], out[channels])
    }

    #[test]
    fn a_constant_has_no_deviation() {
        for value in [0.0, 1.0, 0.1, -1e4, 1e20, 1e-20, 3e38] {
            for channels in [1, 3, 16] {
                let (mean, deviations) = measured(&vec![value; 40 * channels], channels);
                assert!((mean - value as f64).abs() <= 1e-13 * value.abs() as f64);
                assert!(deviations <= 1e-12 * (value as f64).powi(2), "{value}");
            }
        }
    }

    #[test]
    fn an_outlier_in_the_first_row_does_no_harm() {
        let mut x: Vec<f32> = (0..50_000).map(|i| (i % 7) as f32 - 3.0).collect();
        x[0] = 1e4;
        let mean = x.iter().map(|&x| x as f64).sum::<f64>() / x.len() as f64;
        let expected: f64 = x.iter().map(|&x| (x as f64 - mean).powi(2)).sum();
        let (_, deviations) = measured(&x, 1);
        assert!((deviations / expected - 1.0).abs() < 1e-7);
    }

    #[test]
    fn pieces_merge_to_the_whole() {
        let x: Vec<f32> = (0..999).map(|i| (i * i % 173) as f32 + 1e5).collect();
        let mut whole = vec![0.0; 6];
        measure(Columns::new(3, 333), &x, 1e-5, &mut whole);
        let mut pieces = vec![0.0; 18];
        for (piece, rows) in [0..300, 300..600, 600..999].into_iter().enumerate() {
            measure(
                Columns::new(3, rows.len() / 3),
                &x[rows],
                1e-5,
                &mut pieces[piece * 6..piece * 6 + 6],
            );
        }
        assert_eq!(
            merge_pieces(&mut pieces, 3, [100, 100, 133].into_iter()),
            333
        );
        for index in 0..6 {
            // The means hold to f64's precision; the squares were rounded to f32.
            let tolerance = if index < 3 { 1e-12 } else { 1e-7 };
            assert!((pieces[index] / whole[index] - 1.0).abs() < tolerance);
        }
    }

    #[test]
    fn a_nan_stays() {
        let (mean, deviations) = measured(&[1.0, f32::NAN, 2.0], 1);
        assert!(mean.is_nan() && deviations.is_nan());
    }
}
