//! The operations of the stream: each decodes its arguments and calls one kernel.
//!
//! To add one: write `fn name(heap, arguments)` in the file of its family, and list it in that file's `OPERATIONS`.
//! TypeScript finds it by that name.

mod activation;
mod basic;
mod batch_norm_stages;
mod binary;
mod binary_layer;
mod convolution;
mod elementwise;
mod evo_norm;
mod input_statistics;
mod kalman;
mod layout;
mod matrix;
mod normalization;
mod normalization_arguments;
mod online;
mod optimizer;
mod pooling;
mod proxy;
mod random;
mod reduction;
mod renorm;
mod rprelu;
mod softmax;
mod standardize;
mod switchable;

use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::segments::cutting::Cut;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Decodes one command and runs it.
pub type Operation = fn(&mut Heap, &mut Arguments) -> Outcome;

/// A family's operations with their names.
pub type Family = &'static [(&'static str, Operation)];

/// How a family's operations are run on segments of a batch, those of them that can be.
pub type Cuts = &'static [(&'static str, Cut)];

/// Every family's cuts.
const CUTS: &[Cuts] = &[
    activation::CUTS,
    basic::CUTS,
    batch_norm_stages::CUTS,
    convolution::CUTS,
    elementwise::CUTS,
    layout::CUTS,
    normalization::CUTS,
    pooling::CUTS,
    reduction::CUTS,
];

/// Every family of operations.
const FAMILIES: &[Family] = &[
    activation::OPERATIONS,
    basic::OPERATIONS,
    batch_norm_stages::OPERATIONS,
    binary::OPERATIONS,
    binary_layer::OPERATIONS,
    convolution::OPERATIONS,
    elementwise::OPERATIONS,
    evo_norm::OPERATIONS,
    input_statistics::OPERATIONS,
    kalman::OPERATIONS,
    layout::OPERATIONS,
    matrix::OPERATIONS,
    normalization::OPERATIONS,
    online::OPERATIONS,
    optimizer::OPERATIONS,
    pooling::OPERATIONS,
    proxy::OPERATIONS,
    random::OPERATIONS,
    reduction::OPERATIONS,
    renorm::OPERATIONS,
    rprelu::OPERATIONS,
    softmax::OPERATIONS,
    standardize::OPERATIONS,
    switchable::OPERATIONS,
];

/// One operation.
#[derive(Clone, Copy)]
pub struct Entry {
    /// TypeScript's name for it.
    pub name: &'static str,
    run: Operation,
    /// How it is run on segments of a batch, if it can be.
    pub cut: Option<Cut>,
}

impl Entry {
    /// An operation.
    pub fn new(name: &'static str, run: Operation, cut: Option<Cut>) -> Self {
        Entry { name, run, cut }
    }
}

/// All operations; a command names one by its index here.
pub fn table() -> Vec<Entry> {
    let cuts = || CUTS.iter().copied().flatten();
    let entry = |&(name, run): &(&'static str, Operation)| {
        let cut = cuts().find(|(cut, _)| *cut == name);
        Entry::new(name, run, cut.map(|&(_, cut)| cut))
    };
    FAMILIES.iter().copied().flatten().map(entry).collect()
}

/// Runs one command, its words from the number of outputs on. A panic becomes a failure: it can leave only the buffers of this command in
/// doubt, which are its outputs and what [`Heap::update`] lent out and has poisoned.
pub fn run_command(heap: &mut Heap, entry: &Entry, words: &[f64]) -> Outcome {
    let mut arguments = Arguments::new(words)?;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        (entry.run)(heap, &mut arguments)?;
        arguments.finish()
    }))
    .unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_default();
        Err(Failure::internal(format!("panic: {text}")))
    });
    outcome.map_err(|failure| Failure::new(failure.code, prefixed(entry.name, &failure.message)))
}

/// `message` with the operation's name before it, unless it has one: a failure that came from an input keeps the name of the
/// operation where it began.
fn prefixed(name: &str, message: &str) -> String {
    const MARK: &str = " failed: ";
    if message.contains(MARK) {
        message.to_owned()
    } else {
        format!("{name}{MARK}{message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_is_of_an_operation() {
        let table = table();
        for (name, _) in CUTS.iter().copied().flatten() {
            assert!(
                table
                    .iter()
                    .any(|entry| entry.name == *name && entry.cut.is_some()),
                "{name}"
            );
        }
    }
}
