//! The search for NaN and infinity.

use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements per task.
const PIECE: usize = 1 << 15;

/// The index of the first element that is NaN or infinite, or none.
pub fn first_non_finite(x: &[f32]) -> Option<usize> {
    // The smallest index over all tasks, whichever order they run in.
    let first = AtomicUsize::new(usize::MAX);
    for_each_task(x.len().div_ceil(PIECE), x.len(), |task| {
        let range = piece(task, PIECE, x.len());
        if range.start >= first.load(Ordering::Relaxed) {
            return;
        }
        if !dispatch(AllFinite(&x[range.clone()]))
            && let Some(at) = x[range.clone()].iter().position(|x| !x.is_finite())
        {
            first.fetch_min(range.start + at, Ordering::Relaxed);
        }
    });
    let first = first.into_inner();
    (first != usize::MAX).then_some(first)
}

struct AllFinite<'a>(&'a [f32]);

impl SimdOp for AllFinite<'_> {
    type Output = bool;
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) -> bool {
        // x * 0 is NaN where x is not finite and a zero elsewhere, and a sum keeps a NaN.
        let mut sums = [simd.zero(); 4];
        let mut chunks = self.0.chunks_exact(4 * S::LANES);
        for chunk in &mut chunks {
            for (which, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the chunk holds four vectors.
                let x = unsafe { simd.load(chunk.as_ptr().add(which * S::LANES)) };
                *sum = simd.fma(x, simd.zero(), *sum);
            }
        }
        for rest in chunks.remainder().chunks(S::LANES) {
            // SAFETY: `rest` holds at most LANES numbers.
            let x = unsafe { simd.load_partial(rest.as_ptr(), rest.len()) };
            sums[0] = simd.fma(x, simd.zero(), sums[0]);
        }
        let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
        simd.sum(sum) == 0.0
    }
}
