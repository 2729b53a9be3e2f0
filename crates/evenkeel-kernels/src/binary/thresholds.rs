//! Signs straight from sums: for each channel the sums at which the sign of a [`LayerFunction`] changes.

use super::GROUP;
use super::epilogue::{SignWords, Store};
use super::geometry::Plan;
use super::layer::{LayerFunction, Loaded};
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;
use crate::isa::bits::{BitOp, BitSimd, dispatch_bits};
use std::ops::RangeInclusive;

/// For each output channel the sums at which a sign changes: it is -1 where `lower <= sum < upper`, or just elsewhere.
///
/// That covers every function that is monotone in the sum, and PReLU of any slope.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds<'a> {
    channels: usize,
    /// `[groups, 16]`, as i32; channels that fill up the last group are never -1.
    lower: &'a [u32],
    upper: &'a [u32],
    /// For each group, the channels that are -1 outside of their range.
    outside: &'a [u32],
}

/// Words that [`find_thresholds`] fills for `channels` output channels.
pub const fn threshold_words(channels: usize) -> usize {
    channels.div_ceil(GROUP) * (2 * GROUP + 1)
}

impl<'a> Thresholds<'a> {
    /// Of words from [`find_thresholds`].
    ///
    /// # Errors
    /// Where their number is not [`threshold_words`].
    pub fn from_words(channels: usize, words: &'a [u32]) -> Result<Self> {
        check_length("thresholds", words.len(), threshold_words(channels))?;
        let lanes = channels.div_ceil(GROUP) * GROUP;
        let (lower, rest) = words.split_at(lanes);
        let (upper, outside) = rest.split_at(lanes);
        Ok(Thresholds {
            channels,
            lower,
            upper,
            outside,
        })
    }
}

/// Finds the sums at which `function` goes below `cut`, by bisection on the function itself: so the signs are those of the unfused
/// layer, rounding and all, for every sum in `-limit..=limit`. `words` has [`threshold_words`] of them.
///
/// A function of the sum is monotone up to where its activation bends and from there on, so each half has at most one change, and
/// the bend is found the same way.
///
/// # Errors
/// Where lengths do not fit, a parameter is not finite, or `limit` is not positive.
pub fn find_thresholds(
    function: LayerFunction,
    cut: &[f32],
    limit: i32,
    words: &mut [u32],
) -> Result {
    let channels = cut.len();
    function.check(channels)?;
    check_length("thresholds", words.len(), threshold_words(channels))?;
    if limit <= 0 || limit > i32::MAX / 2 {
        return Err(KernelError::Invalid(format!(
            "thresholds: sums of up to {limit} products; expected 1 to {}",
            i32::MAX / 2
        )));
    }
    let lanes = channels.div_ceil(GROUP) * GROUP;
    words.fill(0);
    for group in 0..lanes / GROUP {
        let ranges = dispatch_bits(FindRanges {
            function,
            cut,
            limit,
            channel: group * GROUP,
        });
        for (lane, range) in ranges.into_iter().enumerate() {
            let channel = group * GROUP + lane;
            if channel >= channels {
                break;
            }
            let Some((lower, upper, outside)) = range else {
                return Err(KernelError::Invalid(format!(
                    "thresholds: the sign of channel {channel} changes more than twice; are its parameters finite?"
                )));
            };
            words[channel] = lower as u32;
            words[lanes + channel] = upper as u32;
            words[2 * lanes + group] |= u32::from(outside) << lane;
        }
    }
    Ok(())
}

/// `(lower, upper, outside)` of a channel, or nothing where there is no such range.
type SignRange = Option<(i32, i32, bool)>;

/// The ranges of the 16 channels from `channel` on.
struct FindRanges<'a> {
    function: LayerFunction<'a>,
    cut: &'a [f32],
    limit: i32,
    channel: usize,
}

impl BitOp for FindRanges<'_> {
    type Output = [SignRange; GROUP];

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) -> Self::Output {
        let mut ranges = [None; GROUP];
        for lane in 0..GROUP {
            let channel = self.channel + lane;
            if channel < self.cut.len() {
                let loaded = self.function.load(simd.float(), channel, 1);
                ranges[lane] = self.range(simd, &loaded, simd.float().splat(self.cut[channel]));
            }
        }
        ranges
    }
}

impl FindRanges<'_> {
    /// Whether the sign is -1, and whether the activation's argument is positive.
    #[inline(always)]
    fn ask<S: BitSimd>(
        &self,
        simd: S,
        loaded: &Loaded<<S::Float as Simd>::F32>,
        cut: <S::Float as Simd>::F32,
        sum: i32,
    ) -> (bool, bool) {
        let sums = [simd.splat(sum as u32)];
        let [[bent], [result]] = self.function.apply(simd, loaded, sums, None);
        let zero = simd.float().zero();
        let (negative, positive) = (simd.below(result, cut), simd.below(zero, bent));
        (negative & 1 == 1, positive & 1 == 1)
    }

    /// The first of `sums` whose answer is not that of the first one, unless the last has the first one's answer. `sign`: whether the
    /// question is for the sign, or else for the activation's argument.
    #[inline(always)]
    fn change<S: BitSimd>(
        &self,
        simd: S,
        loaded: &Loaded<<S::Float as Simd>::F32>,
        cut: <S::Float as Simd>::F32,
        sums: RangeInclusive<i32>,
        sign: bool,
    ) -> Option<i32> {
        let (mut from, mut to) = (*sums.start(), *sums.end());
        let (negative, positive) = self.ask(simd, loaded, cut, from);
        let (last_negative, last_positive) = self.ask(simd, loaded, cut, to);
        let differs = if sign {
            last_negative != negative
        } else {
            last_positive != positive
        };
        if !differs {
            return None;
        }
        while to - from > 1 {
            let middle = from + (to - from) / 2;
            let (now_negative, now_positive) = self.ask(simd, loaded, cut, middle);
            let same = if sign {
                now_negative == negative
            } else {
                now_positive == positive
            };
            if same {
                from = middle;
            } else {
                to = middle;
            }
        }
        Some(to)
    }

    #[inline(always)]
    fn range<S: BitSimd>(
        &self,
        simd: S,
        loaded: &Loaded<<S::Float as Simd>::F32>,
        cut: <S::Float as Simd>::F32,
    ) -> SignRange {
        let (least, most) = (-self.limit, self.limit);
        let mut changes = [None; 3];
        match self.change(simd, loaded, cut, least..=most, false) {
            None => changes[0] = self.change(simd, loaded, cut, least..=most, true),
            Some(bend) => {
                changes[0] = self.change(simd, loaded, cut, least..=bend - 1, true);
                changes[1] = self.change(simd, loaded, cut, bend - 1..=bend, true);
                changes[2] = self.change(simd, loaded, cut, bend..=most, true);
            }
        }
        let first = self.ask(simd, loaded, cut, least).0;
        let mut found = changes.into_iter().flatten();
        match (found.next(), found.next(), found.next()) {
            (None, ..) if first => Some((i32::MIN, i32::MAX, false)),
            (None, ..) => Some((0, 0, false)),
            (Some(a), None, _) if first => Some((i32::MIN, a, false)),
            (Some(a), None, _) => Some((a, i32::MAX, false)),
            (Some(a), Some(b), None) => Some((a, b, first)),
            _ => None,
        }
    }
}

pub(super) struct SignStore<'a> {
    thresholds: Thresholds<'a>,
    words: SignWords<'a>,
}

impl<'a> SignStore<'a> {
    pub fn new(plan: &Plan, thresholds: Thresholds<'a>, output: &'a mut [u32]) -> Result<Self> {
        let channels = plan.geometry.out_channels;
        check_length("binary conv2d: thresholds", thresholds.channels, channels)?;
        Ok(SignStore {
            thresholds,
            words: SignWords::new(plan, output)?,
        })
    }
}

impl Store for SignStore<'_> {
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
            self.words.put(pixel + p, channel, inside ^ outside);
        }
    }
}
