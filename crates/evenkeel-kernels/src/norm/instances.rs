//! Statistics of every sample and channel (an *instance*), for methods that put them together with those of other samples: all
//! samples are measured before any of them is mapped.

use super::centred::add_pieces;
use super::moments::{measure, merge_pieces};
use super::slab::Slab;
use crate::parallel::{DisjointMut, for_each_task, for_each_task_backwards};
use crate::scratch::{with_f32, with_f64};
use std::ops::Range;

/// Means and biased variances of instances, `[samples, channels]` each.
#[derive(Clone, Copy)]
pub(super) struct Moments<'a> {
    pub means: &'a [f64],
    pub variances: &'a [f64],
}

impl Moments<'_> {
    /// Writes mean and variance of every channel over all samples: the mean variance within plus the variance of the means.
    pub fn pool_samples(&self, means: &mut [f64], variances: &mut [f64]) {
        let channels = means.len();
        let samples = (self.means.len() / channels).max(1) as f64;
        means.fill(0.0);
        variances.fill(0.0);
        for own in self.means.chunks_exact(channels) {
            for (sum, mean) in means.iter_mut().zip(own) {
                *sum += mean / samples;
            }
        }
        let rows = self.means.chunks_exact(channels);
        for (own, spreads) in rows.zip(self.variances.chunks_exact(channels)) {
            for channel in 0..channels {
                let difference = own[channel] - means[channel];
                variances[channel] += (spreads[channel] + difference * difference) / samples;
            }
        }
    }
}

/// Writes the measurement of a range of elements of a sample.
type MeasurePiece<'a> = &'a (dyn Fn(usize, Range<usize>, &mut [f64]) + Sync);
/// Adds up a range of elements, with parameters.
type SumPiece<'a> = &'a (dyn Fn(Range<usize>, &[f32], &mut [f64]) + Sync);

/// Measures every piece of every sample: `measure_piece(sample, range, out)` writes `length` values. The pieces of a sample lie one
/// after another.
fn measure_pieces(
    slab: Slab,
    length: usize,
    measurements: &mut [f64],
    measure_piece: MeasurePiece,
) {
    let parts = DisjointMut::new(measurements);
    for_each_task(slab.samples * slab.pieces, slab.elements(), |task| {
        let (sample, index) = (task / slab.pieces, task % slab.pieces);
        // SAFETY: a task has its own piece's measurement.
        let own = unsafe { parts.part(task * length..(task + 1) * length) };
        measure_piece(sample, slab.range(sample, index), own);
    });
}

/// Runs `body` with the moments of every instance of `x`.
pub(super) fn with_moments<R>(
    slab: Slab,
    x: &[f32],
    epsilon: f32,
    body: impl FnOnce(Moments) -> R,
) -> R {
    let channels = slab.columns.channels;
    let stride = 2 * channels * slab.pieces;
    with_f64(slab.samples * stride, |measurements| {
        measure_pieces(slab, 2 * channels, measurements, &|_, range, out| {
            measure(slab.columns, &x[range], epsilon, out);
        });
        with_f64(2 * slab.samples * channels, |moments| {
            let (means, variances) = moments.split_at_mut(slab.samples * channels);
            for (sample, pieces) in measurements.chunks_exact_mut(stride).enumerate() {
                let count = merge_pieces(pieces, channels, slab.piece_counts()).max(1) as f64;
                let own = sample * channels..(sample + 1) * channels;
                means[own.clone()].copy_from_slice(&pieces[..channels]);
                for (variance, squares) in variances[own].iter_mut().zip(&pieces[channels..]) {
                    *variance = squares / count;
                }
            }
            body(Moments { means, variances })
        })
    })
}

/// Runs `body` with `arrays` sums of every instance, `[samples, arrays, channels]`: `sum(range, parameters, sums)` adds up a piece,
/// with parameters that `fill(sample, parameters)` wrote.
pub(super) fn with_sums<R>(
    slab: Slab,
    arrays: usize,
    parameter_length: usize,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    sum: SumPiece,
    body: impl FnOnce(&mut [f64]) -> R,
) -> R {
    let length = arrays * slab.columns.channels;
    let stride = length * slab.pieces;
    with_f64(slab.samples * stride, |measurements| {
        measure_pieces(slab, length, measurements, &|sample, range, out| {
            with_f32(parameter_length, |parameters| {
                fill(sample, parameters);
                slab.columns
                    .gathered(out, |sums| sum(range, parameters, sums));
            });
        });
        for sample in 0..slab.samples {
            add_pieces(
                &mut measurements[sample * stride..(sample + 1) * stride],
                length,
            );
            // Samples move together, in order.
            measurements.copy_within(sample * stride..sample * stride + length, sample * length);
        }
        body(&mut measurements[..slab.samples * length])
    })
}

/// Maps every piece of every sample, with parameters that `fill(sample, parameters)` wrote.
pub(super) fn map_pieces(
    slab: Slab,
    parameter_length: usize,
    fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    map: &(dyn Fn(Range<usize>, &[f32]) + Sync),
) {
    let tasks = slab.samples * slab.pieces;
    // Backwards: what was read last is still in cache.
    for_each_task_backwards(tasks, slab.elements(), |task| {
        let (sample, index) = (task / slab.pieces, task % slab.pieces);
        with_f32(parameter_length, |parameters| {
            fill(sample, parameters);
            map(slab.range(sample, index), parameters);
        });
    });
}
