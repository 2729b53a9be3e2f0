//! Matrix products from register tiles, for row-major matrices.
//!
//! Two micro-kernels do all the arithmetic, here and in [`crate::conv`]: [`rows`] multiplies rows that lie anywhere with a
//! packed matrix, and [`columns`] sums outer products. They are written once over [`crate::isa::Simd`] and choose
//! their tile by the number of registers.

pub(crate) mod ahead;
pub(crate) mod columns;
pub(crate) mod panels;
pub(crate) mod prepared;
pub(crate) mod rows;
pub(crate) mod target;

mod few_rows;
mod linear;
mod product;
#[cfg(test)]
mod tests;

pub use linear::{linear_backward_input, linear_backward_weights, linear_forward};
pub use product::matmul;

use crate::isa::{Simd, SimdOp, dispatch};

/// Rows of the largest tile of sums, two vectors wide, that a micro-kernel keeps in registers; half as many where there are 16 registers.
pub(crate) const TILE_ROWS: usize = 12;

/// The f32 lanes of the vectors in use.
pub(crate) fn lanes() -> usize {
    struct Lanes;
    impl SimdOp for Lanes {
        type Output = usize;
        #[inline(always)]
        fn call<S: Simd>(self, _: S) -> usize {
            S::LANES
        }
    }
    dispatch(Lanes)
}
