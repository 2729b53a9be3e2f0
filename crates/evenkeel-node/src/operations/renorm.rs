//! Batch renormalization, with the activation fused.

use super::Family;
use super::normalization_arguments::{Passed, Plain, fill, fill_wanted};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::norm::AffineGradients;
use evenkeel_kernels::norm::renorm::{self, BatchRenorm, RunningDeviation, SAVED, Schedule};

pub const OPERATIONS: Family = &[
    ("batch_renorm", forward),
    ("batch_renorm_backward", backward),
];

/// The norm that the arguments describe.
fn norm<'a>(plain: &Plain, heap: &'a Heap) -> Outcome<BatchRenorm<'a>> {
    Ok(BatchRenorm {
        shape: plain.shape,
        x: plain.input(heap)?,
        affine: plain.affine(heap)?,
        activation: plain.activation,
    })
}

/// `[output, saved] batch_renorm(…Plain, runningMean, runningDeviation, steps, epsilon, momentum, plainSteps, scaleSteps, shiftSteps,
/// maximumScale, maximumShift)`: the running statistics and the count of steps move.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let plain = Plain::read(arguments)?;
    let moving = [arguments.slot()?, arguments.slot()?, arguments.slot()?];
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let schedule = Schedule {
        plain: arguments.f64()?,
        scale_until: arguments.f64()?,
        shift_until: arguments.f64()?,
        maximum_scale: arguments.f64()?,
        maximum_shift: arguments.f64()?,
    };
    let lengths = [plain.shape.elements()?, SAVED * plain.shape.channels];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        heap.update(moving, |heap, [mean, deviation, steps]| {
            let [steps] = steps.f32_mut()? else {
                return Err(Failure::internal("the count of steps is one number"));
            };
            let running = RunningDeviation {
                mean: mean.f32_mut()?,
                deviation: deviation.f32_mut()?,
                momentum,
            };
            let limits = schedule.limits(f64::from(*steps));
            renorm::forward(norm(&plain, heap)?, epsilon, limits, running, y, saved)?;
            *steps += 1.0;
            Ok(())
        })
    })
}

/// `[gradients of input, gamma, beta] batch_renorm_backward(…Passed, …Plain, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let plain = Plain::read(arguments)?;
    let compute = |heap: &mut Heap, [dx, dgamma, dbeta]: [Option<&mut [f32]>; 3]| {
        let gradients = AffineGradients { dx, dgamma, dbeta };
        let (saved, gradient) = (passed.saved(heap)?, passed.gradient(heap)?);
        Ok(renorm::backward(
            norm(&plain, heap)?,
            saved,
            gradient,
            gradients,
        )?)
    };
    fill_wanted(heap, arguments, plain.lengths()?, compute)
}
