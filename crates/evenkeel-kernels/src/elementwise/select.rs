//! Choosing between two arrays.

use super::broadcast::{Plan, broadcast_map, check_operands};
use super::map::{VectorMap, operands};
use crate::error::Result;
use crate::isa::Simd;

#[derive(Clone, Copy)]
struct Choose;

impl VectorMap<3> for Choose {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [condition, a, b]: [S::F32; 3]) -> S::F32 {
        // Zero is what is neither above nor below zero and no NaN.
        let below = simd.select(simd.ge(simd.zero(), condition), b, a);
        simd.select(simd.ge(condition, simd.zero()), below, a)
    }
}

/// `output = condition != 0 ? a : b`, where all three broadcast to `output_shape`. A NaN condition chooses `a`, as in NumPy.
///
/// # Errors
/// Where a length does not fit its shape, or a shape does not broadcast to `output_shape`.
pub fn select(
    condition: &[f32],
    condition_shape: &[usize],
    a: &[f32],
    a_shape: &[usize],
    b: &[f32],
    b_shape: &[usize],
    output: &mut [f32],
    output_shape: &[usize],
) -> Result {
    let plan = Plan::new([condition_shape, a_shape, b_shape], output_shape)?;
    check_operands([
        ("condition", condition.len(), condition_shape),
        ("first operand", a.len(), a_shape),
        ("second operand", b.len(), b_shape),
        ("output", output.len(), output_shape),
    ])?;
    // SAFETY: the lengths are those of the shapes, and a mutable slice overlaps no other.
    unsafe { broadcast_map(Choose, &plan, operands([condition, a, b], output)) };
    Ok(())
}
