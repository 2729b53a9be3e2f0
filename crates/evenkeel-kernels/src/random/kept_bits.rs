//! One bit for each value that dropout keeps.

use super::philox::{Generator, SIDE_BY_SIDE};
use super::xoshiro::Xoshiro;
use crate::error::{KernelError, Result};
use crate::isa::bits::{BitOp, BitSimd, dispatch_bits};

/// Bytes of bits that come from one word of every generator: 16 bits of randomness for each bit.
const STEP_BYTES: usize = 2 * SIDE_BY_SIDE / 8;

/// Independent bits, each 1 with chance `1 - rate`, in any number of streams.
///
/// Bits are needed by the million and decide nothing but which values a layer drops, so each is a comparison of 16 bits of
/// xoshiro128++, whose state is a group of Philox's words: the chance is a multiple of 2^-16, the nearest one.
#[derive(Clone, Copy, Debug)]
pub struct KeptBits {
    generator: Generator,
    /// Numbers below it drop their value.
    threshold: u16,
}

impl KeptBits {
    /// Bits that follow from `generator` and the stream's number.
    ///
    /// # Errors
    /// Where the rate is not in `0..1`.
    pub fn new(generator: Generator, rate: f32) -> Result<Self> {
        if !(0.0..1.0).contains(&rate) {
            return Err(KernelError::Invalid(format!(
                "a drop rate of {rate}: expected at least 0 and less than 1"
            )));
        }
        let threshold = (f64::from(rate) * 65_536.0).round().min(65_535.0) as u16;
        Ok(KeptBits {
            generator,
            threshold,
        })
    }

    /// Fills `bits` with the first bits of stream `stream`, on the calling thread.
    pub fn fill(self, stream: u64, bits: &mut [u8]) {
        if self.threshold == 0 {
            bits.fill(u8::MAX);
        } else {
            dispatch_bits(Fill {
                source: self,
                stream,
                bits,
            });
        }
    }
}

struct Fill<'a> {
    source: KeptBits,
    stream: u64,
    bits: &'a mut [u8],
}

impl BitOp for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) {
        // Halves of words are compared as the upper halves of i32, whose smallest is -32768.
        let threshold = (i32::from(self.source.threshold) - 32_768) << 16;
        let threshold = simd.splat(threshold as u32);
        let mut generators = Xoshiro::new(self.source.generator, self.stream);
        let mut steps = self.bits.chunks_exact_mut(STEP_BYTES);
        for bits in &mut steps {
            bits.copy_from_slice(&step(simd, &mut generators, threshold));
        }
        let rest = steps.into_remainder();
        if !rest.is_empty() {
            let bits = step(simd, &mut generators, threshold);
            rest.copy_from_slice(&bits[..rest.len()]);
        }
    }
}

/// The bits of the next word of every generator: bit `lane` comes from the word's lower half, bit `16 + lane` from its upper half.
#[inline(always)]
fn step<S: BitSimd>(simd: S, generators: &mut Xoshiro, threshold: S::Words) -> [u8; STEP_BYTES] {
    let words = generators.next();
    let mut lower = [0; SIDE_BY_SIDE];
    for lane in 0..SIDE_BY_SIDE {
        lower[lane] = words[lane] << 16;
    }
    let mut dropped = 0;
    for lane in (0..SIDE_BY_SIDE).step_by(S::LANES) {
        // SAFETY: LANES divides 16.
        let (lower, upper) = unsafe {
            (
                simd.load(lower.as_ptr().add(lane)),
                simd.load(words.as_ptr().add(lane)),
            )
        };
        dropped |= simd.less(lower, threshold) << lane;
        dropped |= simd.less(upper, threshold) << (SIDE_BY_SIDE + lane);
    }
    (!dropped).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_level;

    const GENERATOR: Generator = Generator {
        seed: 7,
        sequence: 3,
    };

    fn filled(rate: f32, stream: u64, bytes: usize) -> Vec<u8> {
        let mut bits = vec![0; bytes];
        KeptBits::new(GENERATOR, rate)
            .unwrap()
            .fill(stream, &mut bits);
        bits
    }

    #[test]
    fn bits_are_words_compared_at_every_level_and_length() {
        at_every_level(|| {
            for length in [0, 1, 3, 4, 5, 7, 64, 4097] {
                let mut generators = Xoshiro::new(GENERATOR, 9);
                let mut words = [0; SIDE_BY_SIDE];
                for (index, byte) in filled(0.3, 9, length).into_iter().enumerate() {
                    let within = index % STEP_BYTES;
                    if within == 0 {
                        words = generators.next();
                    }
                    for bit in 0..8 {
                        let word = words[(8 * within + bit) % SIDE_BY_SIDE];
                        let half = if within < 2 { word } else { word >> 16 } as u16;
                        let value = f64::from(half.cast_signed()) + 32_768.0;
                        let kept = value >= (0.3f64 * 65_536.0).round();
                        assert_eq!(byte >> bit & 1 == 1, kept, "byte {index} of {length}");
                    }
                }
            }
        });
    }

    /// How many standard deviations lie between a count of successes and its expectation.
    fn surprise(successes: u32, trials: usize, chance: f64) -> f64 {
        let trials = trials as f64;
        let deviation = (trials * chance * (1.0 - chance)).sqrt();
        (f64::from(successes) - trials * chance).abs() / deviation.max(1e-30)
    }

    #[test]
    fn the_share_of_ones_is_what_was_asked_for() {
        for rate in [0.0f32, 0.05, 0.5, 0.95] {
            let bits = filled(rate, 0, 1 << 17);
            let ones = bits.iter().map(|byte| byte.count_ones()).sum();
            let kept = 1.0 - f64::from(rate);
            assert!(surprise(ones, 8 * bits.len(), kept) <= 4.0, "{rate}");
        }
        assert!(KeptBits::new(GENERATOR, 1.0).is_err());
        assert!(KeptBits::new(GENERATOR, f32::NAN).is_err());
    }

    #[test]
    fn bits_do_not_depend_on_those_before_nor_on_other_streams() {
        let rate = 0.25f32;
        let both = f64::from((1.0 - rate) * (1.0 - rate));
        let bits = filled(rate, 1, 1 << 15);
        let bit = |at: usize| bits[at / 8] >> (at % 8) & 1;
        let count = 8 * bits.len();
        for distance in [1, 2, 7, 8, 16, 31, 32, 64, 512, 4096] {
            let pairs = (distance..count).map(|at| u32::from(bit(at) & bit(at - distance)));
            let ones = pairs.sum();
            // Neighbouring pairs share a bit, so their count varies a little more than that of as many independent ones.
            assert!(surprise(ones, count - distance, both) <= 6.0, "{distance}");
        }
        for stream in [0, 2, 1 << 15, 1 << 32] {
            let others = filled(rate, stream, 1 << 15);
            let pairs = bits.iter().zip(&others).map(|(a, b)| (a & b).count_ones());
            assert!(surprise(pairs.sum(), count, both) <= 4.0, "{stream}");
        }
    }
}
