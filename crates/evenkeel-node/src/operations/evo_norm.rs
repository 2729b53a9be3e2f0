//! EvoNorm-S0 and EvoNorm-B0.

use super::Family;
use super::normalization_arguments::{AffineSlots, Passed, fill, fill_wanted, shape};
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::norm::Shape;
use evenkeel_kernels::norm::evo::{self, EvoNormGradients, EvoNormS0};
use evenkeel_kernels::norm::evo_batch::{self, EvoNormB0, RunningVariance, saved_length};

pub const OPERATIONS: Family = &[
    ("evo_norm_s0", sample_forward),
    ("evo_norm_s0_backward", sample_backward),
    ("evo_norm_b0", batch_forward),
    ("evo_norm_b0_backward", batch_backward),
];

/// Puts the gradients of input, slope, gamma and beta where both EvoNorms write.
fn gradients([dx, dslope, dgamma, dbeta]: [Option<&mut [f32]>; 4]) -> EvoNormGradients<'_> {
    EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    }
}

/// The lengths of the gradients of input, slope, gamma and beta.
fn lengths(shape: Shape) -> Outcome<[usize; 4]> {
    let channels = shape.channels;
    Ok([shape.elements()?, channels, channels, channels])
}

/// `input, slope, gamma?, beta?, batch, positions, channels, groups`.
struct SampleArguments {
    input: usize,
    slope: usize,
    affine: AffineSlots,
    shape: Shape,
    groups: usize,
}

impl SampleArguments {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(SampleArguments {
            input: arguments.slot()?,
            slope: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            shape: shape(arguments)?,
            groups: arguments.usize()?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<EvoNormS0<'a>> {
        Ok(EvoNormS0 {
            shape: self.shape,
            groups: self.groups,
            x: heap.f32(self.input)?,
            slope: heap.f32(self.slope)?,
            affine: self.affine.get(heap)?,
        })
    }
}

/// `[output, saved] evo_norm_s0(…SampleArguments, epsilon)`.
fn sample_forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = SampleArguments::read(arguments)?;
    let epsilon = arguments.f32()?;
    let lengths = [norm.shape.elements()?, 3 * norm.shape.batch * norm.groups];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        Ok(evo::forward(norm.get(heap)?, epsilon, y, saved)?)
    })
}

/// `[gradients of input, slope, gamma, beta] evo_norm_s0_backward(…Passed, …SampleArguments, wants …)`.
fn sample_backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = SampleArguments::read(arguments)?;
    fill_wanted(heap, arguments, lengths(norm.shape)?, |heap, wanted| {
        let (saved, gradient) = (passed.saved(heap)?, passed.gradient(heap)?);
        Ok(evo::backward(
            norm.get(heap)?,
            saved,
            gradient,
            gradients(wanted),
        )?)
    })
}

/// `input, slope, gamma?, beta?, given? (a variance, in evaluation), batch, positions, channels, epsilon`.
struct BatchArguments {
    input: usize,
    slope: usize,
    affine: AffineSlots,
    given: Option<usize>,
    shape: Shape,
    epsilon: f32,
}

impl BatchArguments {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(BatchArguments {
            input: arguments.slot()?,
            slope: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            given: arguments.optional_slot()?,
            shape: shape(arguments)?,
            epsilon: arguments.f32()?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<EvoNormB0<'a>> {
        Ok(EvoNormB0 {
            shape: self.shape,
            x: heap.f32(self.input)?,
            slope: heap.f32(self.slope)?,
            affine: self.affine.get(heap)?,
            given: heap.optional_f32(self.given)?,
            epsilon: self.epsilon,
        })
    }
}

/// `[output, saved] evo_norm_b0(…BatchArguments, runningVariance?, momentum)`.
fn batch_forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = BatchArguments::read(arguments)?;
    let (running, momentum) = (arguments.optional_slot()?, arguments.f32()?);
    let lengths = [norm.shape.elements()?, saved_length(norm.shape)];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        let Some(running) = running else {
            return Ok(evo_batch::forward(norm.get(heap)?, None, y, saved)?);
        };
        heap.update([running], |heap, [variance]| {
            let running = RunningVariance {
                variance: variance.f32_mut()?,
                momentum,
            };
            Ok(evo_batch::forward(
                norm.get(heap)?,
                Some(running),
                y,
                saved,
            )?)
        })
    })
}

/// `[gradients of input, slope, gamma, beta] evo_norm_b0_backward(…Passed, …BatchArguments, wants …)`.
fn batch_backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = BatchArguments::read(arguments)?;
    fill_wanted(heap, arguments, lengths(norm.shape)?, |heap, wanted| {
        let (saved, gradient) = (passed.saved(heap)?, passed.gradient(heap)?);
        Ok(evo_batch::backward(
            norm.get(heap)?,
            saved,
            gradient,
            gradients(wanted),
        )?)
    })
}
