//! The operations of the stream: each decodes its arguments and calls one kernel.
//!
//! To add one: write `fn name(heap, arguments)` in the file of its family, and list it in that file's `OPERATIONS`.
//! TypeScript finds it by that name.

mod activation;
mod basic;
mod binary;
mod convolution;
mod elementwise;
mod evo_norm;
mod input_statistics;
mod kalman;
mod layout;
mod matrix;
mod normalization;
mod normalization_arguments;
mod optimizer;

mod pooling;
mod proxy;
mod random;
mod reduction;
mod renorm;
mod softmax;
mod switchable;

use crate::arguments::Arguments;
use crate::failure::Outcome;
use crate::heap::Heap;

/// Decodes one command and runs it.
pub type Operation = fn(&mut Heap, &mut Arguments) -> Outcome;

/// A family's operations with their names.
pub type Family = &'static [(&'static str, Operation)];

/// Every family of operations.
const FAMILIES: &[Family] = &[
    activation::OPERATIONS,
    basic::OPERATIONS,
    binary::OPERATIONS,
    convolution::OPERATIONS,
    elementwise::OPERATIONS,
    evo_norm::OPERATIONS,
    input_statistics::OPERATIONS,
    kalman::OPERATIONS,
    layout::OPERATIONS,
    matrix::OPERATIONS,
    normalization::OPERATIONS,
    optimizer::OPERATIONS,
    pooling::OPERATIONS,
    proxy::OPERATIONS,
    random::OPERATIONS,
    reduction::OPERATIONS,
    renorm::OPERATIONS,
    softmax::OPERATIONS,
    switchable::OPERATIONS,
];

/// All operations; a command names one by its index here.
pub fn table() -> Vec<(&'static str, Operation)> {
    FAMILIES
        .iter()
        .flat_map(|family| family.iter().copied())
        .collect()
}
