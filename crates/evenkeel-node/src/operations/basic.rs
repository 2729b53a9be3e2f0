//! Filling, copying, accumulating and freeing tensors.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::elementwise::{BinaryOperation, binary_assign};

pub const OPERATIONS: Family = &[
    ("free", free),
    ("fill", fill),
    ("copy", copy),
    ("accumulate", accumulate),
    ("panic", panic),
];

pub const CUTS: Cuts = &[("accumulate", Cut::Images(cut_accumulate))];

/// `free(slot)`: the slot's bytes go back to the pool.
fn free(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let slot = arguments.slot()?;
    heap.release(slot);
    Ok(())
}

/// `[output] fill(dtype, length, value)`.
fn fill(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let dtype = DType::from_code(arguments.usize()?)?;
    let length = arguments.usize()?;
    let value = arguments.f64()?;
    let mut buffer = heap.allocate(dtype, length)?;
    match dtype {
        DType::Float32 => buffer.f32_mut()?.fill(value as f32),
        DType::Int32 => buffer.i32_mut()?.fill(value as i32),
        DType::Uint8 => buffer.u8_mut()?.fill(value as u8),
        DType::Float64 => buffer.f64_mut()?.fill(value),
    }
    heap.put(arguments.output(0)?, buffer);
    Ok(())
}

/// `[output] copy(input)`.
fn copy(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let mut buffer = heap.allocate(input.dtype(), input.len())?;
    buffer.bytes_mut().copy_from_slice(input.bytes());
    heap.put(arguments.output(0)?, buffer);
    Ok(())
}

/// `accumulate(target, source)`: target += source, in place.
fn accumulate(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (target, source) = (arguments.slot()?, arguments.slot()?);
    if target == source {
        return Err(Failure::internal("accumulate: target is source"));
    }
    heap.update([target], |heap, [target]| {
        let (target, source) = (target.f32_mut()?, heap.f32(source)?);
        let shape = [target.len()];
        binary_assign(
            BinaryOperation::Add,
            target,
            &shape,
            source,
            &[source.len()],
        )?;
        Ok(())
    })
}

/// `[output] panic()`: what a bug in a kernel does. The tests use it to prove that the process survives one.
fn panic(_: &mut Heap, _: &mut Arguments) -> Outcome {
    panic!("a panic on request");
}

fn cut_accumulate(cutter: &mut Cutter) -> Outcome {
    cutter.updated()?;
    cutter.images()?;
    cutter.of_one_length();
    Ok(())
}
