//! Normalization of rows: statistics over the channels of one position, centred (layer norm) or not (root mean square). A row stays
//! in the first-level cache while it is read two or three times.

use super::columns::{Place, load, store_output};
use super::fused::with_fused;
use super::geometry::{Affine, AffineGradients};
use super::moments::Saved;
use super::row::{Row, for_each_vector, row_statistics};
use crate::activation::{Activation, ActivationFunction};
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::memory::streams;
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_f32, with_f64};

/// Elements of a piece, about.
const PIECE_ELEMENTS: usize = 1 << 15;
/// Rows whose gradients of gamma and beta are summed in f32 before they are added to f64.
const FLUSH_ROWS: usize = 32;
/// Rows that a forward pass takes at once, where they are short: a long row keeps the processor busy by itself.
const BLOCK: usize = 4;
/// Channels of the longest row that counts as short.
const BLOCK_CHANNELS: usize = 128;

/// What both passes read, with lengths that the caller has checked.
#[derive(Clone, Copy)]
pub(super) struct Inputs<'a> {
    pub rows: usize,
    pub channels: usize,
    pub x: &'a [f32],
    pub affine: Affine<'a>,
    pub activation: Activation,
}

impl Inputs<'_> {
    fn rows_per_piece(&self) -> usize {
        (PIECE_ELEMENTS / self.channels.max(1)).max(FLUSH_ROWS)
    }

    fn padded(&self) -> usize {
        self.channels.next_multiple_of(MAX_LANES)
    }

    /// Runs `body` with gamma and beta, padded to whole vectors with zeros.
    fn with_parameters(&self, body: impl FnOnce(&[f32])) {
        let padded = self.padded();
        with_f32(2 * padded, |parameters| {
            let (gamma, beta) = parameters.split_at_mut(padded);
            for channel in 0..self.channels {
                gamma[channel] = self.affine.gamma(channel);
                beta[channel] = self.affine.beta(channel);
            }
            body(parameters);
        });
    }
}

/// Normalizes every row. `saved` receives `[rows, 3]`, a [`Saved`] each, where `CENTRED`, else `[rows]`.
pub(super) fn forward<const CENTRED: bool>(
    inputs: Inputs,
    epsilon: f32,
    y: &mut [f32],
    saved: &mut [f32],
) {
    let Inputs { rows, channels, .. } = inputs;
    if channels == 0 {
        saved.fill(0.0);
        return;
    }
    let size = inputs.rows_per_piece();
    let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
    inputs.with_parameters(|parameters| {
        for_each_task(rows.div_ceil(size), inputs.x.len(), |task| {
            let range = piece(task, size, rows);
            let elements = range.start * channels..range.end * channels;
            let values = if CENTRED { 3 } else { 1 };
            // SAFETY: pieces do not overlap.
            let (y, saved) = unsafe {
                let saved = saved.part(range.start * values..range.end * values);
                (y.part(elements.clone()), saved)
            };
            with_fused!(inputs.activation, |activation| dispatch(Forward::<
                _,
                CENTRED,
            > {
                channels,
                x: &inputs.x[elements],
                parameters,
                epsilon,
                activation,
                stream: streams(inputs.x.len(), y, channels),
                y,
                saved,
            }));
        });
    });
}

struct Forward<'a, A, const CENTRED: bool> {
    channels: usize,
    x: &'a [f32],
    /// Gamma and beta, padded.
    parameters: &'a [f32],
    epsilon: f32,
    activation: A,
    stream: bool,
    y: &'a mut [f32],
    saved: &'a mut [f32],
}

impl<A: ActivationFunction, const CENTRED: bool> SimdOp for Forward<'_, A, CENTRED> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let channels = self.channels;
        let padded = channels.next_multiple_of(MAX_LANES);
        assert_eq!(self.x.len(), self.y.len());
        assert!(self.parameters.len() == 2 * padded);
        let rows = self.x.len() / channels;
        let blocks = if channels <= BLOCK_CHANNELS {
            rows - rows % BLOCK
        } else {
            0
        };
        for row in (0..blocks).step_by(BLOCK) {
            self.block::<S, BLOCK>(simd, row);
        }
        for row in blocks..rows {
            self.block::<S, 1>(simd, row);
        }
        simd.drain();
    }
}

impl<A: ActivationFunction, const CENTRED: bool> Forward<'_, A, CENTRED> {
    /// Normalizes `R` rows from `first`.
    #[inline(always)]
    fn block<S: Simd, const R: usize>(&mut self, simd: S, first: usize) {
        let channels = self.channels;
        let padded = channels.next_multiple_of(MAX_LANES);
        let elements = first * channels..(first + R) * channels;
        let (x, y) = (&self.x[elements.clone()], &mut self.y[elements]);
        let units = row_statistics::<S, CENTRED, R>(simd, x, channels, self.epsilon);
        for (index, unit) in units.into_iter().enumerate() {
            if CENTRED {
                unit.write_row(self.saved, first + index);
            } else {
                self.saved[first + index] = unit.inverse_deviation;
            }
        }
        let mut rows = [Row::new(simd, Saved::default()); R];
        for (row, unit) in rows.iter_mut().zip(units) {
            *row = Row::new(simd, unit);
        }
        for_each_vector(
            simd,
            channels,
            #[inline(always)]
            |column, lanes| {
                // SAFETY: `column + lanes <= channels`, in one of R rows, parameters are padded, and `streams` saw to it that what
                // is streamed is aligned.
                unsafe {
                    let (gamma, beta) = load_affine(simd, self.parameters, padded, column);
                    for (index, row) in rows.iter().enumerate() {
                        let place = Place::in_order(index * channels + column, lanes);
                        let x = load(simd, x, place);
                        let z = simd.fma(row.normalize::<CENTRED>(simd, x), gamma, beta);
                        let z = self.activation.apply(simd, z);
                        store_output(simd, z, y, place, self.stream);
                    }
                }
            },
        );
    }
}

/// Gamma and beta of the columns from `column`.
///
/// # Safety
/// `parameters` must hold two arrays of `padded` values, and `column + S::LANES <= padded`.
#[inline(always)]
unsafe fn load_affine<S: Simd>(
    simd: S,
    parameters: &[f32],
    padded: usize,
    column: usize,
) -> (S::F32, S::F32) {
    let p = parameters.as_ptr();
    // SAFETY: the caller's promise.
    unsafe { (simd.load(p.add(column)), simd.load(p.add(padded + column))) }
}

/// The gradients of [`forward`].
pub(super) fn backward<const CENTRED: bool>(
    inputs: Inputs,
    saved: &[f32],
    dy: &[f32],
    gradients: AffineGradients,
) {
    let Inputs { rows, channels, .. } = inputs;
    if channels == 0 {
        return;
    }
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    let dx = dx.map(DisjointMut::new);
    let size = inputs.rows_per_piece();
    let pieces = rows.div_ceil(size);
    with_f64(pieces * 2 * channels, |partials| {
        let parts = DisjointMut::new(partials);
        inputs.with_parameters(|parameters| {
            for_each_task(pieces, inputs.x.len(), |task| {
                let range = piece(task, size, rows);
                let elements = range.start * channels..range.end * channels;
                // SAFETY: pieces do not overlap.
                let (dx, sums) = unsafe {
                    (
                        dx.as_ref().map(|dx| dx.part(elements.clone())),
                        parts.part(task * 2 * channels..(task + 1) * 2 * channels),
                    )
                };
                with_f32(2 * inputs.padded(), |recent| {
                    with_fused!(inputs.activation, |activation| dispatch(Backward::<
                        _,
                        CENTRED,
                    > {
                        channels,
                        first_row: range.start,
                        x: &inputs.x[elements.clone()],
                        dy: &dy[elements],
                        parameters,
                        saved,
                        activation,
                        stream: dx
                            .as_ref()
                            .is_some_and(|dx| streams(inputs.x.len(), dx, channels)),
                        dx,
                        recent,
                        sums,
                    }));
                });
            });
        });
        super::centred::sum_samples(partials, 2 * channels, 0, dbeta);
        super::centred::sum_samples(partials, 2 * channels, channels, dgamma);
    });
}

struct Backward<'a, 'b, A, const CENTRED: bool> {
    channels: usize,
    first_row: usize,
    x: &'a [f32],
    dy: &'a [f32],
    parameters: &'a [f32],
    saved: &'a [f32],
    activation: A,
    stream: bool,
    dx: Option<&'a mut [f32]>,
    /// Gradients of beta and gamma of the last rows, padded.
    recent: &'b mut [f32],
    /// Those of the piece.
    sums: &'a mut [f64],
}

impl<A: ActivationFunction, const CENTRED: bool> Backward<'_, '_, A, CENTRED> {
    #[inline(always)]
    fn unit(&self, row: usize) -> Saved {
        if CENTRED {
            Saved::read_row(self.saved, self.first_row + row)
        } else {
            Saved {
                mean: 0.0,
                mean_rest: 0.0,
                inverse_deviation: self.saved[self.first_row + row],
            }
        }
    }

    /// `(normalized x, dz, gamma)` of one vector of a row.
    ///
    /// # Safety
    /// `at + column + lanes` must not exceed the length of `x` and `dy`.
    #[inline(always)]
    unsafe fn vector<S: Simd>(
        &self,
        simd: S,
        row: &Row<S>,
        at: usize,
        column: usize,
        lanes: usize,
    ) -> (S::F32, S::F32, S::F32) {
        let padded = self.channels.next_multiple_of(MAX_LANES);
        // SAFETY: the caller's promise; parameters are padded.
        unsafe {
            let (gamma, beta) = load_affine(simd, self.parameters, padded, column);
            let place = Place::in_order(at + column, lanes);
            let x = load(simd, self.x, place);
            let dy = load(simd, self.dy, place);
            let normalized = row.normalize::<CENTRED>(simd, x);
            let z = simd.fma(normalized, gamma, beta);
            (normalized, self.activation.gradient(simd, z, dy), gamma)
        }
    }

    /// Adds the recent rows' gradients to the sums.
    #[inline(always)]
    fn flush(&mut self) {
        let padded = self.recent.len() / 2;
        for array in 0..2 {
            let recent = &mut self.recent[array * padded..array * padded + self.channels];
            let sums = &mut self.sums[array * self.channels..(array + 1) * self.channels];
            for (sum, recent) in sums.iter_mut().zip(&*recent) {
                *sum += *recent as f64;
            }
            recent.fill(0.0);
        }
    }
}

impl<A: ActivationFunction, const CENTRED: bool> SimdOp for Backward<'_, '_, A, CENTRED> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let channels = self.channels;
        let padded = channels.next_multiple_of(MAX_LANES);
        let rows = self.x.len() / channels;
        assert!(self.dy.len() == self.x.len() && self.x.len() == rows * channels);
        assert!(self.parameters.len() == 2 * padded && self.recent.len() == 2 * padded);
        let mut dx = std::mem::take(&mut self.dx);
        assert!(dx.as_ref().is_none_or(|dx| dx.len() == self.x.len()));
        for index in 0..rows {
            let at = index * channels;
            let unit = self.unit(index);
            let row = Row::new(simd, unit);
            let (mut sum, mut sum_normalized) = (simd.zero(), simd.zero());
            for_each_vector(
                simd,
                channels,
                #[inline(always)]
                |column, lanes| {
                    // SAFETY: `at + column + lanes <= x.len()`, and `recent` is padded.
                    unsafe {
                        let (normalized, dz, gamma) = self.vector(simd, &row, at, column, lanes);
                        let beta_sum = self.recent.as_mut_ptr().add(column);
                        let gamma_sum = beta_sum.add(padded);
                        simd.store(simd.add(simd.load(beta_sum), dz), beta_sum);
                        simd.store(simd.fma(dz, normalized, simd.load(gamma_sum)), gamma_sum);
                        let scaled = simd.mul(dz, gamma);
                        sum = simd.add(sum, scaled);
                        sum_normalized = simd.fma(scaled, normalized, sum_normalized);
                    }
                },
            );
            if index % FLUSH_ROWS == FLUSH_ROWS - 1 {
                self.flush();
            }
            let Some(dx) = &mut dx else {
                continue;
            };
            let dx = &mut dx[at..at + channels];
            let share = 1.0 / channels as f32;
            let stream = self.stream;
            let along = simd.splat(-simd.sum(sum_normalized) * share);
            let across = simd.splat(-simd.sum(sum) * share);
            for_each_vector(
                simd,
                channels,
                #[inline(always)]
                |column, lanes| {
                    // SAFETY: `at + column + lanes <= x.len()`, which is the length of dx, and `streams` saw to it that what is
                    // streamed is aligned.
                    unsafe {
                        let (normalized, dz, gamma) = self.vector(simd, &row, at, column, lanes);
                        let mut projected = simd.mul(normalized, along);
                        if CENTRED {
                            projected = simd.add(projected, across);
                        }
                        let value = simd.mul(row.inverse, simd.fma(gamma, dz, projected));
                        store_output(simd, value, dx, Place::in_order(column, lanes), stream);
                    }
                },
            );
        }
        self.flush();
        simd.drain();
    }
}
