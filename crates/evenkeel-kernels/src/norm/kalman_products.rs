//! The products of states and weights, and the normal distribution, under [`super::kalman_transition`], in f64, compiled for the
//! instruction set of the machine.
//!
//! Every loop runs over whole arrays of lanes, so the compiler vectorizes it; sums have one order on every instruction set.

use crate::isa::{Simd, SimdOp, dispatch};
use std::f64::consts::{FRAC_2_SQRT_PI, SQRT_2};

/// Elements that a loop takes at a time.
const STRIP: usize = 16;

/// The sums over positions of a weight and of its square: `weight` is `[positions, elements]`, the others `[elements]`.
pub(super) fn sum_positions(weight: &[f32], first: &mut [f64], second: &mut [f64]) {
    assert_eq!(first.len(), second.len());
    dispatch(SumPositions {
        weight,
        first,
        second,
    });
}

struct SumPositions<'a> {
    weight: &'a [f32],
    first: &'a mut [f64],
    second: &'a mut [f64],
}

impl SimdOp for SumPositions<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let elements = self.first.len();
        let strips = self.first.chunks_mut(STRIP);
        for (index, (first, second)) in strips.zip(self.second.chunks_mut(STRIP)).enumerate() {
            let (start, lanes) = (index * STRIP, first.len());
            let (mut sums, mut squares) = ([0.0f64; STRIP], [0.0f64; STRIP]);
            for position in self.weight.chunks_exact(elements) {
                let strip = &position[start..start + lanes];
                if let Ok(strip) = <&[f32; STRIP]>::try_from(strip) {
                    for lane in 0..STRIP {
                        let weight = f64::from(strip[lane]);
                        sums[lane] += weight;
                        squares[lane] += weight * weight;
                    }
                } else {
                    for (lane, &weight) in strip.iter().enumerate() {
                        let weight = f64::from(weight);
                        sums[lane] += weight;
                        squares[lane] += weight * weight;
                    }
                }
            }
            first.copy_from_slice(&sums[..lanes]);
            second.copy_from_slice(&squares[..lanes]);
        }
    }
}

/// `sums += row · matrix`: the matrix has `row.len()` rows, `stride` values apart.
pub(super) fn add_row_product(row: &[f32], matrix: &[f64], stride: usize, sums: &mut [f64]) {
    dispatch(AddRowProduct {
        row,
        matrix,
        stride,
        sums,
    });
}

struct AddRowProduct<'a> {
    row: &'a [f32],
    matrix: &'a [f64],
    stride: usize,
    sums: &'a mut [f64],
}

impl SimdOp for AddRowProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for (index, &value) in self.row.iter().enumerate() {
            let value = f64::from(value);
            let weights = &self.matrix[index * self.stride..][..self.sums.len()];
            for (sum, weight) in self.sums.iter_mut().zip(weights) {
                *sum += value * weight;
            }
        }
    }
}

/// `target = matrix · column`: the matrix has `target.len()` rows of `column.len()`, `stride` values apart.
pub(super) fn column_product(matrix: &[f64], stride: usize, column: &[f32], target: &mut [f32]) {
    dispatch(ColumnProduct {
        matrix,
        stride,
        column,
        target,
    });
}

struct ColumnProduct<'a> {
    matrix: &'a [f64],
    stride: usize,
    column: &'a [f32],
    target: &'a mut [f32],
}

impl SimdOp for ColumnProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for (index, target) in self.target.iter_mut().enumerate() {
            let weights = &self.matrix[index * self.stride..][..self.column.len()];
            let mut sums = [0.0f64; STRIP];
            let (weights, last_weights) = weights.as_chunks::<STRIP>();
            let (values, last_values) = self.column.as_chunks::<STRIP>();
            for (weights, values) in weights.iter().zip(values) {
                for lane in 0..STRIP {
                    sums[lane] += weights[lane] * f64::from(values[lane]);
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += sum;
            }
            for (weight, &value) in last_weights.iter().zip(last_values) {
                total += weight * f64::from(value);
            }
            *target = total as f32;
        }
    }
}

/// `target = first + 2 weight second`.
pub(super) fn weight_gradient_row(
    weight: &[f32],
    first: &[f64],
    second: &[f64],
    target: &mut [f32],
) {
    dispatch(WeightGradientRow {
        weight,
        first,
        second,
        target,
    });
}

struct WeightGradientRow<'a> {
    weight: &'a [f32],
    first: &'a [f64],
    second: &'a [f64],
    target: &'a mut [f32],
}

impl SimdOp for WeightGradientRow<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let length = self.target.len();
        let (weight, first, second) = (
            &self.weight[..length],
            &self.first[..length],
            &self.second[..length],
        );
        for index in 0..length {
            let value = first[index] + 2.0 * f64::from(weight[index]) * second[index];
            self.target[index] = value as f32;
        }
    }
}

/// `sums += value · values`.
pub(super) fn add_scaled(value: f64, values: &[f32], sums: &mut [f64]) {
    dispatch(AddScaled {
        value,
        values,
        sums,
    });
}

struct AddScaled<'a> {
    value: f64,
    values: &'a [f32],
    sums: &'a mut [f64],
}

impl SimdOp for AddScaled<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for (sum, &value) in self.sums.iter_mut().zip(self.values) {
            *sum += self.value * f64::from(value);
        }
    }
}

/// Arguments of [`standard_normal`].
pub(super) const LANES: usize = 8;
/// A number in each lane.
pub(super) type Lanes = [f64; LANES];

/// The reciprocals of 3, 5, 7, …: as many as the series below needs at 8.
const RECIPROCALS: [f64; 192] = {
    let mut values = [0.0; 192];
    let mut index = 0;
    while index < values.len() {
        values[index] = 1.0 / (2 * index + 3) as f64;
        index += 1;
    }
    values
};
/// Terms between two looks at whether all lanes have converged.
const TERMS: usize = 8;
/// Beyond this the distribution is 0 or 1 to the last bit.
const FARTHEST: f64 = 8.0;

/// The density and the distribution function of the standard normal at every `t`, to f64's precision. What a lane gets does not depend
/// on the others.
pub(super) fn standard_normal(t: Lanes) -> (Lanes, Lanes) {
    let near = t.map(|t| if t.abs() > FARTHEST { 0.0 } else { t });
    let sums = dispatch(Series(near));
    let density = t.map(|t| FRAC_2_SQRT_PI / (2.0 * SQRT_2) * (-0.5 * t * t).exp());
    let distribution = std::array::from_fn(|lane| match t[lane] {
        far if far > FARTHEST => 1.0,
        far if far < -FARTHEST => 0.0,
        _ => 0.5 + density[lane] * sums[lane],
    });
    (density, distribution)
}

/// The series of positive terms t + t³/3 + t⁵/(3·5) + … (Abramowitz and Stegun 26.2.11).
struct Series(Lanes);

impl SimdOp for Series {
    type Output = Lanes;

    #[inline(always)]
    fn call<S: Simd>(self, _: S) -> Lanes {
        let mut squares = [0.0; LANES];
        for lane in 0..LANES {
            squares[lane] = self.0[lane] * self.0[lane];
        }
        let (mut terms, mut sums) = (self.0, self.0);
        for reciprocals in RECIPROCALS.as_chunks::<TERMS>().0 {
            for reciprocal in reciprocals {
                for lane in 0..LANES {
                    terms[lane] *= squares[lane] * reciprocal;
                    sums[lane] += terms[lane];
                }
            }
            // More terms would leave the sums as they are.
            let mut open = false;
            for lane in 0..LANES {
                open |= terms[lane].abs() > 1e-17 * sums[lane].abs();
            }
            if !open {
                break;
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_level;

    #[test]
    fn the_normal_distribution_is_right_to_its_last_digits() {
        at_every_level(|| {
            let known = [
                (0.0, 0.5),
                (1.0, 0.841_344_746_068_542_9),
                (-1.0, 0.158_655_253_931_457_05),
                (3.0, 0.998_650_101_968_369_9),
                (-5.0, 2.866_515_718_791_945_6e-7),
                (9.0, 1.0),
                (-40.0, 0.0),
                (7.9, 1.0 - 1.394_7e-15),
            ];
            let (_, distribution) = standard_normal(known.map(|(t, _)| t));
            for (actual, (t, expected)) in distribution.into_iter().zip(known) {
                assert!((actual - expected).abs() < 1e-15, "{t}: {actual}");
                let (_, alone) = standard_normal([t; LANES]);
                assert_eq!(actual.to_bits(), alone[0].to_bits(), "{t}");
            }
            let (density, distribution) = standard_normal([f64::NAN; LANES]);
            assert!(density[0].is_nan() && distribution[0].is_nan());
        });
    }
}
