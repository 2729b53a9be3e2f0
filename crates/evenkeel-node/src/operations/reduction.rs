//! Reductions over axes.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::error::checked_product;
use evenkeel_kernels::reduce::{
    Reduction, argmax_last_axis, extremum_backward, first_non_finite, reduce, sum_to_shape,
};

pub const OPERATIONS: Family = &[
    ("reduce", reduction),
    ("sum_to_shape", to_shape),
    ("extremum_backward", extremum_gradient),
    ("argmax", argmax),
    ("first_non_finite", non_finite),
];

pub const CUTS: Cuts = &[("sum_to_shape", Cut::Images(cut_to_shape))];

/// `[output] reduce(input, reduction, shape, axes)`.
fn reduction(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let reduction = Reduction::from_code(arguments.usize()?)?;
    let (shape, axes) = (arguments.sizes()?, arguments.sizes()?);
    let mut outputs = 1usize;
    for (axis, &size) in shape.iter().enumerate() {
        if !axes.contains(&axis) {
            outputs = checked_product("reduce", &[outputs, size])?;
        }
    }
    let mut output = heap.output_f32(arguments.output(0)?, outputs)?;
    reduce(reduction, input, &shape, &axes, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] sum_to_shape(input, shape, target)`.
fn to_shape(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let (shape, target) = (arguments.sizes()?, arguments.sizes()?);
    let mut output = heap.output_f32(
        arguments.output(0)?,
        checked_product("sum to shape", &target)?,
    )?;
    sum_to_shape(input, &shape, &target, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] extremum_backward(input, output, outputGradient, shape, axes)`.
fn extremum_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let output = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let (shape, axes) = (arguments.sizes()?, arguments.sizes()?);
    let mut input_gradient = heap.output_f32(arguments.output(0)?, input.len())?;
    extremum_backward(
        input,
        &shape,
        &axes,
        output,
        gradient,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// `[output: int32] argmax(input, rows, columns)`.
fn argmax(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let (rows, columns) = (arguments.usize()?, arguments.usize()?);
    let mut output = heap.output(arguments.output(0)?, DType::Int32, rows)?;
    argmax_last_axis(input, columns, output.i32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output: int32] first_non_finite(input)`: the index of the first NaN or infinity (at most 2^31 - 1), or -1.
fn non_finite(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let found = first_non_finite(input);
    let mut output = heap.output(arguments.output(0)?, DType::Int32, 1)?;
    output.i32_mut()?[0] = found.map_or(-1, |index| i32::try_from(index).unwrap_or(i32::MAX));
    heap.put(arguments.output(0)?, output);
    Ok(())
}

fn cut_to_shape(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let shape = cutter.batch_shape()?;
    let target = cutter.arguments().sizes()?;
    cutter.only_if(target.len() < shape.len() || target.first() == Some(&1));
    cutter.reads(checked_product("sum to shape", &shape)?);
    cutter.sums(checked_product("sum to shape", &target)?);
    Ok(())
}
