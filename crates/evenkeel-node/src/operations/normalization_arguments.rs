//! What the commands of normalizations share: their arguments, and how their results get into the heap.
//!
//! Forward: `[output, saved …] name(tensors …, batch, positions, channels, numbers …)`. Backward: `[gradient …]
//! name_backward(outputGradient, saved …, tensors …, batch, positions, channels, numbers …, wants …)` with the tensors and numbers of
//! the forward command as far as it needs them, a truth value for each gradient, and outputs for those that are wanted.

use crate::arguments::Arguments;
use crate::buffer::Buffer;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::segments::cutting::Cutter;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::batch::BatchNorm;
use evenkeel_kernels::norm::{Affine, Shape};

/// The next arguments: `batch, positions, channels`.
pub(super) fn shape(arguments: &mut Arguments) -> Outcome<Shape> {
    Ok(Shape {
        batch: arguments.usize()?,
        positions: arguments.usize()?,
        channels: arguments.usize()?,
    })
}

/// The next arguments: `activation, activationFirst, activationSecond`.
pub(super) fn activation(arguments: &mut Arguments) -> Outcome<Activation> {
    Ok(Activation::from_code(
        arguments.usize()?,
        arguments.f32()?,
        arguments.f32()?,
    )?)
}

/// The next arguments: `gamma?, beta?`.
#[derive(Clone, Copy)]
pub(super) struct AffineSlots([Option<usize>; 2]);

impl AffineSlots {
    pub(super) fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(AffineSlots([
            arguments.optional_slot()?,
            arguments.optional_slot()?,
        ]))
    }

    pub(super) fn get<'a>(&self, heap: &'a Heap) -> Outcome<Affine<'a>> {
        Ok(Affine {
            gamma: heap.optional_f32(self.0[0])?,
            beta: heap.optional_f32(self.0[1])?,
        })
    }
}

/// The next arguments of the plainest methods: `input, gamma?, beta?, batch, positions, channels, activation …`.
pub(super) struct Plain {
    input: usize,
    affine: AffineSlots,
    pub(super) shape: Shape,
    pub(super) activation: Activation,
}

impl Plain {
    pub(super) fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Plain {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            shape: shape(arguments)?,
            activation: activation(arguments)?,
        })
    }

    pub(super) fn input<'a>(&self, heap: &'a Heap) -> Outcome<&'a [f32]> {
        heap.f32(self.input)
    }

    pub(super) fn affine<'a>(&self, heap: &'a Heap) -> Outcome<Affine<'a>> {
        self.affine.get(heap)
    }

    /// The lengths of the gradients of input, gamma and beta.
    pub(super) fn lengths(&self) -> Outcome<[usize; 3]> {
        let Shape { channels, .. } = self.shape;
        Ok([self.shape.elements()?, channels, channels])
    }
}

/// The arguments of a batch norm: `input, gamma?, beta?, residual?, mean?, variance?, batch, positions, channels, activation …`.
pub(super) struct Batch {
    input: usize,
    affine: AffineSlots,
    residual: Option<usize>,
    pub(super) statistics: [Option<usize>; 2],
    pub(super) shape: Shape,
    activation: Activation,
}

impl Batch {
    /// How many words they are.
    pub(super) const WORDS: usize = 12;
    /// Those of the running statistics.
    pub(super) const STATISTICS: std::ops::Range<usize> = 4..6;
    /// Those of the shape.
    pub(super) const SHAPE: std::ops::Range<usize> = 6..9;

    pub(super) fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Batch {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            residual: arguments.optional_slot()?,
            statistics: [arguments.optional_slot()?, arguments.optional_slot()?],
            shape: shape(arguments)?,
            activation: activation(arguments)?,
        })
    }

    pub(super) fn get<'a>(&self, heap: &'a Heap) -> Outcome<BatchNorm<'a>> {
        Ok(BatchNorm {
            shape: self.shape,
            x: heap.f32(self.input)?,
            affine: self.affine.get(heap)?,
            residual: heap.optional_f32(self.residual)?,
            activation: self.activation,
        })
    }

    /// The mean and the variance that are given.
    pub(super) fn given<'a>(&self, heap: &'a Heap) -> Outcome<(&'a [f32], &'a [f32])> {
        match self.statistics {
            [Some(mean), Some(variance)] => Ok((heap.f32(mean)?, heap.f32(variance)?)),
            _ => Err(Failure::internal("no statistics")),
        }
    }

    /// The lengths of the gradients of input, gamma, beta and residual.
    pub(super) fn lengths(&self) -> Outcome<[usize; 4]> {
        let (elements, channels) = (self.shape.elements()?, self.shape.channels);
        Ok([elements, channels, channels, elements])
    }

    /// How they are cut.
    pub(super) fn cut(cutter: &mut Cutter) -> Outcome<Shape> {
        cutter.images()?;
        cutter.wholes(2)?;
        cutter.images()?;
        cutter.wholes(2)?;
        cut_shape_and_activation(cutter)
    }
}

/// The first arguments of a backward command: `outputGradient, saved`.
pub(super) struct Passed {
    gradient: usize,
    saved: usize,
}

impl Passed {
    pub(super) fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Passed {
            gradient: arguments.slot()?,
            saved: arguments.slot()?,
        })
    }

    pub(super) fn gradient<'a>(&self, heap: &'a Heap) -> Outcome<&'a [f32]> {
        heap.f32(self.gradient)
    }

    pub(super) fn saved<'a>(&self, heap: &'a Heap) -> Outcome<&'a [f32]> {
        heap.f32(self.saved)
    }
}

/// Makes outputs of these lengths, which `compute` fills.
pub(super) fn fill<const N: usize>(
    heap: &mut Heap,
    arguments: &Arguments,
    lengths: [usize; N],
    compute: impl FnOnce(&mut Heap, [&mut [f32]; N]) -> Outcome,
) -> Outcome {
    let mut buffers = [const { None }; N];
    for (index, (buffer, length)) in buffers.iter_mut().zip(lengths).enumerate() {
        *buffer = Some(heap.output_f32(arguments.output(index)?, length)?);
    }
    let mut slices: [&mut [f32]; N] = std::array::from_fn(|_| Default::default());
    for (slice, buffer) in slices.iter_mut().zip(buffers.iter_mut().flatten()) {
        *slice = buffer.f32_mut()?;
    }
    compute(heap, slices)?;
    put_all(heap, arguments, buffers)
}

/// Reads a truth value for each gradient and makes those of `lengths` that are wanted, which `compute` fills.
pub(super) fn fill_wanted<const N: usize>(
    heap: &mut Heap,
    arguments: &mut Arguments,
    lengths: [usize; N],
    compute: impl FnOnce(&mut Heap, [Option<&mut [f32]>; N]) -> Outcome,
) -> Outcome {
    let mut buffers = [const { None }; N];
    let mut wanted = 0;
    for (buffer, length) in buffers.iter_mut().zip(lengths) {
        if arguments.bool()? {
            *buffer = Some(heap.output_f32(arguments.output(wanted)?, length)?);
            wanted += 1;
        }
    }
    let mut slices = [const { None }; N];
    for (slice, buffer) in slices.iter_mut().zip(&mut buffers) {
        *slice = buffer.as_mut().map(Buffer::f32_mut).transpose()?;
    }
    compute(heap, slices)?;
    put_all(heap, arguments, buffers)
}

/// Puts what is there into the command's outputs, in order.
fn put_all<const N: usize>(
    heap: &mut Heap,
    arguments: &Arguments,
    buffers: [Option<Buffer>; N],
) -> Outcome {
    for (index, buffer) in buffers.into_iter().flatten().enumerate() {
        heap.put(arguments.output(index)?, buffer);
    }
    Ok(())
}

/// Lends the running mean and the running variance to `normalize`, which moves them, where the layer has them.
pub(super) fn with_running_statistics(
    heap: &mut Heap,
    running: [Option<usize>; 2],
    normalize: impl FnOnce(&Heap, Option<[&mut [f32]; 2]>) -> Outcome,
) -> Outcome {
    match running {
        [Some(mean), Some(variance)] => heap.update([mean, variance], |heap, [mean, variance]| {
            normalize(heap, Some([mean.f32_mut()?, variance.f32_mut()?]))
        }),
        [None, None] => normalize(heap, None),
        _ => Err(Failure::internal("half of the running statistics")),
    }
}

/// How the arguments of [`Plain`] are cut.
pub(super) fn cut_plain(cutter: &mut Cutter) -> Outcome<Shape> {
    cutter.images()?;
    cutter.wholes(2)?;
    cut_shape_and_activation(cutter)
}

/// How the arguments `batch, positions, channels, activation …` are.
fn cut_shape_and_activation(cutter: &mut Cutter) -> Outcome<Shape> {
    cutter.batch()?;
    let shape = shape(cutter.arguments())?;
    activation(cutter.arguments())?;
    cutter.reads(shape.elements()?);
    Ok(shape)
}

/// How the arguments of [`Passed`] are cut.
pub(super) fn cut_passed(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.images()
}

/// How those of a backward command of a [`Plain`] method are.
pub(super) fn cut_plain_backward(cutter: &mut Cutter) -> Outcome<Shape> {
    cut_passed(cutter)?;
    cut_plain(cutter)
}

/// The truth values at the end of a backward command: the gradient of the input comes by images, those of parameters, of `lengths`, are sums.
/// A method with fewer parameters has fewer.
pub(super) fn cut_gradients(cutter: &mut Cutter, shape: Shape, lengths: &[usize]) -> Outcome {
    cutter.reads(shape.elements()?);
    if cutter.arguments().bool()? {
        cutter.makes(shape.elements()?);
    }
    for &length in lengths {
        if cutter.arguments().bool()? {
            cutter.sums(length);
        }
    }
    Ok(())
}
