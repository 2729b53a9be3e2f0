//! Softmax over the last axis, the cross-entropy loss, and accuracy.
//!
//! Every row is shifted by its maximum before it is exponentiated, so logits of any size are fine; sums are in f64. A row with a
//! NaN or a positive infinity gives NaN.

mod accuracy;
mod cross_entropy;
mod last_axis;
mod rows;

pub use accuracy::count_top_k;
pub use cross_entropy::{LossReduction, Targets, cross_entropy_backward, cross_entropy_forward};
pub use last_axis::{log_softmax_backward, log_softmax_forward, softmax_backward, softmax_forward};

#[cfg(test)]
mod tests;
