//! Online normalization, with the activation fused.

use super::Family;
use super::normalization_arguments::{
    AffineSlots, Passed, activation, fill, fill_wanted, shape, with_running_statistics,
};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::online::{self, OnlineNorm, Running};
use evenkeel_kernels::norm::{AffineGradients, Shape};

pub const OPERATIONS: Family = &[("online_norm", forward), ("online_norm_backward", backward)];

/// `input, gamma?, beta?, batch, positions, channels, epsilon, layerScaling, activation …, first, second, keep`: the last three are the
/// running statistics in the forward command and the control variables in the backward command, and the weight of the old.
struct NormArguments {
    input: usize,
    affine: AffineSlots,
    shape: Shape,
    epsilon: f32,
    layer_scaling: bool,
    activation: Activation,
    running: [usize; 2],
    keep: f64,
}

impl NormArguments {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            shape: shape(arguments)?,
            epsilon: arguments.f32()?,
            layer_scaling: arguments.bool()?,
            activation: activation(arguments)?,
            running: [arguments.slot()?, arguments.slot()?],
            keep: arguments.f64()?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<OnlineNorm<'a>> {
        Ok(OnlineNorm {
            shape: self.shape,
            x: heap.f32(self.input)?,
            affine: self.affine.get(heap)?,
            epsilon: self.epsilon,
            layer_scaling: self.layer_scaling,
            activation: self.activation,
        })
    }

    /// Lends what runs from sample to sample to `normalize`, which moves it.
    fn lend(&self, heap: &mut Heap, normalize: impl FnOnce(&Heap, Running) -> Outcome) -> Outcome {
        with_running_statistics(heap, self.running.map(Some), |heap, running| {
            let [first, second] =
                running.ok_or_else(|| Failure::internal("nothing runs from sample to sample"))?;
            let keep = self.keep;
            normalize(
                heap,
                Running {
                    first,
                    second,
                    keep,
                },
            )
        })
    }
}

/// `[output, saved] online_norm(…NormArguments)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments)?;
    let lengths = [
        norm.shape.elements()?,
        OnlineNorm::saved_length(norm.shape)?,
    ];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        norm.lend(heap, |heap, running| {
            Ok(online::forward(norm.get(heap)?, running, y, saved)?)
        })
    })
}

/// `[gradients of input, gamma, beta] online_norm_backward(…Passed, …NormArguments, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = NormArguments::read(arguments)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels];
    fill_wanted(heap, arguments, lengths, |heap, [dx, dgamma, dbeta]| {
        norm.lend(heap, |heap, controls| {
            Ok(online::backward(
                norm.get(heap)?,
                passed.saved(heap)?,
                passed.gradient(heap)?,
                controls,
                AffineGradients { dx, dgamma, dbeta },
            )?)
        })
    })
}
