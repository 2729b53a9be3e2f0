//! Activation functions as vector expressions, alone and inside fused kernels.
//!
//! [`Activation`] is the value that a caller passes; [`Activation::visit`] turns it into one of the types of [`functions`], so
//! that a kernel generic over [`ActivationFunction`] is compiled once for each and pays nothing inside its loop.

pub mod functions;
pub mod math;
mod pointwise;
mod prelu;
pub mod reference;

pub use functions::ActivationFunction;
pub use pointwise::{
    activation_backward, activation_backward_in_place, activation_forward,
    activation_forward_in_place,
};
pub use prelu::{prelu_backward, prelu_forward};

use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// A pointwise nonlinearity. Derivatives at kinks: zero at 0 for [`Relu`](Self::Relu), the slope of the negative side at 0 for
/// [`LeakyRelu`](Self::LeakyRelu) and [`Elu`](Self::Elu), zero at both limits of [`HardTanh`](Self::HardTanh).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `x` where positive, `slope * x` elsewhere.
    LeakyRelu {
        /// The slope for negative `x`.
        slope: f32,
    },
    /// `x` where positive, `alpha * (e^x - 1)` elsewhere.
    Elu {
        /// The negative of the limit at minus infinity.
        alpha: f32,
    },
    /// `x * sigmoid(x)`.
    Silu,
    /// `x * Phi(x)`, exact, through the error function.
    Gelu,
    /// The approximation of `Gelu` through tanh.
    GeluTanh,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
    /// `x` limited to `min..=max`.
    HardTanh {
        /// The lower limit.
        min: f32,
        /// The upper limit.
        max: f32,
    },
    /// `ln(1 + e^x)`.
    Softplus,
    /// `x * min(max(x + 3, 0), 6) / 6`.
    HardSwish,
}

/// A computation generic over the activation function, for [`Activation::visit`].
pub trait ActivationVisitor {
    /// What it returns.
    type Output;
    /// Runs it with `activation`.
    fn visit<A: ActivationFunction>(self, activation: A) -> Self::Output;
}

impl Activation {
    /// The activation with this number, as it crosses the boundary to TypeScript: 0 identity, 1 ReLU, 2 leaky ReLU (slope), 3 ELU
    /// (alpha), 4 SiLU, 5 GELU, 6 GELU by tanh, 7 sigmoid, 8 tanh, 9 hard tanh (min, max), 10 softplus, 11 hard swish.
    /// Parameters that a function does not have are ignored.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] for an unknown number, or `min >= max`, or a parameter that is not finite.
    pub fn from_code(code: usize, first: f32, second: f32) -> Result<Activation> {
        let activation = match code {
            0 => Activation::Identity,
            1 => Activation::Relu,
            2 => Activation::LeakyRelu { slope: first },
            3 => Activation::Elu { alpha: first },
            4 => Activation::Silu,
            5 => Activation::Gelu,
            6 => Activation::GeluTanh,
            7 => Activation::Sigmoid,
            8 => Activation::Tanh,
            9 => Activation::HardTanh {
                min: first,
                max: second,
            },
            10 => Activation::Softplus,
            11 => Activation::HardSwish,
            _ => {
                return Err(KernelError::Invalid(format!(
                    "activation number {code}: expected 0 to 11"
                )));
            }
        };
        activation.check()?;
        Ok(activation)
    }

    /// Whether the parameters are usable.
    ///
    /// # Errors
    /// [`KernelError::Invalid`] where one is not finite, or `min >= max`.
    pub fn check(self) -> Result {
        let fine = match self {
            Activation::LeakyRelu { slope } => slope.is_finite(),
            Activation::Elu { alpha } => alpha.is_finite(),
            Activation::HardTanh { min, max } => min < max,
            _ => true,
        };
        if fine {
            Ok(())
        } else {
            Err(KernelError::Invalid(format!(
                "{self:?}: parameters must be finite, and min less than max"
            )))
        }
    }

    /// Runs `visitor` with the type of this activation: the visitor is compiled once for every function.
    #[inline]
    pub fn visit<V: ActivationVisitor>(self, visitor: V) -> V::Output {
        match self {
            Activation::Identity => visitor.visit(functions::Identity),
            Activation::Relu => visitor.visit(functions::Relu),
            Activation::LeakyRelu { slope } => visitor.visit(functions::LeakyRelu { slope }),
            Activation::Elu { alpha } => visitor.visit(functions::Elu { alpha }),
            Activation::Silu => visitor.visit(functions::Silu),
            Activation::Gelu => visitor.visit(functions::Gelu),
            Activation::GeluTanh => visitor.visit(functions::GeluTanh),
            Activation::Sigmoid => visitor.visit(functions::Sigmoid),
            Activation::Tanh => visitor.visit(functions::Tanh),
            Activation::HardTanh { min, max } => visitor.visit(functions::HardTanh { min, max }),
            Activation::Softplus => visitor.visit(functions::Softplus),
            Activation::HardSwish => visitor.visit(functions::HardSwish),
        }
    }

    /// As [`Self::visit`], for large kernels: identity, ReLU and SiLU have code of their own, and all others share one copy that
    /// chooses at every vector (a predictable branch, small beside their exponentials).
    #[inline]
    pub fn visit_common<V: ActivationVisitor>(self, visitor: V) -> V::Output {
        match self {
            Activation::Identity => visitor.visit(functions::Identity),
            Activation::Relu => visitor.visit(functions::Relu),
            Activation::Silu => visitor.visit(functions::Silu),
            other => visitor.visit(other),
        }
    }
}

/// Calls `$method` on the function that `$activation` names.
macro_rules! choose {
    ($activation:expr, $method:ident, $($argument:expr),+) => {
        match $activation {
            Activation::Identity => functions::Identity.$method($($argument),+),
            Activation::Relu => functions::Relu.$method($($argument),+),
            Activation::LeakyRelu { slope } => functions::LeakyRelu { slope }.$method($($argument),+),
            Activation::Elu { alpha } => functions::Elu { alpha }.$method($($argument),+),
            Activation::Silu => functions::Silu.$method($($argument),+),
            Activation::Gelu => functions::Gelu.$method($($argument),+),
            Activation::GeluTanh => functions::GeluTanh.$method($($argument),+),
            Activation::Sigmoid => functions::Sigmoid.$method($($argument),+),
            Activation::Tanh => functions::Tanh.$method($($argument),+),
            Activation::HardTanh { min, max } => functions::HardTanh { min, max }.$method($($argument),+),
            Activation::Softplus => functions::Softplus.$method($($argument),+),
            Activation::HardSwish => functions::HardSwish.$method($($argument),+),
        }
    };
}

/// The choice at run time, vector by vector.
impl ActivationFunction for Activation {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        choose!(self, apply, simd, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        choose!(self, derivative, simd, x)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> S::F32 {
        choose!(self, gradient, simd, x, dy)
    }
}

#[cfg(test)]
mod tests;
