//! Weight standardization: each output channel's weights get mean 0 and a fixed spread, as a differentiable function of them.

use super::columns::{STRIP, Strip, StripOp, for_each_strip, rows_of, sum_strip, sum_strip_of_two};
use crate::error::{KernelError, Result, check_length};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// Which standardization, with `μ` and `σ` the mean and the population standard deviation of an output channel's weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Standardization {
    /// `(W - μ) / sqrt(σ² + ε)` (Qiao et al., "Weight Standardization", 2019, equation 5).
    Plain {
        /// ε, at least 0.
        epsilon: f64,
    },
    /// `γ (W - μ) / (σ + ε) / sqrt(fan-in)` (Brock et al., "Characterizing signal propagation", 2021, equation 3): outputs keep the
    /// variance of inputs. As Chen et al., "BNN - BN = ?", 2021, have it.
    Scaled {
        /// ε, at least 0.
        epsilon: f64,
        /// γ, which makes up for the activation before.
        gamma: f64,
    },
}

impl Standardization {
    fn check(self) -> Result {
        let (Standardization::Plain { epsilon } | Standardization::Scaled { epsilon, .. }) = self;
        if epsilon >= 0.0 && epsilon.is_finite() {
            Ok(())
        } else {
            Err(KernelError::Invalid(format!(
                "standardize: epsilon must be a finite number of at least 0, got {epsilon}"
            )))
        }
    }

    /// What the result is multiplied with after it was divided by the spread.
    fn factor(self, rows: usize) -> f64 {
        match self {
            Standardization::Plain { .. } => 1.0,
            Standardization::Scaled { gamma, .. } => gamma / (rows as f64).sqrt(),
        }
    }

    /// One over the spread; 0 where all weights are equal and nothing is added.
    fn inverse_spread(self, variance: f64) -> f64 {
        let spread = match self {
            Standardization::Plain { epsilon } => (variance + epsilon).sqrt(),
            Standardization::Scaled { epsilon, .. } => variance.sqrt() + epsilon,
        };
        if spread > 0.0 { 1.0 / spread } else { 0.0 }
    }

    /// How much the spread falls with the variance, relative to the plain form: `(σ + ε) / σ`. 0 where all weights are equal: the
    /// spread has no gradient there.
    fn curvature(self, variance: f64) -> f64 {
        match self {
            Standardization::Plain { .. } => 1.0,
            Standardization::Scaled { epsilon, .. } if variance > 0.0 => {
                (variance.sqrt() + epsilon) / variance.sqrt()
            }
            Standardization::Scaled { .. } => 0.0,
        }
    }
}

/// Means and population variances of the columns of a strip, in f64 and in two passes.
#[inline(always)]
fn moments(weight: &[f32], columns: usize, strip: &Range<usize>) -> (Strip, Strip) {
    let rows = (weight.len() / columns) as f64;
    let means = sum_strip(weight, columns, strip, |w, _| w).map(|sum| sum / rows);
    let squares = sum_strip(weight, columns, strip, |w, lane| {
        let centred = w - means[lane];
        centred * centred
    });
    (means, squares.map(|sum| sum / rows))
}

/// `gain · standardized(weight)`, column by column. `weight` and `output` are `[rows, outChannels]`, `gain` is `[outChannels]`.
///
/// # Errors
/// Where the lengths do not fit or epsilon is negative.
pub fn standardize(
    form: Standardization,
    weight: &[f32],
    gain: Option<&[f32]>,
    columns: usize,
    output: &mut [f32],
) -> Result {
    form.check()?;
    let rows = rows_of("standardize", weight.len(), columns)?;
    check_length("standardize: output", output.len(), weight.len())?;
    if let Some(gain) = gain {
        check_length("standardize: gain", gain.len(), columns)?;
    }
    let op = Forward {
        form,
        weight,
        gain,
        rows,
        columns,
        output: DisjointMut::new(output),
    };
    for_each_strip(columns, 4 * weight.len(), op);
    Ok(())
}

struct Forward<'a> {
    form: Standardization,
    weight: &'a [f32],
    gain: Option<&'a [f32]>,
    rows: usize,
    columns: usize,
    output: DisjointMut<'a, f32>,
}

impl StripOp for Forward<'_> {
    #[inline(always)]
    fn run(&self, strip: Range<usize>) {
        let (form, columns) = (self.form, self.columns);
        let (means, variances) = moments(self.weight, columns, &strip);
        let mut factors = [0.0; STRIP];
        for (lane, factor) in factors.iter_mut().enumerate().take(strip.len()) {
            let gain = self
                .gain
                .map_or(1.0, |gain| f64::from(gain[strip.start + lane]));
            *factor = gain * form.factor(self.rows) * form.inverse_spread(variances[lane]);
        }
        for row in 0..self.rows {
            let range = row * columns + strip.start..row * columns + strip.end;
            // SAFETY: strips are different columns.
            let output = unsafe { self.output.part(range.clone()) };
            for (lane, (output, &w)) in output.iter_mut().zip(&self.weight[range]).enumerate() {
                *output = ((f64::from(w) - means[lane]) * factors[lane]) as f32;
            }
        }
    }
}

/// The gradients of [`standardize`]. With `z = (W - μ)/spread` and `c` the factor behind it,
/// `dW = gain·c/spread · (dy - mean(dy) - z·k·mean(dy·z))`, where `k` is 1 for the plain form and `(σ + ε)/σ` for the scaled one;
/// the gain's gradient is the sum of `dy·c·z`. Where all weights are equal, the gradient through the spread is left out, and the
/// scaled form has none at all.
///
/// # Errors
/// As [`standardize`].
pub fn standardize_backward(
    form: Standardization,
    weight: &[f32],
    gain: Option<&[f32]>,
    columns: usize,
    gradient: &[f32],
    weight_gradient: &mut [f32],
    gain_gradient: Option<&mut [f32]>,
) -> Result {
    form.check()?;
    let rows = rows_of("standardize backward", weight.len(), columns)?;
    check_length("gradient", gradient.len(), weight.len())?;
    check_length("weight gradient", weight_gradient.len(), weight.len())?;
    if let Some(gain) = gain {
        check_length("gain", gain.len(), columns)?;
    }
    if let Some(gain_gradient) = gain_gradient.as_deref() {
        check_length("gain gradient", gain_gradient.len(), columns)?;
    }
    let op = Backward {
        form,
        weight,
        gain,
        gradient,
        rows,
        columns,
        weight_gradient: DisjointMut::new(weight_gradient),
        gain_gradient: gain_gradient.map(DisjointMut::new),
    };
    for_each_strip(columns, 6 * weight.len(), op);
    Ok(())
}

struct Backward<'a> {
    form: Standardization,
    weight: &'a [f32],
    gain: Option<&'a [f32]>,
    gradient: &'a [f32],
    rows: usize,
    columns: usize,
    weight_gradient: DisjointMut<'a, f32>,
    gain_gradient: Option<DisjointMut<'a, f32>>,
}

impl StripOp for Backward<'_> {
    #[inline(always)]
    fn run(&self, strip: Range<usize>) {
        let (form, columns, rows) = (self.form, self.columns, self.rows as f64);
        let (weight, gradient) = (self.weight, self.gradient);
        let (means, variances) = moments(weight, columns, &strip);
        let inverse = variances.map(|variance| form.inverse_spread(variance));
        let sums = sum_strip(gradient, columns, &strip, |g, _| g);
        let products = sum_strip_of_two(weight, gradient, columns, &strip, |w, g, lane| {
            (w - means[lane]) * inverse[lane] * g
        });
        let factor = form.factor(self.rows);
        if let Some(gains) = &self.gain_gradient {
            // SAFETY: strips are different columns.
            let gains = unsafe { gains.part(strip.clone()) };
            for (gain, product) in gains.iter_mut().zip(products) {
                *gain = (product * factor) as f32;
            }
        }
        let (mut outer, mut inner) = ([0.0; STRIP], [0.0; STRIP]);
        let gradient_means = sums.map(|sum| sum / rows);
        for lane in 0..strip.len() {
            let gain = self
                .gain
                .map_or(1.0, |gain| f64::from(gain[strip.start + lane]));
            let curvature = form.curvature(variances[lane]);
            outer[lane] = if curvature == 0.0 {
                0.0
            } else {
                gain * factor * inverse[lane]
            };
            inner[lane] = curvature * products[lane] / rows * inverse[lane];
        }
        for row in 0..self.rows {
            let range = row * columns + strip.start..row * columns + strip.end;
            // SAFETY: strips are different columns.
            let output = unsafe { self.weight_gradient.part(range.clone()) };
            let pairs = weight[range.clone()].iter().zip(&gradient[range]);
            for (lane, (output, (&w, &g))) in output.iter_mut().zip(pairs).enumerate() {
                let along = (f64::from(w) - means[lane]) * inner[lane];
                *output = (outer[lane] * (f64::from(g) - gradient_means[lane] - along)) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    const FORMS: [Standardization; 2] = [
        Standardization::Plain { epsilon: 1e-5 },
        Standardization::Scaled {
            epsilon: 1e-5,
            gamma: 1.7,
        },
    ];

    fn apply(form: Standardization, weight: &[f32], gain: &[f32]) -> Vec<f32> {
        let mut output = vec![f32::NAN; weight.len()];
        standardize(form, weight, Some(gain), gain.len(), &mut output).unwrap();
        output
    }

    #[test]
    fn means_are_zero_and_spreads_fixed_also_far_from_zero() {
        at_every_level(|| {
            for form in FORMS {
                for (size, offset) in [(1.0f32, 0.0f32), (1.0, 1000.0), (1e20, 0.0)] {
                    for columns in [1, 3, 7, 16, 17, 33, 65] {
                        let rows = 27;
                        let weight: Vec<f32> = coarse_values(rows * columns, 3)
                            .iter()
                            .map(|w| w * size + offset)
                            .collect();
                        let gain = vec![2.0; columns];
                        let output = apply(form, &weight, &gain);
                        let spread = match form {
                            Standardization::Plain { .. } => 2.0,
                            Standardization::Scaled { gamma, .. } => {
                                2.0 * gamma / (rows as f64).sqrt()
                            }
                        };
                        for column in 0..columns {
                            let values =
                                (0..rows).map(|row| f64::from(output[row * columns + column]));
                            let mean = values.clone().sum::<f64>() / rows as f64;
                            let variance =
                                values.map(|v| (v - mean).powi(2)).sum::<f64>() / rows as f64;
                            assert!(mean.abs() < 1e-6, "{form:?} {mean}");
                            assert!(
                                (variance.sqrt() / spread - 1.0).abs() < 1e-4,
                                "{form:?} {variance}"
                            );
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn equal_weights_become_zero_without_gradient_through_the_spread() {
        for form in FORMS {
            let weight = vec![0.3; 12];
            assert_eq!(apply(form, &weight, &[1.0; 3]), [0.0; 12]);
            let (mut weights, mut gains) = ([f32::NAN; 12], [f32::NAN; 3]);
            let gradient = coarse_values(12, 4);
            standardize_backward(
                form,
                &weight,
                None,
                3,
                &gradient,
                &mut weights,
                Some(&mut gains),
            )
            .unwrap();
            assert!(weights.iter().chain(&gains).all(|g| g.is_finite()));
        }
        let bare = Standardization::Plain { epsilon: 0.0 };
        assert_eq!(apply(bare, &[0.3; 12], &[1.0; 3]), [0.0; 12]);
    }

    #[test]
    fn gradients_are_finite_differences_and_ignore_shift_and_size() {
        at_every_level(|| {
            for form in FORMS {
                for columns in [1, 3, 33] {
                    let rows = 18;
                    let weight: Vec<f32> = coarse_values(rows * columns, 7)
                        .iter()
                        .map(|w| w / 8.0)
                        .collect();
                    let gain: Vec<f32> = (0..columns).map(|i| 1.0 - i as f32 / 20.0).collect();
                    let gradient = coarse_values(rows * columns, 8);
                    let mut weights = vec![f32::NAN; weight.len()];
                    let mut gains = vec![f32::NAN; columns];
                    standardize_backward(
                        form,
                        &weight,
                        Some(&gain),
                        columns,
                        &gradient,
                        &mut weights,
                        Some(&mut gains),
                    )
                    .unwrap();
                    let objective = |weight: &[f32], gain: &[f32]| -> f64 {
                        let output = apply(form, weight, gain);
                        output
                            .iter()
                            .zip(&gradient)
                            .map(|(&y, &g)| f64::from(y) * f64::from(g))
                            .sum()
                    };
                    let largest = weights.iter().fold(0.0f32, |m, g| m.max(g.abs()));
                    for index in (0..weight.len()).step_by(5) {
                        let mut changed = weight.clone();
                        changed[index] = weight[index] + 1e-2;
                        let above = objective(&changed, &gain);
                        changed[index] = weight[index] - 1e-2;
                        let numeric = (above - objective(&changed, &gain)) / 2e-2;
                        let error = (numeric - f64::from(weights[index])).abs();
                        assert!(
                            error < 2e-3 * f64::from(largest),
                            "{form:?} {numeric} {}",
                            weights[index]
                        );
                    }
                    let mut changed = gain.clone();
                    changed[0] += 0.5;
                    let numeric = (objective(&weight, &changed) - objective(&weight, &gain)) / 0.5;
                    assert!((numeric - f64::from(gains[0])).abs() < 1e-3 * numeric.abs().max(1.0));
                    for column in 0..columns {
                        let of = |row: usize| f64::from(weights[row * columns + column]);
                        let along = |row: usize| f64::from(weight[row * columns + column]);
                        let sum: f64 = (0..rows).map(of).sum();
                        assert!(
                            sum.abs() < 1e-5 * f64::from(largest),
                            "the gradient ignores a shift"
                        );
                        let dot: f64 = (0..rows).map(|row| of(row) * along(row)).sum();
                        let (a, b): (f64, f64) = (0..rows).fold((0.0, 0.0), |(a, b), row| {
                            (a + of(row).powi(2), b + along(row).powi(2))
                        });
                        assert!(
                            dot.abs() <= 1e-4 * (a * b).sqrt(),
                            "the gradient ignores the size"
                        );
                    }
                }
            }
        });
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (weight, gradient) = (coarse_values(300 * 130, 5), coarse_values(300 * 130, 6));
        let gain = vec![0.7; 130];
        assert_same_bits_at_any_thread_count(|| {
            let mut weights = vec![0.0; weight.len()];
            let mut gains = vec![0.0; 130];
            standardize_backward(
                FORMS[1],
                &weight,
                Some(&gain),
                130,
                &gradient,
                &mut weights,
                Some(&mut gains),
            )
            .unwrap();
            vec![apply(FORMS[1], &weight, &gain), weights, gains]
        });
    }

    #[test]
    fn misfits_are_refused() {
        let form = Standardization::Plain { epsilon: -1.0 };
        assert!(standardize(form, &[1.0; 4], None, 2, &mut [0.0; 4]).is_err());
        assert!(standardize(FORMS[0], &[1.0; 5], None, 2, &mut [0.0; 5]).is_err());
        assert!(standardize(FORMS[0], &[1.0; 4], Some(&[1.0]), 2, &mut [0.0; 4]).is_err());
        assert!(standardize(FORMS[0], &[1.0; 4], None, 2, &mut [0.0; 3]).is_err());
    }
}
