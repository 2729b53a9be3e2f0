//! The Independent-Component layer: batch normalization and dropout in one pass, in front of a weight layer.
//!
//! Chen, Chen, Shi, Hsieh, Liao, Zhang, "Rethinking the Usage of Batch Normalization and Dropout in the Training of Deep Neural
//! Networks", 2019.
//!
//! Which values are kept is one bit each: drawn while the forward pass measures a piece, and read by the passes after it.

use super::affine::{
    FORWARD_PARAMETERS, GRADIENT_PARAMETERS, SUM_PARAMETERS, fill_backward, fill_forward,
    finish_sum,
};
use super::batch::{RunningStatistics, check_running, move_running};
use super::centred::{add_pieces, sum_samples};
use super::columns::{Columns, Place, Terms, load, map_columns, store, sum_columns};
use super::geometry::{Affine, AffineGradients, Shape, check_epsilon};
use super::moments::{Saved, measure, merge_pieces};
use super::slab::{self, Passes, Slab};
use crate::error::{KernelError, Result, check_length};
use crate::isa::{MAX_LANES, Simd};
use crate::parallel::DisjointMut;
use crate::random::{Generator, KeptBits};
use std::ops::Range;

/// What an IC layer reads in every pass.
#[derive(Clone, Copy, Debug)]
pub struct IndependentComponent<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// The chance that a value is set to 0, in `0..1`.
    pub rate: f32,
}

impl IndependentComponent<'_> {
    fn check(&self) -> Result<Slab> {
        check_length("x", self.x.len(), self.shape.elements()?)?;
        self.affine.check(self.shape.channels)?;
        if !(0.0..1.0).contains(&self.rate) {
            return Err(KernelError::Invalid(format!(
                "a drop rate of {}: expected at least 0 and less than 1",
                self.rate
            )));
        }
        Ok(Slab::of_batch(
            self.shape.batch * self.shape.positions,
            self.shape.channels,
        ))
    }

    /// What a kept value is multiplied with.
    fn factor(&self) -> f32 {
        (1.0 / (1.0 - f64::from(self.rate))) as f32
    }
}

/// Bytes that hold a bit for each of `elements`, and three more: the bits of a vector are read from four bytes at once.
pub const fn mask_bytes(elements: usize) -> usize {
    elements.div_ceil(8) + 3
}

/// `y = kept / (1 - rate) · (normalized x · gamma + beta)`, with the batch's mean and biased variance of every channel; what is
/// kept is drawn anew.
///
/// `saved` (`[3, channels]`) and `kept` (a bit for each element, [`mask_bytes`]) are what [`backward`] needs; `running` moves as in
/// [`super::batch::forward_training`].
///
/// # Errors
/// Where a length does not fit, or a number is out of its range.
#[allow(clippy::too_many_arguments)]
pub fn forward(
    layer: IndependentComponent,
    epsilon: f32,
    generator: Generator,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    saved: &mut [f32],
    kept: &mut [u8],
) -> Result {
    let slab = layer.check()?;
    let channels = layer.shape.channels;
    check_length("y", y.len(), layer.x.len())?;
    check_length("saved", saved.len(), 3 * channels)?;
    check_length("kept", kept.len(), mask_bytes(layer.x.len()))?;
    check_epsilon(epsilon)?;
    if let Some(running) = &running {
        check_running(running, channels)?;
    }
    let source = KeptBits::new(generator, layer.rate)?;
    if channels == 0 {
        return Ok(());
    }
    let count = slab.positions;
    let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
    let kept = DisjointMut::new(kept);
    let passes: &dyn Passes = if has_whole_bytes(slab.columns) {
        &Forward::<true> {
            slab,
            layer,
            epsilon,
            source,
            kept,
            y,
            saved,
        }
    } else {
        &Forward::<false> {
            slab,
            layer,
            epsilon,
            source,
            kept,
            y,
            saved,
        }
    };
    slab::run(slab, passes, |measured, _| {
        if let (Some(running), true) = (running, count > 0) {
            move_running(running, &measured[..2 * channels], count);
        }
    });
    Ok(())
}

/// The gradients of [`forward`]: those of batch normalization for `dy · kept / (1 - rate)`.
///
/// # Errors
/// Where a length does not fit.
pub fn backward(
    layer: IndependentComponent,
    saved: &[f32],
    kept: &[u8],
    dy: &[f32],
    gradients: AffineGradients,
) -> Result {
    let slab = layer.check()?;
    let channels = layer.shape.channels;
    check_length("saved", saved.len(), 3 * channels)?;
    check_length("kept", kept.len(), mask_bytes(layer.x.len()))?;
    check_length("dy", dy.len(), layer.x.len())?;
    gradients.check(layer.x.len(), channels)?;
    if channels == 0 {
        return Ok(());
    }
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    let dx = dx.map(DisjointMut::new);
    let passes: &dyn Passes = if has_whole_bytes(slab.columns) {
        &Backward::<true> {
            slab,
            layer,
            saved,
            kept,
            dy,
            dx,
        }
    } else {
        &Backward::<false> {
            slab,
            layer,
            saved,
            kept,
            dy,
            dx,
        }
    };
    slab::run(slab, passes, |sums, stride| {
        sum_samples(sums, stride, 0, dbeta);
        sum_samples(sums, stride, channels, dgamma);
    });
    Ok(())
}

/// Whether every vector starts at a multiple of [`MAX_LANES`], so that its bits are whole bytes: the usual case, and the cheap one.
fn has_whole_bytes(columns: Columns) -> bool {
    columns.width.is_multiple_of(MAX_LANES)
}

/// The bits of a range of elements; for `WHOLE` see [`has_whole_bytes`].
#[derive(Clone, Copy)]
struct Kept<'a, const WHOLE: bool> {
    bits: &'a [u8],
    /// The first element of the range.
    start: usize,
}

impl<'a, const WHOLE: bool> Kept<'a, WHOLE> {
    /// The bits of the elements in `range`.
    fn new(bits: &'a [u8], columns: Columns, range: &Range<usize>) -> Self {
        assert!(!WHOLE || (has_whole_bytes(columns) && range.start.is_multiple_of(MAX_LANES)));
        assert!(bits.len() >= mask_bytes(range.end));
        Kept {
            bits,
            start: range.start,
        }
    }

    /// `value` in those of a vector's lanes whose element was kept, 0 in the others.
    ///
    /// # Safety
    /// The element `at` of the range must exist.
    #[inline(always)]
    unsafe fn select<S: Simd>(&self, simd: S, at: usize, value: S::F32) -> S::F32 {
        let element = self.start + at;
        // SAFETY: `new` checked that four bytes follow for every element; they hold its bit and at least the 24 after it.
        let bits = unsafe {
            let bytes = self.bits.as_ptr().add(element / 8);
            if WHOLE && S::LANES == 16 {
                u32::from(u16::from_le_bytes(bytes.cast::<[u8; 2]>().read()))
            } else if WHOLE && S::LANES == 8 {
                u32::from(bytes.read())
            } else {
                u32::from_le_bytes(bytes.cast::<[u8; 4]>().read()) >> (element % 8)
            }
        };
        simd.select(simd.unpack(bits), value, simd.zero())
    }
}

struct Forward<'a, const WHOLE: bool> {
    slab: Slab,
    layer: IndependentComponent<'a>,
    epsilon: f32,
    source: KeptBits,
    kept: DisjointMut<'a, u8>,
    y: DisjointMut<'a, f32>,
    saved: DisjointMut<'a, f32>,
}

impl<const WHOLE: bool> Passes for Forward<'_, WHOLE> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        FORWARD_PARAMETERS * self.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, _: &[f32], measurement: &mut [f64]) {
        // Pieces start at whole bytes, since their rows are a multiple of 8; each has a stream of its own.
        assert!(range.start.is_multiple_of(8));
        // SAFETY: pieces do not overlap.
        let bits = unsafe { self.kept.part(range.start / 8..range.end.div_ceil(8)) };
        self.source.fill(range.start as u64, bits);
        let x = &self.layer.x[range];
        measure(self.slab.columns, x, self.epsilon, measurement);
    }

    fn finish(&self, _: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        let count = merge_pieces(measurements, channels, self.slab.piece_counts());
        // SAFETY: there is one sample, finished once.
        let saved = unsafe { self.saved.part(0..3 * channels) };
        for channel in 0..channels {
            let variance = measurements[channels + channel] / count.max(1) as f64;
            let unit = Saved::new(measurements[channel], variance, self.epsilon);
            saved[channel] = unit.mean;
            saved[channels + channel] = unit.mean_rest;
            saved[2 * channels + channel] = unit.inverse_deviation;
        }
        let unit = |channel| Saved::read(saved, channel);
        fill_forward(columns, &self.layer.affine, unit, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.y.part(range.clone()) };
        let columns = self.slab.columns;
        // SAFETY: every piece was measured, and nothing writes bits any more.
        let kept = Kept::<WHOLE>::new(unsafe { self.kept.whole() }, columns, &range);
        let x = &self.layer.x[range];
        assert_eq!(x.len(), y.len());
        let terms = NormalizeAndDrop::<WHOLE> {
            x,
            kept,
            y,
            factor: self.layer.factor(),
        };
        map_columns(columns, parameters, terms);
    }
}

struct NormalizeAndDrop<'a, const WHOLE: bool> {
    x: &'a [f32],
    kept: Kept<'a, WHOLE>,
    y: &'a mut [f32],
    factor: f32,
}

// SAFETY: `Forward::map` checked that all arrays have `length` elements.
unsafe impl<const WHOLE: bool> Terms<0, FORWARD_PARAMETERS> for NormalizeAndDrop<'_, WHOLE> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; FORWARD_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [center, scale, offset] = *p;
        // SAFETY: `place` is inside of `length`.
        unsafe {
            let x = load(simd, self.x, place);
            let z = simd.fma(simd.sub(x, center), scale, offset);
            let y = self
                .kept
                .select(simd, place.at, simd.mul(z, simd.splat(self.factor)));
            store(simd, y, self.y, place);
        }
    }
}

struct Backward<'a, const WHOLE: bool> {
    slab: Slab,
    layer: IndependentComponent<'a>,
    saved: &'a [f32],
    kept: &'a [u8],
    dy: &'a [f32],
    dx: Option<DisjointMut<'a, f32>>,
}

impl<const WHOLE: bool> Backward<'_, WHOLE> {
    fn inputs(&self, range: Range<usize>) -> MaskedInputs<'_, WHOLE> {
        let kept = Kept::<WHOLE>::new(self.kept, self.slab.columns, &range);
        let (x, dy) = (&self.layer.x[range.clone()], &self.dy[range]);
        assert_eq!(x.len(), dy.len());
        MaskedInputs {
            x,
            dy,
            kept,
            factor: self.layer.factor(),
        }
    }
}

impl<const WHOLE: bool> Passes for Backward<'_, WHOLE> {
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        GRADIENT_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, _: usize, parameters: &mut [f32]) {
        let unit = |channel| Saved::read(self.saved, channel);
        fill_forward(self.slab.columns, &self.layer.affine, unit, parameters);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let terms = MaskedSums::<WHOLE> {
            inputs: self.inputs(range),
        };
        columns.gathered(measurement, |sums| {
            sum_columns(columns, parameters, terms, sums)
        });
    }

    fn finish(&self, _: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        add_pieces(measurements, 2 * channels);
        let (dbeta, dgamma) = measurements[..2 * channels].split_at_mut(channels);
        for channel in 0..channels {
            let unit = Saved::read(self.saved, channel);
            dgamma[channel] = finish_sum(unit, dbeta[channel], dgamma[channel]);
        }
        if self.dx.is_none() {
            return;
        }
        let inverse = 1.0 / self.slab.positions as f64;
        let means = |channel: usize| {
            let gamma = f64::from(self.layer.affine.gamma(channel)) * inverse;
            (gamma * dbeta[channel], gamma * dgamma[channel])
        };
        let unit = |channel| Saved::read(self.saved, channel);
        fill_backward(columns, &self.layer.affine, unit, means, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        let Some(dx) = &self.dx else { return };
        // SAFETY: ranges of different tasks do not overlap.
        let dx = unsafe { dx.part(range.clone()) };
        let columns = self.slab.columns;
        assert_eq!(dx.len(), range.len());
        let terms = MaskedGradient::<WHOLE> {
            inputs: self.inputs(range),
            dx,
        };
        map_columns(columns, parameters, terms);
    }
}

/// Inputs of the backward pass, all of the same length.
#[derive(Clone, Copy)]
struct MaskedInputs<'a, const WHOLE: bool> {
    x: &'a [f32],
    dy: &'a [f32],
    kept: Kept<'a, WHOLE>,
    factor: f32,
}

impl<const WHOLE: bool> MaskedInputs<'_, WHOLE> {
    /// `(normalized x but for the mean's rest, dy where it was kept)`.
    ///
    /// # Safety
    /// `place` must be inside of the arrays.
    #[inline(always)]
    unsafe fn read<S: Simd>(
        &self,
        simd: S,
        place: Place,
        center: S::F32,
        inverse: S::F32,
    ) -> (S::F32, S::F32) {
        // SAFETY: the caller's promise.
        unsafe {
            let x = load(simd, self.x, place);
            let dy = load(simd, self.dy, place);
            let dz = self
                .kept
                .select(simd, place.at, simd.mul(dy, simd.splat(self.factor)));
            (simd.mul(simd.sub(x, center), inverse), dz)
        }
    }
}

struct MaskedSums<'a, const WHOLE: bool> {
    inputs: MaskedInputs<'a, WHOLE>,
}

// SAFETY: `Backward::inputs` and `measure` checked the lengths.
unsafe impl<const WHOLE: bool> Terms<2, SUM_PARAMETERS> for MaskedSums<'_, WHOLE> {
    fn length(&self) -> usize {
        self.inputs.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; SUM_PARAMETERS],
        sums: &mut [S::F32; 2],
    ) {
        let [center, _, _, inverse] = *p;
        // SAFETY: `place` is inside of `length`.
        let (normalized, dz) = unsafe { self.inputs.read(simd, place, center, inverse) };
        sums[0] = simd.add(sums[0], dz);
        sums[1] = simd.fma(dz, normalized, sums[1]);
    }
}

struct MaskedGradient<'a, const WHOLE: bool> {
    inputs: MaskedInputs<'a, WHOLE>,
    dx: &'a mut [f32],
}

// SAFETY: `Backward::inputs` and `map` checked the lengths.
unsafe impl<const WHOLE: bool> Terms<0, GRADIENT_PARAMETERS> for MaskedGradient<'_, WHOLE> {
    fn length(&self) -> usize {
        self.inputs.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; GRADIENT_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [center, _, _, inverse, gamma, along, across] = *p;
        // SAFETY: `place` is inside of `length`.
        unsafe {
            let (normalized, dz) = self.inputs.read(simd, place, center, inverse);
            let projected = simd.fma(normalized, along, across);
            let dx = simd.mul(inverse, simd.fma(gamma, dz, projected));
            store(simd, dx, self.dx, place);
        }
    }
}

#[cfg(test)]
#[path = "independent_tests.rs"]
mod tests;
