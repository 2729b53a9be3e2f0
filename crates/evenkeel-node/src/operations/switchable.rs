//! Switchable normalization, with the activation fused.

use super::Family;
use super::normalization_arguments::{
    AffineSlots, Passed, activation, fill, fill_wanted, shape, with_running_statistics,
};
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

/// `input, gamma?, beta?, meanLogits, varianceLogits, givenMean?, givenVariance? (in evaluation), batch, positions, channels, epsilon,
/// activation …`.
struct NormArguments {
    input: usize,
    affine: AffineSlots,
    logits: [usize; 2],
    given: [Option<usize>; 2],
    shape: Shape,
    epsilon: f32,
    activation: Activation,
}

impl NormArguments {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            logits: [arguments.slot()?, arguments.slot()?],
            given: [arguments.optional_slot()?, arguments.optional_slot()?],
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

/// `[output, saved] switchable_norm(…NormArguments, runningMean?, runningVariance?, momentum)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments)?;
    let running = [arguments.optional_slot()?, arguments.optional_slot()?];
    let momentum = arguments.f32()?;
    let shape = norm.shape;
    let lengths = [shape.elements()?, SAVED * shape.batch * shape.channels];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        with_running_statistics(heap, running, |heap, running| {
            let running = running.map(|[mean, variance]| RunningStatistics {
                mean,
                variance,
                momentum,
            });
            Ok(switchable::forward(norm.get(heap)?, running, y, saved)?)
        })
    })
}

/// `[gradients of input, gamma, beta, meanLogits, varianceLogits] switchable_norm_backward(…Passed, …NormArguments, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = NormArguments::read(arguments)?;
    let channels = norm.shape.channels;
    let logits = heap.f32(norm.logits[0])?.len();
    let lengths = [norm.shape.elements()?, channels, channels, logits, logits];
    fill_wanted(heap, arguments, lengths, |heap, gradients| {
        let [dx, dgamma, dbeta, means, variances] = gradients;
        Ok(switchable::backward(
            norm.get(heap)?,
            passed.saved(heap)?,
            passed.gradient(heap)?,
            AffineGradients { dx, dgamma, dbeta },
            LogitGradients { means, variances },
        )?)
    })
}
