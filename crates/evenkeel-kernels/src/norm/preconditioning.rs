//! Batch normalization preconditioning: gradients of weights, changed as if the layer's input had been normalized.
//!
//! Lange, Helfrich, Ye, "Batch Normalization Preconditioning for Neural Network Training", JMLR 23, 2022.

use super::geometry::check_optional;
use super::moments::{all_finite, measure, merge_pieces};
use super::slab::Slab;
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task};
use crate::scratch::with_f64;

/// Measures a layer's input `x`, rows of `mean.len()` channels, and merges mean and biased variance into those of `count` rows
/// before it (Chan, Golub, LeVeque, 1979); with 0 rows before, they are overwritten.
///
/// # Errors
/// Where the lengths do not fit.
pub fn merge_statistics(x: &[f32], count: usize, mean: &mut [f32], variance: &mut [f32]) -> Result {
    let channels = mean.len();
    check_length("variance", variance.len(), channels)?;
    if channels == 0 || !x.len().is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "{} elements are no whole number of rows of {channels} channels",
            x.len()
        )));
    }
    let rows = x.len() / channels;
    if rows == 0 {
        return Ok(());
    }
    let slab = Slab::of_batch(rows, channels);
    let length = 2 * channels;
    with_f64(slab.pieces * length, |measurements| {
        let parts = DisjointMut::new(measurements);
        for_each_task(slab.pieces, x.len(), |piece| {
            // SAFETY: every piece has its own measurement.
            let own = unsafe { parts.part(piece * length..(piece + 1) * length) };
            measure(slab.columns, &x[slab.range(0, piece)], 1e-5, own);
        });
        merge_pieces(measurements, channels, slab.piece_counts());
        let (new_means, deviations) = measurements[..length].split_at(channels);
        let whole = (count + rows) as f64;
        let share = rows as f64 / whole;
        for channel in 0..channels {
            let (old_mean, old_variance) = if count == 0 {
                (0.0, 0.0)
            } else {
                (f64::from(mean[channel]), f64::from(variance[channel]))
            };
            let delta = new_means[channel] - old_mean;
            let new_variance = deviations[channel] / rows as f64;
            let between = if count == 0 {
                0.0
            } else {
                delta * delta * share * (1.0 - share)
            };
            mean[channel] = (old_mean + delta * share) as f32;
            variance[channel] =
                (old_variance * (1.0 - share) + new_variance * share + between) as f32;
        }
    });
    Ok(())
}

/// Moves running statistics towards those of a batch: `mean = keep · mean + (1 - keep) · batch mean`, and likewise the variance, to
/// which `pooled` adds `keep · (batch mean - old mean)²`: then it is the variance of all data, exponentially weighted, also where a
/// batch is a single value. Nothing moves where a statistic of the batch is not finite.
///
/// # Errors
/// Where the lengths differ or `keep` is not in 0 to 1.
pub fn move_statistics(
    batch_mean: &[f32],
    batch_variance: &[f32],
    keep: f64,
    pooled: bool,
    mean: &mut [f32],
    variance: &mut [f32],
) -> Result {
    let channels = mean.len();
    check_length("batch mean", batch_mean.len(), channels)?;
    check_length("batch variance", batch_variance.len(), channels)?;
    check_length("variance", variance.len(), channels)?;
    if !(0.0..=1.0).contains(&keep) {
        return Err(KernelError::Invalid(format!(
            "keep must be in 0 to 1, got {keep}"
        )));
    }
    if !batch_mean
        .iter()
        .chain(batch_variance)
        .all(|v| v.is_finite())
    {
        return Ok(());
    }
    for channel in 0..channels {
        let delta = f64::from(batch_mean[channel]) - f64::from(mean[channel]);
        let between = if pooled { keep * delta * delta } else { 0.0 };
        let new = f64::from(batch_variance[channel]) + between;
        variance[channel] = (keep * f64::from(variance[channel]) + (1.0 - keep) * new) as f32;
        mean[channel] = (f64::from(mean[channel]) + (1.0 - keep) * delta) as f32;
    }
    Ok(())
}

/// How [`precondition`] weighs.
#[derive(Clone, Copy, Debug)]
pub struct Preconditioning {
    /// Share of the layer's largest variance that is added to every variance.
    pub relative: f64,
    /// Added to every variance.
    pub absolute: f64,
    /// Everything is divided by it: q², which makes one learning rate fit all batch sizes.
    pub scale: f64,
    /// Groups of channels of the layer.
    pub channel_groups: usize,
}

/// Preconditions the gradients of a layer's weight `[positions, channels / channel_groups, outputs]` and bias `[outputs]` in place
/// with the mean and the variance of its input's channels: with `σ̃² = σ² + relative · max σ² + absolute`,
/// `gW = (gW - μ gb) / σ̃² / scale`, then `gb = gb / scale - Σ gW μ`. Without a bias there is nothing to centre with:
/// `gW = gW / σ̃² / scale`.
///
/// Statistics that are not finite leave the gradients as they are, for the finite checks to see.
///
/// # Errors
/// Where the lengths do not fit or a number is out of its range.
pub fn precondition(
    options: Preconditioning,
    mean: &[f32],
    variance: &[f32],
    weight: &mut [f32],
    bias: Option<&mut [f32]>,
    outputs: usize,
) -> Result {
    let Preconditioning {
        relative,
        absolute,
        scale,
        channel_groups,
    } = options;
    let channels = mean.len();
    check_length("variance", variance.len(), channels)?;
    check_optional("bias gradient", bias.as_deref(), outputs)?;
    let valid = [relative, absolute]
        .iter()
        .all(|e| e.is_finite() && *e >= 0.0);
    if !(valid && scale.is_finite() && scale > 0.0) {
        return Err(KernelError::Invalid(format!(
            "precondition: epsilons must be finite and at least 0 and the scale above 0, got {relative}, {absolute}, {scale}"
        )));
    }
    let splits = channel_groups > 0
        && channels.is_multiple_of(channel_groups)
        && outputs.is_multiple_of(channel_groups);
    let rows = if splits { channels / channel_groups } else { 0 };
    let matrix = checked_product("precondition", &[rows, outputs])?;
    if matrix == 0 || weight.is_empty() || !weight.len().is_multiple_of(matrix) {
        return Err(KernelError::Invalid(format!(
            "precondition: a weight of {} elements does not fit {channels} channels in {channel_groups} groups and {outputs} outputs",
            weight.len()
        )));
    }
    let largest = variance
        .iter()
        .fold(0.0f64, |largest, &v| largest.max(f64::from(v)));
    let width = outputs / channel_groups;
    with_f64(channels + outputs, |scratch| {
        let (inverse, bias_values) = scratch.split_at_mut(channels);
        for (inverse, &v) in inverse.iter_mut().zip(variance) {
            *inverse = 1.0 / ((f64::from(v) + relative * largest + absolute) * scale);
        }
        if !all_finite(inverse) || !mean.iter().all(|m| m.is_finite()) {
            return;
        }
        if let Some(bias) = bias.as_deref() {
            for (value, &g) in bias_values.iter_mut().zip(bias) {
                *value = f64::from(g);
            }
        }
        let (inverse, gradients) = (&*inverse, &*bias_values);
        with_f64(outputs, |moved| {
            dispatch(Weights {
                rows,
                width,
                mean,
                inverse,
                // Zeros where there is no bias.
                bias: gradients,
                weight,
                moved: &mut *moved,
            });
            if let Some(bias) = bias {
                for (at, bias) in bias.iter_mut().enumerate() {
                    *bias = (gradients[at] / scale - moved[at]) as f32;
                }
            }
        });
    });
    Ok(())
}

/// `gW = (gW - μ gb) · inverse`, and Σ gW μ of every output.
struct Weights<'a> {
    /// Channels of a group.
    rows: usize,
    /// Outputs of a group.
    width: usize,
    mean: &'a [f32],
    inverse: &'a [f64],
    bias: &'a [f64],
    weight: &'a mut [f32],
    moved: &'a mut [f64],
}

impl SimdOp for Weights<'_> {
    type Output = ();

    // Plain loops, which the compiler turns into those of the instruction set.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for (index, row) in self.weight.chunks_exact_mut(self.bias.len()).enumerate() {
            let groups = row
                .chunks_exact_mut(self.width)
                .zip(self.bias.chunks_exact(self.width))
                .zip(self.moved.chunks_exact_mut(self.width));
            for (group, ((row, bias), moved)) in groups.enumerate() {
                let channel = group * self.rows + index % self.rows;
                let (mu, inverse) = (f64::from(self.mean[channel]), self.inverse[channel]);
                for ((weight, bias), moved) in row.iter_mut().zip(bias).zip(moved) {
                    let value = (f64::from(*weight) - mu * bias) * inverse;
                    *weight = value as f32;
                    *moved += value * mu;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    #[test]
    fn statistics_merge_to_those_of_all_rows_also_far_from_zero_and_for_any_size() {
        at_every_level(|| {
            for channels in [1, 3, 7, 16, 17, 33, 65] {
                for (size, offset) in [(1.0f32, 0.0f32), (1.0, 1e4), (1e18, 0.0), (1e-18, 0.0)] {
                    let x: Vec<f32> = coarse_values(37 * channels, 1)
                        .iter()
                        .map(|x| x * size + offset)
                        .collect();
                    let (mut mean, mut variance) =
                        (vec![f32::NAN; channels], vec![f32::NAN; channels]);
                    let cut = 20 * channels;
                    merge_statistics(&x[..cut], 0, &mut mean, &mut variance).unwrap();
                    merge_statistics(&x[cut..], 20, &mut mean, &mut variance).unwrap();
                    for channel in 0..channels {
                        let values = || x.iter().skip(channel).step_by(channels);
                        let exact = values().map(|&x| f64::from(x)).sum::<f64>() / 37.0;
                        let square = values()
                            .map(|&x| (f64::from(x) - exact).powi(2))
                            .sum::<f64>()
                            / 37.0;
                        let scale = square.sqrt();
                        // The first mean was rounded to f32.
                        let rounding = 1e-7 * exact.abs();
                        assert!((f64::from(mean[channel]) - exact).abs() < 1e-6 * scale + rounding);
                        let error = (f64::from(variance[channel]) - square).abs();
                        assert!(error < 1e-3 * square, "{channels} {size} {offset}");
                    }
                }
            }
        });
    }

    #[test]
    fn threads_do_not_change_bits() {
        let x = coarse_values(5000 * 33, 2);
        assert_same_bits_at_any_thread_count(|| {
            let (mut mean, mut variance) = (vec![0.0; 33], vec![1.0; 33]);
            merge_statistics(&x, 0, &mut mean, &mut variance).unwrap();
            vec![mean, variance]
        });
    }

    #[test]
    fn statistics_that_are_not_finite_move_and_change_nothing() {
        let (mut mean, mut variance) = ([1.0], [2.0]);
        move_statistics(&[f32::NAN], &[1.0], 0.5, true, &mut mean, &mut variance).unwrap();
        assert_eq!((mean, variance), ([1.0], [2.0]));
        move_statistics(&[3.0], &[4.0], 0.5, true, &mut mean, &mut variance).unwrap();
        assert_eq!((mean, variance), ([2.0], [4.0]));
        let options = Preconditioning {
            relative: 0.0,
            absolute: 0.0,
            scale: 1.0,
            channel_groups: 1,
        };
        let mut weight = [5.0];
        precondition(options, &[f32::INFINITY], &[1.0], &mut weight, None, 1).unwrap();
        assert_eq!(weight, [5.0]);
        precondition(options, &[1.0], &[4.0], &mut weight, None, 1).unwrap();
        assert_eq!(weight, [1.25]);
    }

    #[test]
    fn misfits_are_refused() {
        let options = Preconditioning {
            relative: 0.1,
            absolute: 0.1,
            scale: 1.0,
            channel_groups: 2,
        };
        let run = |options, channels: usize, weight: usize, bias: usize, outputs: usize| {
            let (mean, mut weight, mut bias) =
                (vec![0.0; channels], vec![0.0; weight], vec![0.0; bias]);
            precondition(options, &mean, &mean, &mut weight, Some(&mut bias), outputs)
        };
        assert!(run(options, 4, 12, 6, 6).is_ok());
        assert!(run(options, 3, 12, 6, 6).is_err());
        assert!(run(options, 4, 13, 6, 6).is_err());
        assert!(run(options, 4, 12, 5, 6).is_err());
        assert!(run(options, 4, 0, 6, 6).is_err());
        for outputs in [1 << 50, 1 << 63] {
            assert!(precondition(options, &[0.0; 4], &[0.0; 4], &mut [], None, outputs).is_err());
        }
        let unscaled = Preconditioning {
            scale: 0.0,
            ..options
        };
        assert!(run(unscaled, 4, 12, 6, 6).is_err());
        assert!(merge_statistics(&[0.0; 5], 0, &mut [0.0; 2], &mut [0.0; 2]).is_err());
        assert!(move_statistics(&[0.0], &[0.0], 1.5, true, &mut [0.0], &mut [0.0]).is_err());
    }
}
