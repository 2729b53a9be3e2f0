//! Stochastic gradient descent.

use super::{Rule, check_range, sweep};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// Hyperparameters of [`sgd_step`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// How much of the velocity is kept, in `0..1`.
    pub momentum: f64,
    /// Whether the step looks ahead along the velocity (Nesterov); needs momentum.
    pub nesterov: bool,
    /// Multiple of the weight added to the gradient (L2), at least 0.
    pub weight_decay: f64,
    /// Factor on the gradient, before the weight decay.
    pub gradient_scale: f32,
}

/// One step of SGD, with PyTorch's semantics and no dampening:
///
/// `g = gradient_scale * gradient + weight_decay * w`, `v = momentum * v + g`, and `w -= learning_rate * v`, or with Nesterov
/// `w -= learning_rate * (g + momentum * v)` (Sutskever et al. 2013).
///
/// `velocity` is needed where momentum is not 0 and left alone where it is.
///
/// # Errors
/// Slices of different lengths, hyperparameters out of their range, or momentum without `velocity`.
pub fn sgd_step(
    options: &Sgd,
    weights: &mut [f32],
    gradients: &[f32],
    velocity: Option<&mut [f32]>,
) -> Result {
    check_range("learning rate", options.learning_rate, 0.0, f64::INFINITY)?;
    check_range("momentum", options.momentum, 0.0, 1.0)?;
    check_range("weight decay", options.weight_decay, 0.0, f64::INFINITY)?;
    let plain = Plain {
        scale: options.gradient_scale,
        decay: options.weight_decay as f32,
        rate: options.learning_rate as f32,
    };
    match velocity {
        _ if options.momentum == 0.0 && !options.nesterov => sweep(plain, weights, gradients, []),
        Some(_) if options.momentum == 0.0 => Err(KernelError::Invalid(
            "Nesterov's step needs a momentum above 0".into(),
        )),
        Some(velocity) => {
            let momentum = options.momentum as f32;
            if options.nesterov {
                sweep(
                    Momentum::<true> { plain, momentum },
                    weights,
                    gradients,
                    [velocity],
                )
            } else {
                sweep(
                    Momentum::<false> { plain, momentum },
                    weights,
                    gradients,
                    [velocity],
                )
            }
        }
        None => Err(KernelError::Invalid("momentum needs a velocity".into())),
    }
}

#[derive(Clone, Copy)]
struct Plain {
    scale: f32,
    decay: f32,
    rate: f32,
}

impl Plain {
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, weight: S::F32, gradient: S::F32) -> S::F32 {
        s.fma(
            s.splat(self.decay),
            weight,
            s.mul(s.splat(self.scale), gradient),
        )
    }
}

impl Rule<0> for Plain {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        _: [S::F32; 0],
    ) -> (S::F32, [S::F32; 0]) {
        let gradient = self.gradient(s, weight, gradient);
        (s.fnma(s.splat(self.rate), gradient, weight), [])
    }
}

#[derive(Clone, Copy)]
struct Momentum<const NESTEROV: bool> {
    plain: Plain,
    momentum: f32,
}

impl<const NESTEROV: bool> Rule<1> for Momentum<NESTEROV> {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [velocity]: [S::F32; 1],
    ) -> (S::F32, [S::F32; 1]) {
        let gradient = self.plain.gradient(s, weight, gradient);
        let momentum = s.splat(self.momentum);
        let velocity = s.fma(momentum, velocity, gradient);
        let direction = if NESTEROV {
            s.fma(momentum, velocity, gradient)
        } else {
            velocity
        };
        (
            s.fnma(s.splat(self.plain.rate), direction, weight),
            [velocity],
        )
    }
}
