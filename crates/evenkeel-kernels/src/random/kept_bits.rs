//! One bit for each value that dropout keeps.

use super::fill::PIECE;
use super::philox::{GROUP, Generator};
use crate::error::{KernelError, Result};
use crate::isa::bits::{BitOp, BitSimd, dispatch_bits};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Bytes that one group of random words fills: 16 bits of randomness for each bit.
const GROUP_BYTES: usize = 2 * GROUP / 8;

/// Sets each bit with chance `1 - rate`, by Philox4x32-7. Two bits come from one random word, so the chance is a multiple of 2^-16: the nearest one.
///
/// # Errors
/// Where the rate is not in `0..1`.
pub fn fill_kept_bits(generator: Generator, rate: f32, bits: &mut [u8]) -> Result {
    if !(0.0..1.0).contains(&rate) {
        return Err(KernelError::Invalid(format!(
            "bits with a drop rate of {rate}: expected at least 0 and less than 1"
        )));
    }
    let threshold = (f64::from(rate) * 65_536.0).round().min(65_535.0) as u16;
    if threshold == 0 {
        bits.fill(u8::MAX);
        return Ok(());
    }
    let length = bits.len();
    let piece_bytes = PIECE / GROUP * GROUP_BYTES;
    let parts = DisjointMut::new(bits);
    for_each_task(
        length.div_ceil(piece_bytes),
        length.saturating_mul(16),
        |task| {
            // SAFETY: pieces do not overlap.
            let bits = unsafe { parts.part(piece(task, piece_bytes, length)) };
            dispatch_bits(FillBits {
                generator,
                threshold,
                first_group: (task * (PIECE / GROUP)) as u64,
                bits,
            });
        },
    );
    Ok(())
}

struct FillBits<'a> {
    generator: Generator,
    threshold: u16,
    first_group: u64,
    bits: &'a mut [u8],
}

impl BitOp for FillBits<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) {
        let threshold = simd.splat(u32::from(self.threshold));
        for (group, bits) in self.bits.chunks_mut(GROUP_BYTES).enumerate() {
            let words = self.generator.quick_group(self.first_group + group as u64);
            // Word w decides bit w % 8 of byte w / 8 with its lower half, of byte 8 + w / 8 with its upper half.
            let mut halves = [[0u32; GROUP]; 2];
            for (at, &word) in words.as_flattened().iter().enumerate() {
                halves[0][at] = word & 0xffff;
                halves[1][at] = word >> 16;
            }
            let mut kept = [0u8; GROUP_BYTES];
            for (target, source) in kept
                .chunks_exact_mut(2)
                .zip(halves.as_flattened().chunks_exact(16))
            {
                let mut dropped = 0;
                for lane in (0..16).step_by(S::LANES) {
                    // SAFETY: LANES divides 16.
                    let half = unsafe { simd.load(source.as_ptr().add(lane)) };
                    dropped |= simd.less(half, threshold) << lane;
                }
                target.copy_from_slice(&(!dropped as u16).to_le_bytes());
            }
            bits.copy_from_slice(&kept[..bits.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_level;

    const GENERATOR: Generator = Generator {
        seed: 7,
        sequence: 3,
    };

    #[test]
    fn bits_are_words_compared_at_every_level_and_length() {
        at_every_level(|| {
            for length in [0, 1, 7, 15, 16, 17, 4095, 4097, 9000] {
                let mut bits = vec![0; length];
                fill_kept_bits(GENERATOR, 0.3, &mut bits).unwrap();
                for (index, &byte) in bits.iter().enumerate() {
                    let (group, within) = (index / GROUP_BYTES, index % GROUP_BYTES);
                    let mut expected = 0;
                    for bit in 0..8 {
                        let at = group * GROUP + within % 8 * 8 + bit;
                        let words = GENERATOR.quick_group((at / GROUP) as u64);
                        let word = words.as_flattened()[at % GROUP];
                        let half = if within < 8 {
                            word & 0xffff
                        } else {
                            word >> 16
                        };
                        expected |= u8::from(f64::from(half) >= (0.3f64 * 65536.0).round()) << bit;
                    }
                    assert_eq!(byte, expected, "byte {index} of {length}");
                }
            }
        });
    }

    #[test]
    fn the_share_of_ones_is_what_was_asked_for() {
        for rate in [0.0f32, 0.05, 0.5, 0.95] {
            let mut bits = vec![0; 1 << 17];
            fill_kept_bits(GENERATOR, rate, &mut bits).unwrap();
            let ones: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
            let count = (8 * bits.len()) as f64;
            let expected = count * (1.0 - f64::from(rate));
            let deviation = (count * f64::from(rate) * (1.0 - f64::from(rate))).sqrt();
            assert!(
                (f64::from(ones) - expected).abs() <= 4.0 * deviation,
                "{rate}"
            );
        }
        assert!(fill_kept_bits(GENERATOR, 1.0, &mut [0]).is_err());
        assert!(fill_kept_bits(GENERATOR, f32::NAN, &mut [0]).is_err());
    }
}
