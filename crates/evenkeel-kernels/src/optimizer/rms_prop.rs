//! RMSprop.

use super::{Rule, Update, check_range};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// RMSprop's hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// How much of the averages is kept, in `0..1`.
    pub smoothing: f64,
    /// Added to the root of the mean square, at least 0.
    pub epsilon: f64,
    /// How much of the velocity is kept, in `0..1`.
    pub momentum: f64,
    /// Multiple of the weight added to the gradient (L2), at least 0.
    pub weight_decay: f64,
    /// Factor on the gradient, before the weight decay.
    pub gradient_scale: f32,
}

/// What RMSprop remembers of each weight.
#[derive(Debug)]
pub struct RmsPropState<'a> {
    /// Running mean of the squared gradient.
    pub mean_square: &'a mut [f32],
    /// The velocity; needed where momentum is not 0, and left alone where it is.
    pub velocity: Option<&'a mut [f32]>,
    /// Running mean of the gradient; where given, the optimizer is centred: it divides by the standard deviation.
    pub mean: Option<&'a mut [f32]>,
}

impl RmsProp {
    /// One step of RMSprop (Hinton 2012; centred: Graves 2013), with PyTorch's semantics:
    ///
    /// `q = a q + (1 - a) g^2`, `d = g / (sqrt(q) + epsilon)`, or centred `m = a m + (1 - a) g`, `d = g / (sqrt(q - m^2) + epsilon)`;
    /// then `w -= learning_rate * d`, or with momentum `v = momentum * v + d`, `w -= learning_rate * v`.
    ///
    /// Where rounding makes `q - m^2` negative it counts as 0 (PyTorch gives NaN there).
    ///
    /// # Errors
    /// Slices of different lengths, hyperparameters out of their range, or momentum without a velocity.
    pub fn update<'a>(
        &self,
        weights: &'a mut [f32],
        gradients: &'a [f32],
        state: RmsPropState<'a>,
    ) -> Result<Update<'a, impl Rule<3> + use<>, 3>> {
        check_range("learning rate", self.learning_rate, 0.0, f64::INFINITY)?;
        check_range("smoothing", self.smoothing, 0.0, 1.0)?;
        check_range("epsilon", self.epsilon, 0.0, f64::INFINITY)?;
        check_range("momentum", self.momentum, 0.0, 1.0)?;
        check_range("weight decay", self.weight_decay, 0.0, f64::INFINITY)?;
        let RmsPropState {
            mean_square,
            velocity,
            mean,
        } = state;
        let moves = self.momentum > 0.0;
        if moves && velocity.is_none() {
            return Err(KernelError::Invalid("momentum needs a velocity".into()));
        }
        let rule = RmsPropRule {
            scale: self.gradient_scale,
            decay: self.weight_decay as f32,
            smoothing: [self.smoothing as f32, (1.0 - self.smoothing) as f32],
            epsilon: self.epsilon as f32,
            momentum: self.momentum as f32,
            rate: self.learning_rate as f32,
            centred: mean.is_some(),
        };
        let states = [Some(mean_square), mean, velocity.filter(|_| moves)];
        Update::new(rule, weights, gradients, states)
    }
}

#[derive(Clone, Copy)]
struct RmsPropRule {
    scale: f32,
    decay: f32,
    /// The factors on the old average and on the new value.
    smoothing: [f32; 2],
    epsilon: f32,
    momentum: f32,
    rate: f32,
    /// Whether there is a mean to be taken off.
    centred: bool,
}

impl RmsPropRule {
    #[inline(always)]
    fn average<S: Simd>(self, s: S, average: S::F32, value: S::F32) -> S::F32 {
        let [keep, take] = self.smoothing;
        s.fma(s.splat(keep), average, s.mul(s.splat(take), value))
    }
}

impl Rule<3> for RmsPropRule {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [square, mean, velocity]: [S::F32; 3],
    ) -> (S::F32, [S::F32; 3]) {
        let scaled = s.mul(s.splat(self.scale), gradient);
        let gradient = s.fma(s.splat(self.decay), weight, scaled);
        let square = self.average(s, square, s.mul(gradient, gradient));
        let mean = self.average(s, mean, gradient);
        let variance = if self.centred {
            // A NaN stays one.
            s.max(s.zero(), s.fnma(mean, mean, square))
        } else {
            square
        };
        let divisor = s.add(s.sqrt(variance), s.splat(self.epsilon));
        let velocity = s.fma(s.splat(self.momentum), velocity, s.div(gradient, divisor));
        let weight = s.fnma(s.splat(self.rate), velocity, weight);
        (weight, [square, mean, velocity])
    }
}
