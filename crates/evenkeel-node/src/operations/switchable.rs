//! Switchable normalization, with the activation fused.

use super::Family;
use super::normalization::{AffineSlots, Wanted, activation, shape, with_running_statistics};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::batch::RunningStatistics;
use evenkeel_kernels::norm::switchable::{self, LogitGradients, SAVED, SwitchableNorm};
use evenkeel_kernels::norm::{AffineGradients, Shape};

pub const OPERATIONS: Family = &[
    ("switchable_norm", forward),
    ("switchable_norm_backward", backward),
];

/// What both passes read: `input, gamma?, beta?, meanLogits, varianceLogits, givenMean?, givenVariance? (in evaluation), saved (backward
/// only), batch, positions, channels, epsilon, activation …`.
struct NormArguments {
    input: usize,
    affine: AffineSlots,
    logits: [usize; 2],
    given: [Option<usize>; 2],
    saved: Option<usize>,
    shape: Shape,
    epsilon: f32,
    activation: Activation,
}

impl NormArguments {
    fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            logits: [arguments.slot()?, arguments.slot()?],
            given: [arguments.optional_slot()?, arguments.optional_slot()?],
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
            shape: shape(arguments)?,
            epsilon: arguments.f32()?,
            activation: activation(arguments)?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<SwitchableNorm<'a>> {
        let given = match self.given {
            [Some(mean), Some(variance)] => Some([heap.f32(mean)?, heap.f32(variance)?]),
            [None, None] => None,
            _ => return Err(Failure::internal("half of the given statistics")),
        };
        Ok(SwitchableNorm {
            shape: self.shape,
            x: heap.f32(self.input)?,
            affine: self.affine.get(heap)?,
            mean_logits: heap.f32(self.logits[0])?,
            variance_logits: heap.f32(self.logits[1])?,
            given,
            epsilon: self.epsilon,
            activation: self.activation,
        })
    }
}

/// `[output, saved] switchable_norm(…, runningMean?, runningVariance?, momentum)` with the arguments of [`NormArguments::read`] in
/// front.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments, false)?;
    let running = (arguments.optional_slot()?, arguments.optional_slot()?);
    let momentum = arguments.f32()?;
    let mut output = heap.allocate_f32(norm.shape.elements()?)?;
    let mut saved = heap.allocate_f32(SAVED * norm.shape.batch * norm.shape.channels)?;
    let (output_values, saved_values) = (output.f32_mut()?, saved.f32_mut()?);
    with_running_statistics(heap, running, |heap, running| {
        let running = running.map(|[mean, variance]| RunningStatistics {
            mean,
            variance,
            momentum,
        });
        let norm = norm.get(heap)?;
        Ok(switchable::forward(
            norm,
            running,
            output_values,
            saved_values,
        )?)
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta, meanLogits, varianceLogits] switchable_norm_backward(outputGradient, …, wants …)` with the
/// arguments of [`NormArguments::read`].
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = NormArguments::read(arguments, true)?;
    let channels = norm.shape.channels;
    let logits = heap.f32(norm.logits[0])?.len();
    let lengths = [norm.shape.elements()?, channels, channels, logits, logits];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta, means, variances] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    switchable::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
        LogitGradients { means, variances },
    )?;
    wanted.put(heap, arguments)
}
