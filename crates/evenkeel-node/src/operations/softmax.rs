//! Softmax, cross-entropy, accuracy.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::{Buffer, DType};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::softmax::{
    LossReduction, Targets, count_top_k, cross_entropy_backward, cross_entropy_forward,
    log_softmax_backward, log_softmax_forward, softmax_backward, softmax_forward,
};

pub const OPERATIONS: Family = &[
    ("softmax", forward),
    ("softmax_backward", backward),
    ("cross_entropy", loss),
    ("cross_entropy_backward", loss_gradient),
    ("count_top_k", top_k),
];

/// `[output] softmax(input, columns, logarithm)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let (columns, logarithm) = (arguments.usize()?, arguments.bool()?);
    let mut output = heap.allocate_f32(input.len())?;
    let kernel = if logarithm {
        log_softmax_forward
    } else {
        softmax_forward
    };
    kernel(input, columns, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] softmax_backward(output, outputGradient, columns, logarithm)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let output = heap.f32(arguments.slot()?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let (columns, logarithm) = (arguments.usize()?, arguments.bool()?);
    let mut input_gradient = heap.allocate_f32(output.len())?;
    let kernel = if logarithm {
        log_softmax_backward
    } else {
        softmax_backward
    };
    kernel(output, gradient, columns, input_gradient.f32_mut()?)?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// An int32 tensor is labels, a float32 tensor a distribution.
fn targets(buffer: &Buffer) -> Outcome<Targets<'_>> {
    Ok(match buffer.dtype() {
        DType::Int32 => Targets::Labels(buffer.i32()?),
        _ => Targets::Distribution(buffer.f32()?),
    })
}

fn loss_reduction(arguments: &mut Arguments) -> Outcome<LossReduction> {
    match arguments.usize()? {
        0 => Ok(LossReduction::Mean),
        1 => Ok(LossReduction::Sum),
        2 => Ok(LossReduction::None),
        other => Err(Failure::internal(format!("loss reduction {other}"))),
    }
}

/// `[loss] cross_entropy(logits, targets, rows, columns, smoothing, reduction)`.
fn loss(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let logits = heap.f32(arguments.slot()?)?;
    let targets = targets(heap.get(arguments.slot()?)?)?;
    let (rows, columns) = (arguments.usize()?, arguments.usize()?);
    let smoothing = arguments.f32()?;
    let reduction = loss_reduction(arguments)?;
    let length = if reduction == LossReduction::None {
        rows
    } else {
        1
    };
    let mut loss = heap.allocate_f32(length)?;
    cross_entropy_forward(
        logits,
        columns,
        targets,
        smoothing,
        reduction,
        loss.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, loss);
    Ok(())
}

/// `[logitsGradient] cross_entropy_backward(logits, targets, lossGradient, columns, smoothing, reduction)`.
fn loss_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let logits = heap.f32(arguments.slot()?)?;
    let targets = targets(heap.get(arguments.slot()?)?)?;
    let gradient = heap.f32(arguments.slot()?)?;
    let columns = arguments.usize()?;
    let smoothing = arguments.f32()?;
    let reduction = loss_reduction(arguments)?;
    let mut logits_gradient = heap.allocate_f32(logits.len())?;
    cross_entropy_backward(
        logits,
        columns,
        targets,
        smoothing,
        reduction,
        gradient,
        logits_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, logits_gradient);
    Ok(())
}

/// `[count: int32] count_top_k(logits, labels, columns, k)`.
fn top_k(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let logits = heap.f32(arguments.slot()?)?;
    let labels = heap.i32(arguments.slot()?)?;
    let (columns, k) = (arguments.usize()?, arguments.usize()?);
    let count = count_top_k(logits, columns, labels, k)?;
    let mut output = heap.allocate(DType::Int32, 1)?;
    output.i32_mut()?[0] = i32::try_from(count).unwrap_or(i32::MAX);
    heap.put(arguments.output(0)?, output);
    Ok(())
}
