//! EvoNorm-S0.

use super::Family;
use super::normalization::{AffineSlots, Wanted, shape};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::norm::Shape;
use evenkeel_kernels::norm::evo::{self, EvoNormGradients, EvoNormS0};

pub const OPERATIONS: Family = &[("evo_norm_s0", forward), ("evo_norm_s0_backward", backward)];

/// `input, slope, gamma?, beta?, saved (backward only), batch, positions, channels, groups`.
struct NormArguments {
    input: usize,
    slope: usize,
    affine: AffineSlots,
    saved: Option<usize>,
    shape: Shape,
    groups: usize,
}

impl NormArguments {
    fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            slope: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
            shape: shape(arguments)?,
            groups: arguments.usize()?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<EvoNormS0<'a>> {
        Ok(EvoNormS0 {
            shape: self.shape,
            groups: self.groups,
            x: heap.f32(self.input)?,
            slope: heap.f32(self.slope)?,
            affine: self.affine.get(heap)?,
        })
    }
}

/// `[output, saved] evo_norm_s0(…, epsilon)` with the arguments of [`NormArguments::read`] in front.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments, false)?;
    let epsilon = arguments.f32()?;
    let mut output = heap.allocate_f32(norm.shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * norm.shape.batch * norm.groups)?;
    evo::forward(
        norm.get(heap)?,
        epsilon,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, slope, gamma, beta] evo_norm_s0_backward(outputGradient, …, wants …)` with the arguments of
/// [`NormArguments::read`].
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = NormArguments::read(arguments, true)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels, channels];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dslope, dgamma, dbeta] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    let gradients = EvoNormGradients {
        dx,
        dslope,
        dgamma,
        dbeta,
    };
    evo::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        gradients,
    )?;
    wanted.put(heap, arguments)
}
