//! Softmax and its logarithm over the last axis.

use super::rows::{WideSum, count_rows, exponential, partition, rows_per_task};
use crate::activation::math;
use crate::elementwise::map::vectors;
use crate::error::{Result, check_length};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// `y = e^x / sum of e^x` along each row of `[rows, columns]`.
///
/// # Errors
/// Where the lengths do not fit.
pub fn softmax_forward(x: &[f32], columns: usize, y: &mut [f32]) -> Result {
    forward::<false>("softmax", x, columns, y)
}

/// `y = x - ln(sum of e^x)` along each row of `[rows, columns]`.
///
/// # Errors
/// Where the lengths do not fit.
pub fn log_softmax_forward(x: &[f32], columns: usize, y: &mut [f32]) -> Result {
    forward::<true>("log-softmax", x, columns, y)
}

/// The gradient of [`softmax_forward`] from its output: `dx = y * (dy - sum of dy * y)`.
///
/// # Errors
/// Where the lengths do not fit.
pub fn softmax_backward(y: &[f32], dy: &[f32], columns: usize, dx: &mut [f32]) -> Result {
    backward::<false>("softmax", y, dy, columns, dx)
}

/// The gradient of [`log_softmax_forward`] from its output: `dx = dy - e^y * sum of dy`.
///
/// # Errors
/// Where the lengths do not fit.
pub fn log_softmax_backward(y: &[f32], dy: &[f32], columns: usize, dx: &mut [f32]) -> Result {
    backward::<true>("log-softmax", y, dy, columns, dx)
}

fn forward<const LOG: bool>(what: &str, x: &[f32], columns: usize, y: &mut [f32]) -> Result {
    let rows = count_rows(what, x.len(), columns)?;
    check_length("softmax output", y.len(), x.len())?;
    let step = rows_per_task(columns);
    let parts = DisjointMut::new(y);
    for_each_task(rows.div_ceil(step), x.len(), |task| {
        let rows = piece(task, step, rows);
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: tasks have different rows.
        let y = unsafe { parts.part(range.clone()) };
        dispatch(Forward::<LOG> {
            x: &x[range],
            columns,
            y,
        });
    });
    Ok(())
}

struct Forward<'a, const LOG: bool> {
    x: &'a [f32],
    columns: usize,
    y: &'a mut [f32],
}

impl<const LOG: bool> SimdOp for Forward<'_, LOG> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let rows = self.x.chunks_exact(self.columns);
        for (x, y) in rows.zip(self.y.chunks_exact_mut(self.columns)) {
            let (largest, sum) = partition(simd, x);
            let shift = simd.splat(largest);
            let log_sum = simd.splat(sum.ln() as f32);
            let scale = simd.splat((1.0 / sum) as f32);
            for (column, lanes) in vectors(simd, self.columns) {
                let result = if LOG {
                    // SAFETY: column + lanes <= columns, the length of x.
                    let x = unsafe { simd.load_partial(x.as_ptr().add(column), lanes) };
                    simd.sub(simd.sub(x, shift), log_sum)
                } else {
                    simd.mul(exponential(simd, x, shift, column, lanes), scale)
                };
                // SAFETY: column + lanes <= columns, the length of y.
                unsafe { simd.store_partial(result, y.as_mut_ptr().add(column), lanes) };
            }
        }
    }
}

fn backward<const LOG: bool>(
    what: &str,
    y: &[f32],
    dy: &[f32],
    columns: usize,
    dx: &mut [f32],
) -> Result {
    let rows = count_rows(what, y.len(), columns)?;
    check_length("softmax output gradient", dy.len(), y.len())?;
    check_length("softmax input gradient", dx.len(), y.len())?;
    let step = rows_per_task(columns);
    let parts = DisjointMut::new(dx);
    for_each_task(rows.div_ceil(step), y.len(), |task| {
        let rows = piece(task, step, rows);
        let range = rows.start * columns..rows.end * columns;
        // SAFETY: tasks have different rows.
        let dx = unsafe { parts.part(range.clone()) };
        dispatch(Backward::<LOG> {
            y: &y[range.clone()],
            dy: &dy[range],
            columns,
            dx,
        });
    });
    Ok(())
}

struct Backward<'a, const LOG: bool> {
    y: &'a [f32],
    dy: &'a [f32],
    columns: usize,
    dx: &'a mut [f32],
}

impl<const LOG: bool> SimdOp for Backward<'_, LOG> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let columns = self.columns;
        let rows = self
            .y
            .chunks_exact(columns)
            .zip(self.dy.chunks_exact(columns));
        for ((y, dy), dx) in rows.zip(self.dx.chunks_exact_mut(columns)) {
            // SAFETY: `vectors` keeps column + lanes <= columns, the length of y and dy.
            let load = |column: usize, lanes: usize| unsafe {
                (
                    simd.load_partial(y.as_ptr().add(column), lanes),
                    simd.load_partial(dy.as_ptr().add(column), lanes),
                )
            };
            let mut sum = WideSum::new(simd);
            for (column, lanes) in vectors(simd, columns) {
                let (y, dy) = load(column, lanes);
                if LOG {
                    sum.add(simd, dy);
                } else {
                    sum.add_product(simd, y, dy);
                }
            }
            let sum = simd.splat(sum.total(simd) as f32);
            for (column, lanes) in vectors(simd, columns) {
                let (y, dy) = load(column, lanes);
                let result = if LOG {
                    simd.fnma(math::exp(simd, y), sum, dy)
                } else {
                    simd.mul(y, simd.sub(dy, sum))
                };
                // SAFETY: column + lanes <= columns, the length of dx.
                unsafe { simd.store_partial(result, dx.as_mut_ptr().add(column), lanes) };
            }
        }
    }
}
