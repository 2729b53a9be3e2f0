//! RPReLU, the activation of binary networks.

use super::Family;
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::binary::rprelu::{Rprelu, RpreluGradients, rprelu_backward, rprelu_forward};

pub const OPERATIONS: Family = &[("rprelu", forward), ("rprelu_backward", backward)];

/// `[output] rprelu(x, shiftIn, slope, shiftOut)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let x = heap.f32(arguments.slot()?)?;
    let parameters = Rprelu {
        shift_in: heap.f32(arguments.slot()?)?,
        slope: heap.f32(arguments.slot()?)?,
        shift_out: heap.f32(arguments.slot()?)?,
    };
    let mut output = heap.allocate_f32(x.len())?;
    rprelu_forward(x, parameters, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient, shiftInGradient, slopeGradient, shiftOutGradient] rprelu_backward(gradient, x, shiftIn, slope, shiftOut)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = heap.f32(arguments.slot()?)?;
    let x = heap.f32(arguments.slot()?)?;
    let parameters = Rprelu {
        shift_in: heap.f32(arguments.slot()?)?,
        slope: heap.f32(arguments.slot()?)?,
        shift_out: heap.f32(arguments.slot()?)?,
    };
    let channels = parameters.slope.len();
    let mut input_gradient = heap.allocate_f32(x.len())?;
    let mut shift_in = heap.allocate_f32(channels)?;
    let mut slope = heap.allocate_f32(channels)?;
    let mut shift_out = heap.allocate_f32(channels)?;
    rprelu_backward(
        x,
        parameters,
        gradient,
        input_gradient.f32_mut()?,
        RpreluGradients {
            shift_in: shift_in.f32_mut()?,
            slope: slope.f32_mut()?,
            shift_out: shift_out.f32_mut()?,
        },
    )?;
    let outputs = [input_gradient, shift_in, slope, shift_out];
    for (index, output) in outputs.into_iter().enumerate() {
        heap.put(arguments.output(index)?, output);
    }
    Ok(())
}
