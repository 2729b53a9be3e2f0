//! What becomes of the sums of a binary convolution: integers, a whole layer, or the next layer's signs alone.

use super::geometry::Plan;
use super::layer::Layer;
use super::thresholds::Thresholds;
use super::{GROUP, WORD_BITS, words_of};
use crate::error::{Result, check_length};
use crate::isa::bits::BitSimd;
use crate::parallel::DisjointMut;

/// The output of [`super::binary_conv2d`].
pub enum Epilogue<'a> {
    /// The sums as they are: `[batch, outHeight, outWidth, outChannels]`.
    Integers(&'a mut [i32]),
    /// Everything up to the next layer's input, in floats.
    Layer(Layer<'a>),
    /// The next layer's input alone: the signs that a function of each sum has, without computing it.
    Signs {
        /// Where the signs change, for each output channel.
        thresholds: Thresholds<'a>,
        /// `[batch, outHeight, outWidth, ceil(outChannels / 32)]`; bits past the last channel are 0.
        output: &'a mut [u32],
    },
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

/// The channels from `channel` on that a vector holds.
#[inline(always)]
pub(super) fn channels_here<S: BitSimd>(_: S, channel: usize, channels: usize) -> usize {
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
                let mut lanes = [0; GROUP];
                // SAFETY: LANES divides 16.
                unsafe { simd.store(sums[p], lanes.as_mut_ptr()) };
                for (output, sum) in output.iter_mut().zip(lanes) {
                    *output = sum as i32;
                }
            }
        }
    }
}

/// The words of the output's signs, filled a few channels at a time.
pub(super) struct SignWords<'a> {
    words: usize,
    output: DisjointMut<'a, u32>,
}

impl<'a> SignWords<'a> {
    pub fn new(plan: &Plan, output: &'a mut [u32]) -> Result<Self> {
        check_length("binary conv2d: signs", output.len(), plan.output_words())?;
        Ok(SignWords {
            words: words_of(plan.geometry.out_channels),
            output: DisjointMut::new(output),
        })
    }

    /// Sets the bits of the channels from `channel` on. A pixel's channels must come in order, from one task.
    #[inline(always)]
    pub fn put(&self, pixel: usize, channel: usize, bits: u32) {
        let word = pixel * self.words + channel / WORD_BITS;
        // SAFETY: tasks own pairs of groups, which share a word, and go through their channels in order.
        let word = &mut unsafe { self.output.part(word..word + 1) }[0];
        if channel.is_multiple_of(WORD_BITS) {
            *word = bits;
        } else {
            *word |= bits << (channel % WORD_BITS);
        }
    }
}
