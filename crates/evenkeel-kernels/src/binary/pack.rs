//! Between f32 and bits.

use super::geometry::{BinaryConv2d, PaddingValue};
use super::{GROUP, WORD_BITS, words_of};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::bits::{BitOp, BitSimd, dispatch_bits};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements of one task.
const TASK: usize = 1 << 14;

static ZEROS: [f32; WORD_BITS] = [0.0; WORD_BITS];

fn rows_of(what: &str, elements: usize, channels: usize) -> Result<usize> {
    if channels == 0 || !elements.is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "{what}: {elements} elements are not a whole number of rows of {channels} channels"
        )));
    }
    Ok(elements / channels)
}

/// The signs of `x + shift`: RSign (Liu et al., "ReActNet", 2020, equation 1), or the plain sign without a shift.
///
/// `x` is `[rows, channels]`, `shift` is `[channels]`, `bits` is `[rows, ceil(channels / 32)]`; bits past the last channel are 0.
///
/// # Errors
/// Where the lengths do not fit.
pub fn pack_signs(x: &[f32], shift: Option<&[f32]>, channels: usize, bits: &mut [u32]) -> Result {
    let rows = rows_of("pack signs", x.len(), channels)?;
    if let Some(shift) = shift {
        check_length("pack signs: shift", shift.len(), channels)?;
    }
    let words = words_of(channels);
    check_length("pack signs: bits", bits.len(), rows * words)?;
    let rows_per_task = (TASK / channels).max(1);
    let parts = DisjointMut::new(bits);
    for_each_task(rows.div_ceil(rows_per_task), x.len(), |task| {
        let rows = piece(task, rows_per_task, rows);
        // SAFETY: tasks have different rows.
        let bits = unsafe { parts.part(rows.start * words..rows.end * words) };
        dispatch_bits(PackSigns {
            x: &x[rows.start * channels..rows.end * channels],
            shift,
            channels,
            bits,
        });
    });
    Ok(())
}

struct PackSigns<'a> {
    x: &'a [f32],
    shift: Option<&'a [f32]>,
    channels: usize,
    bits: &'a mut [u32],
}

impl BitOp for PackSigns<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) {
        let words = words_of(self.channels);
        for (row, bits) in self
            .x
            .chunks_exact(self.channels)
            .zip(self.bits.chunks_exact_mut(words))
        {
            for (word, (values, bits)) in row.chunks(WORD_BITS).zip(bits).enumerate() {
                let shift = self.shift.map(|shift| &shift[word * WORD_BITS..]);
                *bits = if values.len() == WORD_BITS {
                    let shift = shift.map_or(ZEROS.as_ptr(), <[f32]>::as_ptr);
                    // SAFETY: this word is a whole one, of the values and so of the shifts.
                    unsafe { simd.signs(values.as_ptr(), shift) }
                } else {
                    let mut bits = 0;
                    for (index, value) in values.iter().enumerate() {
                        let shift = shift.map_or(0.0, |shift| shift[index]);
                        bits |= u32::from(value + shift < 0.0) << index;
                    }
                    bits
                };
            }
        }
    }
}

/// The signs of `weight`, `[taps, inChannels, outChannels]` (HWIO), as [`super::binary_conv2d`] reads them: for each group of 16 output
/// channels, tap and word of 32 input channels the words of the 16, side by side; after all of them, for each tap and output
/// channel, how many of its signs are -1. Output channels that fill up the last group have no -1.
///
/// # Errors
/// Where the lengths do not fit.
pub fn pack_weights(
    weight: &[f32],
    taps: usize,
    in_channels: usize,
    out_channels: usize,
    packed: &mut [u32],
) -> Result {
    let expected = checked_product("pack weights", &[taps, in_channels, out_channels])?;
    check_length("pack weights: weight", weight.len(), expected)?;
    let (words, groups) = (words_of(in_channels), out_channels.div_ceil(GROUP));
    let bits =
        checked_product("pack weights", &[taps, words + 1, groups, GROUP])? - taps * groups * GROUP;
    check_length(
        "pack weights: packed",
        packed.len(),
        bits + taps * groups * GROUP,
    )?;
    if expected == 0 {
        return Ok(());
    }
    let (bits, counts) = packed.split_at_mut(bits);
    let group_words = taps * words * GROUP;
    {
        let parts = DisjointMut::new(bits);
        for_each_task(groups, expected, |group| {
            // SAFETY: each task has its own group.
            let bits = unsafe { parts.part(group * group_words..(group + 1) * group_words) };
            dispatch(PackGroup {
                weight,
                in_channels,
                out_channels,
                group,
                bits,
            });
        });
    }
    for tap in 0..taps {
        for group in 0..groups {
            let bits = &bits[group * group_words + tap * words * GROUP..][..words * GROUP];
            let counts = &mut counts[(tap * groups + group) * GROUP..][..GROUP];
            counts.fill(0);
            for word in bits.chunks_exact(GROUP) {
                for (count, word) in counts.iter_mut().zip(word) {
                    *count += word.count_ones();
                }
            }
        }
    }
    Ok(())
}

struct PackGroup<'a> {
    weight: &'a [f32],
    in_channels: usize,
    out_channels: usize,
    group: usize,
    bits: &'a mut [u32],
}

impl SimdOp for PackGroup<'_> {
    type Output = ();

    /// The loop over the 16 lanes is a shift and an OR of vectors, which the compiler finds at every level.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let first = self.group * GROUP;
        let lanes = GROUP.min(self.out_channels - first);
        let words = words_of(self.in_channels);
        for (index, bits) in self.bits.chunks_exact_mut(GROUP).enumerate() {
            let (tap, word) = (index / words, index % words);
            let channels = WORD_BITS.min(self.in_channels - word * WORD_BITS);
            let mut signs = [0u32; GROUP];
            for bit in 0..channels {
                let row = tap * self.in_channels + word * WORD_BITS + bit;
                let weights = &self.weight[row * self.out_channels + first..][..lanes];
                let mut values = [0.0f32; GROUP];
                values[..lanes].copy_from_slice(weights);
                for lane in 0..GROUP {
                    signs[lane] |= u32::from(values[lane] < 0.0) << bit;
                }
            }
            bits.copy_from_slice(&signs);
        }
    }
}

/// The images that the input bits of `geometry` stand for, with their padding, in f32: `[batch, height + 2·padding[0], width + 2·padding[1],
/// inChannels]` of ±1, and ±1 or 0 outside. What the gradient of the weights is computed from.
///
/// # Errors
/// Where the geometry is impossible or the lengths do not fit.
pub fn unpack_signs(geometry: &BinaryConv2d, bits: &[u32], images: &mut [f32]) -> Result {
    let plan = geometry.plan()?;
    let [padded_height, padded_width] = plan.padded;
    let (channels, words) = (geometry.in_channels, plan.words);
    check_length("unpack signs: bits", bits.len(), plan.input_words())?;
    let row_length = padded_width * channels;
    let rows = geometry.batch * padded_height;
    check_length("unpack signs: images", images.len(), rows * row_length)?;
    let outside = match geometry.padding_value {
        PaddingValue::Zero => 0.0,
        PaddingValue::Plus => 1.0,
        PaddingValue::Minus => -1.0,
    };
    let rows_per_task = (TASK / row_length).max(1);
    let parts = DisjointMut::new(images);
    for_each_task(rows.div_ceil(rows_per_task), rows * row_length, |task| {
        for row in piece(task, rows_per_task, rows) {
            // SAFETY: tasks have different rows.
            let image_row = unsafe { parts.part(row * row_length..(row + 1) * row_length) };
            let (image, y) = (row / padded_height, row % padded_height);
            let inside = geometry.padding[0]..geometry.padding[0] + geometry.size[0];
            if !inside.contains(&y) {
                image_row.fill(outside);
                continue;
            }
            let (left, rest) = image_row.split_at_mut(geometry.padding[1] * channels);
            let (middle, right) = rest.split_at_mut(geometry.size[1] * channels);
            left.fill(outside);
            right.fill(outside);
            let source = image * geometry.size[0] + y - inside.start;
            let length = geometry.size[1] * words;
            dispatch(Unpack {
                bits: &bits[source * length..][..length],
                channels,
                values: middle,
            });
        }
    });
    Ok(())
}

struct Unpack<'a> {
    bits: &'a [u32],
    channels: usize,
    values: &'a mut [f32],
}

impl SimdOp for Unpack<'_> {
    type Output = ();

    /// The sign of ±1 is the top bit of its f32; shifting it there vectorizes at every level.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let one = 1.0f32.to_bits();
        for (bits, values) in self
            .bits
            .chunks_exact(words_of(self.channels))
            .zip(self.values.chunks_exact_mut(self.channels))
        {
            for (&word, values) in bits.iter().zip(values.chunks_mut(WORD_BITS)) {
                if let Ok(values) = <&mut [f32; WORD_BITS]>::try_from(&mut *values) {
                    for bit in 0..WORD_BITS {
                        values[bit] = f32::from_bits(one | (word >> bit) << 31);
                    }
                } else {
                    for (bit, value) in values.iter_mut().enumerate() {
                        *value = f32::from_bits(one | (word >> bit) << 31);
                    }
                }
            }
        }
    }
}
