//! What becomes of the sums of a binary convolution: integers, scaled f32, or the next layer's signs.

use super::geometry::Plan;
use super::{GROUP, WORD_BITS, words_of};
use crate::error::{KernelError, Result, check_length};
use crate::isa::bits::BitSimd;
use crate::parallel::DisjointMut;

static ZEROS: [f32; GROUP] = [0.0; GROUP];

/// The output of [`super::binary_conv2d`].
pub enum Epilogue<'a> {
    /// The sums as they are: `[batch, outHeight, outWidth, outChannels]`.
    Integers(&'a mut [i32]),
    /// `sum · scale + bias`: the sum rounded to f32 (exact below 2^24), one multiplication, one addition.
    Scaled {
        /// One factor for each output channel.
        scale: &'a [f32],
        /// One addend for each output channel.
        bias: Option<&'a [f32]>,
        /// `[batch, outHeight, outWidth, outChannels]`.
        output: &'a mut [f32],
    },
    /// The signs that a function of each sum has, as the next layer reads them.
    Signs {
        /// Where the signs change, for each output channel.
        thresholds: &'a Thresholds,
        /// `[batch, outHeight, outWidth, ceil(outChannels / 32)]`; bits past the last channel are 0.
        output: &'a mut [u32],
    },
}

/// For each output channel the sums at which a sign changes: it is -1 where `lower <= sum < upper`, or just elsewhere.
///
/// That covers every epilogue that is monotone in the sum, and PReLU of any slope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thresholds {
    channels: usize,
    /// `[groups, 16]`, as i32; channels that fill up the last group are never -1.
    lower: Vec<u32>,
    upper: Vec<u32>,
    /// For each group, the channels that are -1 outside of their range.
    outside: Vec<u32>,
}

impl Thresholds {
    /// Of `lower`, `upper` and `outside` for each output channel.
    ///
    /// # Errors
    /// Where the lengths differ.
    pub fn new(lower: &[i32], upper: &[i32], outside: &[bool]) -> Result<Self> {
        let channels = lower.len();
        check_length("thresholds: upper", upper.len(), channels)?;
        check_length("thresholds: outside", outside.len(), channels)?;
        let groups = channels.div_ceil(GROUP);
        let mut thresholds = Thresholds {
            channels,
            lower: vec![0; groups * GROUP],
            upper: vec![0; groups * GROUP],
            outside: vec![0; groups],
        };
        for channel in 0..channels {
            thresholds.lower[channel] = lower[channel] as u32;
            thresholds.upper[channel] = upper[channel] as u32;
            thresholds.outside[channel / GROUP] |= u32::from(outside[channel]) << (channel % GROUP);
        }
        Ok(thresholds)
    }

    /// Finds the thresholds of any function by asking it: `negative(channel, sum)` says whether the sign is -1, for sums in
    /// `-limit..=limit`. So the fused signs are those of the unfused function, rounding and all.
    ///
    /// # Errors
    /// Where a channel's sign changes more than twice.
    pub fn of(
        channels: usize,
        limit: i32,
        mut negative: impl FnMut(usize, i32) -> bool,
    ) -> Result<Self> {
        let (mut lower, mut upper) = (vec![i32::MIN; channels], vec![i32::MAX; channels]);
        let mut outside = vec![false; channels];
        for channel in 0..channels {
            let mut changes = 0;
            let first = negative(channel, -limit);
            let mut last = first;
            for sum in -limit + 1..=limit {
                let now = negative(channel, sum);
                if now == last {
                    continue;
                }
                last = now;
                changes += 1;
                match (changes, first) {
                    (1, true) => upper[channel] = sum,
                    (1, false) => lower[channel] = sum,
                    (2, true) => {
                        // Negative, positive from the first change on, negative again from here.
                        outside[channel] = true;
                        lower[channel] = upper[channel];
                        upper[channel] = sum;
                    }
                    (2, false) => upper[channel] = sum,
                    _ => {
                        return Err(KernelError::Invalid(format!(
                            "thresholds: the sign of channel {channel} changes more than twice"
                        )));
                    }
                }
            }
            if changes == 0 && !first {
                upper[channel] = i32::MIN;
            }
        }
        Self::new(&lower, &upper, &outside)
    }

    /// Output channels.
    pub fn channels(&self) -> usize {
        self.channels
    }
}

/// Writes sums as they come out of the registers.
pub(super) trait Store: Sync {
    /// Takes the sums of the pixels from `pixel` on and the channels from `channel`, a multiple of `LANES`, on. Channels past the last
    /// mean nothing.
    fn store<S: BitSimd, const P: usize>(
        &self,
        simd: S,
        pixel: usize,
        channel: usize,
        sums: [S::Words; P],
    );
}

/// The lanes as integers, for the last channels, which do not fill a vector.
#[inline(always)]
fn lanes_of<S: BitSimd>(simd: S, sums: S::Words) -> [u32; GROUP] {
    let mut lanes = [0; GROUP];
    // SAFETY: LANES divides 16.
    unsafe { simd.store(sums, lanes.as_mut_ptr()) };
    lanes
}

/// The channels from `channel` on that a vector holds.
#[inline(always)]
fn channels_here<S: BitSimd>(_: S, channel: usize, channels: usize) -> usize {
    channels.saturating_sub(channel).min(S::LANES)
}

pub(super) struct Integers<'a> {
    channels: usize,
    output: DisjointMut<'a, i32>,
}

impl<'a> Integers<'a> {
    pub fn new(plan: &Plan, output: &'a mut [i32]) -> Result<Self> {
        check_length("binary conv2d: output", output.len(), plan.output_length())?;
        Ok(Integers {
            channels: plan.geometry.out_channels,
            output: DisjointMut::new(output),
        })
    }
}

impl Store for Integers<'_> {
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
        for p in 0..P {
            let start = (pixel + p) * self.channels + channel;
            // SAFETY: each pixel and channel is written by one task, once.
            let output = unsafe { self.output.part(start..start + here) };
            if here == S::LANES {
                // SAFETY: `output` has LANES elements of the size of a word.
                unsafe { simd.store(sums[p], output.as_mut_ptr().cast()) };
            } else {
                for (output, sum) in output.iter_mut().zip(lanes_of(simd, sums[p])) {
                    *output = sum as i32;
                }
            }
        }
    }
}

pub(super) struct Scaled<'a> {
    channels: usize,
    scale: &'a [f32],
    bias: Option<&'a [f32]>,
    output: DisjointMut<'a, f32>,
}

impl<'a> Scaled<'a> {
    pub fn new(
        plan: &Plan,
        scale: &'a [f32],
        bias: Option<&'a [f32]>,
        output: &'a mut [f32],
    ) -> Result<Self> {
        let channels = plan.geometry.out_channels;
        check_length("binary conv2d: scale", scale.len(), channels)?;
        if let Some(bias) = bias {
            check_length("binary conv2d: bias", bias.len(), channels)?;
        }
        check_length("binary conv2d: output", output.len(), plan.output_length())?;
        Ok(Scaled {
            channels,
            scale,
            bias,
            output: DisjointMut::new(output),
        })
    }
}

impl Store for Scaled<'_> {
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
        let scale = &self.scale[channel..][..here];
        let bias = match self.bias {
            Some(bias) => &bias[channel..][..here],
            None => &ZEROS[..here],
        };
        for p in 0..P {
            let start = (pixel + p) * self.channels + channel;
            // SAFETY: each pixel and channel is written by one task, once.
            let output = unsafe { self.output.part(start..start + here) };
            if here == S::LANES {
                let (scale, bias) = (scale.as_ptr(), bias.as_ptr());
                // SAFETY: all three have LANES elements.
                unsafe { simd.store_scaled(sums[p], scale, bias, output.as_mut_ptr()) };
            } else {
                let sums = lanes_of(simd, sums[p]);
                for lane in 0..here {
                    output[lane] = sums[lane] as i32 as f32 * scale[lane] + bias[lane];
                }
            }
        }
    }
}

pub(super) struct Signs<'a> {
    words: usize,
    thresholds: &'a Thresholds,
    output: DisjointMut<'a, u32>,
}

impl<'a> Signs<'a> {
    pub fn new(plan: &Plan, thresholds: &'a Thresholds, output: &'a mut [u32]) -> Result<Self> {
        let channels = plan.geometry.out_channels;
        check_length("binary conv2d: thresholds", thresholds.channels, channels)?;
        check_length("binary conv2d: output", output.len(), plan.output_words())?;
        Ok(Signs {
            words: words_of(channels),
            thresholds,
            output: DisjointMut::new(output),
        })
    }
}

impl Store for Signs<'_> {
    #[inline(always)]
    fn store<S: BitSimd, const P: usize>(
        &self,
        simd: S,
        pixel: usize,
        channel: usize,
        sums: [S::Words; P],
    ) {
        let lower = &self.thresholds.lower[channel..channel + S::LANES];
        let upper = &self.thresholds.upper[channel..channel + S::LANES];
        // SAFETY: both have LANES words.
        let (lower, upper) = unsafe { (simd.load(lower.as_ptr()), simd.load(upper.as_ptr())) };
        let outside = self.thresholds.outside[channel / GROUP] >> (channel % GROUP);
        let outside = outside & ((1 << S::LANES) - 1);
        for p in 0..P {
            let inside = simd.less(sums[p], upper) & !simd.less(sums[p], lower);
            let bits = inside ^ outside;
            let word = (pixel + p) * self.words + channel / WORD_BITS;
            // SAFETY: tasks own pairs of groups, which share a word, and go through their channels in order.
            let word = &mut unsafe { self.output.part(word..word + 1) }[0];
            if channel.is_multiple_of(WORD_BITS) {
                *word = bits;
            } else {
                *word |= bits << (channel % WORD_BITS);
            }
        }
    }
}
