//! Binary networks: convolutions of ±1 by ±1, which are exact integers, and what training them needs.
//!
//! A bit is 1 for -1 and 0 for +1; `sign(0)`, `sign(-0)` and the sign of a NaN are +1. Channels lie in 32-bit words, channel `c` in
//! bit `c % 32` of word `c / 32`; the bits past the last channel are 0 in every operand, so that they never differ. With K products
//! of which d differ in sign, a sum is `K - 2d`.
//!
//! - [`pack_signs`], [`pack_weights`], [`unpack_signs`]: between f32 and bits.
//! - [`binary_conv2d`]: the convolution, with integers, a whole [`Layer`] or the next layer's bits alone as output. Linear layers
//!   are 1×1 convolutions over 1×1 images.
//! - [`find_thresholds`]: the sums at which the sign of a layer's result changes.
//! - [`surrogate`]: the gradients that stand in for that of the sign.
//! - [`weights`], [`standardize`]: scales, gradients and standardization of latent weights.
//! - [`rprelu`]: the shifted PReLU of ReActNet. [`clipping`]: adaptive gradient clipping.

pub mod clipping;
mod columns;
mod convolution;
mod epilogue;
mod geometry;
mod layer;
mod pack;
pub mod rprelu;
pub mod standardize;
pub mod surrogate;
mod thresholds;
mod tile;
pub mod weights;

pub use convolution::binary_conv2d;
pub use epilogue::Epilogue;
pub use geometry::{BinaryConv2d, PaddingValue};
pub use layer::{Layer, LayerActivation, LayerFunction, NextSigns, Normalize, Residual};
pub use pack::{pack_signs, pack_weights, unpack_signs};
pub use thresholds::{Thresholds, find_thresholds, threshold_words};

/// Bits of one word.
pub const WORD_BITS: usize = 32;

/// Output channels whose words lie side by side in packed weights.
pub const GROUP: usize = 16;

/// Words that hold the signs of `channels` channels.
pub const fn words_of(channels: usize) -> usize {
    channels.div_ceil(WORD_BITS)
}

#[cfg(test)]
mod layer_tests;
#[cfg(test)]
mod tests;
