//! Arrays of random values.

use super::normal::{UNIFORM_STEP, box_muller};
use super::philox::{GROUP, Generator, SIDE_BY_SIDE};
use crate::error::{KernelError, Result};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements per task: whole groups.
pub(super) const PIECE: usize = 256 * GROUP;

/// Turns a group of random words into a group of values.
trait Distribution: Copy + Send + Sync {
    type Value: Copy + Default + Send + Sync;
    fn values(self, words: &[[u32; SIDE_BY_SIDE]; 4]) -> [[Self::Value; SIDE_BY_SIDE]; 4];
}

struct Fill<'a, D: Distribution> {
    generator: Generator,
    distribution: D,
    first_group: u64,
    output: &'a mut [D::Value],
}

impl<D: Distribution> SimdOp for Fill<'_, D> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for (group, output) in self.output.chunks_mut(GROUP).enumerate() {
            let words = self.generator.group(self.first_group + group as u64);
            let values = self.distribution.values(&words);
            output.copy_from_slice(&values.as_flattened()[..output.len()]);
        }
    }
}

fn fill<D: Distribution>(generator: Generator, distribution: D, output: &mut [D::Value]) {
    let length = output.len();
    let parts = DisjointMut::new(output);
    // A random value costs as much as a dozen elementary operations.
    for_each_task(length.div_ceil(PIECE), length.saturating_mul(12), |task| {
        // SAFETY: pieces do not overlap.
        let output = unsafe { parts.part(piece(task, PIECE, length)) };
        dispatch(Fill {
            generator,
            distribution,
            first_group: (task * (PIECE / GROUP)) as u64,
            output,
        });
    });
}

#[derive(Clone, Copy)]
struct Uniform {
    low: f32,
    width: f32,
}

impl Distribution for Uniform {
    type Value = f32;
    #[inline(always)]
    fn values(self, words: &[[u32; SIDE_BY_SIDE]; 4]) -> [[f32; SIDE_BY_SIDE]; 4] {
        let mut values = [[0.0; SIDE_BY_SIDE]; 4];
        for word in 0..4 {
            for lane in 0..SIDE_BY_SIDE {
                let unit = (words[word][lane] >> 8) as f32 * UNIFORM_STEP;
                values[word][lane] = self.low + self.width * unit;
            }
        }
        values
    }
}

/// Fills `output` with values that are uniform in `[low, high)`, in steps of 2^-24 of the width (rounding may reach `high` where
/// the width is small beside `low`).
///
/// # Errors
/// Unless `low <= high`, both and their difference finite.
pub fn fill_uniform(generator: Generator, low: f32, high: f32, output: &mut [f32]) -> Result {
    let width = high - low;
    if !(width >= 0.0 && width.is_finite()) {
        return Err(KernelError::Invalid(format!(
            "uniform values in [{low}, {high}): the limits must be finite and in order"
        )));
    }
    fill(generator, Uniform { low, width }, output);
    Ok(())
}

#[derive(Clone, Copy)]
struct Normal {
    mean: f32,
    deviation: f32,
}

impl Distribution for Normal {
    type Value = f32;
    #[inline(always)]
    fn values(self, words: &[[u32; SIDE_BY_SIDE]; 4]) -> [[f32; SIDE_BY_SIDE]; 4] {
        let [a, b] = box_muller(&words[0], &words[1]);
        let [c, d] = box_muller(&words[2], &words[3]);
        let mut values = [a, b, c, d];
        for value in values.as_flattened_mut() {
            *value = self.mean + self.deviation * *value;
        }
        values
    }
}

/// Fills `output` with normal values.
///
/// # Errors
/// Unless both parameters are finite and `deviation >= 0`.
pub fn fill_normal(generator: Generator, mean: f32, deviation: f32, output: &mut [f32]) -> Result {
    if !(mean.is_finite() && deviation.is_finite() && deviation >= 0.0) {
        return Err(KernelError::Invalid(format!(
            "normal values with mean {mean} and standard deviation {deviation}: expected finite numbers, the deviation not negative"
        )));
    }
    fill(generator, Normal { mean, deviation }, output);
    Ok(())
}

#[derive(Clone, Copy)]
struct Integers {
    low: i32,
    count: u32,
}

impl Distribution for Integers {
    type Value = i32;
    #[inline(always)]
    fn values(self, words: &[[u32; SIDE_BY_SIDE]; 4]) -> [[i32; SIDE_BY_SIDE]; 4] {
        words.map(|words| {
            words.map(|word| {
                let offset = (u64::from(word) * u64::from(self.count)) >> 32;
                self.low.wrapping_add(offset as i32)
            })
        })
    }
}

/// Fills `output` with whole numbers from `low` to `high - 1` (each within 2^-32 of its probability).
///
/// # Errors
/// Unless `low < high`, less than 2^32 apart.
pub fn fill_integers(generator: Generator, low: i32, high: i32, output: &mut [i32]) -> Result {
    if low >= high {
        return Err(KernelError::Invalid(format!(
            "random integers from {low} to below {high}: there are none"
        )));
    }
    let count = high.wrapping_sub(low) as u32;
    fill(generator, Integers { low, count }, output);
    Ok(())
}

/// A random order of `0..length` (Fisher and Yates' shuffle), for visiting a data set.
///
/// # Errors
/// Where `length` is more than 2^32.
pub fn permutation(generator: Generator, length: usize) -> Result<Vec<u32>> {
    let last = u32::try_from(length.saturating_sub(1)).map_err(|_| {
        KernelError::Invalid(format!("a permutation of {length}: at most 2^32 elements"))
    })?;
    let mut order: Vec<u32> = if length == 0 {
        Vec::new()
    } else {
        (0..=last).collect()
    };
    for position in (1..length).rev() {
        // 64 random bits, so that the bias is below 2^-32 for every length.
        let at = 2 * position as u64;
        let random = u64::from(generator.word(at)) << 32 | u64::from(generator.word(at + 1));
        let other = ((u128::from(random) * (position as u128 + 1)) >> 64) as usize;
        order.swap(position, other);
    }
    Ok(order)
}
