//! Max, average and global average pooling.

use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::pool::{
    Pool2d, average_backward, average_forward, global_average_backward, global_average_forward,
    max_backward, max_forward,
};

pub const OPERATIONS: Family = &[
    ("max_pool", max),
    ("max_pool_backward", max_gradient),
    ("average_pool", average),
    ("average_pool_backward", average_gradient),
    ("global_average_pool", global_average),
    ("global_average_pool_backward", global_average_gradient),
];

pub const CUTS: Cuts = &[
    ("max_pool", Cut::Images(cut_max)),
    ("max_pool_backward", Cut::Images(cut_max_gradient)),
    ("average_pool", Cut::Images(cut_average)),
    ("average_pool_backward", Cut::Images(cut_average_gradient)),
    ("global_average_pool", Cut::Images(cut_global)),
    (
        "global_average_pool_backward",
        Cut::Images(cut_global_gradient),
    ),
];

/// The next arguments: `batch, height, width, channels, kernelHeight, kernelWidth, strideHeight, strideWidth, paddingHeight,
/// paddingWidth, ceilMode`.
fn geometry(arguments: &mut Arguments) -> Outcome<Pool2d> {
    Ok(Pool2d {
        batch: arguments.usize()?,
        height: arguments.usize()?,
        width: arguments.usize()?,
        channels: arguments.usize()?,
        kernel: [arguments.usize()?, arguments.usize()?],
        stride: [arguments.usize()?, arguments.usize()?],
        padding: [arguments.usize()?, arguments.usize()?],
        ceil_mode: arguments.bool()?,
    })
}

fn product(sizes: &[usize]) -> Outcome<usize> {
    Ok(evenkeel_kernels::error::checked_product("pool", sizes)?)
}

fn output_length(geometry: &Pool2d) -> Outcome<usize> {
    let [height, width] = geometry.output_size()?;
    product(&[geometry.batch, height, width, geometry.channels])
}

fn input_length(geometry: &Pool2d) -> Outcome<usize> {
    product(&[
        geometry.batch,
        geometry.height,
        geometry.width,
        geometry.channels,
    ])
}

/// `[output, indices?] max_pool(input, geometry …, keepIndices)`.
fn max(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let geometry = geometry(arguments)?;
    let keep_indices = arguments.bool()?;
    let length = output_length(&geometry)?;
    let mut output = heap.output_f32(arguments.output(0)?, length)?;
    let mut indices = match keep_indices {
        true => Some(heap.output(arguments.output(1)?, DType::Uint8, length)?),
        false => None,
    };
    let bytes = indices
        .as_mut()
        .map(|indices| indices.u8_mut())
        .transpose()?;
    max_forward(&geometry, heap.f32(input)?, output.f32_mut()?, bytes)?;
    heap.put(arguments.output(0)?, output);
    if let Some(indices) = indices {
        heap.put(arguments.output(1)?, indices);
    }
    Ok(())
}

/// `[inputGradient] max_pool_backward(outputGradient, indices, geometry …)`.
fn max_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, indices) = (arguments.slot()?, arguments.slot()?);
    let geometry = geometry(arguments)?;
    let mut input_gradient = heap.output_f32(arguments.output(0)?, input_length(&geometry)?)?;
    max_backward(
        &geometry,
        heap.f32(gradient)?,
        heap.get(indices)?.u8()?,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// `[output] average_pool(input, geometry …, countIncludePadding)`.
fn average(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let geometry = geometry(arguments)?;
    let count_include_padding = arguments.bool()?;
    let mut output = heap.output_f32(arguments.output(0)?, output_length(&geometry)?)?;
    average_forward(
        &geometry,
        count_include_padding,
        heap.f32(input)?,
        output.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] average_pool_backward(outputGradient, geometry …, countIncludePadding)`.
fn average_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let geometry = geometry(arguments)?;
    let count_include_padding = arguments.bool()?;
    let mut input_gradient = heap.output_f32(arguments.output(0)?, input_length(&geometry)?)?;
    average_backward(
        &geometry,
        count_include_padding,
        heap.f32(gradient)?,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

/// `[output] global_average_pool(input, batch, pixels, channels)`.
fn global_average(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let (batch, pixels, channels) = (arguments.usize()?, arguments.usize()?, arguments.usize()?);
    let mut output = heap.output_f32(arguments.output(0)?, product(&[batch, channels])?)?;
    global_average_forward(batch, pixels, channels, heap.f32(input)?, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[inputGradient] global_average_pool_backward(outputGradient, batch, pixels, channels)`.
fn global_average_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let (batch, pixels, channels) = (arguments.usize()?, arguments.usize()?, arguments.usize()?);
    let mut input_gradient =
        heap.output_f32(arguments.output(0)?, product(&[batch, pixels, channels])?)?;
    global_average_backward(
        batch,
        pixels,
        channels,
        heap.f32(gradient)?,
        input_gradient.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, input_gradient);
    Ok(())
}

fn cut_geometry(cutter: &mut Cutter) -> Outcome<Pool2d> {
    cutter.batch()?;
    geometry(cutter.arguments())
}

fn cut_max(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let geometry = cut_geometry(cutter)?;
    let (input, output) = (input_length(&geometry)?, output_length(&geometry)?);
    cutter.reads(input);
    cutter.makes(output);
    if cutter.arguments().bool()? {
        cutter.makes_of(DType::Uint8, output);
    }
    Ok(())
}

fn cut_max_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.images()?;
    let geometry = cut_geometry(cutter)?;
    cutter.makes(input_length(&geometry)?);
    Ok(())
}

fn cut_average(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let geometry = cut_geometry(cutter)?;
    cutter.reads(input_length(&geometry)?);
    cutter.makes(output_length(&geometry)?);
    cutter.arguments().bool()?;
    Ok(())
}

fn cut_average_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let geometry = cut_geometry(cutter)?;
    cutter.makes(input_length(&geometry)?);
    cutter.arguments().bool()?;
    Ok(())
}

/// The arguments `batch, pixels, channels`: the elements of the map and of its means.
fn cut_map(cutter: &mut Cutter) -> Outcome<[usize; 2]> {
    cutter.batch()?;
    let arguments = cutter.arguments();
    let (batch, pixels, channels) = (arguments.usize()?, arguments.usize()?, arguments.usize()?);
    Ok([
        product(&[batch, pixels, channels])?,
        product(&[batch, channels])?,
    ])
}

fn cut_global(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let [map, means] = cut_map(cutter)?;
    cutter.reads(map);
    cutter.makes(means);
    Ok(())
}

fn cut_global_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let [map, _] = cut_map(cutter)?;
    cutter.makes(map);
    Ok(())
}
