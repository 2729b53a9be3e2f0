//! What a kernel says when its arguments do not fit.

use std::fmt;

/// Why a kernel refused its arguments. Nothing was written when a kernel returns one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelError {
    /// A slice does not have the number of elements that the geometry asks for.
    Length {
        /// Which argument.
        argument: &'static str,
        /// Elements expected.
        expected: usize,
        /// Elements given.
        actual: usize,
    },
    /// A number is out of its range; the text says which, what it was, and what is allowed.
    Invalid(String),
    /// The product of sizes does not fit.
    Overflow(&'static str),
}

impl fmt::Display for KernelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KernelError::Length {
                argument,
                expected,
                actual,
            } => write!(f, "{argument}: expected {expected} elements, got {actual}"),
            KernelError::Invalid(text) => f.write_str(text),
            KernelError::Overflow(what) => {
                write!(f, "{what}: the product of the sizes is too large")
            }
        }
    }
}

impl std::error::Error for KernelError {}

/// The result of every kernel.
pub type Result<T = ()> = std::result::Result<T, KernelError>;

/// Checks that `actual` is the length that the geometry asks for.
#[inline]
pub fn check_length(argument: &'static str, actual: usize, expected: usize) -> Result {
    if actual == expected {
        Ok(())
    } else {
        Err(KernelError::Length {
            argument,
            expected,
            actual,
        })
    }
}

/// The product of `sizes`, or an error where it does not fit in `isize` bytes of f64 (so that later products with an element
/// size cannot overflow either).
pub fn checked_product(what: &'static str, sizes: &[usize]) -> Result<usize> {
    sizes
        .iter()
        .try_fold(1usize, |product, &size| product.checked_mul(size))
        .filter(|&product| product <= isize::MAX as usize / 8)
        .ok_or(KernelError::Overflow(what))
}
