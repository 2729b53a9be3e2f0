//! One type per activation function: the value and the derivative as vector expressions.

use super::math;
use crate::isa::Simd;

/// An activation function that kernels inline.
pub trait ActivationFunction: Copy + Send + Sync {
    /// Whether the value is `x` times the derivative everywhere.
    const HOMOGENEOUS: bool = false;

    /// The value at `x`. NaN gives NaN; infinities give the limit.
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32;

    /// The derivative at `x`. At a kink it is the one stated at [`super::Activation`].
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32;

    /// `dy` times the derivative at `x`. Where the derivative is a constant zero the result is zero whatever `dy` is, as in a
    /// gate: an infinite gradient does not turn into NaN there.
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> S::F32 {
        simd.mul(dy, self.derivative(simd, x))
    }

    /// The value at `x`, and [`Self::gradient`], for functions where both share their costly part.
    #[inline(always)]
    fn value_and_gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> (S::F32, S::F32) {
        (self.apply(simd, x), self.gradient(simd, x, dy))
    }
}

/// `x`.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

impl ActivationFunction for Identity {
    const HOMOGENEOUS: bool = true;

    #[inline(always)]
    fn apply<S: Simd>(self, _: S, x: S::F32) -> S::F32 {
        x
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, _: S::F32) -> S::F32 {
        simd.splat(1.0)
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, _: S, _: S::F32, dy: S::F32) -> S::F32 {
        dy
    }
}

/// `max(x, 0)`.
#[derive(Clone, Copy, Debug)]
pub struct Relu;

impl ActivationFunction for Relu {
    const HOMOGENEOUS: bool = true;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        // In this order a NaN in x stays.
        simd.max(simd.zero(), x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        self.gradient(simd, x, simd.splat(1.0))
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> S::F32 {
        simd.select(simd.gt(x, simd.zero()), dy, simd.zero())
    }
}

/// `x` where it is positive, `slope * x` elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct LeakyRelu {
    /// The slope for negative `x`.
    pub slope: f32,
}

impl ActivationFunction for LeakyRelu {
    const HOMOGENEOUS: bool = true;

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let below = simd.mul(x, simd.splat(self.slope));
        simd.select(simd.gt(x, simd.zero()), x, below)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.select(
            simd.gt(x, simd.zero()),
            simd.splat(1.0),
            simd.splat(self.slope),
        )
    }
}

/// `x` where it is positive, `alpha * (e^x - 1)` elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Elu {
    /// The negative of the limit at minus infinity.
    pub alpha: f32,
}

impl ActivationFunction for Elu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let below = simd.mul(simd.splat(self.alpha), math::exp_m1(simd, x));
        simd.select(simd.gt(x, simd.zero()), x, below)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let below = simd.mul(simd.splat(self.alpha), math::exp(simd, x));
        simd.select(simd.gt(x, simd.zero()), simd.splat(1.0), below)
    }
}

/// `x * sigmoid(x)`, also called Swish.
#[derive(Clone, Copy, Debug)]
pub struct Silu;

impl ActivationFunction for Silu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        // Minus infinity times zero would be NaN; the limit is zero, and so is the value from here on.
        let x = simd.max(simd.splat(-200.0), x);
        simd.mul(x, math::sigmoid(simd, x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        // s + x s (1 - s). Far from zero the second term vanishes; the bounds keep infinity times zero away.
        let x = simd.min(simd.splat(200.0), simd.max(simd.splat(-200.0), x));
        let (value, complement) = math::sigmoid_and_complement(simd, x);
        simd.fma(simd.mul(x, value), complement, value)
    }
    #[inline(always)]
    fn value_and_gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> (S::F32, S::F32) {
        // Limits as in the two functions above.
        let x = simd.max(simd.splat(-200.0), x);
        let bounded = simd.min(simd.splat(200.0), x);
        let (sigmoid, complement) = math::sigmoid_and_complement(simd, bounded);
        let derivative = simd.fma(simd.mul(bounded, sigmoid), complement, sigmoid);
        (simd.mul(x, sigmoid), simd.mul(dy, derivative))
    }
}

/// `x * Phi(x)` with the normal distribution function Phi, through the error function.
#[derive(Clone, Copy, Debug)]
pub struct Gelu;

impl ActivationFunction for Gelu {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let x = simd.max(simd.splat(-40.0), x);
        simd.mul(x, normal_distribution(simd, x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let x = simd.min(simd.splat(40.0), simd.max(simd.splat(-40.0), x));
        let density = simd.mul(
            math::exp(simd, simd.mul(simd.mul(x, x), simd.splat(-0.5))),
            simd.splat(0.398_942_3), // 1 / sqrt(2 pi)
        );
        simd.fma(x, density, normal_distribution(simd, x))
    }
}

/// `(1 + erf(x / sqrt(2))) / 2`.
#[inline(always)]
fn normal_distribution<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let half = simd.splat(0.5);
    let scaled = simd.mul(x, simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    simd.fma(half, math::erf(simd, scaled), half)
}

/// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`, the approximation of [`Gelu`] (Hendrycks and Gimpel, 2016).
#[derive(Clone, Copy, Debug)]
pub struct GeluTanh;

/// `2 * sqrt(2 / pi)`.
const GELU_SCALE: f32 = 1.595_769;
const GELU_CUBIC: f32 = 0.044_715;

impl ActivationFunction for GeluTanh {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        // (1 + tanh(u)) / 2 = sigmoid(2 u).
        let x = simd.max(simd.splat(-40.0), x);
        simd.mul(x, math::sigmoid(simd, gelu_tanh_argument(simd, x)))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let x = simd.min(simd.splat(40.0), simd.max(simd.splat(-40.0), x));
        let (value, complement) = math::sigmoid_and_complement(simd, gelu_tanh_argument(simd, x));
        let slope = simd.fma(
            simd.splat(3.0 * GELU_CUBIC * GELU_SCALE),
            simd.mul(x, x),
            simd.splat(GELU_SCALE),
        );
        let tail = simd.mul(simd.mul(x, slope), simd.mul(value, complement));
        simd.add(value, tail)
    }
}

#[inline(always)]
fn gelu_tanh_argument<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let factor = simd.fma(
        simd.splat(GELU_CUBIC * GELU_SCALE),
        simd.mul(x, x),
        simd.splat(GELU_SCALE),
    );
    simd.mul(x, factor)
}

/// `1 / (1 + e^-x)`.
#[derive(Clone, Copy, Debug)]
pub struct Sigmoid;

impl ActivationFunction for Sigmoid {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        math::sigmoid(simd, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let (value, complement) = math::sigmoid_and_complement(simd, x);
        simd.mul(value, complement)
    }
}

/// The hyperbolic tangent.
#[derive(Clone, Copy, Debug)]
pub struct Tanh;

impl ActivationFunction for Tanh {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        math::tanh(simd, x)
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        // 1 - tanh(x)^2 = 4 s(2x) (1 - s(2x)) with the logistic function s: no cancellation far from zero.
        let (value, complement) = math::sigmoid_and_complement(simd, simd.add(x, x));
        simd.mul(simd.splat(4.0), simd.mul(value, complement))
    }
}

/// `x` limited to `min..=max`.
#[derive(Clone, Copy, Debug)]
pub struct HardTanh {
    /// The lower limit.
    pub min: f32,
    /// The upper limit.
    pub max: f32,
}

impl ActivationFunction for HardTanh {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        simd.min(simd.splat(self.max), simd.max(simd.splat(self.min), x))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        self.gradient(simd, x, simd.splat(1.0))
    }
    #[inline(always)]
    fn gradient<S: Simd>(self, simd: S, x: S::F32, dy: S::F32) -> S::F32 {
        let above = simd.select(simd.gt(x, simd.splat(self.min)), dy, simd.zero());
        simd.select(simd.gt(simd.splat(self.max), x), above, simd.zero())
    }
}

/// `ln(1 + e^x)`.
#[derive(Clone, Copy, Debug)]
pub struct Softplus;

impl ActivationFunction for Softplus {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let e = math::exp(simd, simd.neg(simd.abs(x)));
        simd.add(simd.max(simd.zero(), x), math::log_1p_positive(simd, e))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        math::sigmoid(simd, x)
    }
}

/// `x * min(max(x + 3, 0), 6) / 6` (Howard et al., 2019).
#[derive(Clone, Copy, Debug)]
pub struct HardSwish;

impl ActivationFunction for HardSwish {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let x = simd.max(simd.splat(-3.0), x);
        let gate = simd.min(simd.splat(6.0), simd.add(x, simd.splat(3.0)));
        simd.mul(x, simd.mul(gate, simd.splat(1.0 / 6.0)))
    }
    #[inline(always)]
    fn derivative<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        let middle = simd.fma(x, simd.splat(1.0 / 3.0), simd.splat(0.5));
        let high = simd.select(simd.ge(x, simd.splat(3.0)), simd.splat(1.0), middle);
        simd.select(simd.ge(simd.splat(-3.0), x), simd.zero(), high)
    }
}
