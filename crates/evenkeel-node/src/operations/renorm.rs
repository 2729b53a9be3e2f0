//! Batch renormalization, with the activation fused.

use super::Family;
use super::normalization::{AffineSlots, Wanted, activation, shape};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::norm::AffineGradients;
use evenkeel_kernels::norm::renorm::{self, BatchRenorm, RunningDeviation, SAVED, Schedule};

pub const OPERATIONS: Family = &[
    ("batch_renorm", forward),
    ("batch_renorm_backward", backward),
];

/// `[output, saved] batch_renorm(input, gamma?, beta?, runningMean, runningDeviation, steps, batch, positions, channels, epsilon, momentum,
/// plainSteps, scaleSteps, shiftSteps, maximumScale, maximumShift, activation …)`: the running statistics and the count of steps move.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let moving = [arguments.slot()?, arguments.slot()?, arguments.slot()?];
    let shape = shape(arguments)?;
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let schedule = Schedule {
        plain: arguments.f64()?,
        scale_until: arguments.f64()?,
        shift_until: arguments.f64()?,
        maximum_scale: arguments.f64()?,
        maximum_shift: arguments.f64()?,
    };
    let activation = activation(arguments)?;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut saved = heap.allocate_f32(SAVED * shape.channels)?;
    let (output_values, saved_values) = (output.f32_mut()?, saved.f32_mut()?);
    heap.update(moving, |heap, [mean, deviation, steps]| {
        let [steps] = steps.f32_mut()? else {
            return Err(Failure::internal("the count of steps is one number"));
        };
        let norm = BatchRenorm {
            shape,
            x: heap.f32(input)?,
            affine: affine.get(heap)?,
            activation,
        };
        let running = RunningDeviation {
            mean: mean.f32_mut()?,
            deviation: deviation.f32_mut()?,
            momentum,
        };
        let limits = schedule.limits(f64::from(*steps));
        renorm::forward(norm, epsilon, limits, running, output_values, saved_values)?;
        *steps += 1.0;
        Ok(())
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta] batch_renorm_backward(outputGradient, input, gamma?, beta?, saved, batch, positions, channels,
/// activation …, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let saved = arguments.slot()?;
    let shape = shape(arguments)?;
    let activation = activation(arguments)?;
    let lengths = [shape.elements()?, shape.channels, shape.channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta] = wanted.get()?;
    let norm = BatchRenorm {
        shape,
        x: heap.f32(input)?,
        affine: affine.get(heap)?,
        activation,
    };
    renorm::backward(
        norm,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        AffineGradients { dx, dgamma, dbeta },
    )?;
    wanted.put(heap, arguments)
}
