//! Filter response normalization with the thresholded linear unit.
//!
//! Singh, Krishnan, "Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural Networks",
//! 2019. A sample's output depends on no other sample, bit for bit.

mod terms;

use super::centred::{add_pieces, sum_samples};
use super::columns::{Columns, map_columns, sum_columns};
use super::fused::with_fused;
use super::geometry::{Affine, Shape, check_epsilon, check_optional};
use super::moments::{inverse_root, unreliable};
use super::slab::{self, Passes, Slab};
use crate::activation::Activation;
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::memory::streams;
use crate::parallel::DisjointMut;
use std::ops::Range;
use terms::{
    EndingFunction, FORWARD_PARAMETERS, Function, GRADIENT_PARAMETERS, GradientMap, GradientSums,
    Normalize, OUTER, Recompute, SUM_PARAMETERS, Squares, Threshold,
};

/// Evaluates `$body` with `$name` bound to the ending as a value of its own type.
macro_rules! with_ending {
    ($ending:expr, |$name:ident| $body:expr) => {
        match $ending {
            Ending::Threshold(_) => {
                let $name = Threshold;
                $body
            }
            Ending::Function(activation) => with_fused!(activation, |function| {
                let $name = Function(function);
                $body
            }),
        }
    };
}

/// How a learned number becomes a positive epsilon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EpsilonForm {
    /// Its absolute value, as in the paper. The derivative at 0 is +1.
    Absolute,
    /// Its exponential, whose gradient is well scaled.
    Exponential,
}

/// What is added to the mean square: a constant, and a learned part where maps are so small that the constant alone would turn
/// the normalization into a sign function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epsilon {
    /// The constant, usually 1e-6.
    pub fixed: f32,
    /// The learned number and its form.
    pub learned: Option<(EpsilonForm, f32)>,
}

impl Epsilon {
    fn check(self) -> Result {
        check_epsilon(self.fixed)
    }

    fn value(self) -> f64 {
        let learned = match self.learned {
            None => 0.0,
            Some((EpsilonForm::Absolute, number)) => (number as f64).abs(),
            Some((EpsilonForm::Exponential, number)) => (number as f64).exp(),
        };
        self.fixed as f64 + learned
    }

    /// The derivative with respect to the learned number.
    fn derivative(self) -> f64 {
        match self.learned {
            None => 0.0,
            Some((EpsilonForm::Absolute, number)) if number < 0.0 => -1.0,
            Some((EpsilonForm::Absolute, _)) => 1.0,
            Some((EpsilonForm::Exponential, number)) => (number as f64).exp(),
        }
    }
}

/// What follows the normalization and its affine part.
#[derive(Clone, Copy, Debug)]
pub enum Ending<'a> {
    /// The thresholded linear unit, `max(y, tau)`, with tau `[channels]`; equal values count as `y`.
    Threshold(&'a [f32]),
    /// Any other activation.
    Function(Activation),
}

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct FilterResponseNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Added to the mean square.
    pub epsilon: Epsilon,
    /// Applied last.
    pub ending: Ending<'a>,
}

/// Where [`backward`] writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct FilterResponseGradients<'a> {
    /// The gradient of the input, of the input's shape.
    pub dx: Option<&'a mut [f32]>,
    /// The gradient of the scale, `[channels]`.
    pub dgamma: Option<&'a mut [f32]>,
    /// The gradient of the offset, `[channels]`.
    pub dbeta: Option<&'a mut [f32]>,
    /// The gradient of the threshold, `[channels]`.
    pub dtau: Option<&'a mut [f32]>,
    /// The gradient of the learned number in epsilon.
    pub depsilon: Option<&'a mut f32>,
}

impl FilterResponseNorm<'_> {
    /// Checks all arguments, and returns the length of what a forward pass saves.
    fn check(&self) -> Result<usize> {
        let channels = self.shape.channels;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        self.affine.check(channels)?;
        self.epsilon.check()?;
        if let Ending::Threshold(tau) = self.ending {
            check_length("tau", tau.len(), channels)?;
        }
        checked_product("saved statistics", &[self.shape.batch, channels])
    }
}

/// `y = max(x / sqrt(mean(x²) + epsilon) * gamma + beta, tau)`, the mean over the positions of every sample and channel.
///
/// `saved` receives what [`backward`] needs, `[batch, channels]`: `1 / sqrt(mean(x²) + epsilon)`.
///
/// # Errors
/// Where a length does not fit the shape, or epsilon is negative or not finite.
pub fn forward(norm: FilterResponseNorm, y: &mut [f32], saved: &mut [f32]) -> Result {
    check_length("saved", saved.len(), norm.check()?)?;
    check_length("y", y.len(), norm.x.len())?;
    let shape = norm.shape;
    let slab = Slab::new(shape.batch, shape.positions, shape.channels);
    let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
    with_ending!(norm.ending, |ending| slab::run(
        slab,
        &Forward {
            slab,
            norm,
            epsilon: norm.epsilon.value(),
            ending,
            y,
            saved,
        },
        |_, _| {}
    ));
    Ok(())
}

/// The gradients of [`forward`], given that of `y` and what it saved.
///
/// # Errors
/// As [`forward`], or where the gradient of a threshold or of a learned epsilon is asked for and there is none.
pub fn backward(
    norm: FilterResponseNorm,
    saved: &[f32],
    dy: &[f32],
    gradients: FilterResponseGradients,
) -> Result {
    check_length("saved", saved.len(), norm.check()?)?;
    check_length("dy", dy.len(), norm.x.len())?;
    let (shape, channels) = (norm.shape, norm.shape.channels);
    let FilterResponseGradients {
        dx,
        dgamma,
        dbeta,
        dtau,
        depsilon,
    } = gradients;
    check_optional("dx", dx.as_deref(), norm.x.len())?;
    check_optional("dgamma", dgamma.as_deref(), channels)?;
    check_optional("dbeta", dbeta.as_deref(), channels)?;
    check_optional("dtau", dtau.as_deref(), channels)?;
    if dtau.is_some() && !matches!(norm.ending, Ending::Threshold(_)) {
        return Err(KernelError::Invalid(
            "the gradient of tau was asked for, but there is no tau".into(),
        ));
    }
    if depsilon.is_some() && norm.epsilon.learned.is_none() {
        return Err(KernelError::Invalid(
            "the gradient of epsilon was asked for, but it is not learned".into(),
        ));
    }
    let slab = Slab::new(shape.batch, shape.positions, channels);
    let dx = dx.map(DisjointMut::new);
    with_ending!(norm.ending, |ending| slab::run(
        slab,
        &Backward {
            slab,
            norm,
            epsilon: norm.epsilon.value(),
            ending,
            saved,
            dy,
            dx,
        },
        |sums, stride| {
            sum_samples(sums, stride, 0, dbeta);
            sum_samples(sums, stride, channels, dgamma);
            sum_samples(sums, stride, 2 * channels, dtau);
            if let Some(depsilon) = depsilon {
                *depsilon =
                    (sum_epsilon(&norm, saved, sums, stride) * norm.epsilon.derivative()) as f32;
            }
        }
    ));
    Ok(())
}

/// The gradient of epsilon: `-1/2 Σ gamma r² Σ dy * normalized`.
fn sum_epsilon(norm: &FilterResponseNorm, saved: &[f32], sums: &[f64], stride: usize) -> f64 {
    let channels = norm.shape.channels;
    let mut total = 0.0;
    for sample in 0..norm.shape.batch {
        for channel in 0..channels {
            let inverse = saved[sample * channels + channel] as f64;
            let sum = sums[sample * stride + channels + channel];
            total -= 0.5 * norm.affine.gamma(channel) as f64 * inverse * inverse * sum;
        }
    }
    total
}

/// Fills SCALE, BETA and TAU, and INVERSE where there is room.
fn fill_parameters(
    columns: Columns,
    norm: &FilterResponseNorm,
    inverse: &[f32],
    parameters: &mut [f32],
) {
    let channels = columns.channels;
    let mut arrays = parameters.chunks_exact_mut(columns.padded.max(1));
    let mut fill = |value: &dyn Fn(usize) -> f32| {
        if let Some(array) = arrays.next() {
            for (channel, target) in array[..channels].iter_mut().enumerate() {
                *target = value(channel);
            }
            columns.spread(array);
        }
    };
    fill(&|channel| norm.affine.gamma(channel) * inverse[channel]);
    fill(&|channel| norm.affine.beta(channel));
    fill(&|channel| match norm.ending {
        Ending::Threshold(tau) => tau[channel],
        Ending::Function(_) => 0.0,
    });
    fill(&|channel| inverse[channel]);
}

struct Forward<'a, E> {
    slab: Slab,
    norm: FilterResponseNorm<'a>,
    epsilon: f64,
    ending: E,
    y: DisjointMut<'a, f32>,
    saved: DisjointMut<'a, f32>,
}

impl<E: EndingFunction> Passes for Forward<'_, E> {
    fn measurement_length(&self) -> usize {
        self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        FORWARD_PARAMETERS * self.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, _: &[f32], squares: &mut [f64]) {
        let columns = self.slab.columns;
        let x = &self.norm.x[range];
        columns.gathered(squares, |sums| sum_columns(columns, &[], Squares(x), sums));
        let rows = x.len() / columns.channels.max(1);
        if rows > 0 && unreliable(squares, rows, self.epsilon as f32) {
            squares.fill(0.0);
            for row in x.chunks_exact(columns.channels) {
                for (sum, &x) in squares.iter_mut().zip(row) {
                    *sum += x as f64 * x as f64;
                }
            }
        }
    }

    fn finish(&self, sample: usize, squares: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        add_pieces(squares, channels);
        // SAFETY: every sample has its own part, and is finished once.
        let inverse = unsafe { self.saved.part(sample * channels..(sample + 1) * channels) };
        let share = 1.0 / self.slab.positions.max(1) as f64;
        for (inverse, square) in inverse.iter_mut().zip(&squares[..channels]) {
            *inverse = inverse_root(square * share, self.epsilon);
        }
        fill_parameters(columns, &self.norm, inverse, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        let columns = self.slab.columns;
        let x = &self.norm.x[range.clone()];
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.y.part(range) };
        let stream = streams(self.slab.elements(), y, columns.width);
        let terms = Normalize::new(x, y, self.ending, stream);
        map_columns(columns, parameters, terms);
    }
}

struct Backward<'a, E> {
    slab: Slab,
    norm: FilterResponseNorm<'a>,
    epsilon: f64,
    ending: E,
    saved: &'a [f32],
    dy: &'a [f32],
    dx: Option<DisjointMut<'a, f32>>,
}

impl<E: EndingFunction> Backward<'_, E> {
    fn inverse(&self, sample: usize) -> &[f32] {
        let channels = self.slab.columns.channels;
        &self.saved[sample * channels..(sample + 1) * channels]
    }

    fn recompute(&self, range: Range<usize>) -> Recompute<'_, E> {
        Recompute::new(&self.norm.x[range.clone()], &self.dy[range], self.ending)
    }
}

impl<E: EndingFunction> Passes for Backward<'_, E> {
    fn measurement_length(&self) -> usize {
        3 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        GRADIENT_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, sample: usize, parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let first = &mut parameters[..SUM_PARAMETERS * columns.padded];
        fill_parameters(columns, &self.norm, self.inverse(sample), first);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let terms = GradientSums(self.recompute(range));
        columns.gathered(measurement, |sums| {
            sum_columns(columns, parameters, terms, sums)
        });
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let (channels, padded) = (columns.channels, columns.padded);
        add_pieces(measurements, 3 * channels);
        if self.dx.is_none() {
            return;
        }
        let sums = &measurements[channels..2 * channels];
        let (outer, along) = parameters[OUTER * padded..].split_at_mut(padded);
        let share = 1.0 / self.slab.positions.max(1) as f64;
        for (channel, &inverse) in self.inverse(sample).iter().enumerate() {
            let scale = self.norm.affine.gamma(channel) as f64 * inverse as f64;
            if self.slab.positions == 1 {
                // `1 - normalized²` would cancel; it is `epsilon / (x² + epsilon)`.
                outer[channel] = (scale * self.epsilon * (inverse as f64 * inverse as f64)) as f32;
                along[channel] = 0.0;
            } else {
                outer[channel] = scale as f32;
                along[channel] = (-sums[channel] * share) as f32;
            }
        }
        columns.spread(outer);
        columns.spread(along);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        let Some(dx) = &self.dx else { return };
        // SAFETY: ranges of different tasks do not overlap.
        let dx = unsafe { dx.part(range.clone()) };
        let stream = streams(self.slab.elements(), dx, self.slab.columns.width);
        let terms = GradientMap::new(self.recompute(range), dx, stream);
        map_columns(self.slab.columns, parameters, terms);
    }
}
