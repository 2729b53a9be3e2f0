//! Random values and dropout.

use super::Family;
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::random::{Generator, dropout, fill_integers, fill_normal, fill_uniform};

pub const OPERATIONS: Family = &[
    ("random_uniform", uniform),
    ("random_normal", normal),
    ("random_integers", integers),
    ("dropout", drop_out),
];

fn generator(arguments: &mut Arguments) -> Outcome<Generator> {
    Ok(Generator {
        seed: arguments.usize()? as u64,
        sequence: arguments.usize()? as u64,
    })
}

/// `[output] random_uniform(length, seed, sequence, low, high)`.
fn uniform(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let mut output = heap.allocate_f32(arguments.usize()?)?;
    let generator = generator(arguments)?;
    let (low, high) = (arguments.f32()?, arguments.f32()?);
    fill_uniform(generator, low, high, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] random_normal(length, seed, sequence, mean, deviation)`.
fn normal(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let mut output = heap.allocate_f32(arguments.usize()?)?;
    let generator = generator(arguments)?;
    let (mean, deviation) = (arguments.f32()?, arguments.f32()?);
    fill_normal(generator, mean, deviation, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output: int32] random_integers(length, seed, sequence, low, high)`.
fn integers(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let mut output = heap.allocate(DType::Int32, arguments.usize()?)?;
    let generator = generator(arguments)?;
    // TypeScript has checked that both are 32-bit integers.
    let (low, high) = (arguments.f64()? as i32, arguments.f64()? as i32);
    fill_integers(generator, low, high, output.i32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] dropout(input, seed, sequence, probability)`: also its own backward pass, of the gradient.
fn drop_out(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let generator = generator(arguments)?;
    let probability = arguments.f32()?;
    let mut output = heap.allocate_f32(input.len())?;
    dropout(generator, probability, input, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}
