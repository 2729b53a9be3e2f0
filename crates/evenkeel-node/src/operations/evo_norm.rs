//! EvoNorm-S0 and EvoNorm-B0.

use super::Family;
use super::normalization::{AffineSlots, Wanted, shape};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::norm::Shape;
use evenkeel_kernels::norm::evo::{self, EvoNormGradients, EvoNormS0};
use evenkeel_kernels::norm::evo_batch::{self, EvoNormB0, RunningVariance, saved_length};

pub const OPERATIONS: Family = &[
    ("evo_norm_s0", forward),
    ("evo_norm_s0_backward", backward),
    ("evo_norm_b0", batch_forward),
    ("evo_norm_b0_backward", batch_backward),
];

/// `input, slope, gamma?, beta?, saved (backward only), batch, positions, channels, groups`.
struct NormArguments {
    input: usize,
    slope: usize,
    affine: AffineSlots,
    saved: Option<usize>,
    shape: Shape,
    groups: usize,
}

impl NormArguments {
    fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            slope: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
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

/// `[output, saved] evo_norm_s0(…, epsilon)` with the arguments of [`NormArguments::read`] in front.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments, false)?;
    let epsilon = arguments.f32()?;
    let mut output = heap.allocate_f32(norm.shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * norm.shape.batch * norm.groups)?;
    evo::forward(
        norm.get(heap)?,
        epsilon,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, slope, gamma, beta] evo_norm_s0_backward(outputGradient, …, wants …)` with the arguments of
/// [`NormArguments::read`].
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = NormArguments::read(arguments, true)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels, channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dslope, dgamma, dbeta] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    let gradients = EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    };
    evo::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        gradients,
    )?;
    wanted.put(heap, arguments)
}

/// `input, slope, gamma?, beta?, given? (a variance, in evaluation), saved (backward only), batch, positions, channels, epsilon`.
struct BatchArguments {
    input: usize,
    slope: usize,
    affine: AffineSlots,
    given: Option<usize>,
    saved: Option<usize>,
    shape: Shape,
    epsilon: f32,
}

impl BatchArguments {
    fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(BatchArguments {
            input: arguments.slot()?,
            slope: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            given: arguments.optional_slot()?,
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
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

/// `[output, saved] evo_norm_b0(…, runningVariance?, momentum)` with the arguments of [`BatchArguments::read`] in front.
fn batch_forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = BatchArguments::read(arguments, false)?;
    let (running, momentum) = (arguments.optional_slot()?, arguments.f32()?);
    let mut output = heap.allocate_f32(norm.shape.elements()?)?;
    let mut saved = heap.allocate_f32(saved_length(norm.shape))?;
    let (output_values, saved_values) = (output.f32_mut()?, saved.f32_mut()?);
    match running {
        None => evo_batch::forward(norm.get(heap)?, None, output_values, saved_values)?,
        Some(running) => heap.update([running], |heap, [variance]| {
            let running = RunningVariance {
                variance: variance.f32_mut()?,
                momentum,
            };
            let norm = norm.get(heap)?;
            Ok(evo_batch::forward(
                norm,
                Some(running),
                output_values,
                saved_values,
            )?)
        })?,
    }
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, slope, gamma, beta] evo_norm_b0_backward(outputGradient, …, wants …)` with the arguments of
/// [`BatchArguments::read`].
fn batch_backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = BatchArguments::read(arguments, true)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels, channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dslope, dgamma, dbeta] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    let gradients = EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    };
    evo_batch::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        gradients,
    )?;
    wanted.put(heap, arguments)
}
