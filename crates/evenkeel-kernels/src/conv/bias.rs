//! Gradient of a bias: the sum of a gradient over everything but its channels.

use crate::error::{Result, check_length, checked_product};
use crate::norm::sum_rows;

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
    sum_rows(rows, gradient, bias_gradient);
    Ok(())
}
