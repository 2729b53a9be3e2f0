//! Elementwise arithmetic, with NumPy's broadcasting.

mod binary;
pub(crate) mod broadcast;
mod gradient;
pub(crate) mod map;
mod select;
mod unary;

pub use binary::{BinaryOperation, binary, binary_assign};
pub use broadcast::{MAX_DIMENSIONS, broadcast_shape};
pub use gradient::{Operand, add_relu_backward, binary_backward};
pub use select::select;
pub use unary::{UnaryOperation, unary, unary_backward, unary_in_place};

#[cfg(test)]
mod tests;
