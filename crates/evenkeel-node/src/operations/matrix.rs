//! Matrix products, fully connected layers, and the gradient of a bias.

use super::Family;
use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::conv::bias_gradient;
use evenkeel_kernels::error::checked_product;
use evenkeel_kernels::gemm::{linear_forward, matmul};

pub const OPERATIONS: Family = &[
    ("matmul", product),
    ("linear", linear),
    ("bias_gradient", bias),
];

/// `[output] matmul(a, b, m, n, k, transposeA, transposeB)`: `output[m, n] = op(a)·op(b)`.
fn product(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (a, b) = (arguments.slot()?, arguments.slot()?);
    let (m, n, k) = (arguments.usize()?, arguments.usize()?, arguments.usize()?);
    let (transpose_a, transpose_b) = (arguments.bool()?, arguments.bool()?);
    let mut output = heap.allocate_f32(checked_product("matmul", &[m, n])?)?;
    matmul(
        m,
        n,
        k,
        heap.f32(a)?,
        transpose_a,
        heap.f32(b)?,
        transpose_b,
        false,
        output.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] linear(input, weight, bias?, batch, inputs, outputs)`.
fn linear(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (input, weight) = (arguments.slot()?, arguments.slot()?);
    let bias = arguments.optional_slot()?;
    let (batch, inputs, outputs) = (arguments.usize()?, arguments.usize()?, arguments.usize()?);
    let mut output = heap.allocate_f32(checked_product("linear", &[batch, outputs])?)?;
    linear_forward(
        batch,
        inputs,
        outputs,
        heap.f32(input)?,
        heap.f32(weight)?,
        heap.optional_f32(bias)?,
        output.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[biasGradient] bias_gradient(outputGradient, rows, columns)`: sums over rows.
fn bias(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let (rows, columns) = (arguments.usize()?, arguments.usize()?);
    let mut sums = heap.allocate_f32(columns)?;
    bias_gradient(rows, columns, heap.f32(gradient)?, sums.f32_mut()?)?;
    heap.put(arguments.output(0)?, sums);
    Ok(())
}
