//! Optimizer steps: weights and state are updated in place.
//!
//! Every step begins with `(weight, gradient, …state, gradientScale, learningRate, weightDecay, …)`.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::Buffer;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::binary::clipping::clip_units;
use evenkeel_kernels::optimizer::{
    Adam, Bop, RmsProp, RmsPropState, Sgd, adam_step, bop_step, clip_scale,
    exponential_moving_average_step, rms_prop_step, scale_in_place, sgd_step, sum_of_squares,
};

pub const OPERATIONS: Family = &[
    ("sgd_step", sgd),
    ("adam_step", adam),
    ("rms_prop_step", rms_prop),
    ("bop_step", bop),
    ("moving_average_step", moving_average),
    ("swap", swap),
    ("global_norm", global_norm),
    ("clip_by_global_norm", clip_by_global_norm),
    ("clip_units", clip_each_unit),
];

/// `sgd_step(weight, gradient, velocity?, gradientScale, learningRate, weightDecay, momentum, nesterov)`.
fn sgd(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, gradient) = (arguments.slot()?, arguments.slot()?);
    let velocity = arguments.optional_slot()?;
    let gradient_scale = arguments.f32()?;
    let learning_rate = arguments.f64()?;
    let weight_decay = arguments.f64()?;
    let options = Sgd {
        learning_rate,
        momentum: arguments.f64()?,
        nesterov: arguments.bool()?,
        weight_decay,
        gradient_scale,
    };
    match velocity {
        Some(velocity) => heap.update([weight, velocity], |heap, [weight, velocity]| {
            let (weight, velocity) = (weight.f32_mut()?, velocity.f32_mut()?);
            Ok(sgd_step(
                &options,
                weight,
                heap.f32(gradient)?,
                Some(velocity),
            )?)
        }),
        None => heap.update([weight], |heap, [weight]| {
            Ok(sgd_step(
                &options,
                weight.f32_mut()?,
                heap.f32(gradient)?,
                None,
            )?)
        }),
    }
}

/// `adam_step(weight, gradient, firstMoment, secondMoment, gradientScale, learningRate, weightDecay, beta1, beta2, epsilon,
/// decoupled, step)`.
fn adam(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, gradient) = (arguments.slot()?, arguments.slot()?);
    let (first, second) = (arguments.slot()?, arguments.slot()?);
    let gradient_scale = arguments.f32()?;
    let learning_rate = arguments.f64()?;
    let weight_decay = arguments.f64()?;
    let options = Adam {
        learning_rate,
        betas: [arguments.f64()?, arguments.f64()?],
        epsilon: arguments.f64()?,
        weight_decay,
        decoupled: arguments.bool()?,
        gradient_scale,
    };
    let step = arguments.usize()? as u64;
    heap.update([weight, first, second], |heap, [weight, first, second]| {
        Ok(adam_step(
            &options,
            step,
            weight.f32_mut()?,
            heap.f32(gradient)?,
            first.f32_mut()?,
            second.f32_mut()?,
        )?)
    })
}

/// `rms_prop_step(weight, gradient, meanSquare, velocity?, mean?, gradientScale, learningRate, weightDecay, smoothing, epsilon,
/// momentum)`.
fn rms_prop(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, gradient) = (arguments.slot()?, arguments.slot()?);
    let mean_square = arguments.slot()?;
    let (velocity, mean) = (arguments.optional_slot()?, arguments.optional_slot()?);
    let gradient_scale = arguments.f32()?;
    let learning_rate = arguments.f64()?;
    let weight_decay = arguments.f64()?;
    let options = RmsProp {
        learning_rate,
        smoothing: arguments.f64()?,
        epsilon: arguments.f64()?,
        momentum: arguments.f64()?,
        weight_decay,
        gradient_scale,
    };
    let step = |heap: &Heap,
                weight: &mut Buffer,
                mean_square: &mut Buffer,
                velocity: Option<&mut Buffer>,
                mean: Option<&mut Buffer>|
     -> Outcome {
        let state = RmsPropState {
            mean_square: mean_square.f32_mut()?,
            velocity: velocity.map(Buffer::f32_mut).transpose()?,
            mean: mean.map(Buffer::f32_mut).transpose()?,
        };
        Ok(rms_prop_step(
            &options,
            weight.f32_mut()?,
            heap.f32(gradient)?,
            state,
        )?)
    };
    match (velocity, mean) {
        (None, None) => heap.update([weight, mean_square], |heap, [w, q]| {
            step(heap, w, q, None, None)
        }),
        (Some(velocity), None) => heap
            .update([weight, mean_square, velocity], |heap, [w, q, v]| {
                step(heap, w, q, Some(v), None)
            }),
        (None, Some(mean)) => heap.update([weight, mean_square, mean], |heap, [w, q, m]| {
            step(heap, w, q, None, Some(m))
        }),
        (Some(velocity), Some(mean)) => heap.update(
            [weight, mean_square, velocity, mean],
            |heap, [w, q, v, m]| step(heap, w, q, Some(v), Some(m)),
        ),
    }
}

/// `bop_step(weight, gradient, average, gradientScale, adaptivity, threshold)`.
fn bop(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (weight, gradient) = (arguments.slot()?, arguments.slot()?);
    let average = arguments.slot()?;
    let gradient_scale = arguments.f32()?;
    let options = Bop {
        adaptivity: arguments.f64()?,
        threshold: arguments.f64()?,
        gradient_scale,
    };
    heap.update([weight, average], |heap, [weight, average]| {
        let gradient = heap.f32(gradient)?;
        Ok(bop_step(
            &options,
            weight.f32_mut()?,
            gradient,
            average.f32_mut()?,
        )?)
    })
}

/// `moving_average_step(average, value, decay)`.
fn moving_average(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (average, value) = (arguments.slot()?, arguments.slot()?);
    let decay = arguments.f64()?;
    heap.update([average], |heap, [average]| {
        Ok(exponential_moving_average_step(
            average.f32_mut()?,
            heap.f32(value)?,
            decay,
        )?)
    })
}

/// `swap(a, b)`: exchanges the values of two tensors.
fn swap(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let slots = [arguments.slot()?, arguments.slot()?];
    heap.update(slots, |_, [a, b]| {
        let (a, b) = (a.f32_mut()?, b.f32_mut()?);
        evenkeel_kernels::error::check_length("b", b.len(), a.len())?;
        a.swap_with_slice(b);
        Ok(())
    })
}

/// The norm over the tensors in the next arguments, `count, slot …`, and their slots.
fn norm_of_all(heap: &Heap, arguments: &mut Arguments) -> Outcome<(f64, Vec<usize>)> {
    let count = arguments.usize()?;
    let mut slots = Vec::new();
    let mut squares = 0.0;
    for _ in 0..count {
        let slot = arguments.slot()?;
        squares += sum_of_squares(heap.f32(slot)?);
        slots.push(slot);
    }
    Ok((squares.sqrt(), slots))
}

fn put_number(heap: &mut Heap, slot: usize, value: f64) -> Outcome {
    let mut buffer = heap.allocate_f32(1)?;
    buffer.f32_mut()?[0] = value as f32;
    heap.put(slot, buffer);
    Ok(())
}

/// `[norm] global_norm(count, tensor …)`.
fn global_norm(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (norm, _) = norm_of_all(heap, arguments)?;
    put_number(heap, arguments.output(0)?, norm)
}

/// `[norm] clip_by_global_norm(maxNorm, count, tensor …)`: the norm before clipping.
fn clip_by_global_norm(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let max_norm = arguments.f64()?;
    let (norm, slots) = norm_of_all(heap, arguments)?;
    let scale = clip_scale(norm, max_norm);
    if scale != 1.0 {
        for slot in slots {
            heap.update([slot], |_, [gradient]| {
                scale_in_place(gradient.f32_mut()?, scale);
                Ok(())
            })?;
        }
    }
    put_number(heap, arguments.output(0)?, norm)
}

/// `clip_units(gradient, weight, units, clipping, epsilon)`: the gradient is clipped in place.
fn clip_each_unit(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, weight) = (arguments.slot()?, arguments.slot()?);
    let units = arguments.usize()?;
    let (clipping, epsilon) = (arguments.f64()?, arguments.f64()?);
    heap.update([gradient], |heap, [gradient]| {
        let weight = heap.f32(weight)?;
        Ok(clip_units(
            weight,
            gradient.f32_mut()?,
            units,
            clipping,
            epsilon,
        )?)
    })
}
