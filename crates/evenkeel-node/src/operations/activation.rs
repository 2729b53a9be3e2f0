//! Activation functions.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::activation::{
    Activation, activation_backward, activation_forward, prelu_backward, prelu_forward,
};

pub const OPERATIONS: Family = &[
    ("activation", forward),
    ("activation_backward", backward),
    ("prelu", prelu),
    ("prelu_backward", prelu_gradient),
];

pub const CUTS: Cuts = &[
    ("activation", Cut::Images(cut_forward)),
    ("activation_backward", Cut::Images(cut_backward)),
];

fn function(arguments: &mut Arguments) -> Outcome<Activation> {
    Ok(Activation::from_code(
        arguments.usize()?,
        arguments.f32()?,
        arguments.f32()?,
    )?)
}

/// `[output] activation(input, function, first, second)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let function = function(arguments)?;
    let mut output = heap.output_f32(arguments.output(0)?, input.len())?;
    activation_forward(function, input, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] activation_backward(input, outputGradient, function, first, second)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let function = function(arguments)?;
    let mut output = heap.output_f32(arguments.output(0)?, input.len())?;
    activation_backward(function, input, gradient, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] prelu(input, slope, channels)`.
fn prelu(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let slope = heap.f32(arguments.slot()?)?;
    let channels = arguments.usize()?;
    let mut output = heap.output_f32(arguments.output(0)?, input.len())?;
    prelu_forward(input, slope, channels, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient, slopeGradient] prelu_backward(input, slope, outputGradient, channels)`.
fn prelu_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let slope = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let channels = arguments.usize()?;
    let mut input_gradient = heap.output_f32(arguments.output(0)?, input.len())?;
    let mut slope_gradient = heap.output_f32(arguments.output(1)?, slope.len())?;
    prelu_backward(
        input,
        slope,
        channels,
        gradient,
        input_gradient.f32_mut()?,
        slope_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    heap.put(arguments.output(1)?, slope_gradient);
    Ok(())
}

fn cut_forward(cutter: &mut Cutter) -> Outcome {
    cutter.element_by_element(1)?;
    function(cutter.arguments())?;
    Ok(())
}

fn cut_backward(cutter: &mut Cutter) -> Outcome {
    cutter.element_by_element(2)?;
    function(cutter.arguments())?;
    Ok(())
}
