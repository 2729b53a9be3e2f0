//! What a layer does with the sums of its convolution, in one pass: scale, normalization, residual, activation, and the next
//! layer's bits.

use super::GROUP;
use super::epilogue::{SignWords, Store, channels_here};
use super::geometry::Plan;
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;
use crate::isa::bits::BitSimd;
use crate::parallel::DisjointMut;

/// `(x - center) · factor + offset` for each channel, the product and the second sum in one rounding where the instruction set has a
/// fused multiply-add: batch normalization with running statistics, as [`crate::norm::batch::forward_inference`] computes it.
///
/// With center 0 and offset -0 it is the plain product with a factor, zeros' signs included.
#[derive(Clone, Copy, Debug)]
pub struct Normalize<'a> {
    /// The running mean.
    pub center: &'a [f32],
    /// `gamma / sqrt(variance + epsilon)`.
    pub factor: &'a [f32],
    /// `beta`.
    pub offset: &'a [f32],
}

/// The activation behind the residual.
#[derive(Clone, Copy, Debug, Default)]
pub enum LayerActivation<'a> {
    /// None.
    #[default]
    None,
    /// `max(x, 0)`.
    Relu,
    /// `x` where it is positive, `slope · x` elsewhere; one slope for each channel.
    Prelu(&'a [f32]),
    /// `v + shift_out` where `v = x + shift_in` is positive, `slope · v + shift_out` elsewhere (Liu et al., "ReActNet", 2020,
    /// equation 2).
    Rprelu(super::rprelu::Rprelu<'a>),
}

/// The function that turns a channel's sum into a number: everything between the integers and the next sign.
///
/// The order is pinned, one rounding a step: the sum becomes f32 (exact below 2^24); times `scale`; [`Normalize`]; plus the residual;
/// activation. That is the order in which the separate operations compute, so a fused layer has the bits of the unfused one.
#[derive(Clone, Copy, Debug)]
pub struct LayerFunction<'a> {
    /// One factor for each output channel.
    pub scale: &'a [f32],
    /// What follows the scale.
    pub normalize: Option<Normalize<'a>>,
    /// What follows the residual.
    pub activation: LayerActivation<'a>,
}

/// The parameters of a few channels, in registers.
#[derive(Clone, Copy)]
pub(super) struct Loaded<F> {
    scale: F,
    center: F,
    factor: F,
    offset: F,
    shift_in: F,
    slope: F,
    shift_out: F,
}

/// Loads `lanes <= LANES` values from `channel` on.
#[inline(always)]
fn load<S: Simd>(simd: S, values: &[f32], channel: usize, lanes: usize) -> S::F32 {
    let values = &values[channel..channel + lanes];
    // SAFETY: `values` holds `lanes` elements.
    unsafe {
        if lanes == S::LANES {
            simd.load(values.as_ptr())
        } else {
            simd.load_partial(values.as_ptr(), lanes)
        }
    }
}

impl LayerFunction<'_> {
    /// Checks that there is one parameter of each kind for every channel.
    pub(super) fn check(&self, channels: usize) -> Result {
        check_length("binary layer: scale", self.scale.len(), channels)?;
        if let Some(Normalize {
            center,
            factor,
            offset,
        }) = self.normalize
        {
            check_length("binary layer: center", center.len(), channels)?;
            check_length("binary layer: factor", factor.len(), channels)?;
            check_length("binary layer: offset", offset.len(), channels)?;
        }
        match self.activation {
            LayerActivation::None | LayerActivation::Relu => {}
            LayerActivation::Prelu(slope) => {
                check_length("binary layer: slope", slope.len(), channels)?;
            }
            LayerActivation::Rprelu(rprelu) => {
                check_length("binary layer: slope", rprelu.slope.len(), channels)?;
                let (before, after) = (rprelu.shift_in.len(), rprelu.shift_out.len());
                check_length("binary layer: shift before", before, channels)?;
                check_length("binary layer: shift after", after, channels)?;
            }
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn load<S: Simd>(&self, simd: S, channel: usize, lanes: usize) -> Loaded<S::F32> {
        let zero = simd.zero();
        let mut loaded = Loaded {
            scale: load(simd, self.scale, channel, lanes),
            center: zero,
            factor: zero,
            offset: zero,
            shift_in: zero,
            slope: zero,
            shift_out: zero,
        };
        if let Some(normalize) = &self.normalize {
            loaded.center = load(simd, normalize.center, channel, lanes);
            loaded.factor = load(simd, normalize.factor, channel, lanes);
            loaded.offset = load(simd, normalize.offset, channel, lanes);
        }
        match &self.activation {
            LayerActivation::None | LayerActivation::Relu => {}
            LayerActivation::Prelu(slope) => loaded.slope = load(simd, slope, channel, lanes),
            LayerActivation::Rprelu(rprelu) => {
                loaded.shift_in = load(simd, rprelu.shift_in, channel, lanes);
                loaded.slope = load(simd, rprelu.slope, channel, lanes);
                loaded.shift_out = load(simd, rprelu.shift_out, channel, lanes);
            }
        }
        loaded
    }

    /// For each of `P` pixels the value that the activation bends at zero, and the result. One stage after the other for all pixels: a
    /// stage that is not there costs one branch, and every loop is short enough to be unrolled.
    #[inline(always)]
    pub(super) fn apply<S: BitSimd, const P: usize>(
        &self,
        simd: S,
        loaded: &Loaded<<S::Float as Simd>::F32>,
        sums: [S::Words; P],
        residual: Option<[<S::Float as Simd>::F32; P]>,
    ) -> [[<S::Float as Simd>::F32; P]; 2] {
        let float = simd.float();
        let mut x = [float.zero(); P];
        for p in 0..P {
            x[p] = float.mul(simd.to_float(sums[p]), loaded.scale);
        }
        if self.normalize.is_some() {
            for x in &mut x {
                *x = float.fma(float.sub(*x, loaded.center), loaded.factor, loaded.offset);
            }
        }
        if let Some(residual) = residual {
            for p in 0..P {
                x[p] = float.add(x[p], residual[p]);
            }
        }
        let mut results = x;
        match self.activation {
            LayerActivation::None => {}
            LayerActivation::Relu => {
                for result in &mut results {
                    // In this order a NaN stays.
                    *result = float.max(float.zero(), *result);
                }
            }
            LayerActivation::Prelu(_) => {
                for p in 0..P {
                    let positive = float.gt(x[p], float.zero());
                    results[p] = float.select(positive, x[p], float.mul(loaded.slope, x[p]));
                }
            }
            LayerActivation::Rprelu(_) => {
                for p in 0..P {
                    x[p] = float.add(x[p], loaded.shift_in);
                    let positive = float.gt(x[p], float.zero());
                    let bent = float.select(positive, x[p], float.mul(loaded.slope, x[p]));
                    results[p] = float.add(bent, loaded.shift_out);
                }
            }
        }
        [x, results]
    }
}

/// What is added to the branch: `values` is `[batch, outHeight, outWidth, channels]`, where `channels` divides the output's. With fewer
/// of them they are repeated: `[r, r]` beside two convolutions that were joined into one, as in ReActNet-A.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The values.
    pub values: &'a [f32],
    /// Channels of one pixel.
    pub channels: usize,
}

/// The next layer's input: a channel's sign is -1 where the result is less than its `cut` (RSign: the negative of its shift).
pub struct NextSigns<'a> {
    /// One for each output channel.
    pub cut: &'a [f32],
    /// `[batch, outHeight, outWidth, ceil(outChannels / 32)]`; bits past the last channel are 0.
    pub output: &'a mut [u32],
}

/// A whole layer behind its sums; see [`LayerFunction`] for the order of operations.
pub struct Layer<'a> {
    /// From sums to numbers.
    pub function: LayerFunction<'a>,
    /// Added before the activation.
    pub residual: Option<Residual<'a>>,
    /// The results, `[batch, outHeight, outWidth, outChannels]`, where somebody needs them.
    pub output: Option<&'a mut [f32]>,
    /// Their signs, where somebody needs them.
    pub signs: Option<NextSigns<'a>>,
}

/// A checked [`Layer`].
pub(super) struct LayerStore<'a> {
    channels: usize,
    function: LayerFunction<'a>,
    residual: Option<Residual<'a>>,
    output: Option<DisjointMut<'a, f32>>,
    signs: Option<(&'a [f32], SignWords<'a>)>,
}

impl<'a> LayerStore<'a> {
    pub fn new(plan: &Plan, layer: Layer<'a>) -> Result<Self> {
        let channels = plan.geometry.out_channels;
        layer.function.check(channels)?;
        if let Some(residual) = layer.residual {
            if residual.channels == 0 || !channels.is_multiple_of(residual.channels) {
                return Err(KernelError::Invalid(format!(
                    "binary layer: a residual of {} channels does not repeat to {channels}",
                    residual.channels
                )));
            }
            let expected = plan.pixels() * residual.channels;
            check_length("binary layer: residual", residual.values.len(), expected)?;
        }
        if let Some(output) = &layer.output {
            check_length("binary conv2d: output", output.len(), plan.output_length())?;
        }
        let signs = match layer.signs {
            Some(NextSigns { cut, output }) => {
                check_length("binary layer: cut", cut.len(), channels)?;
                Some((cut, SignWords::new(plan, output)?))
            }
            None => None,
        };
        Ok(LayerStore {
            channels,
            function: layer.function,
            residual: layer.residual,
            output: layer.output.map(DisjointMut::new),
            signs,
        })
    }
}

impl Residual<'_> {
    /// What belongs to `lanes` of the output's channels from `channel` on, for `P` pixels.
    #[inline(always)]
    fn load<S: Simd, const P: usize>(
        &self,
        simd: S,
        pixel: usize,
        channel: usize,
        lanes: usize,
    ) -> [S::F32; P] {
        // A division only where channels are repeated.
        let first = if channel < self.channels {
            channel
        } else {
            channel % self.channels
        };
        let mut loaded = [simd.zero(); P];
        if first + lanes <= self.channels {
            for p in 0..P {
                let start = (pixel + p) * self.channels + first;
                loaded[p] = load(simd, self.values, start, lanes);
            }
        } else {
            for p in 0..P {
                let start = (pixel + p) * self.channels;
                let values = &self.values[start..start + self.channels];
                loaded[p] = gather(simd, values, first, lanes);
            }
        }
        loaded
    }
}

/// The values of one pixel's channels from `first` on, where they go around its last channel.
#[inline(always)]
fn gather<S: Simd>(simd: S, pixel: &[f32], first: usize, lanes: usize) -> S::F32 {
    let mut values = [0.0; GROUP];
    for lane in 0..lanes {
        values[lane] = pixel[(first + lane) % pixel.len()];
    }
    // SAFETY: LANES divides 16.
    unsafe { simd.load(values.as_ptr()) }
}

impl Store for LayerStore<'_> {
    #[inline(always)]
    fn store<S: BitSimd, const P: usize>(
        &self,
        simd: S,
        pixel: usize,
        channel: usize,
        sums: [S::Words; P],
    ) {
        let here = channels_here(simd, channel, self.channels);
        if here == 0 {
            return;
        }
        let float = simd.float();
        let loaded = self.function.load(float, channel, here);
        let cut = match &self.signs {
            Some((cut, _)) => load(float, cut, channel, here),
            None => float.zero(),
        };
        // A closure would be compiled without this instruction set.
        #[allow(clippy::manual_map)]
        let residual = match &self.residual {
            Some(residual) => Some(residual.load::<S::Float, P>(float, pixel, channel, here)),
            None => None,
        };
        let [_, results] = self.function.apply(simd, &loaded, sums, residual);
        if let Some(output) = &self.output {
            for p in 0..P {
                let start = (pixel + p) * self.channels + channel;
                // SAFETY: each pixel and channel is written by one task, once.
                let output = unsafe { output.part(start..start + here) };
                // SAFETY: `output` has `here` elements.
                unsafe {
                    if here == S::LANES {
                        float.store(results[p], output.as_mut_ptr());
                    } else {
                        float.store_partial(results[p], output.as_mut_ptr(), here);
                    }
                }
            }
        }
        if let Some((_, words)) = &self.signs {
            for p in 0..P {
                let bits = simd.below(results[p], cut) & ((1 << here) - 1);
                words.put(pixel + p, channel, bits);
            }
        }
    }
}
