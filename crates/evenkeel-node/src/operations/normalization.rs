//! Normalization, with the activation fused.
//!
//! Commands share their form. Forward: `[output, saved] name(input, gamma?, beta?, …, batch, positions, channels, …,
//! activation, activationFirst, activationSecond)`. Backward: `[gradient …] name_backward(outputGradient, input, gamma?, beta?, …,
//! saved, batch, positions, channels, …, activation …, wants …)`, with a truth value for each gradient and outputs for those that
//! are wanted.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::Buffer;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::batch::{self, BatchNorm, RunningStatistics};
use evenkeel_kernels::norm::filter_response::{
    self, Ending, Epsilon, EpsilonForm, FilterResponseGradients, FilterResponseNorm,
};
use evenkeel_kernels::norm::{Affine, AffineGradients, Shape, group, layer_channels, rms};

pub const OPERATIONS: Family = &[
    ("batch_norm", batch_training),
    ("batch_norm_backward", batch_training_gradient),
    ("batch_norm_inference", batch_inference),
    ("batch_norm_inference_backward", batch_inference_gradient),
    ("group_norm", group),
    ("group_norm_backward", group_gradient),
    ("layer_norm", layer),
    ("layer_norm_backward", layer_gradient),
    ("rms_norm", root_mean_square),
    ("rms_norm_backward", root_mean_square_gradient),
    ("filter_response_norm", filter_response),
    ("filter_response_norm_backward", filter_response_gradient),
];

/// The next arguments: `batch, positions, channels`.
pub(super) fn shape(arguments: &mut Arguments) -> Outcome<Shape> {
    Ok(Shape {
        batch: arguments.usize()?,
        positions: arguments.usize()?,
        channels: arguments.usize()?,
    })
}

/// The next arguments: `activation, activationFirst, activationSecond`.
pub(super) fn activation(arguments: &mut Arguments) -> Outcome<Activation> {
    Ok(Activation::from_code(
        arguments.usize()?,
        arguments.f32()?,
        arguments.f32()?,
    )?)
}

/// The next arguments: `gamma?, beta?`.
#[derive(Clone, Copy)]
pub(super) struct AffineSlots([Option<usize>; 2]);

impl AffineSlots {
    pub(super) fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(AffineSlots([
            arguments.optional_slot()?,
            arguments.optional_slot()?,
        ]))
    }

    pub(super) fn get<'a>(&self, heap: &'a Heap) -> Outcome<Affine<'a>> {
        Ok(Affine {
            gamma: heap.optional_f32(self.0[0])?,
            beta: heap.optional_f32(self.0[1])?,
        })
    }
}

/// The gradients that a backward command wants, in the order of its outputs.
pub(super) struct Wanted<const N: usize>([Option<Buffer>; N]);

impl<const N: usize> Wanted<N> {
    /// Reads a truth value for each gradient and allocates those of `lengths` that are wanted.
    pub(super) fn read(
        heap: &Heap,
        arguments: &mut Arguments,
        lengths: [usize; N],
    ) -> Outcome<Self> {
        let mut buffers = [const { None }; N];
        for (buffer, length) in buffers.iter_mut().zip(lengths) {
            if arguments.bool()? {
                *buffer = Some(heap.allocate_f32(length)?);
            }
        }
        Ok(Wanted(buffers))
    }

    pub(super) fn get(&mut self) -> Outcome<[Option<&mut [f32]>; N]> {
        let mut slices = [const { None }; N];
        for (slice, buffer) in slices.iter_mut().zip(&mut self.0) {
            *slice = buffer.as_mut().map(Buffer::f32_mut).transpose()?;
        }
        Ok(slices)
    }

    pub(super) fn put(self, heap: &mut Heap, arguments: &Arguments) -> Outcome {
        for (index, buffer) in self.0.into_iter().flatten().enumerate() {
            heap.put(arguments.output(index)?, buffer);
        }
        Ok(())
    }
}

/// Lends the running mean and the running variance to `normalize`, which moves them, where the layer has them.
pub(super) fn with_running_statistics(
    heap: &mut Heap,
    running: (Option<usize>, Option<usize>),
    mut normalize: impl FnMut(&Heap, Option<[&mut [f32]; 2]>) -> Outcome,
) -> Outcome {
    match running {
        (Some(mean), Some(variance)) => heap.update([mean, variance], |heap, [mean, variance]| {
            normalize(heap, Some([mean.f32_mut()?, variance.f32_mut()?]))
        }),
        (None, None) => normalize(heap, None),
        _ => Err(Failure::internal("half of the running statistics")),
    }
}

/// `[output, saved] batch_norm(input, gamma?, beta?, residual?, runningMean?, runningVariance?, batch, positions, channels,
/// epsilon, momentum, activation …)`.
fn batch_training(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let residual = arguments.optional_slot()?;
    let running = (arguments.optional_slot()?, arguments.optional_slot()?);
    let shape = shape(arguments)?;
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * shape.channels)?;
    let (output_values, saved_values) = (output.f32_mut()?, saved.f32_mut()?);
    with_running_statistics(heap, running, |heap, running| {
        let running = running.map(|[mean, variance]| RunningStatistics {
            mean,
            variance,
            momentum,
        });
        let norm = BatchNorm {
            shape,
            x: heap.f32(input)?,
            affine: affine.get(heap)?,
            residual: heap.optional_f32(residual)?,
            activation,
        };
        Ok(batch::forward_training(
            norm,
            epsilon,
            running,
            output_values,
            saved_values,
        )?)
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta, residual] batch_norm_backward(outputGradient, input, gamma?, beta?, residual?, saved, batch,
/// positions, channels, activation …, wants …)`.
fn batch_training_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let (residual, saved) = (arguments.optional_slot()?, arguments.slot()?);
    let shape = shape(arguments)?;
    let activation = activation(arguments)?;
    let (elements, channels) = (shape.elements()?, shape.channels);
    let mut wanted = Wanted::read(heap, arguments, [elements, channels, channels, elements])?;
    let [dx, dgamma, dbeta, dresidual] = wanted.get()?;
    let norm = BatchNorm {
        shape,
        x: heap.f32(input)?,
        affine: affine.get(heap)?,
        residual: heap.optional_f32(residual)?,
        activation,
    };
    batch::backward_training(
        norm,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
        dresidual,
    )?;
    wanted.put(heap, arguments)
}

/// `[output] batch_norm_inference(input, gamma?, beta?, residual?, runningMean, runningVariance, batch, positions, channels,
/// epsilon, activation …)`.
fn batch_inference(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let residual = arguments.optional_slot()?;
    let (mean, variance) = (arguments.slot()?, arguments.slot()?);
    let shape = shape(arguments)?;
    let epsilon = arguments.f32()?;
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let norm = BatchNorm {
        shape,
        x: heap.f32(input)?,
        affine: affine.get(heap)?,
        residual: heap.optional_f32(residual)?,
        activation,
    };
    let (mean, variance) = (heap.f32(mean)?, heap.f32(variance)?);
    batch::forward_inference(norm, mean, variance, epsilon, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradients of input, gamma, beta, residual] batch_norm_inference_backward(outputGradient, input, gamma?, beta?, residual?,
/// runningMean, runningVariance, batch, positions, channels, epsilon, activation …, wants …)`.
fn batch_inference_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let residual = arguments.optional_slot()?;
    let (mean, variance) = (arguments.slot()?, arguments.slot()?);
    let shape = shape(arguments)?;
    let epsilon = arguments.f32()?;
    let activation = activation(arguments)?;
    let (elements, channels) = (shape.elements()?, shape.channels);
    let mut wanted = Wanted::read(heap, arguments, [elements, channels, channels, elements])?;
    let [dx, dgamma, dbeta, dresidual] = wanted.get()?;
    let norm = BatchNorm {
        shape,
        x: heap.f32(input)?,
        affine: affine.get(heap)?,
        residual: heap.optional_f32(residual)?,
        activation,
    };
    batch::backward_inference(
        norm,
        heap.f32(mean)?,
        heap.f32(variance)?,
        epsilon,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
        dresidual,
    )?;
    wanted.put(heap, arguments)
}

/// `[output, saved] group_norm(input, gamma?, beta?, batch, positions, channels, groups, epsilon, activation …)`.
fn group(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let shape = shape(arguments)?;
    let groups = arguments.usize()?;
    let epsilon = arguments.f32()?;
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * shape.batch * groups)?;
    group::forward(
        shape,
        groups,
        heap.f32(input)?,
        affine.get(heap)?,
        epsilon,
        activation,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta] group_norm_backward(outputGradient, input, gamma?, beta?, saved, batch, positions, channels,
/// groups, activation …, wants …)`.
fn group_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let saved = arguments.slot()?;
    let shape = shape(arguments)?;
    let groups = arguments.usize()?;
    let activation = activation(arguments)?;
    let lengths = [shape.elements()?, shape.channels, shape.channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta] = wanted.get()?;
    group::backward(
        shape,
        groups,
        heap.f32(input)?,
        affine.get(heap)?,
        activation,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
    )?;
    wanted.put(heap, arguments)
}

/// `[output, saved] layer_norm(input, gamma?, beta?, batch, positions, channels, epsilon, activation …)`, over the channels.
fn layer(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let shape = shape(arguments)?;
    let epsilon = arguments.f32()?;
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * shape.batch * shape.positions)?;
    layer_channels::forward(
        shape,
        heap.f32(input)?,
        affine.get(heap)?,
        epsilon,
        activation,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta] layer_norm_backward(outputGradient, input, gamma?, beta?, saved, batch, positions, channels,
/// activation …, wants …)`.
fn layer_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let saved = arguments.slot()?;
    let shape = shape(arguments)?;
    let activation = activation(arguments)?;
    let lengths = [shape.elements()?, shape.channels, shape.channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta] = wanted.get()?;
    layer_channels::backward(
        shape,
        heap.f32(input)?,
        affine.get(heap)?,
        activation,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
    )?;
    wanted.put(heap, arguments)
}

/// `[output, saved] rms_norm(input, gamma?, batch, positions, channels, epsilon, activation …)`.
fn root_mean_square(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (input, gamma) = (arguments.slot()?, arguments.optional_slot()?);
    let shape = shape(arguments)?;
    let epsilon = arguments.f32()?;
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(shape.batch * shape.positions)?;
    rms::forward(
        shape,
        heap.f32(input)?,
        heap.optional_f32(gamma)?,
        epsilon,
        activation,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma] rms_norm_backward(outputGradient, input, gamma?, saved, batch, positions, channels, activation …,
/// wants …)`.
fn root_mean_square_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let (gamma, saved) = (arguments.optional_slot()?, arguments.slot()?);
    let shape = shape(arguments)?;
    let activation = activation(arguments)?;
    let mut wanted = Wanted::read(heap, arguments, [shape.elements()?, shape.channels])?;
    let [dx, dgamma] = wanted.get()?;
    rms::backward(
        shape,
        heap.f32(input)?,
        heap.optional_f32(gamma)?,
        activation,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        dx,
        dgamma,
    )?;
    wanted.put(heap, arguments)
}

/// What the two commands of a filter response norm read after their tensors.
struct FilterResponse {
    input: usize,
    affine: AffineSlots,
    tau: Option<usize>,
    learned: Option<usize>,
    saved: Option<usize>,
    shape: Shape,
    fixed: f32,
    form: EpsilonForm,
    activation: Activation,
}

impl FilterResponse {
    /// `input, gamma?, beta?, tau?, learnedEpsilon?, saved (backward only), batch, positions, channels, epsilon, exponential,
    /// activation …`.
    pub(super) fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(FilterResponse {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            tau: arguments.optional_slot()?,
            learned: arguments.optional_slot()?,
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
            shape: shape(arguments)?,
            fixed: arguments.f32()?,
            form: if arguments.bool()? {
                EpsilonForm::Exponential
            } else {
                EpsilonForm::Absolute
            },
            activation: activation(arguments)?,
        })
    }

    pub(super) fn get<'a>(&self, heap: &'a Heap) -> Outcome<FilterResponseNorm<'a>> {
        let learned = match heap.optional_f32(self.learned)? {
            None => None,
            Some([number]) => Some((self.form, *number)),
            Some(_) => return Err(Failure::internal("a learned epsilon is one number")),
        };
        Ok(FilterResponseNorm {
            shape: self.shape,
            x: heap.f32(self.input)?,
            affine: self.affine.get(heap)?,
            epsilon: Epsilon {
                fixed: self.fixed,
                learned,
            },
            ending: match heap.optional_f32(self.tau)? {
                Some(tau) => Ending::Threshold(tau),
                None => Ending::Function(self.activation),
            },
        })
    }
}

/// `[output, saved] filter_response_norm(…)` with the arguments of [`FilterResponse::read`].
fn filter_response(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = FilterResponse::read(arguments, false)?;
    let shape = norm.shape;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(shape.batch * shape.channels)?;
    filter_response::forward(norm.get(heap)?, output.f32_mut()?, saved.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta, tau, learnedEpsilon] filter_response_norm_backward(outputGradient, …, wants …)` with the
/// arguments of [`FilterResponse::read`].
fn filter_response_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = FilterResponse::read(arguments, true)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels, channels, 1];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta, dtau, depsilon] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    let gradients = FilterResponseGradients {
        dx,
        dgamma,
        dbeta,
        dtau,
        depsilon: depsilon.and_then(|values| values.first_mut()),
    };
    filter_response::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        gradients,
    )?;
    wanted.put(heap, arguments)
}
