//! Methods in front of a weight layer, or on its gradient: the Independent-Component layer and preconditioning.

use super::Family;
use super::normalization_arguments::{
    AffineSlots, Passed, fill_wanted, shape, with_running_statistics,
};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::norm::AffineGradients;
use evenkeel_kernels::norm::batch::RunningStatistics;
use evenkeel_kernels::norm::independent::{self, IndependentComponent, mask_bytes};
use evenkeel_kernels::norm::preconditioning::{
    Preconditioning, merge_statistics, move_statistics, precondition,
};
use evenkeel_kernels::random::Generator;

pub const OPERATIONS: Family = &[
    ("independent_component", forward),
    ("independent_component_backward", backward),
    ("merge_statistics", merge),
    ("move_statistics", advance),
    ("precondition", precondition_gradients),
];

/// `[output, saved, kept: uint8] independent_component(input, gamma?, beta?, runningMean?, runningVariance?, batch, positions, channels,
/// epsilon, momentum, rate, seed, sequence)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let running = [arguments.optional_slot()?, arguments.optional_slot()?];
    let shape = shape(arguments)?;
    let (epsilon, momentum, rate) = (arguments.f32()?, arguments.f32()?, arguments.f32()?);
    let generator = Generator {
        seed: arguments.usize()? as u64,
        sequence: arguments.usize()? as u64,
    };
    let elements = shape.elements()?;
    let mut output = heap.allocate_f32(elements)?;
    let mut saved = heap.allocate_f32(3 * shape.channels)?;
    let mut kept = heap.allocate(DType::Uint8, mask_bytes(elements))?;
    let (output_values, saved_values) = (output.f32_mut()?, saved.f32_mut()?);
    let kept_bits = kept.u8_mut()?;
    with_running_statistics(heap, running, |heap, running| {
        let running = running.map(|[mean, variance]| RunningStatistics {
            mean,
            variance,
            momentum,
        });
        let layer = IndependentComponent {
            shape,
            x: heap.f32(input)?,
            affine: affine.get(heap)?,
            rate,
        };
        Ok(independent::forward(
            layer,
            epsilon,
            generator,
            running,
            output_values,
            saved_values,
            kept_bits,
        )?)
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    heap.put(arguments.output(2)?, kept);
    Ok(())
}

/// `[gradients of input, gamma, beta] independent_component_backward(…Passed, kept, input, gamma?, beta?, batch, positions, channels,
/// rate, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let (kept, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let shape = shape(arguments)?;
    let rate = arguments.f32()?;
    let lengths = [shape.elements()?, shape.channels, shape.channels];
    fill_wanted(heap, arguments, lengths, |heap, [dx, dgamma, dbeta]| {
        let layer = IndependentComponent {
            shape,
            x: heap.f32(input)?,
            affine: affine.get(heap)?,
            rate,
        };
        Ok(independent::backward(
            layer,
            passed.saved(heap)?,
            heap.get(kept)?.u8()?,
            passed.gradient(heap)?,
            AffineGradients { dx, dgamma, dbeta },
        )?)
    })
}

/// `merge_statistics(input, mean, variance, count)`: mean and variance are updated in place.
fn merge(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let slots = [arguments.slot()?, arguments.slot()?];
    let count = arguments.usize()?;
    heap.update(slots, |heap, [mean, variance]| {
        let (mean, variance) = (mean.f32_mut()?, variance.f32_mut()?);
        Ok(merge_statistics(heap.f32(input)?, count, mean, variance)?)
    })
}

/// `move_statistics(batchMean, batchVariance, mean, variance, keep, pooled)`: mean and variance are updated in place.
fn advance(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (batch_mean, batch_variance) = (arguments.slot()?, arguments.slot()?);
    let slots = [arguments.slot()?, arguments.slot()?];
    let (keep, pooled) = (arguments.f64()?, arguments.bool()?);
    heap.update(slots, |heap, [mean, variance]| {
        Ok(move_statistics(
            heap.f32(batch_mean)?,
            heap.f32(batch_variance)?,
            keep,
            pooled,
            mean.f32_mut()?,
            variance.f32_mut()?,
        )?)
    })
}

/// `precondition(weightGradient, biasGradient?, mean, variance, outputs, channelGroups, relative, absolute, scale)`: the gradients are
/// changed in place.
fn precondition_gradients(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, bias) = (arguments.slot()?, arguments.optional_slot()?);
    let (mean, variance) = (arguments.slot()?, arguments.slot()?);
    let (outputs, channel_groups) = (arguments.usize()?, arguments.usize()?);
    let options = Preconditioning {
        channel_groups,
        relative: arguments.f64()?,
        absolute: arguments.f64()?,
        scale: arguments.f64()?,
    };
    let run = |heap: &Heap, weight: &mut [f32], bias: Option<&mut [f32]>| -> Outcome {
        let (mean, variance) = (heap.f32(mean)?, heap.f32(variance)?);
        Ok(precondition(
            options, mean, variance, weight, bias, outputs,
        )?)
    };
    match bias {
        Some(bias) => heap.update([weight, bias], |heap, [weight, bias]| {
            run(heap, weight.f32_mut()?, Some(bias.f32_mut()?))
        }),
        None => heap.update([weight], |heap, [weight]| {
            run(heap, weight.f32_mut()?, None)
        }),
    }
}
