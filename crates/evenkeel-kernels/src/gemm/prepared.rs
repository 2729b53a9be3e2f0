//! Packed or transformed weights that the segments of a batch share.

use crate::operand::{Operand, with_operand};
use crate::parallel::{DisjointMut, segment};
use crate::scratch::{Line, floats_mut};
use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

/// The weights of one convolution as its kernel wants them, made by the first segments that need them, each a part. To be used with one
/// kernel, one shape of an image, and weights that do not change: see [`PreparedWeights::share`].
#[derive(Default)]
pub struct PreparedWeights {
    memory: OnceLock<Memory>,
    /// Parts that a thread has begun.
    taken: AtomicUsize,
    /// Parts that are ready, and whether one never will be.
    ready: Mutex<(usize, bool)>,
    changed: Condvar,
}

/// Where they lie.
struct Memory {
    /// At least as long as they are.
    all: DisjointMut<'static, f32>,
    capacity: usize,
    length: usize,
}

/// Memory of earlier prepared weights: training prepares the same ones in every step.
static FREE: Mutex<Vec<&'static mut [f32]>> = Mutex::new(Vec::new());

thread_local! {
    static SHARED: RefCell<Option<Arc<PreparedWeights>>> = const { RefCell::new(None) };
}

impl PreparedWeights {
    /// Runs `body`, a single call of a kernel, which takes its prepared weights from `self` or leaves them there.
    pub fn share<R>(self: &Arc<Self>, body: impl FnOnce() -> R) -> R {
        let _restore = Restore(SHARED.replace(Some(self.clone())));
        body()
    }

    /// The weights, of which this thread makes the parts that no other thread has begun.
    fn get(
        &self,
        length: usize,
        parts: usize,
        fill: impl Fn(usize, &DisjointMut<'_, f32>),
    ) -> &[f32] {
        let memory = self.memory.get_or_init(|| Memory::of(length));
        assert_eq!(memory.length, length, "prepared weights of another kernel");
        loop {
            let part = self.taken.fetch_add(1, Ordering::Relaxed);
            if part >= parts {
                break;
            }
            let mut finish = Finish {
                weights: self,
                well: false,
            };
            // On this thread: were it to fork, it could meet another segment while it waits, which would wait for these weights.
            segment(true, || fill(part, &memory.all));
            finish.well = true;
        }
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |&mut (ready, failed): &mut (usize, bool)| ready < parts && !failed;
        let ready = self.changed.wait_while(ready, waiting);
        let (_, failed) = *ready.unwrap_or_else(PoisonError::into_inner);
        assert!(
            !failed,
            "weights were not prepared: another thread panicked"
        );
        // SAFETY: all parts are written, and `ready`, behind its lock, says so.
        unsafe { &memory.all.whole()[..length] }
    }
}

impl Drop for PreparedWeights {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // SAFETY: nobody else has the memory any more.
            let all = unsafe { memory.all.part(0..memory.capacity) };
            FREE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(all);
        }
    }
}

impl Memory {
    /// The smallest that is free and has `length` f32, or new memory.
    fn of(length: usize) -> Memory {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = free.iter().enumerate();
        let fitting = fitting.filter(|(_, all)| all.len() >= length);
        let smallest = fitting.min_by_key(|(_, all)| all.len());
        let all = match smallest.map(|(index, _)| index) {
            Some(index) => free.swap_remove(index),
            None => {
                let mut lines = Vec::new();
                Line::resize(&mut lines, length);
                let lines = lines.leak();
                floats_mut(lines, length)
            }
        };
        Memory {
            capacity: all.len(),
            length,
            all: DisjointMut::new(all),
        }
    }
}

/// Notes, even where a kernel panics, that a part is finished.
struct Finish<'a> {
    weights: &'a PreparedWeights,
    well: bool,
}

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        let ready = self.weights.ready.lock();
        let mut ready = ready.unwrap_or_else(PoisonError::into_inner);
        ready.0 += 1;
        ready.1 |= !self.well;
        self.weights.changed.notify_all();
    }
}

/// Puts back what was shared before, even where a kernel panics.
struct Restore(Option<Arc<PreparedWeights>>);

impl Drop for Restore {
    fn drop(&mut self) {
        SHARED.set(self.0.take());
    }
}

/// Runs `body` with weights of `length` f32 in `parts` parts that `fill` writes, of `work` elementary operations together: those that
/// segments share, or an operand of this call.
///
/// # Panics
/// Where shared weights have another length: two kernels share one [`PreparedWeights`].
pub(crate) fn with_prepared<R>(
    length: usize,
    parts: usize,
    work: usize,
    fill: impl Fn(usize, &DisjointMut<'_, f32>) + Sync,
    body: impl FnOnce(&Operand<'_>) -> R,
) -> R {
    match SHARED.take() {
        Some(shared) => body(&Operand::common(shared.get(length, parts, fill))),
        None => with_operand(length, parts, work, fill, body),
    }
}

/// The same for weights in one part.
pub(crate) fn with_prepared_whole<R>(
    length: usize,
    fill: impl Fn(&mut [f32]) + Sync,
    body: impl FnOnce(&Operand<'_>) -> R,
) -> R {
    let fill = |_, all: &DisjointMut<'_, f32>| {
        // SAFETY: the only part.
        fill(unsafe { all.part(0..length) });
    };
    with_prepared(length, 1, 0, fill, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parallel::for_each_task;

    fn whole(length: usize, fill: impl Fn(&mut [f32]) + Sync) -> Vec<f32> {
        with_prepared_whole(length, fill, |weights| weights.with(0..1, <[f32]>::to_vec))
    }

    #[test]
    fn the_first_call_prepares_for_all() {
        let weights = Arc::new(PreparedWeights::default());
        for call in 0..3 {
            let seen = weights.share(|| whole(33, |w| w.fill(call as f32)));
            assert_eq!(seen, [0.0; 33]);
        }
        let own = whole(33, |w| w.fill(7.0));
        assert_eq!(own, [7.0; 33]);
    }

    #[test]
    fn threads_prepare_every_part_once() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
        let pool = pool.build().expect("a thread pool");
        let expected: Vec<f32> = (0..7 * 5).map(|i| (i / 5) as f32).collect();
        for _ in 0..100 {
            let weights = Arc::new(PreparedWeights::default());
            let filled = AtomicUsize::new(0);
            let fill = |part: usize, all: &DisjointMut<'_, f32>| {
                filled.fetch_add(1, Ordering::Relaxed);
                // SAFETY: parts do not overlap.
                unsafe { all.part(part * 5..(part + 1) * 5) }.fill(part as f32);
            };
            pool.install(|| {
                for_each_task(8, usize::MAX, |_| {
                    let all = |weights: &Operand<'_>| weights.with(0..7, <[f32]>::to_vec);
                    let seen = weights.share(|| with_prepared(35, 7, 0, fill, all));
                    assert_eq!(seen, expected);
                });
            });
            assert_eq!(filled.into_inner(), 7);
        }
    }

    #[test]
    fn nobody_waits_for_a_part_that_panicked() {
        let weights = Arc::new(PreparedWeights::default());
        for _ in 0..2 {
            let call = || weights.share(|| whole(33, |_| panic!("on purpose")));
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err());
        }
    }

    #[test]
    #[should_panic(expected = "another kernel")]
    fn two_kernels_cannot_share() {
        let weights = Arc::new(PreparedWeights::default());
        weights.share(|| whole(33, |w| w.fill(1.0)));
        weights.share(|| whole(99, |w| w.fill(1.0)));
    }
}
