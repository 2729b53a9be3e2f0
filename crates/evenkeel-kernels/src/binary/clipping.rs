//! Adaptive gradient clipping (Brock et al., "High-Performance Large-Scale Image Recognition Without Normalization", 2021,
//! equation 3): a unit's gradient is at most a share of its weight.

use super::columns::{STRIP, StripOp, add_row, for_each_strip, rows_of, sum_strip};
use crate::error::{Result, check_length};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// Scales the gradient of every unit whose norm exceeds `clipping · max(‖weight‖, epsilon)` down to that, in place. Norms are summed
/// in f64. A unit is a column of `[rows, units]`: an output channel of an HWIO weight, an output of a linear layer; a vector is
/// one unit with `units = 1`, or as many with `units` its length.
///
/// A unit whose gradient is not finite stays as it is, for the finite checks to see.
///
/// # Errors
/// Where the lengths do not fit.
pub fn clip_units(
    weight: &[f32],
    gradient: &mut [f32],
    units: usize,
    clipping: f64,
    epsilon: f64,
) -> Result {
    let rows = rows_of("clip units", weight.len(), units)?;
    check_length("clip units: gradient", gradient.len(), weight.len())?;
    let op = ClipUnits {
        weight,
        rows,
        units,
        clipping,
        epsilon,
        gradient: DisjointMut::new(gradient),
    };
    for_each_strip(units, 3 * weight.len(), op);
    Ok(())
}

struct ClipUnits<'a> {
    weight: &'a [f32],
    rows: usize,
    units: usize,
    clipping: f64,
    epsilon: f64,
    gradient: DisjointMut<'a, f32>,
}

impl StripOp for ClipUnits<'_> {
    #[inline(always)]
    fn run(&self, strip: Range<usize>) {
        let weights = sum_strip(self.weight, self.units, &strip, |w, _| w * w);
        let mut gradients = [0.0; STRIP];
        let row_of = |row: usize| row * self.units + strip.start..row * self.units + strip.end;
        for row in 0..self.rows {
            // SAFETY: strips are different columns.
            let row = unsafe { self.gradient.part(row_of(row)) };
            add_row(row, &mut gradients, &|g, _| g * g);
        }
        let mut factors = [1.0; STRIP];
        for lane in 0..strip.len() {
            let limit = self.clipping * weights[lane].sqrt().max(self.epsilon);
            let norm = gradients[lane].sqrt();
            if norm > limit && norm.is_finite() {
                factors[lane] = limit / norm.max(1e-6);
            }
        }
        if factors == [1.0; STRIP] {
            return;
        }
        for row in 0..self.rows {
            // SAFETY: strips are different columns.
            let row = unsafe { self.gradient.part(row_of(row)) };
            for (g, factor) in row.iter_mut().zip(factors) {
                *g = (f64::from(*g) * factor) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    fn norm(values: &[f32], units: usize, unit: usize) -> f64 {
        let squares = values.iter().skip(unit).step_by(units);
        squares.map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt()
    }

    #[test]
    fn units_end_at_their_limit_keep_their_direction_and_stay_there() {
        at_every_level(|| {
            for units in [1, 3, 16, 31, 33, 65] {
                for size in [1.0f32, 1e19, 1e-15] {
                    let weight: Vec<f32> = coarse_values(12 * units, 1)
                        .iter()
                        .map(|w| w * size)
                        .collect();
                    // Every second unit is far below its limit.
                    let before: Vec<f32> = (coarse_values(12 * units, 2).iter().enumerate())
                        .map(|(i, g)| g * size * if i % units % 2 == 0 { 1.0 } else { 1e-4 })
                        .collect();
                    let (clipping, epsilon) = (0.02, 1e-3 * f64::from(size));
                    let mut after = before.clone();
                    clip_units(&weight, &mut after, units, clipping, epsilon).unwrap();
                    for unit in 0..units {
                        let limit = clipping * norm(&weight, units, unit).max(epsilon);
                        let (old, new) = (norm(&before, units, unit), norm(&after, units, unit));
                        assert!(new <= limit * (1.0 + 1e-6), "{new} {limit}");
                        let factor = if old > limit {
                            limit / old.max(1e-6)
                        } else {
                            1.0
                        };
                        for index in (unit..before.len()).step_by(units) {
                            let wanted = f64::from(before[index]) * factor;
                            assert!(
                                (f64::from(after[index]) - wanted).abs() <= wanted.abs() * 1e-6
                            );
                        }
                    }
                    let mut again = after.clone();
                    clip_units(&weight, &mut again, units, clipping, epsilon * (1.0 + 1e-6))
                        .unwrap();
                    for (once, twice) in after.iter().zip(&again) {
                        assert!((once - twice).abs() <= once.abs() * 2e-6);
                    }
                }
            }
        });
    }

    #[test]
    fn a_zero_weight_lets_epsilon_through() {
        let mut gradient = [0.3, -0.4];
        clip_units(&[0.0; 2], &mut gradient, 1, 0.02, 1e-3).unwrap();
        assert!((norm(&gradient, 1, 0) - 2e-5).abs() < 1e-10);
        let mut bad = [f32::NAN, 1.0];
        clip_units(&[0.0; 2], &mut bad, 1, 0.02, 1e-3).unwrap();
        assert!(bad[0].is_nan() && bad[1] == 1.0);
    }

    #[test]
    fn threads_do_not_change_bits_and_misfits_are_refused() {
        let (weight, gradient) = (coarse_values(300 * 130, 5), coarse_values(300 * 130, 6));
        assert_same_bits_at_any_thread_count(|| {
            let mut gradient = gradient.clone();
            clip_units(&weight, &mut gradient, 130, 0.01, 1e-3).unwrap();
            vec![gradient]
        });
        assert!(clip_units(&[1.0; 4], &mut [1.0; 3], 2, 0.1, 1e-3).is_err());
        assert!(clip_units(&[1.0; 4], &mut [1.0; 4], 3, 0.1, 1e-3).is_err());
        assert!(clip_units(&[1.0; 4], &mut [1.0; 4], 0, 0.1, 1e-3).is_err());
    }
}
