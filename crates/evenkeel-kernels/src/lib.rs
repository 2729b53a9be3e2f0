//! Kernels for training convolutional networks on CPUs.
//!
//! Conventions, for every kernel here:
//! - Activations are NHWC, convolution weights HWIO (`[kernelHeight, kernelWidth, inChannels / groups, outChannels]`), linear
//!   weights `[in, out]`, all contiguous f32.
//! - A kernel is one safe public function. It checks lengths and overflow before it writes anything and returns a
//!   [`KernelError`]; Rust's borrow rules exclude aliasing. A plain scalar oracle stands beside it for the tests.
//! - SIMD is chosen at run time ([`isa`]); work is split by shape, never by thread count ([`parallel`]), so the bits of a
//!   result are the same at any number of threads on one instruction set.
//! - Outputs are overwritten completely. Scratch space that a kernel needs comes from the caller or is reused, so that a
//!   training step allocates nothing in steady state.

pub mod activation;
pub mod array;
pub mod binary;
pub mod conv;
mod crew;
pub mod elementwise;
pub mod error;
pub mod gemm;
pub mod image;
pub mod isa;
pub mod layout;
pub mod memory;
pub mod norm;
mod operand;
pub mod optimizer;
pub mod parallel;
pub mod pool;
pub mod random;
pub mod reduce;
mod scratch;
pub mod softmax;
#[cfg(test)]
pub(crate) mod testing;
mod trials;

pub use error::{KernelError, Result};
