//! Latent weights: their scale, their signs, their gradients. All matrices are `[rows, outChannels]`, the rows of an HWIO weight
//! being its kernel positions and input channels.

use super::columns::{StripOp, for_each_strip, rows_of, sum_strip, sum_strip_of_two};
use crate::error::{KernelError, Result, check_length};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// How the gradient passes from `scale · sign(W)` to the latent weight W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightGradient {
    /// Where `|W| <= 1`, the scale being a constant and left out (Bi-Real Net, ReActNet).
    Clip,
    /// Times `1/rows + scale·[|W| <= 1]` (XNOR-Net, equation 11): the scale depends on the weight.
    ScaleAndClip,
    /// Everywhere.
    Identity,
}

impl WeightGradient {
    /// 0 clip, 1 scale and clip, 2 identity.
    ///
    /// # Errors
    /// Where the number is unknown.
    pub fn from_code(code: usize) -> Result<Self> {
        match code {
            0 => Ok(WeightGradient::Clip),
            1 => Ok(WeightGradient::ScaleAndClip),
            2 => Ok(WeightGradient::Identity),
            _ => Err(KernelError::Invalid(format!(
                "weight gradient: unknown {code}"
            ))),
        }
    }
}

/// The mean of `|weight|` over each column, in f64: the scale of XNOR-Net (equation 6). 0 where there are no rows.
///
/// # Errors
/// Where the lengths do not fit.
pub fn mean_magnitude(weight: &[f32], scale: &mut [f32]) -> Result {
    let columns = scale.len();
    let rows = rows_of("mean magnitude", weight.len(), columns)?;
    let op = MeanMagnitude {
        weight,
        rows,
        columns,
        scale: DisjointMut::new(scale),
    };
    for_each_strip(columns, weight.len(), op);
    Ok(())
}

struct MeanMagnitude<'a> {
    weight: &'a [f32],
    rows: usize,
    columns: usize,
    scale: DisjointMut<'a, f32>,
}

impl StripOp for MeanMagnitude<'_> {
    #[inline(always)]
    fn run(&self, strip: Range<usize>) {
        let sums = sum_strip(self.weight, self.columns, &strip, |value, _| value.abs());
        // SAFETY: strips are different columns.
        let scale = unsafe { self.scale.part(strip) };
        for (scale, sum) in scale.iter_mut().zip(sums) {
            *scale = (sum / self.rows.max(1) as f64) as f32;
        }
    }
}

/// `scale · sign(weight)`, the weights that a binary convolution stands for.
///
/// # Errors
/// Where the lengths do not fit.
pub fn binarize(weight: &[f32], scale: &[f32], output: &mut [f32]) -> Result {
    let columns = scale.len();
    rows_of("binarize", weight.len(), columns)?;
    check_length("binarize: output", output.len(), weight.len())?;
    for (weight, output) in weight
        .chunks_exact(columns)
        .zip(output.chunks_exact_mut(columns))
    {
        for column in 0..columns {
            let scale = scale[column];
            output[column] = if weight[column] < 0.0 { -scale } else { scale };
        }
    }
    Ok(())
}

/// The gradients of `gain · scale · sign(weight)`: of the weight as `rule` says, times the gain, and of the gain, the sum over its
/// column of `gradient · scale · sign(weight)` in f64. `gradient` is that of the product, of the weight's shape; `scale` and
/// `gain` have one value for each column.
///
/// # Errors
/// Where the lengths do not fit.
pub fn binary_weight_gradient(
    rule: WeightGradient,
    weight: &[f32],
    scale: &[f32],
    gain: Option<&[f32]>,
    gradient: &[f32],
    weight_gradient: &mut [f32],
    gain_gradient: Option<&mut [f32]>,
) -> Result {
    let columns = scale.len();
    let rows = rows_of("binary weight gradient", weight.len(), columns)?;
    check_length("gradient", gradient.len(), weight.len())?;
    check_length("weight gradient", weight_gradient.len(), weight.len())?;
    if let Some(gain) = gain {
        check_length("gain", gain.len(), columns)?;
    }
    if let Some(gain_gradient) = gain_gradient {
        check_length("gain gradient", gain_gradient.len(), columns)?;
        let op = GainGradient {
            weight,
            gradient,
            scale,
            gains: DisjointMut::new(gain_gradient),
        };
        for_each_strip(columns, weight.len(), op);
    }
    let share = 1.0 / rows.max(1) as f32;
    for (index, output) in weight_gradient.chunks_exact_mut(columns).enumerate() {
        let range = index * columns..(index + 1) * columns;
        let (weight, gradient) = (&weight[range.clone()], &gradient[range]);
        for column in 0..columns {
            let passes = weight[column].abs() <= 1.0;
            let factor = match rule {
                WeightGradient::Clip => f32::from(u8::from(passes)),
                WeightGradient::ScaleAndClip => share + if passes { scale[column] } else { 0.0 },
                WeightGradient::Identity => 1.0,
            };
            let gain = gain.map_or(1.0, |gain| gain[column]);
            output[column] = gradient[column] * gain * factor;
        }
    }
    Ok(())
}

struct GainGradient<'a> {
    weight: &'a [f32],
    gradient: &'a [f32],
    scale: &'a [f32],
    gains: DisjointMut<'a, f32>,
}

impl StripOp for GainGradient<'_> {
    #[inline(always)]
    fn run(&self, strip: Range<usize>) {
        let columns = self.scale.len();
        let sums = sum_strip_of_two(self.weight, self.gradient, columns, &strip, |w, g, _| {
            if w < 0.0 { -g } else { g }
        });
        // SAFETY: strips are different columns.
        let gains = unsafe { self.gains.part(strip.clone()) };
        for ((gain, sum), &scale) in gains.iter_mut().zip(sums).zip(&self.scale[strip]) {
            *gain = (sum * f64::from(scale)) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    #[test]
    fn scales_are_means_of_magnitudes_for_values_of_any_size() {
        at_every_level(|| {
            for columns in [1, 3, 16, 31, 33, 65] {
                for size in [1.0f32, 1e20, 1e-20] {
                    let weight: Vec<f32> = coarse_values(9 * columns, 3)
                        .iter()
                        .map(|w| w * size)
                        .collect();
                    let mut scale = vec![f32::NAN; columns];
                    mean_magnitude(&weight, &mut scale).unwrap();
                    for column in 0..columns {
                        let sum: f64 = (0..9)
                            .map(|row| f64::from(weight[row * columns + column].abs()))
                            .sum();
                        assert_eq!(scale[column], (sum / 9.0) as f32);
                    }
                }
            }
        });
    }

    #[test]
    fn gradients_follow_their_rules() {
        let weight = [0.5, -2.0, 0.0, 1.0, -1.0, 3.0];
        let gradient = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let (scale, gain) = ([0.5, 0.25], [2.0, -1.0]);
        let run = |rule, gain: Option<&[f32]>| {
            let (mut weights, mut gains) = ([f32::NAN; 6], [f32::NAN; 2]);
            binary_weight_gradient(
                rule,
                &weight,
                &scale,
                gain,
                &gradient,
                &mut weights,
                Some(&mut gains),
            )
            .unwrap();
            (weights, gains)
        };
        let (clipped, gains) = run(WeightGradient::Clip, None);
        assert_eq!(clipped, [1.0, 0.0, 3.0, 4.0, 5.0, 0.0]);
        // Signs are + - / + + / - +, and a weight of 0 is positive.
        assert_eq!(gains, [0.5 * (1.0 + 3.0 - 5.0), 0.25 * (-2.0 + 4.0 + 6.0)]);
        assert_eq!(
            run(WeightGradient::Clip, Some(&gain)).0,
            [2.0, 0.0, 6.0, -4.0, 10.0, 0.0]
        );
        assert_eq!(run(WeightGradient::Identity, None).0, gradient);
        let third = 1.0f32 / 3.0;
        let (xnor, _) = run(WeightGradient::ScaleAndClip, None);
        assert_eq!(
            xnor,
            [
                third + 0.5,
                2.0 * third,
                3.0 * (third + 0.5),
                4.0 * (third + 0.25),
                5.0 * (third + 0.5),
                6.0 * third
            ]
        );
        let mut output = [0.0; 6];
        binarize(&weight, &scale, &mut output).unwrap();
        assert_eq!(output, [0.5, -0.25, 0.5, 0.25, -0.5, 0.25]);
    }

    #[test]
    fn threads_do_not_change_bits() {
        let weight = coarse_values(900 * 130, 5);
        assert_same_bits_at_any_thread_count(|| {
            let mut scale = vec![0.0; 130];
            mean_magnitude(&weight, &mut scale).unwrap();
            vec![scale]
        });
    }

    #[test]
    fn misfits_are_refused() {
        assert!(mean_magnitude(&[1.0; 5], &mut [0.0; 2]).is_err());
        assert!(mean_magnitude(&[1.0; 5], &mut []).is_err());
        assert!(binarize(&[1.0; 4], &[1.0; 2], &mut [0.0; 3]).is_err());
        assert!(WeightGradient::from_code(3).is_err());
    }
}
