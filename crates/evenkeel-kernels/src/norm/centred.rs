//! Normalization by the mean and the variance of every sample and group of channels: the engine of [`super::batch`] and
//! [`super::renorm`] (one sample that holds all rows), and of [`super::group`] and [`super::proxy`].

use super::affine::{
    BackwardInputs, FORWARD_PARAMETERS, GRADIENT_PARAMETERS, GradientMap, GradientSums, Normalize,
    fill_backward, fill_forward, finish_sum,
};
use super::columns::{Columns, map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{Affine, AffineGradients, Groups};
use super::moments::{Saved, measure, merge_channels, merge_pieces};
use super::slab::{self, Passes, Slab};
use crate::activation::{Activation, ActivationFunction};
use crate::parallel::{DisjointMut, for_each_task};
use crate::scratch::{with_f32, with_f64};
use std::ops::Range;

/// What both passes read, with lengths that the caller has checked.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub slab: Slab,
    pub groups: Groups,
    pub x: &'a [f32],
    pub residual: Option<&'a [f32]>,
    pub affine: Affine<'a>,
    pub activation: Activation,
}

/// Normalizes; `after` sees the means and the squared deviations of the channels of every sample (or, where groups are larger than
/// a channel, what they were merged from), `stride` values apart.
pub(super) fn forward(
    inputs: Inputs,
    epsilon: f32,
    y: &mut [f32],
    saved: &mut [f32],
    after: impl FnOnce(&[f64], usize),
) {
    let Inputs {
        slab,
        groups,
        x,
        residual,
        affine,
        activation,
    } = inputs;
    if slab.columns.channels == 0 {
        saved.fill(0.0);
        return after(&[], 0);
    }
    let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
    macro_rules! run {
        ($activation:ident, $residual:literal) => {
            slab::run(
                slab,
                &Forward::<_, $residual> {
                    slab,
                    groups,
                    x,
                    residual: residual.unwrap_or(&[]),
                    affine,
                    epsilon,
                    activation: $activation,
                    y,
                    saved,
                },
                after,
            )
        };
    }
    with_fused!(activation, |activation| {
        if residual.is_some() {
            run!(activation, true)
        } else {
            run!(activation, false)
        }
    });
}

/// Maps with statistics that are given: one sample, every channel a group, `saved` as a forward pass would have saved them.
pub(super) fn forward_constants(inputs: Inputs, saved: &[f32], y: &mut [f32]) {
    let Inputs {
        slab,
        x,
        residual,
        affine,
        activation,
        ..
    } = inputs;
    let columns = slab.columns;
    with_f32(FORWARD_PARAMETERS * columns.padded, |parameters| {
        fill_forward(
            columns,
            &affine,
            |channel| Saved::read(saved, channel),
            parameters,
        );
        let y = DisjointMut::new(y);
        for_each_task(slab.pieces, x.len(), |piece| {
            let range = slab.range(0, piece);
            // SAFETY: pieces do not overlap.
            let y = unsafe { y.part(range.clone()) };
            with_fused!(activation, |activation| match residual {
                Some(residual) => map_range::<_, true>(
                    columns,
                    x.len(),
                    x,
                    residual,
                    y,
                    range,
                    parameters,
                    activation
                ),
                None => map_range::<_, false>(
                    columns,
                    x.len(),
                    x,
                    &[],
                    y,
                    range,
                    parameters,
                    activation
                ),
            });
        });
    });
}

/// Maps one range of the input of `elements` elements.
fn map_range<A: ActivationFunction, const RESIDUAL: bool>(
    columns: Columns,
    elements: usize,
    x: &[f32],
    residual: &[f32],
    y: &mut [f32],
    range: Range<usize>,
    parameters: &[f32],
    activation: A,
) {
    let residual = if RESIDUAL {
        &residual[range.clone()]
    } else {
        residual
    };
    let x = &x[range];
    map_columns(
        columns,
        parameters,
        Normalize::<_, RESIDUAL>::new(x, residual, y, activation).part_of(elements, columns.width),
    );
}

/// The gradients. `constants`: the statistics do not depend on the input (a running mean and variance).
pub(super) fn backward(
    inputs: Inputs,
    constants: bool,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
    dresidual: Option<&mut [f32]>,
) {
    let Inputs {
        slab,
        groups,
        x,
        residual,
        affine,
        activation,
    } = inputs;
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    let (dx, dresidual) = (dx.map(DisjointMut::new), dresidual.map(DisjointMut::new));
    let channels = slab.columns.channels;
    if channels == 0 {
        return;
    }
    macro_rules! run {
        ($activation:ident, $residual:literal) => {
            slab::run(
                slab,
                &Backward::<_, $residual> {
                    slab,
                    groups,
                    constants,
                    affine,
                    saved,
                    inputs: BackwardInputs {
                        x,
                        residual: residual.unwrap_or(&[]),
                        dy,
                        activation: $activation,
                    },
                    dx,
                    dresidual,
                },
                |sums, stride| {
                    sum_samples(sums, stride, 0, dbeta);
                    sum_samples(sums, stride, channels, dgamma);
                },
            )
        };
    }
    with_fused!(activation, |activation| {
        if residual.is_some() {
            run!(activation, true)
        } else {
            run!(activation, false)
        }
    });
}

/// The forward pass: statistics of every sample and group, then the map.
pub(super) struct Forward<'a, A, const RESIDUAL: bool> {
    pub slab: Slab,
    pub groups: Groups,
    pub x: &'a [f32],
    pub residual: &'a [f32],
    pub affine: Affine<'a>,
    pub epsilon: f32,
    pub activation: A,
    pub y: DisjointMut<'a, f32>,
    pub saved: DisjointMut<'a, f32>,
}

impl<A: ActivationFunction, const RESIDUAL: bool> Passes for Forward<'_, A, RESIDUAL> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        FORWARD_PARAMETERS * self.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, _: &[f32], measurement: &mut [f64]) {
        measure(self.slab.columns, &self.x[range], self.epsilon, measurement);
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let (columns, groups) = (self.slab.columns, self.groups);
        let (channels, size) = (columns.channels, groups.size);
        let count = merge_pieces(measurements, channels, self.slab.piece_counts());
        let (mean, deviations) = measurements[..2 * channels].split_at(channels);
        // SAFETY: every sample has its own units, and is finished once.
        let [means, rests, inverses] = [0, 1, 2].map(|array| unsafe {
            let start = (3 * sample + array) * groups.count;
            self.saved.part(start..start + groups.count)
        });
        for group in 0..groups.count {
            let range = group * size..(group + 1) * size;
            let (mean, deviations) =
                merge_channels(&mean[range.clone()], &deviations[range], count);
            let variance = deviations / (count * size).max(1) as f64;
            let unit = Saved::new(mean, variance, self.epsilon);
            means[group] = unit.mean;
            rests[group] = unit.mean_rest;
            inverses[group] = unit.inverse_deviation;
        }
        let saved = |channel: usize| {
            let group = groups.of(channel);
            Saved {
                mean: means[group],
                mean_rest: rests[group],
                inverse_deviation: inverses[group],
            }
        };
        fill_forward(columns, &self.affine, saved, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.y.part(range.clone()) };
        map_range::<A, RESIDUAL>(
            self.slab.columns,
            self.x.len(),
            self.x,
            self.residual,
            y,
            range,
            parameters,
            self.activation,
        );
    }
}

/// Adds up one gradient of all samples in order: `sums` holds it from `offset` in every `stride`.
pub(super) fn sum_samples(sums: &[f64], stride: usize, offset: usize, target: Option<&mut [f32]>) {
    let Some(target) = target else { return };
    with_f64(target.len(), |total| {
        for sample in sums.chunks_exact(stride.max(1)) {
            for (total, part) in total.iter_mut().zip(&sample[offset..]) {
                *total += part;
            }
        }
        for (target, total) in target.iter_mut().zip(total) {
            *target = *total as f32;
        }
    });
}

/// Adds the sums of pieces, each `length` values, to the first.
pub(super) fn add_pieces(measurements: &mut [f64], length: usize) {
    let (first, rest) = measurements.split_at_mut(length.min(measurements.len()));
    for piece in rest.chunks_exact(length.max(1)) {
        for (sum, part) in first.iter_mut().zip(piece) {
            *sum += part;
        }
    }
}

/// The backward pass: the two sums of every channel, then the map.
pub(super) struct Backward<'a, A, const RESIDUAL: bool> {
    pub slab: Slab,
    pub groups: Groups,
    pub constants: bool,
    pub affine: Affine<'a>,
    pub saved: &'a [f32],
    pub inputs: BackwardInputs<'a, A>,
    pub dx: Option<DisjointMut<'a, f32>>,
    pub dresidual: Option<DisjointMut<'a, f32>>,
}

impl<A, const RESIDUAL: bool> Backward<'_, A, RESIDUAL> {
    #[inline(always)]
    fn saved(&self, sample: usize, channel: usize) -> Saved {
        let length = 3 * self.groups.count;
        let own = &self.saved[sample * length..][..length];
        Saved::read(own, self.groups.of(channel))
    }

    /// Merges the sums of a sample's pieces and fills the parameters of the map, in which `affine` scales the gradient.
    pub fn finish_scaled(
        &self,
        affine: &Affine,
        sample: usize,
        measurements: &mut [f64],
        parameters: &mut [f32],
    ) {
        let columns = self.slab.columns;
        let (channels, groups) = (columns.channels, self.groups);
        add_pieces(measurements, 2 * channels);
        let (dbeta, dgamma) = measurements[..2 * channels].split_at_mut(channels);
        for channel in 0..channels {
            let unit = self.saved(sample, channel);
            dgamma[channel] = finish_sum(unit, dbeta[channel], dgamma[channel]);
        }
        if self.dx.is_none() {
            return;
        }
        let inverse = 1.0 / (self.slab.positions * groups.size) as f64;
        with_f64(2 * groups.count, |means| {
            let counted = if self.constants { 0 } else { channels };
            for channel in 0..counted {
                let gamma = affine.gamma(channel) as f64 * inverse;
                let group = groups.of(channel);
                means[2 * group] += gamma * dbeta[channel];
                means[2 * group + 1] += gamma * dgamma[channel];
            }
            fill_backward(
                columns,
                affine,
                |channel| self.saved(sample, channel),
                |channel| {
                    let group = groups.of(channel);
                    (means[2 * group], means[2 * group + 1])
                },
                parameters,
            );
        });
    }
}

impl<'a, A: ActivationFunction, const RESIDUAL: bool> Passes for Backward<'a, A, RESIDUAL> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        GRADIENT_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, sample: usize, parameters: &mut [f32]) {
        let saved = |channel| self.saved(sample, channel);
        fill_forward(self.slab.columns, &self.affine, saved, parameters);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let terms = GradientSums::<_, RESIDUAL>::new(self.inputs.part(range));
        columns.gathered(measurement, |sums| {
            sum_columns(columns, parameters, terms, sums)
        });
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        self.finish_scaled(&self.affine, sample, measurements, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        if self.dx.is_none() && self.dresidual.is_none() {
            return;
        }
        let part = |array: &Option<DisjointMut<'a, f32>>| -> &'a mut [f32] {
            match array {
                // SAFETY: ranges of different tasks do not overlap.
                Some(array) => unsafe { array.part(range.clone()) },
                None => &mut [],
            }
        };
        let columns = self.slab.columns;
        let terms = GradientMap::<_, RESIDUAL>::new(
            self.inputs.part(range.clone()),
            part(&self.dx),
            part(&self.dresidual),
        )
        .part_of(self.inputs.x.len(), columns.width);
        map_columns(columns, parameters, terms);
    }
}
