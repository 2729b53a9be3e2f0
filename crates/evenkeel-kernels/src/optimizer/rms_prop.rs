//! RMSprop.

use super::{Rule, check_range, sweep};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// Hyperparameters of [`rms_prop_step`].
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

/// One step of RMSprop (Hinton 2012; centred: Graves 2013), with PyTorch's semantics:
///
/// `q = a q + (1 - a) g^2`, `d = g / (sqrt(q) + epsilon)`, or centred `m = a m + (1 - a) g`, `d = g / (sqrt(q - m^2) + epsilon)`;
/// then `w -= learning_rate * d`, or with momentum `v = momentum * v + d`, `w -= learning_rate * v`.
///
/// Where rounding makes `q - m^2` negative it counts as 0 (PyTorch gives NaN there).
///
/// # Errors
/// Slices of different lengths, hyperparameters out of their range, or momentum without a velocity.
pub fn rms_prop_step(
    options: &RmsProp,
    weights: &mut [f32],
    gradients: &[f32],
    state: RmsPropState<'_>,
) -> Result {
    check_range("learning rate", options.learning_rate, 0.0, f64::INFINITY)?;
    check_range("smoothing", options.smoothing, 0.0, 1.0)?;
    check_range("epsilon", options.epsilon, 0.0, f64::INFINITY)?;
    check_range("momentum", options.momentum, 0.0, 1.0)?;
    check_range("weight decay", options.weight_decay, 0.0, f64::INFINITY)?;
    let rule = RmsPropRule {
        scale: options.gradient_scale,
        decay: options.weight_decay as f32,
        smoothing: [options.smoothing as f32, (1.0 - options.smoothing) as f32],
        epsilon: options.epsilon as f32,
        momentum: options.momentum as f32,
        rate: options.learning_rate as f32,
    };
    let RmsPropState {
        mean_square,
        velocity,
        mean,
    } = state;
    let velocity = match velocity {
        None if options.momentum > 0.0 => {
            return Err(KernelError::Invalid("momentum needs a velocity".into()));
        }
        velocity => velocity.filter(|_| options.momentum > 0.0),
    };
    match (velocity, mean) {
        (None, None) => sweep(rule, weights, gradients, [mean_square]),
        (Some(velocity), None) => sweep(
            WithMomentum(rule),
            weights,
            gradients,
            [mean_square, velocity],
        ),
        (None, Some(mean)) => sweep(Centred(rule), weights, gradients, [mean_square, mean]),
        (Some(velocity), Some(mean)) => sweep(
            CentredWithMomentum(rule),
            weights,
            gradients,
            [mean_square, mean, velocity],
        ),
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
}

impl RmsPropRule {
    #[inline(always)]
    fn gradient<S: Simd>(self, s: S, weight: S::F32, gradient: S::F32) -> S::F32 {
        s.fma(
            s.splat(self.decay),
            weight,
            s.mul(s.splat(self.scale), gradient),
        )
    }

    #[inline(always)]
    fn average<S: Simd>(self, s: S, average: S::F32, value: S::F32) -> S::F32 {
        let [keep, take] = self.smoothing;
        s.fma(s.splat(keep), average, s.mul(s.splat(take), value))
    }

    /// The direction for a gradient whose mean square, or variance, is `square`.
    #[inline(always)]
    fn direction<S: Simd>(self, s: S, gradient: S::F32, square: S::F32) -> S::F32 {
        s.div(gradient, s.add(s.sqrt(square), s.splat(self.epsilon)))
    }

    /// The variance; a NaN stays one.
    #[inline(always)]
    fn variance<S: Simd>(self, s: S, mean_square: S::F32, mean: S::F32) -> S::F32 {
        s.max(s.zero(), s.fnma(mean, mean, mean_square))
    }

    #[inline(always)]
    fn velocity<S: Simd>(self, s: S, velocity: S::F32, direction: S::F32) -> S::F32 {
        s.fma(s.splat(self.momentum), velocity, direction)
    }

    #[inline(always)]
    fn step<S: Simd>(self, s: S, weight: S::F32, direction: S::F32) -> S::F32 {
        s.fnma(s.splat(self.rate), direction, weight)
    }
}

impl Rule<1> for RmsPropRule {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [square]: [S::F32; 1],
    ) -> (S::F32, [S::F32; 1]) {
        let gradient = self.gradient(s, weight, gradient);
        let square = self.average(s, square, s.mul(gradient, gradient));
        let direction = self.direction(s, gradient, square);
        (self.step(s, weight, direction), [square])
    }
}

#[derive(Clone, Copy)]
struct WithMomentum(RmsPropRule);

impl Rule<2> for WithMomentum {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [square, velocity]: [S::F32; 2],
    ) -> (S::F32, [S::F32; 2]) {
        let rule = self.0;
        let gradient = rule.gradient(s, weight, gradient);
        let square = rule.average(s, square, s.mul(gradient, gradient));
        let velocity = rule.velocity(s, velocity, rule.direction(s, gradient, square));
        (rule.step(s, weight, velocity), [square, velocity])
    }
}

#[derive(Clone, Copy)]
struct Centred(RmsPropRule);

impl Rule<2> for Centred {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [square, mean]: [S::F32; 2],
    ) -> (S::F32, [S::F32; 2]) {
        let rule = self.0;
        let gradient = rule.gradient(s, weight, gradient);
        let square = rule.average(s, square, s.mul(gradient, gradient));
        let mean = rule.average(s, mean, gradient);
        let direction = rule.direction(s, gradient, rule.variance(s, square, mean));
        (rule.step(s, weight, direction), [square, mean])
    }
}

#[derive(Clone, Copy)]
struct CentredWithMomentum(RmsPropRule);

impl Rule<3> for CentredWithMomentum {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [square, mean, velocity]: [S::F32; 3],
    ) -> (S::F32, [S::F32; 3]) {
        let rule = self.0;
        let gradient = rule.gradient(s, weight, gradient);
        let square = rule.average(s, square, s.mul(gradient, gradient));
        let mean = rule.average(s, mean, gradient);
        let direction = rule.direction(s, gradient, rule.variance(s, square, mean));
        let velocity = rule.velocity(s, velocity, direction);
        (rule.step(s, weight, velocity), [square, mean, velocity])
    }
}
