//! Batch normalization of a batch whose images come segment by segment: what a segment measures, how measurements are merged, and
//! the map of a segment. [`super::batch`] does the same for a batch at once.
//!
//! Forward: [`measure`] for every segment, [`merge`], [`map`] for every segment. Backward: [`measure_gradient`], [`merge_gradient`],
//! [`map_gradient`]. Between the passes, other kernels may take the segments while they are in cache.

use super::affine::{
    BackwardInputs, GRADIENT_PARAMETERS, GradientMap, GradientSums, SUM_PARAMETERS, fill_backward,
    fill_forward, finish_sum,
};
use super::batch::{BatchNorm, RunningStatistics, check_backward, check_running, move_running};
use super::centred::{self, add_pieces};
use super::columns::{Columns, map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{AffineGradients, check_epsilon, check_optional};
use super::moments::{self, Saved, merge_pieces};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::scratch::with_f32;

/// Measures a segment `x` of rows of `channels`: `measurement`, `[2, channels]`, receives the means and the sums of squared
/// deviations.
///
/// # Errors
/// Where `x` does not consist of rows of `channels`, `measurement` has another length, or epsilon is negative or not finite.
pub fn measure(channels: usize, x: &[f32], epsilon: f32, measurement: &mut [f64]) -> Result {
    check_length("measurement", measurement.len(), 2 * channels)?;
    check_epsilon(epsilon)?;
    let columns = Columns::new(channels, rows(channels, x)?);
    moments::measure(columns, x, epsilon, measurement);
    Ok(())
}

fn rows(channels: usize, x: &[f32]) -> Result<usize> {
    if channels == 0 || !x.len().is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "a segment of {} elements does not consist of rows of {channels} channels",
            x.len()
        )));
    }
    Ok(x.len() / channels)
}

/// Merges `measurements`, one for each segment of `rows`, in order into the first, and fills `saved` and moves `running` as
/// [`super::batch::forward_training`] does.
///
/// # Errors
/// Where a length does not fit the channels and the segments, epsilon is negative or not finite, or the momentum is not in 0 to 1.
pub fn merge(
    channels: usize,
    rows: impl ExactSizeIterator<Item = usize>,
    measurements: &mut [f64],
    epsilon: f32,
    running: Option<RunningStatistics>,
    saved: &mut [f32],
) -> Result {
    let length = checked_product("measurements", &[rows.len(), 2, channels])?;
    check_length("measurements", measurements.len(), length)?;
    check_length("saved", saved.len(), 3 * channels)?;
    check_epsilon(epsilon)?;
    if let Some(running) = &running {
        check_running(running, channels)?;
    }
    let count = merge_pieces(measurements, channels, rows);
    if count == 0 {
        saved.fill(0.0);
        return Ok(());
    }
    let merged = &measurements[..2 * channels];
    for channel in 0..channels {
        let variance = merged[channels + channel] / count as f64;
        let unit = Saved::new(merged[channel], variance, epsilon);
        saved[channel] = unit.mean;
        saved[channels + channel] = unit.mean_rest;
        saved[2 * channels + channel] = unit.inverse_deviation;
    }
    if let Some(running) = running {
        move_running(running, merged, count);
    }
    Ok(())
}

/// Normalizes a segment with what [`merge`] saved; `norm.shape` is the segment's.
///
/// # Errors
/// Where a length does not fit the shape.
pub fn map(norm: BatchNorm, saved: &[f32], y: &mut [f32]) -> Result {
    let inputs = norm.check()?;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), 3 * norm.shape.channels)?;
    centred::forward_constants(inputs, saved, y);
    Ok(())
}

/// Sums a segment's gradients of beta and of gamma (but for the deviation): `measurement` receives `[2, channels]`.
///
/// # Errors
/// Where a length does not fit the segment's shape.
pub fn measure_gradient(
    norm: BatchNorm,
    saved: &[f32],
    dy: &[f32],
    measurement: &mut [f64],
) -> Result {
    let inputs = norm.check()?;
    let channels = norm.shape.channels;
    check_length("saved", saved.len(), 3 * channels)?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_length("measurement", measurement.len(), 2 * channels)?;
    let columns = Columns::new(channels, rows(channels, norm.x)?);
    with_f32(SUM_PARAMETERS * columns.padded, |parameters| {
        fill_forward(
            columns,
            &norm.affine,
            |channel| Saved::read(saved, channel),
            parameters,
        );
        macro_rules! sum {
            ($activation:ident, $residual:literal) => {{
                let terms = GradientSums::<_, $residual>::new(BackwardInputs {
                    x: inputs.x,
                    residual: inputs.residual.unwrap_or(&[]),
                    dy,
                    activation: $activation,
                });
                columns.gathered(measurement, |sums| {
                    sum_columns(columns, parameters, terms, sums);
                });
            }};
        }
        with_fused!(inputs.activation, |activation| {
            if inputs.residual.is_some() {
                sum!(activation, true)
            } else {
                sum!(activation, false)
            }
        });
    });
    Ok(())
}

/// Adds up the segments' `measurements` in order into the first, `[2, channels]`: the gradients of beta and of gamma, which
/// [`map_gradient`] needs.
///
/// # Errors
/// Where a length does not fit the channels.
pub fn merge_gradient(
    channels: usize,
    saved: &[f32],
    measurements: &mut [f64],
    dgamma: Option<&mut [f32]>,
    dbeta: Option<&mut [f32]>,
) -> Result {
    check_length("saved", saved.len(), 3 * channels)?;
    check_optional("dgamma", dgamma.as_deref(), channels)?;
    check_optional("dbeta", dbeta.as_deref(), channels)?;
    if channels == 0 || measurements.is_empty() || !measurements.len().is_multiple_of(2 * channels)
    {
        return Err(KernelError::Invalid(format!(
            "{} sums are not those of segments of {channels} channels",
            measurements.len()
        )));
    }
    add_pieces(measurements, 2 * channels);
    let (beta, gamma) = measurements[..2 * channels].split_at_mut(channels);
    for channel in 0..channels {
        gamma[channel] = finish_sum(Saved::read(saved, channel), beta[channel], gamma[channel]);
    }
    for (target, sums) in [(dbeta, beta), (dgamma, gamma)] {
        for (target, sum) in target.into_iter().flatten().zip(sums) {
            *target = *sum as f32;
        }
    }
    Ok(())
}

/// The gradients of a segment's input and residual, from the sums of [`merge_gradient`] over a batch of `batch_rows` rows.
///
/// # Errors
/// Where a length does not fit the segment's shape, or `dresidual` is asked for and there is no residual.
pub fn map_gradient(
    norm: BatchNorm,
    saved: &[f32],
    sums: &[f64],
    batch_rows: usize,
    dy: &[f32],
    dx: Option<&mut [f32]>,
    dresidual: Option<&mut [f32]>,
) -> Result {
    let gradients = AffineGradients {
        dx,
        ..AffineGradients::default()
    };
    let inputs = check_backward(&norm, dy, &gradients, dresidual.as_deref())?;
    let channels = norm.shape.channels;
    check_length("saved", saved.len(), 3 * channels)?;
    check_length("sums", sums.len(), 2 * channels)?;
    let columns = Columns::new(channels, rows(channels, norm.x)?);
    let (dx, dresidual) = (
        gradients.dx.unwrap_or(&mut []),
        dresidual.unwrap_or(&mut []),
    );
    with_f32(GRADIENT_PARAMETERS * columns.padded, |parameters| {
        let unit = |channel| Saved::read(saved, channel);
        fill_forward(
            columns,
            &norm.affine,
            unit,
            &mut parameters[..SUM_PARAMETERS * columns.padded],
        );
        let means = |channel: usize| {
            let factor = norm.affine.gamma(channel) as f64 / batch_rows as f64;
            (factor * sums[channel], factor * sums[channels + channel])
        };
        fill_backward(columns, &norm.affine, unit, means, parameters);
        macro_rules! map {
            ($activation:ident, $residual:literal) => {{
                let inputs = BackwardInputs {
                    x: inputs.x,
                    residual: inputs.residual.unwrap_or(&[]),
                    dy,
                    activation: $activation,
                };
                let terms = GradientMap::<_, $residual>::new(inputs, dx, dresidual);
                map_columns(columns, parameters, terms);
            }};
        }
        with_fused!(inputs.activation, |activation| {
            if inputs.residual.is_some() {
                map!(activation, true)
            } else {
                map!(activation, false)
            }
        });
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::batch;
    use super::super::geometry::{Affine, Shape};
    use super::*;
    use crate::activation::Activation;
    use crate::testing::{at_every_level, coarse_values};

    /// Results of a norm and its gradients: y, saved, running mean and variance, dx, dgamma, dbeta, dresidual.
    type Results = [Vec<f32>; 8];

    struct Case {
        shape: Shape,
        x: Vec<f32>,
        residual: Option<Vec<f32>>,
        gamma: Vec<f32>,
        beta: Vec<f32>,
        dy: Vec<f32>,
        activation: Activation,
    }

    impl Case {
        fn new(shape: Shape, offset: f32, residual: bool) -> Self {
            let elements = shape.elements().unwrap();
            let x = coarse_values(elements, 1);
            Case {
                shape,
                x: x.into_iter().map(|x| x + offset).collect(),
                residual: residual.then(|| coarse_values(elements, 2)),
                gamma: coarse_values(shape.channels, 3),
                beta: coarse_values(shape.channels, 4),
                dy: coarse_values(elements, 5),
                activation: Activation::Relu,
            }
        }

        fn norm(&self, images: std::ops::Range<usize>) -> BatchNorm<'_> {
            let image = self.shape.positions * self.shape.channels;
            let range = images.start * image..images.end * image;
            BatchNorm {
                shape: Shape {
                    batch: images.len(),
                    ..self.shape
                },
                x: &self.x[range.clone()],
                affine: Affine {
                    gamma: Some(&self.gamma),
                    beta: Some(&self.beta),
                },
                residual: self.residual.as_ref().map(|residual| &residual[range]),
                activation: self.activation,
            }
        }

        fn empty(&self) -> Results {
            let (elements, channels) = (self.x.len(), self.shape.channels);
            let lengths = [3, 1, 1].map(|arrays| arrays * channels);
            let mut results: Results = Default::default();
            results[0] = vec![f32::NAN; elements];
            results[1] = vec![f32::NAN; lengths[0]];
            results[2] = vec![0.5; channels];
            results[3] = vec![2.0; channels];
            results[4] = vec![f32::NAN; elements];
            results[5] = vec![f32::NAN; channels];
            results[6] = vec![f32::NAN; channels];
            results[7] = vec![f32::NAN; self.residual.as_ref().map_or(0, Vec::len)];
            results
        }

        fn at_once(&self) -> Results {
            let mut results = self.empty();
            let [y, saved, mean, variance, dx, dgamma, dbeta, dresidual] = &mut results;
            let norm = self.norm(0..self.shape.batch);
            let running = RunningStatistics {
                mean,
                variance,
                momentum: 0.25,
            };
            batch::forward_training(norm, 1e-5, Some(running), y, saved).unwrap();
            let gradients = AffineGradients {
                dx: Some(dx),
                dgamma: Some(dgamma),
                dbeta: Some(dbeta),
            };
            let dresidual = self.residual.as_ref().map(|_| &mut dresidual[..]);
            batch::backward_training(norm, saved, &self.dy, gradients, dresidual).unwrap();
            results
        }

        fn by_segments(&self, images: usize) -> Results {
            let mut results = self.empty();
            let [y, saved, mean, variance, dx, dgamma, dbeta, dresidual] = &mut results;
            let channels = self.shape.channels;
            let image = self.shape.positions * channels;
            let starts = (0..self.shape.batch).step_by(images);
            let segments = || {
                let batch = self.shape.batch;
                starts
                    .clone()
                    .map(move |start| start..(start + images).min(batch))
            };
            let rows: Vec<usize> = segments().map(|s| s.len() * self.shape.positions).collect();
            let mut measured = vec![f64::NAN; rows.len() * 2 * channels];
            for (segment, out) in segments().zip(measured.chunks_exact_mut(2 * channels)) {
                measure(channels, self.norm(segment).x, 1e-5, out).unwrap();
            }
            let running = RunningStatistics {
                mean,
                variance,
                momentum: 0.25,
            };
            let counts = rows.iter().copied();
            merge(channels, counts, &mut measured, 1e-5, Some(running), saved).unwrap();
            for segment in segments() {
                let range = segment.start * image..segment.end * image;
                map(self.norm(segment), saved, &mut y[range]).unwrap();
            }
            for (segment, out) in segments().zip(measured.chunks_exact_mut(2 * channels)) {
                let dy = &self.dy[segment.start * image..segment.end * image];
                measure_gradient(self.norm(segment), saved, dy, out).unwrap();
            }
            merge_gradient(channels, saved, &mut measured, Some(dgamma), Some(dbeta)).unwrap();
            for segment in segments() {
                let range = segment.start * image..segment.end * image;
                let dresidual = self
                    .residual
                    .as_ref()
                    .map(|_| &mut dresidual[range.clone()]);
                map_gradient(
                    self.norm(segment),
                    saved,
                    &measured[..2 * channels],
                    self.shape.batch * self.shape.positions,
                    &self.dy[range.clone()],
                    Some(&mut dx[range]),
                    dresidual,
                )
                .unwrap();
            }
            results
        }
    }

    #[test]
    fn segments_give_what_the_batch_gives() {
        at_every_level(|| {
            for channels in [1, 3, 7, 15, 16, 17, 33, 64, 65] {
                for (positions, offset, residual) in
                    [(1, 0.0, false), (49, 1e4, true), (36, -3.0, false)]
                {
                    let shape = Shape {
                        batch: 11,
                        positions,
                        channels,
                    };
                    let case = Case::new(shape, offset, residual);
                    let expected = case.at_once();
                    for images in [1, 4, 11] {
                        let actual = case.by_segments(images);
                        for (which, (actual, expected)) in actual.iter().zip(&expected).enumerate()
                        {
                            // What the rounding of the mean lost is rounding itself.
                            let rest = (which == 1).then_some(channels..2 * channels);
                            for (index, (actual, expected)) in
                                actual.iter().zip(expected).enumerate()
                            {
                                if rest.as_ref().is_some_and(|rest| rest.contains(&index)) {
                                    continue;
                                }
                                let bound = 4e-5 * expected.abs().max(1.0);
                                assert!(
                                    (actual - expected).abs() <= bound,
                                    "{shape:?}, {images} images, result {which} at {index}: {actual} for {expected}"
                                );
                            }
                        }
                    }
                }
            }
        });
    }

    #[test]
    fn segments_without_rows_change_nothing() {
        let mut measured = vec![0.0; 8];
        measure(1, &[1.0, 2.0, 6.0], 1e-5, &mut measured[4..6]).unwrap();
        let (mut saved, mut expected) = ([f32::NAN; 3], [f32::NAN; 3]);
        let mut alone = measured[4..6].to_vec();
        let rows = [0, 0, 3, 0].into_iter();
        merge(1, rows, &mut measured, 1e-5, None, &mut saved).unwrap();
        merge(1, [3].into_iter(), &mut alone, 1e-5, None, &mut expected).unwrap();
        assert_eq!(saved, expected);
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let mut two = [0.0; 2];
        assert!(measure(1, &[1.0], 1e-5, &mut [0.0]).is_err());
        assert!(measure(2, &[1.0], 1e-5, &mut [0.0; 4]).is_err());
        assert!(measure(1, &[1.0], f32::NAN, &mut two).is_err());
        assert!(merge(1, [1, 1].into_iter(), &mut two, 1e-5, None, &mut [0.0; 3]).is_err());
        assert!(merge(1, [1].into_iter(), &mut two, 1e-5, None, &mut [0.0; 2]).is_err());
        assert!(merge_gradient(1, &[0.0; 3], &mut [0.0; 3], None, None).is_err());
        assert!(merge_gradient(1, &[0.0; 3], &mut [], None, None).is_err());
    }
}
