//! Bop: an optimizer for weights that are nothing but signs (Helwegen et al., "Latent Weights Do Not Exist", 2019, algorithm 1).

use super::{Rule, Update, check_range};
use crate::error::Result;
use crate::isa::Simd;

/// Bop's hyperparameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bop {
    /// γ, the share of the new gradient in the average, in `0..=1`.
    pub adaptivity: f64,
    /// τ, how far the average must lie on the weight's own side before it flips; at least 0.
    pub threshold: f64,
    /// Factor on the gradient.
    pub gradient_scale: f32,
}

impl Bop {
    /// One step: `m += adaptivity * (gradient_scale * gradient - m)`; a weight flips where `w * m > threshold`. At equality it stays.
    ///
    /// Weights come out as ±1; one that was not counts as its sign, 0 as +1.
    ///
    /// # Errors
    /// Slices of different lengths, or hyperparameters out of their range.
    pub fn update<'a>(
        &self,
        weights: &'a mut [f32],
        gradients: &'a [f32],
        average: &'a mut [f32],
    ) -> Result<Update<'a, impl Rule<1> + use<>, 1>> {
        check_range("adaptivity", self.adaptivity, 0.0, 1.0f64.next_up())?;
        check_range("threshold", self.threshold, 0.0, f64::INFINITY)?;
        let rule = Flip {
            scale: self.gradient_scale,
            adaptivity: self.adaptivity as f32,
            threshold: self.threshold as f32,
        };
        Update::new(rule, weights, gradients, [Some(average)])
    }
}

#[derive(Clone, Copy)]
struct Flip {
    scale: f32,
    adaptivity: f32,
    threshold: f32,
}

impl Rule<1> for Flip {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        [average]: [S::F32; 1],
    ) -> (S::F32, [S::F32; 1]) {
        let news = s.sub(s.mul(s.splat(self.scale), gradient), average);
        let average = s.fma(s.splat(self.adaptivity), news, average);
        let sign = s.select(s.gt(s.zero(), weight), s.splat(-1.0), s.splat(1.0));
        let flips = s.gt(s.mul(sign, average), s.splat(self.threshold));
        (s.select(flips, s.neg(sign), sign), [average])
    }
}

#[cfg(test)]
mod tests {
    use super::super::step;
    use super::*;
    use crate::testing::at_every_level;

    #[test]
    fn weights_flip_past_the_threshold_and_stay_signs() {
        at_every_level(|| {
            for length in [1, 3, 15, 16, 17, 33] {
                let mut weights: Vec<f32> =
                    (0..length).map(|i| [1.0, -1.0, 0.0, -0.3][i % 4]).collect();
                let before = weights.clone();
                let gradients: Vec<f32> = (0..length).map(|i| (i % 5) as f32 - 2.0).collect();
                let mut average = vec![0.0; length];
                // The average becomes half the gradient: ±1, ±0.5 or 0; 0.5 is not past the threshold.
                let options = Bop {
                    adaptivity: 0.5,
                    threshold: 0.5,
                    gradient_scale: 1.0,
                };
                step(&mut [options
                    .update(&mut weights, &gradients, &mut average)
                    .unwrap()]);
                for i in 0..length {
                    let sign = if before[i] < 0.0 { -1.0 } else { 1.0 };
                    let m = gradients[i] / 2.0;
                    assert_eq!(average[i], m);
                    assert_eq!(weights[i], if sign * m > 0.5 { -sign } else { sign });
                }
            }
        });
    }

    #[test]
    fn hyperparameters_have_ranges() {
        let allows = |adaptivity, threshold| {
            let options = Bop {
                adaptivity,
                threshold,
                gradient_scale: 1.0,
            };
            options.update(&mut [1.0], &[1.0], &mut [0.0]).is_ok()
        };
        assert!(allows(1.0, 0.0));
        assert!(!allows(1.5, 0.0));
        assert!(!allows(0.5, -1.0));
        assert!(!allows(0.5, f64::NAN));
    }
}
