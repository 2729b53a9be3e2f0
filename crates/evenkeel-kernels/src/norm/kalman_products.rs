//! The products of states and weights under [`super::kalman_transition`], in f64, compiled for the instruction set of the machine.
//!
//! Every loop runs over whole arrays of lanes, so the compiler vectorizes it; sums have one order on every instruction set.

use crate::isa::{Simd, SimdOp, dispatch};

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
