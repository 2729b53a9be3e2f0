//! Winograd's minimal filtering for 3×3 kernels with stride 1 or 2: fewer multiplications than the direct sum.
//!
//! The output is cut into square tiles. Input tile and kernel are transformed ([`lines`]), multiplied element by element and
//! summed over channels (which is one matrix product per element: [`crate::gemm`]'s micro-kernels again), and
//! transformed back. Lanes are channels in every transform, so NHWC needs no shuffles. A task works on groups of tiles
//! whose transforms stay in cache; nothing of the size of an activation is ever stored.

mod ahead;
mod kernel;
mod lines;
mod squares;
mod steps;
mod sweep;
mod tiles;
mod weights;

pub(super) use lines::{Double, Four, Half, Lines, Transposed, Two};
pub(super) use sweep::{backward_data, forward};
pub(super) use weights::backward_weights;
