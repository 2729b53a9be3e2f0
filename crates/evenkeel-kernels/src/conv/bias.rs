//! Gradient of a bias: the sum of a gradient over everything but its channels.

use crate::error::{Result, check_length, checked_product};
use crate::gemm::scratch::with_sums;
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Rows summed by one task.
const ROWS: usize = 1024;

/// `bias_gradient[column] = Σ_rows gradient[row, column]`, summed in f64 in an order that depends on the shape alone.
///
/// For a convolution `rows` is batch × output height × output width, for a linear layer the batch. No rows give zeros.
///
/// # Errors
/// Where a length does not fit the sizes, or their product overflows.
pub fn bias_gradient(
    rows: usize,
    columns: usize,
    gradient: &[f32],
    bias_gradient: &mut [f32],
) -> Result {
    check_length(
        "gradient",
        gradient.len(),
        checked_product("gradient", &[rows, columns])?,
    )?;
    check_length("bias_gradient", bias_gradient.len(), columns)?;
    let pieces = rows.div_ceil(ROWS).max(1);
    let length = checked_product("partial sums", &[pieces, columns])?;
    with_sums(length, |partials| {
        let parts = DisjointMut::new(partials);
        for_each_task(pieces, gradient.len(), |task| {
            // SAFETY: every task has its own row of sums.
            let sums = unsafe { parts.part(task * columns..(task + 1) * columns) };
            for row in piece(task, ROWS, rows) {
                let values = &gradient[row * columns..(row + 1) * columns];
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += f64::from(value);
                }
            }
        });
        for (column, out) in bias_gradient.iter_mut().enumerate() {
            let sums = partials.iter().skip(column).step_by(columns);
            *out = sums.sum::<f64>() as f32;
        }
    });
    Ok(())
}
