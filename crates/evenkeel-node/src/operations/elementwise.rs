//! Arithmetic, comparisons and choices, element by element.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::elementwise::{
    BinaryOperation, Operand, UnaryOperation, add_relu_backward, binary, binary_backward, select,
    unary, unary_backward,
};
use evenkeel_kernels::error::checked_product;

pub const OPERATIONS: Family = &[
    ("unary", one),
    ("unary_backward", one_gradient),
    ("binary", two),
    ("binary_backward", two_gradient),
    ("add_relu_backward", add_relu_gradient),
    ("select", choose),
];

pub const CUTS: Cuts = &[
    ("unary", Cut::Images(cut_one)),
    ("unary_backward", Cut::Images(cut_one_gradient)),
    ("binary", Cut::Images(cut_two)),
    ("binary_backward", Cut::Images(cut_two_gradient)),
    ("add_relu_backward", Cut::Images(cut_add_relu_gradient)),
];

fn unary_operation(arguments: &mut Arguments) -> Outcome<UnaryOperation> {
    Ok(UnaryOperation::from_code(
        arguments.usize()?,
        arguments.f32()?,
        arguments.f32()?,
    )?)
}

/// `[output] unary(input, operation, first, second)`.
fn one(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let operation = unary_operation(arguments)?;
    let mut output = heap.output_f32(arguments.output(0)?, input.len())?;
    unary(operation, input, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] unary_backward(input, outputGradient, operation, first, second)`.
fn one_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let operation = unary_operation(arguments)?;
    let mut output = heap.output_f32(arguments.output(0)?, input.len())?;
    unary_backward(operation, input, gradient, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] binary(a, b, operation, aShape, bShape, outputShape)`.
fn two(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (a, b) = (heap.f32(arguments.slot()?)?, heap.f32(arguments.slot()?)?);
    let operation = BinaryOperation::from_code(arguments.usize()?)?;
    let (a_shape, b_shape) = (arguments.sizes()?, arguments.sizes()?);
    let shape = arguments.sizes()?;
    let mut output = heap.output_f32(arguments.output(0)?, checked_product("binary", &shape)?)?;
    binary(
        operation,
        a,
        &a_shape,
        b,
        &b_shape,
        output.f32_mut()?,
        &shape,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradient] binary_backward(a, b, outputGradient, operation, second, aShape, bShape, outputShape)`: the gradient for one
/// operand, in the output's shape.
fn two_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (a, b) = (heap.f32(arguments.slot()?)?, heap.f32(arguments.slot()?)?);
    let gradient = heap.f32(arguments.slot()?)?;
    let operation = BinaryOperation::from_code(arguments.usize()?)?;
    let operand = match arguments.bool()? {
        false => Operand::First,
        true => Operand::Second,
    };
    let (a_shape, b_shape) = (arguments.sizes()?, arguments.sizes()?);
    let shape = arguments.sizes()?;
    let mut output = heap.output_f32(arguments.output(0)?, gradient.len())?;
    binary_backward(
        operation,
        operand,
        a,
        &a_shape,
        b,
        &b_shape,
        gradient,
        output.f32_mut()?,
        &shape,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradient] add_relu_backward(output, outputGradient)`.
fn add_relu_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let output = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let mut result = heap.output_f32(arguments.output(0)?, output.len())?;
    add_relu_backward(output, gradient, result.f32_mut()?)?;
    heap.put(arguments.output(0)?, result);
    Ok(())
}

/// `[output] select(condition, a, b, conditionShape, aShape, bShape, outputShape)`.
fn choose(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let condition = heap.f32(arguments.slot()?)?;
    let (a, b) = (heap.f32(arguments.slot()?)?, heap.f32(arguments.slot()?)?);
    let condition_shape = arguments.sizes()?;
    let (a_shape, b_shape) = (arguments.sizes()?, arguments.sizes()?);
    let shape = arguments.sizes()?;
    let mut output = heap.output_f32(arguments.output(0)?, checked_product("select", &shape)?)?;
    select(
        condition,
        &condition_shape,
        a,
        &a_shape,
        b,
        &b_shape,
        output.f32_mut()?,
        &shape,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

fn cut_one(cutter: &mut Cutter) -> Outcome {
    cutter.element_by_element(1)?;
    unary_operation(cutter.arguments())?;
    Ok(())
}

fn cut_one_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.element_by_element(2)?;
    unary_operation(cutter.arguments())?;
    Ok(())
}

/// The arguments `aShape, bShape, outputShape` of operands at positions 0 and 1; returns the elements of the output.
fn cut_operands(cutter: &mut Cutter) -> Outcome<usize> {
    let shapes = [cutter.shape()?, cutter.shape()?];
    let whole = cutter.batch_shape()?;
    for (operand, shape) in shapes.iter().enumerate() {
        cutter.operand(operand, shape, &whole);
    }
    Ok(checked_product("binary", &whole)?)
}

fn cut_two(cutter: &mut Cutter) -> Outcome {
    cutter.skip(2)?;
    BinaryOperation::from_code(cutter.arguments().usize()?)?;
    let length = cut_operands(cutter)?;
    cutter.makes(length);
    Ok(())
}

fn cut_two_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.skip(2)?;
    cutter.images()?;
    BinaryOperation::from_code(cutter.arguments().usize()?)?;
    cutter.arguments().bool()?;
    let length = cut_operands(cutter)?;
    cutter.makes(length);
    Ok(())
}

fn cut_add_relu_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.element_by_element(2)
}
