//! Dropout (Srivastava et al., 2014), scaled so that the expectation stays ("inverted").

use super::fill::PIECE;
use super::philox::{GROUP, Generator};
use crate::elementwise::map::{Operands, operands};
use crate::error::{KernelError, Result, check_length};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};

/// `y = x / (1 - probability)` where the generator keeps an element, and 0 (whatever `x` is) where it drops it, which it does with
/// `probability`. The backward pass is the same function of the gradient.
///
/// # Errors
/// Where the lengths differ or the probability is not in `0..1` (1 would keep nothing, and the scale be infinite).
pub fn dropout(generator: Generator, probability: f32, x: &[f32], y: &mut [f32]) -> Result {
    check_length("dropout output", y.len(), x.len())?;
    // SAFETY: both have the same length, and a mutable slice overlaps no other.
    unsafe { run(generator, probability, operands([x], y), x.len()) }
}

/// As [`dropout`], in place.
///
/// # Errors
/// Where the probability is not in `0..1`.
pub fn dropout_in_place(generator: Generator, probability: f32, x: &mut [f32]) -> Result {
    let output = x.as_mut_ptr();
    let operands = Operands {
        inputs: [output.cast_const()],
        output,
    };
    // SAFETY: the input is the output itself.
    unsafe { run(generator, probability, operands, x.len()) }
}

/// # Safety
/// Input and output must be valid for `length` f32, and be the same or not overlap.
unsafe fn run(
    generator: Generator,
    probability: f32,
    operands: Operands<1>,
    length: usize,
) -> Result {
    if !(0.0..1.0).contains(&probability) {
        return Err(KernelError::Invalid(format!(
            "dropout with probability {probability}: expected at least 0 and less than 1"
        )));
    }
    // Words below this drop their element. A probability below one is at most 1 - 2^-24 as f32, so this fits.
    let threshold = (f64::from(probability) * 4_294_967_296.0) as u32;
    let scale = (1.0 / (1.0 - f64::from(probability))) as f32;
    for_each_task(length.div_ceil(PIECE), length.saturating_mul(8), |task| {
        let range = piece(task, PIECE, length);
        dispatch(Drop {
            generator,
            threshold,
            scale,
            operands,
            range,
        });
    });
    Ok(())
}

struct Drop {
    generator: Generator,
    threshold: u32,
    scale: f32,
    operands: Operands<1>,
    range: std::ops::Range<usize>,
}

impl SimdOp for Drop {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let scale = simd.splat(self.scale);
        for start in self.range.clone().step_by(GROUP) {
            let words = self.generator.group((start / GROUP) as u64);
            let mut kept = [[0.0f32; GROUP / 4]; 4];
            for (kept, word) in kept.as_flattened_mut().iter_mut().zip(words.as_flattened()) {
                *kept = if *word >= self.threshold { 1.0 } else { 0.0 };
            }
            let kept = kept.as_flattened();
            let length = GROUP.min(self.range.end - start);
            for at in (0..length).step_by(S::LANES) {
                let lanes = S::LANES.min(length - at);
                // SAFETY: start + at + lanes lies in the range, which `run` cut from the operands' length; `kept` has GROUP
                // elements, a multiple of LANES.
                unsafe {
                    let keep = simd.gt(simd.load(kept.as_ptr().add(at)), simd.zero());
                    let x = simd.load_partial(self.operands.inputs[0].add(start + at), lanes);
                    let y = simd.select(keep, simd.mul(x, scale), simd.zero());
                    simd.store_partial(y, self.operands.output.add(start + at), lanes);
                }
            }
        }
    }
}
