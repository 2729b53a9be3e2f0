//! Adam and AdamW.

use super::{Rule, Update, check_range};
use crate::error::{KernelError, Result};
use crate::isa::Simd;

/// The hyperparameters of Adam and AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Step size, at least 0.
    pub learning_rate: f64,
    /// How much of the first and second moment is kept, each in `0..1`.
    pub betas: [f64; 2],
    /// Added to the root of the second moment, at least 0.
    pub epsilon: f64,
    /// Weight decay, at least 0.
    pub weight_decay: f64,
    /// False: the decay is added to the gradient (Adam). True: the weights shrink by `learning_rate * weight_decay` apart from
    /// the gradient (AdamW).
    pub decoupled: bool,
    /// Factor on the gradient, before the weight decay.
    pub gradient_scale: f32,
}

impl Adam {
    /// One step of Adam (Kingma & Ba 2015) or AdamW (Loshchilov & Hutter 2019), with PyTorch's semantics:
    ///
    /// `m = b1 m + (1 - b1) g`, `v = b2 v + (1 - b2) g^2`, and
    /// `w -= learning_rate / (1 - b1^step) * m / (sqrt(v) / sqrt(1 - b2^step) + epsilon)`.
    ///
    /// `step` counts from 1.
    ///
    /// # Errors
    /// Slices of different lengths, `step` 0, or hyperparameters out of their range.
    pub fn update<'a>(
        &self,
        step: u64,
        weights: &'a mut [f32],
        gradients: &'a [f32],
        first_moment: &'a mut [f32],
        second_moment: &'a mut [f32],
    ) -> Result<Update<'a, impl Rule<2> + use<>, 2>> {
        check_range("learning rate", self.learning_rate, 0.0, f64::INFINITY)?;
        check_range("beta 1", self.betas[0], 0.0, 1.0)?;
        check_range("beta 2", self.betas[1], 0.0, 1.0)?;
        check_range("epsilon", self.epsilon, 0.0, f64::INFINITY)?;
        check_range("weight decay", self.weight_decay, 0.0, f64::INFINITY)?;
        if step == 0 {
            return Err(KernelError::Invalid("the step counts from 1, got 0".into()));
        }
        // In f64: in f32, 1 - 0.999 has an error of 1e-5.
        let [first, second] = self.betas;
        let correction = |beta: f64| 1.0 - beta.powf(step as f64);
        let (keep, decay) = if self.decoupled {
            (1.0 - self.learning_rate * self.weight_decay, 0.0)
        } else {
            (1.0, self.weight_decay)
        };
        let rule = AdamRule {
            scale: self.gradient_scale,
            decay: decay as f32,
            keep: keep as f32,
            first: [first as f32, (1.0 - first) as f32],
            second: [second as f32, (1.0 - second) as f32],
            rate: (self.learning_rate / correction(first)) as f32,
            root_scale: (1.0 / correction(second).sqrt()) as f32,
            epsilon: self.epsilon as f32,
        };
        let moments = [Some(first_moment), Some(second_moment)];
        Update::new(rule, weights, gradients, moments)
    }
}

#[derive(Clone, Copy)]
struct AdamRule {
    scale: f32,
    decay: f32,
    /// What decoupled weight decay leaves of the weight.
    keep: f32,
    /// The factors on the old moment and on the new gradient.
    first: [f32; 2],
    second: [f32; 2],
    rate: f32,
    root_scale: f32,
    epsilon: f32,
}

impl Rule<2> for AdamRule {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [first, second]: [S::F32; 2],
    ) -> (S::F32, [S::F32; 2]) {
        let gradient = s.fma(
            s.splat(self.decay),
            weight,
            s.mul(s.splat(self.scale), gradient),
        );
        let weight = s.mul(s.splat(self.keep), weight);
        let first = s.fma(
            s.splat(self.first[0]),
            first,
            s.mul(s.splat(self.first[1]), gradient),
        );
        let second = s.fma(
            s.splat(self.second[0]),
            second,
            s.mul(s.mul(s.splat(self.second[1]), gradient), gradient),
        );
        let divisor = s.fma(
            s.sqrt(second),
            s.splat(self.root_scale),
            s.splat(self.epsilon),
        );
        let direction = s.div(first, divisor);
        (
            s.fnma(s.splat(self.rate), direction, weight),
            [first, second],
        )
    }
}
