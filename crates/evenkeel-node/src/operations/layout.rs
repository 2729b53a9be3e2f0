//! Moving elements.

use super::{Cuts, Family};
use crate::arguments::{Arguments, Sizes};
use crate::buffer::DType;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::error::checked_product;
use evenkeel_kernels::layout;

pub const OPERATIONS: Family = &[
    ("permute", permute),
    ("slice", slice),
    ("pad", pad),
    ("concatenate", concatenate),
    ("gather_rows", gather),
    ("scatter_add_rows", scatter_add),
    ("broadcast", broadcast),
    ("cast", cast),
];

pub const CUTS: Cuts = &[
    ("slice", Cut::Images(cut_slice)),
    ("pad", Cut::Images(cut_pad)),
];

fn sums_only() -> Failure {
    Failure::internal("float64 is for sums between commands")
}

/// Runs `$body` with `$input` and `$output` as slices of the input's element type.
macro_rules! with_elements {
    ($from:expr, $to:expr, |$input:ident, $output:ident| $body:expr) => {
        match $from.dtype() {
            DType::Float32 => {
                let ($input, $output) = ($from.f32()?, $to.f32_mut()?);
                $body
            }
            DType::Int32 => {
                let ($input, $output) = ($from.i32()?, $to.i32_mut()?);
                $body
            }
            DType::Uint8 => {
                let ($input, $output) = ($from.u8()?, $to.u8_mut()?);
                $body
            }
            DType::Float64 => return Err(sums_only()),
        }
    };
}

/// `[output] permute(input, shape, axes)`.
fn permute(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let (shape, axes) = (arguments.sizes()?, arguments.sizes()?);
    let mut output = heap.output(arguments.output(0)?, input.dtype(), input.len())?;
    with_elements!(input, output, |x, y| layout::permute(x, &shape, &axes, y))?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

struct Part {
    starts: Sizes,
    steps: Sizes,
    sizes: Sizes,
}

impl Part {
    fn read(arguments: &mut Arguments) -> Outcome<Part> {
        Ok(Part {
            starts: arguments.sizes()?,
            steps: arguments.sizes()?,
            sizes: arguments.sizes()?,
        })
    }

    fn borrow(&self) -> layout::Part<'_> {
        layout::Part {
            starts: &self.starts,
            steps: &self.steps,
            sizes: &self.sizes,
        }
    }
}

/// `[output] slice(input, shape, starts, steps, sizes)`.
fn slice(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let shape = arguments.sizes()?;
    let part = Part::read(arguments)?;
    let mut output = heap.output(
        arguments.output(0)?,
        input.dtype(),
        checked_product("slice", &part.sizes)?,
    )?;
    with_elements!(input, output, |x, y| layout::slice(
        x,
        &shape,
        part.borrow(),
        y
    ))?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] pad(input, value, outputShape, starts, steps, sizes)`: the input becomes that part of the output.
fn pad(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let value = arguments.f64()?;
    let shape = arguments.sizes()?;
    let part = Part::read(arguments)?;
    let mut output = heap.output(
        arguments.output(0)?,
        input.dtype(),
        checked_product("pad", &shape)?,
    )?;
    with_elements!(input, output, |x, y| layout::pad(
        x,
        part.borrow(),
        layout::Number::narrow(value),
        y,
        &shape
    ))?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] concatenate(inputs, sizes, shape, axis)`: `sizes` are those along the axis, `shape` the others; the inputs have one
/// element type.
fn concatenate(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let slots = arguments.sizes()?;
    let sizes = arguments.sizes()?;
    let shape = arguments.sizes()?;
    let axis = arguments.usize()?;
    let mut length = 0;
    let mut dtype = DType::Float32;
    for &slot in slots.iter() {
        let input = heap.get(slot)?;
        length = checked_product("concatenate", &[1, length + input.len()])?;
        dtype = input.dtype();
    }
    let mut output = heap.output(arguments.output(0)?, dtype, length)?;
    /// Joins inputs of one element type.
    macro_rules! join {
        ($read:ident, $write:ident) => {{
            let mut inputs = Vec::with_capacity(slots.len());
            for &slot in slots.iter() {
                inputs.push(heap.get(slot)?.$read()?);
            }
            layout::concatenate(&inputs, &sizes, &shape, axis, output.$write()?)?;
        }};
    }
    match dtype {
        DType::Float32 => join!(f32, f32_mut),
        DType::Int32 => join!(i32, i32_mut),
        DType::Uint8 => join!(u8, u8_mut),
        DType::Float64 => return Err(sums_only()),
    }
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] gather_rows(input, indices: int32, width)`.
fn gather(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let indices = heap.i32(arguments.slot()?)?;
    let width = arguments.usize()?;
    let length = checked_product("gather", &[indices.len(), width])?;
    let mut output = heap.output(arguments.output(0)?, input.dtype(), length)?;
    with_elements!(input, output, |x, y| layout::gather_rows(
        x, width, indices, y
    ))?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] scatter_add_rows(rows, indices: int32, width, outputRows)`.
fn scatter_add(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let rows = heap.f32(arguments.slot()?)?;
    let indices = heap.i32(arguments.slot()?)?;
    let (width, count) = (arguments.usize()?, arguments.usize()?);
    let mut output = heap.output_f32(
        arguments.output(0)?,
        checked_product("scatter", &[width, count])?,
    )?;
    layout::scatter_add_rows(rows, width, indices, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] broadcast(input, factor, shape, outputShape)`.
fn broadcast(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.f32(arguments.slot()?)?;
    let factor = arguments.f32()?;
    let (shape, output_shape) = (arguments.sizes()?, arguments.sizes()?);
    let mut output = heap.output_f32(
        arguments.output(0)?,
        checked_product("broadcast", &output_shape)?,
    )?;
    layout::broadcast_copy(input, &shape, factor, output.f32_mut()?, &output_shape)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[output] cast(input, dtype)`.
fn cast(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = heap.get(arguments.slot()?)?;
    let dtype = DType::from_code(arguments.usize()?)?;
    let mut output = heap.output(arguments.output(0)?, dtype, input.len())?;
    /// Casts from one element type.
    macro_rules! from {
        ($read:ident) => {
            match dtype {
                DType::Float32 => layout::cast(input.$read()?, output.f32_mut()?)?,
                DType::Int32 => layout::cast(input.$read()?, output.i32_mut()?)?,
                DType::Uint8 => layout::cast(input.$read()?, output.u8_mut()?)?,
                DType::Float64 => return Err(sums_only()),
            }
        };
    }
    match input.dtype() {
        DType::Float32 => from!(f32),
        DType::Int32 => from!(i32),
        DType::Uint8 => from!(u8),
        DType::Float64 => return Err(sums_only()),
    }
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// The arguments `starts, steps, sizes`, of a part that has all images.
fn cut_part(cutter: &mut Cutter) -> Outcome<Sizes> {
    let (starts, steps) = (cutter.arguments().sizes()?, cutter.arguments().sizes()?);
    cutter.only_if(starts.first() == Some(&0) && steps.first() == Some(&1));
    cutter.batch_shape()
}

fn cut_slice(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.batch_shape()?;
    let sizes = cut_part(cutter)?;
    cutter.makes_typed_as_first(checked_product("slice", &sizes)?);
    Ok(())
}

fn cut_pad(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.arguments().f64()?;
    let shape = cutter.batch_shape()?;
    cut_part(cutter)?;
    cutter.makes_typed_as_first(checked_product("pad", &shape)?);
    Ok(())
}
