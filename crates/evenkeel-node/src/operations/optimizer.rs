//! Optimizer steps: weights and state are updated in place.
//!
//! A step is one command for all tensors, `…_step(count, tensor …)`, and either of all or of none. What it reads of each tensor begins with
//! `weight, gradient, …state, gradientScale, learningRate, weightDecay`.

use super::Family;
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::binary::clipping::clip_units;
use evenkeel_kernels::error::KernelError;
use evenkeel_kernels::optimizer::{
    Adam, Bop, RmsProp, RmsPropState, Rule, Sgd, Update, clip_scale, exponential_moving_average,
    scale_in_place, step, sum_of_squares,
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

/// What a step reads of one tensor: slots, and numbers of the optimizer.
struct Tensor<O, const STATES: usize> {
    weight: usize,
    gradient: usize,
    states: [Option<usize>; STATES],
    options: O,
}

impl<O, const STATES: usize> Tensor<O, STATES> {
    fn read(
        arguments: &mut Arguments,
        options: impl FnOnce(&mut Arguments) -> Outcome<O>,
    ) -> Outcome<Self> {
        let (weight, gradient) = (arguments.slot()?, arguments.slot()?);
        let mut states = [None; STATES];
        for state in &mut states {
            *state = arguments.optional_slot()?;
        }
        Ok(Tensor {
            weight,
            gradient,
            states,
            options: options(arguments)?,
        })
    }
}

/// The states of a tensor, as many as it has.
type States<'a, const STATES: usize> = [Option<&'a mut [f32]>; STATES];

/// Reads the numbers of every tensor with `options`, makes its update with `update`, and does all of them.
fn step_all<O, R, const STATES: usize, const KEPT: usize>(
    heap: &mut Heap,
    arguments: &mut Arguments,
    options: impl Fn(&mut Arguments) -> Outcome<O>,
    update: impl for<'a> Fn(
        &O,
        &'a mut [f32],
        &'a [f32],
        States<'a, STATES>,
    ) -> Result<Update<'a, R, KEPT>, KernelError>,
) -> Outcome
where
    R: Rule<KEPT>,
{
    let count = arguments.usize()?;
    let mut tensors = Vec::<Tensor<O, STATES>>::new();
    let mut slots = Vec::new();
    for _ in 0..count {
        let tensor = Tensor::read(arguments, &options)?;
        slots.push(tensor.weight);
        slots.extend(tensor.states.iter().flatten());
        tensors.push(tensor);
    }
    heap.update_all(&slots, |heap, buffers| {
        let mut buffers = buffers.iter_mut();
        let mut next = || match buffers.next() {
            Some(buffer) => buffer.f32_mut(),
            None => Err(Failure::internal("a tensor of a step is missing")),
        };
        let mut updates = Vec::with_capacity(tensors.len());
        for tensor in &tensors {
            let weight = next()?;
            let mut states = [const { None }; STATES];
            for (state, slot) in states.iter_mut().zip(tensor.states) {
                *state = slot.map(|_| next()).transpose()?;
            }
            let gradient = heap.f32(tensor.gradient)?;
            updates.push(update(&tensor.options, weight, gradient, states)?);
        }
        step(&mut updates);
        Ok(())
    })
}

fn lacking(state: &str) -> KernelError {
    KernelError::Invalid(format!("the optimizer's {state} is missing"))
}

/// `sgd_step(count, {weight, gradient, velocity?, gradientScale, learningRate, weightDecay, momentum, nesterov} …)`.
fn sgd(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let options = |arguments: &mut Arguments| {
        Ok(Sgd {
            gradient_scale: arguments.f32()?,
            learning_rate: arguments.f64()?,
            weight_decay: arguments.f64()?,
            momentum: arguments.f64()?,
            nesterov: arguments.bool()?,
        })
    };
    step_all(
        heap,
        arguments,
        options,
        |options, weight, gradient, [velocity]| options.update(weight, gradient, velocity),
    )
}

/// `adam_step(count, {weight, gradient, firstMoment, secondMoment, gradientScale, learningRate, weightDecay, beta1, beta2, epsilon,
/// decoupled, step} …)`.
fn adam(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let options = |arguments: &mut Arguments| {
        let options = Adam {
            gradient_scale: arguments.f32()?,
            learning_rate: arguments.f64()?,
            weight_decay: arguments.f64()?,
            betas: [arguments.f64()?, arguments.f64()?],
            epsilon: arguments.f64()?,
            decoupled: arguments.bool()?,
        };
        Ok((options, arguments.usize()? as u64))
    };
    step_all(
        heap,
        arguments,
        options,
        |(options, step), weight, gradient, states| match states {
            [Some(first), Some(second)] => options.update(*step, weight, gradient, first, second),
            _ => Err(lacking("moments")),
        },
    )
}

/// `rms_prop_step(count, {weight, gradient, meanSquare, velocity?, mean?, gradientScale, learningRate, weightDecay, smoothing, epsilon,
/// momentum} …)`.
fn rms_prop(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let options = |arguments: &mut Arguments| {
        Ok(RmsProp {
            gradient_scale: arguments.f32()?,
            learning_rate: arguments.f64()?,
            weight_decay: arguments.f64()?,
            smoothing: arguments.f64()?,
            epsilon: arguments.f64()?,
            momentum: arguments.f64()?,
        })
    };
    step_all(
        heap,
        arguments,
        options,
        |options, weight, gradient, [mean_square, velocity, mean]| {
            let state = RmsPropState {
                mean_square: mean_square.ok_or_else(|| lacking("mean square"))?,
                velocity,
                mean,
            };
            options.update(weight, gradient, state)
        },
    )
}

/// `bop_step(count, {weight, gradient, average, gradientScale, adaptivity, threshold} …)`.
fn bop(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let options = |arguments: &mut Arguments| {
        Ok(Bop {
            gradient_scale: arguments.f32()?,
            adaptivity: arguments.f64()?,
            threshold: arguments.f64()?,
        })
    };
    step_all(
        heap,
        arguments,
        options,
        |options, weight, gradient, [average]| {
            let average = average.ok_or_else(|| lacking("average"))?;
            options.update(weight, gradient, average)
        },
    )
}

/// `moving_average_step(count, {average, value, decay} …)`.
fn moving_average(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    step_all(
        heap,
        arguments,
        |arguments| arguments.f64(),
        |decay, average, value, []: States<0>| exponential_moving_average(average, value, *decay),
    )
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
