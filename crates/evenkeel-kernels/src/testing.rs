//! What kernel tests share: running at every instruction set and at several thread counts.
//!
//! The level is one setting for the process and tests run side by side, so a test that changes it, or that compares the bits
//! of two runs, holds a lock meanwhile.

use crate::isa::{self, Level};
use std::sync::{Mutex, MutexGuard, PoisonError};

static LEVEL: Mutex<()> = Mutex::new(());

fn hold_level() -> MutexGuard<'static, ()> {
    // A test that failed while it held the lock says nothing about the others.
    LEVEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Puts the level back, also where the test panics.
struct Restore(Level);

impl Drop for Restore {
    fn drop(&mut self) {
        isa::force_level(self.0);
    }
}

/// Runs `test` once at each level this machine has.
pub fn at_every_level(test: impl Fn()) {
    let _held = hold_level();
    let _restore = Restore(isa::level());
    for level in Level::available() {
        assert!(isa::force_level(level));
        test();
    }
}

/// Runs `test` once at each level this machine has, and where it has an instruction that counts bits also without that.
pub fn at_every_bit_level(test: impl Fn()) {
    /// Puts the instruction back, also where the test panics.
    struct RestorePopcount;
    impl Drop for RestorePopcount {
        fn drop(&mut self) {
            isa::bits::set_vector_popcount(true);
        }
    }
    let _held = hold_level();
    let _restore = (Restore(isa::level()), RestorePopcount);
    for level in Level::available() {
        assert!(isa::force_level(level));
        let has_popcount = isa::bits::set_vector_popcount(true);
        test();
        if has_popcount && level == Level::Avx512 {
            isa::bits::set_vector_popcount(false);
            test();
        }
    }
}

/// Whether two results are the same, NaN for NaN and sign for sign.
pub fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

/// Asserts that `run` gives the same bits on 1, 2 and 3 threads.
pub fn assert_same_bits_at_any_thread_count(run: impl Fn() -> Vec<Vec<f32>> + Send + Sync) {
    let _held = hold_level();
    let on = |threads: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("a thread pool")
            .install(&run)
    };
    let one = on(1);
    for threads in [2, 3] {
        let several = on(threads);
        assert_eq!(one.len(), several.len());
        for (which, (one, several)) in one.iter().zip(&several).enumerate() {
            assert!(
                same_bits(one, several),
                "result {which} on {threads} threads"
            );
        }
    }
}

/// Values in -8..8 in steps of 1/16, the same for the same `seed`: sums of a few of them are exact, and ties are common.
pub fn coarse_values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 24) as f32 - 128.0) / 16.0
        })
        .collect()
}

/// How near a result and its gradients must be to what an oracle says.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Of a value, relative to the larger of it and 1.
    pub value: f64,
    /// The step of the central differences.
    pub step: f64,
    /// Of a gradient, relative to the largest element of that input's gradient.
    pub gradient: f64,
}

/// Asserts that `actual` (a function's result, and then the gradients of its `inputs` where that of the result is `dy`) follows
/// `oracle`, the function in f64: the gradients by central differences, at about nine elements of each input.
pub fn assert_follows(
    actual: &[Vec<f32>],
    inputs: &[Vec<f32>],
    dy: &[f32],
    oracle: impl Fn(&[Vec<f64>]) -> Vec<f64>,
    bounds: Bounds,
    what: &dyn std::fmt::Debug,
) {
    let mut wide: Vec<Vec<f64>> = inputs
        .iter()
        .map(|values| values.iter().copied().map(f64::from).collect())
        .collect();
    let expected = oracle(&wide);
    assert_eq!(actual[0].len(), expected.len());
    for (actual, expected) in actual[0].iter().zip(expected) {
        assert!(
            (f64::from(*actual) - expected).abs() <= bounds.value * expected.abs().max(1.0),
            "y of {what:?}: {actual}, expected {expected}"
        );
    }
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        let y = oracle(inputs);
        y.iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum()
    };
    assert_eq!(actual.len(), 1 + inputs.len());
    for (index, gradient) in actual[1..].iter().enumerate() {
        let largest = gradient.iter().fold(1.0f32, |most, g| most.max(g.abs()));
        for at in (0..gradient.len()).step_by(gradient.len() / 9 + 1) {
            let value = wide[index][at];
            wide[index][at] = value + bounds.step;
            let above = loss(&wide);
            wide[index][at] = value - bounds.step;
            let below = loss(&wide);
            wide[index][at] = value;
            let expected = (above - below) / (2.0 * bounds.step);
            assert!(
                (f64::from(gradient[at]) - expected).abs() <= bounds.gradient * f64::from(largest),
                "gradient {index} at {at} of {what:?}: {}, expected {expected}",
                gradient[at]
            );
        }
    }
}
