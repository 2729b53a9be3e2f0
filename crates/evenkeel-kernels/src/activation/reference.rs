//! The activation functions in f64, one number at a time: the oracle of the vector code, and for the few scalars (proxy nodes,
//! reports) where speed does not matter.

use super::Activation;

impl Activation {
    /// The value at `x`.
    pub fn value(self, x: f64) -> f64 {
        match self {
            Activation::Identity => x,
            Activation::Relu => {
                if x.is_nan() || x > 0.0 {
                    x
                } else {
                    0.0
                }
            }
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(slope) * x
                }
            }
            Activation::Elu { alpha } => {
                if x > 0.0 {
                    x
                } else {
                    f64::from(alpha) * x.exp_m1()
                }
            }
            Activation::Silu => gated(x, sigmoid(x)),
            Activation::Gelu => gated(x, normal_distribution(x)),
            Activation::GeluTanh => gated(x, sigmoid(gelu_tanh_argument(x))),
            Activation::Sigmoid => sigmoid(x),
            Activation::Tanh => x.tanh(),
            Activation::HardTanh { min, max } => x.clamp(min.into(), max.into()),
            Activation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            Activation::HardSwish => gated(x, (x + 3.0).clamp(0.0, 6.0) / 6.0),
        }
    }

    /// The derivative at `x`, with the conventions of [`Activation`] at kinks.
    pub fn slope(self, x: f64) -> f64 {
        let step = |on: bool| if on { 1.0 } else { 0.0 };
        match self {
            Activation::Identity => 1.0,
            Activation::Relu => step(x > 0.0),
            Activation::LeakyRelu { slope } => {
                if x > 0.0 {
                    1.0
                } else {
                    slope.into()
                }
            }
            Activation::Elu { alpha } => {
                if x > 0.0 {
                    1.0
                } else {
                    f64::from(alpha) * x.exp()
                }
            }
            Activation::Silu => {
                let s = sigmoid(x);
                s + gated(x, s * sigmoid(-x))
            }
            Activation::Gelu => {
                let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
                normal_distribution(x) + gated(x, density)
            }
            Activation::GeluTanh => {
                let argument = gelu_tanh_argument(x);
                let s = sigmoid(argument);
                let scale = 2.0 * (2.0 / std::f64::consts::PI).sqrt();
                let inner = scale * (1.0 + 3.0 * 0.044715 * x * x);
                s + gated(x * inner, s * sigmoid(-argument))
            }
            Activation::Sigmoid => sigmoid(x) * sigmoid(-x),
            Activation::Tanh => 4.0 * sigmoid(2.0 * x) * sigmoid(-2.0 * x),
            Activation::HardTanh { min, max } => step(x > min.into() && x < max.into()),
            Activation::Softplus => sigmoid(x),
            Activation::HardSwish => {
                if x <= -3.0 {
                    0.0
                } else if x >= 3.0 {
                    1.0
                } else {
                    x / 3.0 + 0.5
                }
            }
        }
    }
}

/// `x * gate`, zero where the gate is shut even for an infinite `x`.
fn gated(x: f64, gate: f64) -> f64 {
    if gate == 0.0 { 0.0 } else { x * gate }
}

/// The logistic function.
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The distribution function of the standard normal.
pub fn normal_distribution(x: f64) -> f64 {
    0.5 * complementary_error_function(-x * std::f64::consts::FRAC_1_SQRT_2)
}

fn gelu_tanh_argument(x: f64) -> f64 {
    2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)
}

/// The error function, to about 1e-15 (Abramowitz and Stegun 7.1.6 near zero, the continued fraction 7.1.14 elsewhere).
pub fn error_function(x: f64) -> f64 {
    if x.abs() < 2.5 {
        error_function_series(x)
    } else {
        1.0 - complementary_error_function(x)
    }
}

/// `1 - erf(x)`, with its full relative precision for large `x`.
pub fn complementary_error_function(x: f64) -> f64 {
    if x < 2.5 {
        if x < -2.5 {
            return 2.0 - complementary_error_function(-x);
        }
        return 1.0 - error_function_series(x);
    }
    if x > 30.0 || x.is_nan() {
        return if x.is_nan() { x } else { 0.0 };
    }
    // Evaluated from the inside out; 120 levels are far past convergence from 2.5 on.
    let mut fraction = 0.0;
    for level in (1..=120).rev() {
        fraction = f64::from(level) / 2.0 / (x + fraction);
    }
    (-x * x).exp() / std::f64::consts::PI.sqrt() / (x + fraction)
}

/// `2 / sqrt(pi) * e^(-x^2) * sum of 2^n x^(2n+1) / (1 * 3 * ... * (2n+1))`.
fn error_function_series(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    let mut n = 1.0;
    while term.abs() > sum.abs() * 1e-17 {
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}
