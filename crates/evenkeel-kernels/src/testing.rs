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
