//! Stochastic gradient descent.

use super::{Rule, Update, check_range};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// SGD's hyperparameters.
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

impl Sgd {
    /// One step, with PyTorch's semantics and no dampening:
    ///
    /// `g = gradient_scale * gradient + weight_decay * w`, `v = momentum * v + g`, and `w -= learning_rate * v`, or with Nesterov
    /// `w -= learning_rate * (g + momentum * v)` (Sutskever et al. 2013).
    ///
    /// `velocity` is needed where momentum is not 0 and left alone where it is.
    ///
    /// # Errors
    /// Slices of different lengths, hyperparameters out of their range, or momentum without `velocity`.
    pub fn update<'a>(
        &self,
        weights: &'a mut [f32],
        gradients: &'a [f32],
        velocity: Option<&'a mut [f32]>,
    ) -> Result<Update<'a, impl Rule<1> + use<>, 1>> {
        check_range("learning rate", self.learning_rate, 0.0, f64::INFINITY)?;
        check_range("momentum", self.momentum, 0.0, 1.0)?;
        check_range("weight decay", self.weight_decay, 0.0, f64::INFINITY)?;
        let moves = self.momentum > 0.0;
        if self.nesterov && !moves {
            let problem = "Nesterov's step needs a momentum above 0";
            return Err(KernelError::Invalid(problem.into()));
        }
        if moves && velocity.is_none() {
            return Err(KernelError::Invalid("momentum needs a velocity".into()));
        }
        let rule = Momentum {
            scale: self.gradient_scale,
            decay: self.weight_decay as f32,
            rate: self.learning_rate as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
        };
        Update::new(rule, weights, gradients, [velocity.filter(|_| moves)])
    }
}

#[derive(Clone, Copy)]
struct Momentum {
    scale: f32,
    decay: f32,
    rate: f32,
    momentum: f32,
    nesterov: bool,
}

impl Rule<1> for Momentum {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [velocity]: [S::F32; 1],
    ) -> (S::F32, [S::F32; 1]) {
        let scaled = s.mul(s.splat(self.scale), gradient);
        let gradient = s.fma(s.splat(self.decay), weight, scaled);
        let momentum = s.splat(self.momentum);
        let velocity = s.fma(momentum, velocity, gradient);
        let direction = if self.nesterov {
            s.fma(momentum, velocity, gradient)
        } else {
            velocity
        };
        (s.fnma(s.splat(self.rate), direction, weight), [velocity])
    }
}
