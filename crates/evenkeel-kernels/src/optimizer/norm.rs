//! The global norm of gradients, for clipping.

use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// The most pieces a sum is cut into; their sums fit on the stack.
const PIECES: usize = 64;
/// The least elements in a piece.
const PIECE_ELEMENTS: usize = 1 << 13;

/// The sum of squares in f64, so that neither 1e+20 overflows nor 1e-20 vanishes, the same at any number of threads.
pub fn sum_of_squares(values: &[f32]) -> f64 {
    let elements = values.len().div_ceil(PIECES).max(PIECE_ELEMENTS);
    let pieces = values.len().div_ceil(elements);
    let mut sums = [0.0f64; PIECES];
    let parts = DisjointMut::new(&mut sums);
    for_each_task(pieces, values.len(), |task| {
        // SAFETY: each task has its own sum.
        let sum = unsafe { parts.part(task..task + 1) };
        sum[0] = dispatch(SumOfSquares(&values[piece(task, elements, values.len())]));
    });
    sums.iter().sum()
}

struct SumOfSquares<'a>(&'a [f32]);

impl SimdOp for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn call<S: Simd>(self, s: S) -> f64 {
        // Two pairs of accumulators hide the latency of the additions.
        let mut sums = [s.splat64(0.0); 4];
        let mut chunks = self.0.chunks_exact(2 * S::LANES);
        for chunk in &mut chunks {
            // SAFETY: the chunk holds two vectors.
            let (a, b) = unsafe { (s.load(chunk.as_ptr()), s.load(chunk.as_ptr().add(S::LANES))) };
            let ([a, b], [c, d]) = (s.widen(a), s.widen(b));
            for (sum, value) in sums.iter_mut().zip([a, b, c, d]) {
                *sum = s.fma64(value, value, *sum);
            }
        }
        for rest in chunks.remainder().chunks(S::LANES) {
            // SAFETY: `rest` holds at most LANES values.
            let [a, b] = s.widen(unsafe { s.load_partial(rest.as_ptr(), rest.len()) });
            sums[0] = s.fma64(a, a, sums[0]);
            sums[1] = s.fma64(b, b, sums[1]);
        }
        s.sum64(s.add64(s.add64(sums[0], sums[1]), s.add64(sums[2], sums[3])))
    }
}

/// The factor that scales gradients of norm `norm` down to `max_norm`, at most 1: `max_norm / (norm + 1e-6)`, as PyTorch's
/// `clip_grad_norm_`. A norm that is not finite gives 0 or NaN; callers check it.
pub fn clip_scale(norm: f64, max_norm: f64) -> f32 {
    let scale = max_norm / (norm + 1e-6);
    if scale > 1.0 { 1.0 } else { scale as f32 }
}

/// Multiplies every value with `factor`.
pub fn scale_in_place(values: &mut [f32], factor: f32) {
    let length = values.len();
    let values = DisjointMut::new(values);
    for_each_task(length.div_ceil(PIECE_ELEMENTS), length, |task| {
        dispatch(Scale {
            // SAFETY: `piece` gives each task its own range.
            values: unsafe { values.part(piece(task, PIECE_ELEMENTS, length)) },
            factor,
        });
    });
}

struct Scale<'a> {
    values: &'a mut [f32],
    factor: f32,
}

impl SimdOp for Scale<'_> {
    type Output = ();

    /// A loop that the compiler vectorizes for the level it is inlined into.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        for value in self.values.iter_mut() {
            *value *= self.factor;
        }
    }
}
