//! What all functions of a row of logits share.

use crate::activation::math;
use crate::elementwise::map::{load_filled, vectors};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// The number of rows of `columns` in `length` elements.
pub(super) fn count_rows(what: &str, length: usize, columns: usize) -> Result<usize> {
    if columns == 0 || !length.is_multiple_of(columns) {
        return Err(KernelError::Invalid(format!(
            "{what}: {length} elements are not a whole number of rows of {columns}"
        )));
    }
    Ok(length / columns)
}

/// Rows per task, of about this many elements in all.
pub(super) fn rows_per_task(columns: usize) -> usize {
    ((1 << 13) / columns).max(1)
}

/// The largest element. A NaN may be passed over: it comes back through the exponential.
#[inline(always)]
pub(super) fn maximum<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for (column, lanes) in vectors(simd, row.len()) {
        // SAFETY: column + lanes <= the row's length.
        let x = unsafe { load_filled(simd, row.as_ptr().add(column), lanes, f32::NEG_INFINITY) };
        largest = simd.select(simd.gt(x, largest), x, largest);
    }
    simd.max_lane(largest)
}

/// A sum in f64 of vectors of f32.
#[derive(Clone, Copy)]
pub(super) struct WideSum<S: Simd>([S::F64; 2]);

impl<S: Simd> WideSum<S> {
    #[inline(always)]
    pub(super) fn new(simd: S) -> Self {
        WideSum([simd.splat64(0.0); 2])
    }
    #[inline(always)]
    pub(super) fn add(&mut self, simd: S, x: S::F32) {
        let [low, high] = simd.widen(x);
        self.0 = [simd.add64(self.0[0], low), simd.add64(self.0[1], high)];
    }
    #[inline(always)]
    pub(super) fn add_product(&mut self, simd: S, a: S::F32, b: S::F32) {
        let (a, b) = (simd.widen(a), simd.widen(b));
        self.0 = [
            simd.fma64(a[0], b[0], self.0[0]),
            simd.fma64(a[1], b[1], self.0[1]),
        ];
    }
    #[inline(always)]
    pub(super) fn total(self, simd: S) -> f64 {
        simd.sum64(simd.add64(self.0[0], self.0[1]))
    }
}

/// `e^(x - shift)` of a vector of the row; lanes past the end are zero.
#[inline(always)]
pub(super) fn exponential<S: Simd>(
    simd: S,
    row: &[f32],
    shift: S::F32,
    column: usize,
    lanes: usize,
) -> S::F32 {
    // SAFETY: column + lanes <= the row's length, as `vectors` gives them.
    let x = unsafe { load_filled(simd, row.as_ptr().add(column), lanes, f32::NEG_INFINITY) };
    math::exp(simd, simd.sub(x, shift))
}

/// The row's maximum, and the sum of `e^(x - maximum)`.
#[inline(always)]
pub(super) fn partition<S: Simd>(simd: S, row: &[f32]) -> (f32, f64) {
    let largest = maximum(simd, row);
    let shift = simd.splat(largest);
    let mut sum = WideSum::new(simd);
    for (column, lanes) in vectors(simd, row.len()) {
        sum.add(simd, exponential(simd, row, shift, column, lanes));
    }
    (largest, sum.total(simd))
}
