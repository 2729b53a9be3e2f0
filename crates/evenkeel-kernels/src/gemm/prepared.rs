//! Packed or transformed weights that the segments of a batch share.

use super::scratch::{Line, floats, floats_mut};
use crate::parallel::segment;
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// The weights of one convolution as its kernel wants them, made by the first segment that needs them. To be used with one kernel, one
/// shape of an image, and weights that do not change: see [`PreparedWeights::share`].
#[derive(Debug, Default)]
pub struct PreparedWeights {
    lines: OnceLock<Vec<Line>>,
}

/// Memory of earlier prepared weights: training prepares the same ones in every step.
static FREE: Mutex<Vec<Vec<Line>>> = Mutex::new(Vec::new());

thread_local! {
    static SHARED: RefCell<Option<Arc<PreparedWeights>>> = const { RefCell::new(None) };
}

impl PreparedWeights {
    /// Runs `body`, a single call of a kernel, which takes its prepared weights from `self` or leaves them there.
    pub fn share<R>(self: &Arc<Self>, body: impl FnOnce() -> R) -> R {
        let _restore = Restore(SHARED.replace(Some(self.clone())));
        body()
    }
}

impl Drop for PreparedWeights {
    fn drop(&mut self) {
        if let Some(lines) = self.lines.take() {
            FREE.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(lines);
        }
    }
}

/// Memory for `count` lines: the smallest that is free and large enough.
fn reuse(count: usize) -> Vec<Line> {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    let fitting = free.iter().enumerate();
    let fitting = fitting.filter(|(_, lines)| lines.capacity() >= count);
    let smallest = fitting.min_by_key(|(_, lines)| lines.capacity());
    match smallest.map(|(index, _)| index) {
        Some(index) => free.swap_remove(index),
        None => Vec::with_capacity(count),
    }
}

/// Puts back what was shared before, even where a kernel panics.
struct Restore(Option<Arc<PreparedWeights>>);

impl Drop for Restore {
    fn drop(&mut self) {
        SHARED.set(self.0.take());
    }
}

/// Runs `body` with `length` f32 that `fill` has written: those that segments share, or scratch.
///
/// # Panics
/// Where shared weights have another length: two kernels share one [`PreparedWeights`].
pub(crate) fn with_prepared<R>(
    length: usize,
    fill: impl FnOnce(&mut [f32]),
    body: impl FnOnce(&[f32]) -> R,
) -> R {
    let Some(shared) = SHARED.take() else {
        return super::scratch::with_scratch(length, |weights| {
            fill(weights);
            body(weights)
        });
    };
    let lines = shared.lines.get_or_init(|| {
        let mut lines = reuse(Line::count(length));
        Line::resize(&mut lines, length);
        // On this thread: were it to fork, it could meet another segment while it waits, which would wait for these weights.
        segment(true, || fill(floats_mut(&mut lines, length)));
        lines
    });
    assert_eq!(
        lines.len(),
        Line::count(length),
        "prepared weights of another kernel"
    );
    body(floats(lines, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_call_prepares_for_all() {
        let weights = Arc::new(PreparedWeights::default());
        for call in 0..3 {
            let seen =
                weights.share(|| with_prepared(33, |w| w.fill(call as f32), <[f32]>::to_vec));
            assert_eq!(seen, [0.0; 33]);
        }
        let own = with_prepared(33, |w| w.fill(7.0), <[f32]>::to_vec);
        assert_eq!(own, [7.0; 33]);
    }

    #[test]
    #[should_panic(expected = "another kernel")]
    fn two_kernels_cannot_share() {
        let weights = Arc::new(PreparedWeights::default());
        weights.share(|| with_prepared(33, |w| w.fill(1.0), |_| ()));
        weights.share(|| with_prepared(99, |w| w.fill(1.0), |_| ()));
    }
}
