//! Counter-based random numbers: uniform and normal values, integers, permutations, dropout.
//!
//! Everything here is a function of a [`Generator`] and a position, with the same bits on every instruction set and at any number
//! of threads: a dropout mask is made again in the backward pass instead of kept, and a resumed run continues where it was.

mod dropout;
mod fill;
mod kept_bits;
mod normal;
mod philox;
mod xoshiro;

pub use dropout::{dropout, dropout_in_place};
pub use fill::{fill_integers, fill_normal, fill_uniform, permutation};
pub use kept_bits::KeptBits;
pub use philox::{GROUP, Generator, philox4x32};

#[cfg(test)]
mod tests;
