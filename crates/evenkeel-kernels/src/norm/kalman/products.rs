//! The products of states and weights under [`super::transition`], in f64, compiled for the instruction set of the machine.
//!
//! A weight is read once in each direction: the sums over its positions stay in registers, a vector of columns at a time.

use super::transition::Transition;
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::DisjointMut;
use crate::scratch::with_f64;
use std::ops::Range;

/// Values of a cache line.
const LINE: usize = 64 / size_of::<f64>();

/// `length` values that start with a cache line, so that no vector lies in two; `scratch` has [`LINE`] more.
fn aligned(scratch: &mut [f64], length: usize) -> &mut [f64] {
    let start = scratch.as_ptr().align_offset(64).min(LINE);
    &mut scratch[start..start + length]
}

/// The sums over positions of the weight and of its square, of the columns `start..start + lanes` of `row`; the other lanes are zero.
#[inline(always)]
fn column_moments<S: Simd>(
    simd: S,
    transition: &Transition,
    row: usize,
    start: usize,
    lanes: usize,
) -> [[S::F64; 2]; 2] {
    let offset = row * transition.out_channels + start;
    let [mut first, mut second] = [[simd.splat64(0.0); 2]; 2];
    for position in transition.weight.chunks_exact(transition.matrix()) {
        let weights = simd.widen(load(simd, &position[offset..offset + lanes]));
        for half in 0..2 {
            first[half] = simd.add64(first[half], weights[half]);
            second[half] = simd.fma64(weights[half], weights[half], second[half]);
        }
    }
    [first, second]
}

/// Up to a vector of values; lanes past their end are zero.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32]) -> S::F32 {
    // SAFETY: whole vectors are read only where there are enough values, and parts no further than they go.
    unsafe {
        if values.len() >= S::LANES {
            simd.load(values.as_ptr())
        } else {
            simd.load_partial(values.as_ptr(), values.len())
        }
    }
}

#[inline(always)]
fn load64<S: Simd>(simd: S, values: &[f64]) -> [S::F64; 2] {
    let values = &values[..S::LANES];
    // SAFETY: there are two halves of `LANES / 2` values.
    unsafe {
        [
            simd.load64(values.as_ptr()),
            simd.load64(values.as_ptr().add(S::LANES / 2)),
        ]
    }
}

#[inline(always)]
fn store64<S: Simd>(simd: S, halves: [S::F64; 2], target: &mut [f64]) {
    let target = &mut target[..S::LANES];
    // SAFETY: there is room for two halves of `LANES / 2` values.
    unsafe {
        simd.store64(halves[0], target.as_mut_ptr());
        simd.store64(halves[1], target.as_mut_ptr().add(S::LANES / 2));
    }
}

/// What the columns `start..start + lanes` of `row` are multiplied with: values of one group's state.
#[inline(always)]
fn factors<S: Simd>(
    simd: S,
    transition: &Transition,
    state: &[f32],
    row: usize,
    start: usize,
    lanes: usize,
) -> [S::F64; 2] {
    if transition.channel_groups == 1 {
        return [simd.splat64(f64::from(state[row])); 2];
    }
    let (rows, width) = (transition.rows(), transition.reach());
    let mut values = [0.0f32; MAX_LANES];
    for (lane, value) in values[..lanes].iter_mut().enumerate() {
        *value = state[(start + lane) / width * rows + row];
    }
    simd.widen(load(simd, &values))
}

/// Columns of a transition, and groups of samples, of one task.
pub(super) struct Prediction<'a> {
    pub transition: Transition<'a>,
    /// `[2, groups, in_channels]`, of all groups.
    pub before: &'a [f32],
    pub groups: Range<usize>,
    pub columns: Range<usize>,
}

impl Prediction<'_> {
    /// Calls `finish` with the number of the row in the state behind the transition, and the products of its columns.
    pub(super) fn run(self, mut finish: impl FnMut(usize, &[f64])) {
        let (groups, all) = (self.groups.clone(), self.transition.groups);
        let width = self.columns.len();
        let padded = width.next_multiple_of(MAX_LANES);
        let length = 2 * groups.len() * padded;
        with_f64(length + LINE, |scratch| {
            let sums = aligned(scratch, length);
            dispatch(AddPrediction {
                part: self,
                padded,
                sums,
            });
            let rows = [0, all].map(|array| array + groups.start..array + groups.end);
            for (row, sums) in rows.into_iter().flatten().zip(sums.chunks_exact(padded)) {
                finish(row, &sums[..width]);
            }
        });
    }
}

struct AddPrediction<'a> {
    part: Prediction<'a>,
    padded: usize,
    /// `[2, groups, padded]`.
    sums: &'a mut [f64],
}

impl SimdOp for AddPrediction<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let AddPrediction { part, padded, sums } = self;
        let Prediction {
            transition,
            before,
            groups,
            columns,
        } = part;
        let inputs = transition.in_channels;
        for row in 0..transition.rows() {
            for start in columns.clone().step_by(S::LANES) {
                let lanes = S::LANES.min(columns.end - start);
                // A constant number of lanes compiles to plain loads.
                let moments = if lanes == S::LANES {
                    column_moments(simd, &transition, row, start, S::LANES)
                } else {
                    column_moments(simd, &transition, row, start, lanes)
                };
                for (array, moments) in moments.into_iter().enumerate() {
                    for (index, group) in groups.clone().enumerate() {
                        let state = &before[(array * transition.groups + group) * inputs..];
                        let values =
                            factors(simd, &transition, &state[..inputs], row, start, lanes);
                        let at = (array * groups.len() + index) * padded + start - columns.start;
                        let sums = &mut sums[at..];
                        let mut total = load64(simd, sums);
                        for half in 0..2 {
                            total[half] = simd.fma64(values[half], moments[half], total[half]);
                        }
                        store64(simd, total, sums);
                    }
                }
            }
        }
    }
}

/// The gradients of some rows of a transition.
pub(super) struct RowGradients<'a, 'b> {
    pub transition: Transition<'a>,
    /// `[2, groups, in_channels]`.
    pub before: &'a [f32],
    /// `[2, groups, out_channels]`.
    pub gradient: &'a [f32],
    pub rows: Range<usize>,
    /// That of `before`, if wanted; a call writes what its rows read.
    pub target: Option<&'b DisjointMut<'a, f32>>,
    /// That of the weight, if wanted; a call writes its rows of every position.
    pub weight: Option<&'b DisjointMut<'a, f32>>,
}

impl RowGradients<'_, '_> {
    /// Computes them.
    ///
    /// # Safety
    /// No other call at the same time may have some of the same rows.
    pub(super) unsafe fn run(self) {
        let padded = self.transition.out_channels.next_multiple_of(MAX_LANES);
        let length = self.rows.len() * padded;
        with_f64(2 * length + LINE, |scratch| {
            let (first, second) = aligned(scratch, 2 * length).split_at_mut(length);
            dispatch(WriteRows {
                part: self,
                padded,
                first,
                second,
            });
        });
    }
}

/// Made by [`RowGradients::run`], whose caller promises that nothing else writes these rows.
struct WriteRows<'a, 'b, 'c> {
    part: RowGradients<'a, 'b>,
    padded: usize,
    /// `[rows, padded]`, as `second`: sums of the means' and the variances' side.
    first: &'c mut [f64],
    second: &'c mut [f64],
}

impl SimdOp for WriteRows<'_, '_, '_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        // In this order the second finds in the cache what the first has read.
        if let Some(target) = self.part.target {
            self.sum_positions(simd);
            self.write_before(simd, target);
        }
        if let Some(weight) = self.part.weight {
            self.sum_groups(simd);
            self.write_weight(simd, weight);
        }
    }
}

impl<'a> WriteRows<'a, '_, '_> {
    #[inline(always)]
    fn sum_positions<S: Simd>(&mut self, simd: S) {
        let transition = self.part.transition;
        for (index, row) in self.part.rows.clone().enumerate() {
            for start in (0..transition.out_channels).step_by(S::LANES) {
                let lanes = S::LANES.min(transition.out_channels - start);
                let [first, second] = if lanes == S::LANES {
                    column_moments(simd, &transition, row, start, S::LANES)
                } else {
                    column_moments(simd, &transition, row, start, lanes)
                };
                let at = index * self.padded + start;
                store64(simd, first, &mut self.first[at..]);
                store64(simd, second, &mut self.second[at..]);
            }
        }
    }

    #[inline(always)]
    fn write_before<S: Simd>(&self, simd: S, target: &DisjointMut<'a, f32>) {
        let RowGradients {
            transition,
            gradient,
            ref rows,
            ..
        } = self.part;
        let (inputs, outputs) = (transition.in_channels, transition.out_channels);
        let (own, width) = (transition.rows(), transition.reach());
        for (array, sums) in [&*self.first, &*self.second].into_iter().enumerate() {
            for group in array * transition.groups..(array + 1) * transition.groups {
                let gradient = &gradient[group * outputs..(group + 1) * outputs];
                for (row, sums) in rows.clone().zip(sums.chunks_exact(self.padded)) {
                    for index in 0..transition.channel_groups {
                        let reach = index * width..(index + 1) * width;
                        let product = if transition.channel_groups == 1 {
                            dot(simd, sums, gradient)
                        } else {
                            dot_in_order(&sums[reach.clone()], &gradient[reach])
                        };
                        let at = group * inputs + index * own + row;
                        // SAFETY: the caller of `run` promises that these rows are no other call's.
                        let target = unsafe { target.part(at..at + 1) };
                        target[0] = product as f32;
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn sum_groups<S: Simd>(&mut self, simd: S) {
        let RowGradients {
            transition,
            before,
            gradient,
            ref rows,
            ..
        } = self.part;
        let (groups, inputs, outputs) = (
            transition.groups,
            transition.in_channels,
            transition.out_channels,
        );
        let arrays = [&mut *self.first, &mut *self.second];
        for (array, sums) in arrays.into_iter().enumerate() {
            for (row, sums) in rows.clone().zip(sums.chunks_exact_mut(self.padded)) {
                for start in (0..outputs).step_by(S::LANES) {
                    let lanes = S::LANES.min(outputs - start);
                    let mut total = [simd.splat64(0.0); 2];
                    for group in array * groups..(array + 1) * groups {
                        let state = &before[group * inputs..(group + 1) * inputs];
                        let values = factors(simd, &transition, state, row, start, lanes);
                        let gradient = &gradient[group * outputs + start..][..lanes];
                        let gradient = simd.widen(load(simd, gradient));
                        for half in 0..2 {
                            total[half] = simd.fma64(values[half], gradient[half], total[half]);
                        }
                    }
                    if array == 1 {
                        // The square's derivative.
                        total = [
                            simd.add64(total[0], total[0]),
                            simd.add64(total[1], total[1]),
                        ];
                    }
                    store64(simd, total, &mut sums[start..]);
                }
            }
        }
    }

    #[inline(always)]
    fn write_weight<S: Simd>(&self, simd: S, target: &DisjointMut<'a, f32>) {
        let RowGradients {
            transition,
            ref rows,
            ..
        } = self.part;
        let (outputs, matrix) = (transition.out_channels, transition.matrix());
        for (position, weight) in transition.weight.chunks_exact(matrix).enumerate() {
            let range = rows.start * outputs..rows.end * outputs;
            let weight = &weight[range.clone()];
            let start = position * matrix;
            // SAFETY: the caller of `run` promises that these rows are no other call's.
            let target = unsafe { target.part(start + range.start..start + range.end) };
            if self.padded == outputs {
                write_slopes(simd, weight, self.first, self.second, target);
                continue;
            }
            let sums = self.first.chunks_exact(self.padded);
            let sums = sums.zip(self.second.chunks_exact(self.padded));
            let pairs = weight
                .chunks_exact(outputs)
                .zip(target.chunks_exact_mut(outputs));
            for ((weight, target), (first, second)) in pairs.zip(sums) {
                write_slopes(simd, weight, first, second, target);
            }
        }
    }
}

#[inline(always)]
fn slopes<S: Simd>(simd: S, weight: S::F32, first: &[f64], second: &[f64]) -> S::F32 {
    let weights = simd.widen(weight);
    let (first, second) = (load64(simd, first), load64(simd, second));
    simd.narrow([
        simd.fma64(weights[0], second[0], first[0]),
        simd.fma64(weights[1], second[1], first[1]),
    ])
}

/// `target = first + second weight`; the sums go on to a whole vector.
#[inline(always)]
fn write_slopes<S: Simd>(
    simd: S,
    weight: &[f32],
    first: &[f64],
    second: &[f64],
    target: &mut [f32],
) {
    let whole = weight.len() / S::LANES * S::LANES;
    let weights = weight.chunks_exact(S::LANES);
    let sums = first
        .chunks_exact(S::LANES)
        .zip(second.chunks_exact(S::LANES));
    let targets = target.chunks_exact_mut(S::LANES);
    for ((weight, target), (first, second)) in weights.zip(targets).zip(sums) {
        let values = slopes(simd, load(simd, weight), first, second);
        // SAFETY: the chunk has room for a vector.
        unsafe { simd.store(values, target.as_mut_ptr()) };
    }
    if whole < weight.len() {
        let weight = load(simd, &weight[whole..]);
        let values = slopes(simd, weight, &first[whole..], &second[whole..]);
        let target = &mut target[whole..];
        // SAFETY: no more is stored than there is room for.
        unsafe { simd.store_partial(values, target.as_mut_ptr(), target.len()) };
    }
}

/// The sum of the products; `sums` goes on to a whole vector.
#[inline(always)]
fn dot<S: Simd>(simd: S, sums: &[f64], values: &[f32]) -> f64 {
    let mut total = [simd.splat64(0.0); 2];
    for start in (0..values.len()).step_by(S::LANES) {
        let sums = load64(simd, &sums[start..]);
        let values = simd.widen(load(simd, &values[start..]));
        for half in 0..2 {
            total[half] = simd.fma64(sums[half], values[half], total[half]);
        }
    }
    simd.sum64(simd.add64(total[0], total[1]))
}

#[inline(always)]
fn dot_in_order(sums: &[f64], values: &[f32]) -> f64 {
    let mut total = 0.0;
    for (sum, &value) in sums.iter().zip(values) {
        total += sum * f64::from(value);
    }
    total
}
