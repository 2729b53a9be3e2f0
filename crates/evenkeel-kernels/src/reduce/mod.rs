//! Reductions over any axes: sums and means in f64, extrema, the index of the largest, norms, and the search for non-finite
//! numbers.
//!
//! Every reduction is cut into blocks by its shape alone, each block has its own partial result, and the partial results are
//! combined in order: the same bits at any number of threads.

mod argmax;
mod axes;
mod extremum;
mod finite;
mod reducer;
mod run;

pub use argmax::argmax_last_axis;
pub use axes::{reduced_shape, sum_axes_of_broadcast};
pub use extremum::extremum_backward;
pub use finite::first_non_finite;

use crate::error::{KernelError, Result, check_length, checked_product};
use axes::Plan;
use reducer::{Extremum, Sum, SumOfSquares};

/// How to reduce numbers to one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// The sum, accumulated in f64; 0 of nothing.
    Sum,
    /// The sum divided by the number of elements; NaN of nothing.
    Mean,
    /// The largest; NaN where there is one, minus infinity of nothing.
    Maximum,
    /// The smallest; NaN where there is one, infinity of nothing.
    Minimum,
    /// The sum of squares, accumulated in f64.
    SumOfSquares,
}

impl Reduction {
    /// The reduction with this number, as it crosses the boundary to TypeScript: 0 sum, 1 mean, 2 maximum, 3 minimum, 4 sum of
    /// squares.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] for an unknown number.
    pub fn from_code(code: usize) -> Result<Reduction> {
        match code {
            0 => Ok(Reduction::Sum),
            1 => Ok(Reduction::Mean),
            2 => Ok(Reduction::Maximum),
            3 => Ok(Reduction::Minimum),
            4 => Ok(Reduction::SumOfSquares),
            _ => Err(KernelError::Invalid(format!(
                "reduction number {code}: expected 0 to 4"
            ))),
        }
    }
}

/// Reduces `x` of `shape` over `axes` (each axis at most once; none at all copies). The output's elements are in row-major
/// order of the axes that are left.
///
/// # Errors
/// Where a length does not fit, or an axis is out of range or given twice.
pub fn reduce(
    reduction: Reduction,
    x: &[f32],
    shape: &[usize],
    axes: &[usize],
    output: &mut [f32],
) -> Result {
    let plan = Plan::new(shape, axes)?;
    check_length("input", x.len(), checked_product("shape", shape)?)?;
    check_length("output", output.len(), plan.outputs())?;
    match reduction {
        Reduction::Sum => run::run(Sum { divisor: 1.0 }, &plan, x, output),
        Reduction::Mean => {
            let divisor = plan.count() as f64;
            run::run(Sum { divisor }, &plan, x, output);
        }
        Reduction::Maximum => run::run(Extremum::<true>, &plan, x, output),
        Reduction::Minimum => run::run(Extremum::<false>, &plan, x, output),
        Reduction::SumOfSquares => run::run(SumOfSquares, &plan, x, output),
    }
    Ok(())
}

/// Sums `x` of `shape` over the axes along which a tensor of `target` shape was repeated to get there: the gradient of
/// broadcasting.
///
/// # Errors
/// Where a length does not fit, or `target` does not broadcast to `shape`.
pub fn sum_to_shape(x: &[f32], shape: &[usize], target: &[usize], output: &mut [f32]) -> Result {
    let (axes, count) = sum_axes_of_broadcast(shape, target)?;
    reduce(Reduction::Sum, x, shape, &axes[..count], output)
}

/// The sum of the squares of all elements, in f64: for a norm over several tensors, add these up and take the root.
pub fn squared_norm(x: &[f32]) -> f64 {
    run::total(SumOfSquares, x)
}

/// The sum of all elements, in f64.
pub fn total(x: &[f32]) -> f64 {
    run::total(Sum { divisor: 1.0 }, x)
}

#[cfg(test)]
mod tests;
