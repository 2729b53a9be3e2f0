//! Exponential moving averages of weights.

use super::{Rule, Update, check_range};
use crate::error::Result;
use crate::isa::Simd;

/// `average += (1 - decay) * (value - average)`: the running average of weights that often predicts better than the last
/// weights do (Polyak & Juditsky 1992). `decay` is in `0..1`.
///
/// # Errors
/// Slices of different lengths, or a decay out of its range.
pub fn exponential_moving_average<'a>(
    average: &'a mut [f32],
    value: &'a [f32],
    decay: f64,
) -> Result<Update<'a, impl Rule<0> + use<>, 0>> {
    check_range("decay", decay, 0.0, 1.0)?;
    Update::new(Toward((1.0 - decay) as f32), average, value, [])
}

#[derive(Clone, Copy)]
struct Toward(f32);

impl Rule<0> for Toward {
    #[inline(always)]
    fn apply<S: Simd>(
        self,
        s: S,
        average: S::F32,
        value: S::F32,
        _: [S::F32; 0],
    ) -> (S::F32, [S::F32; 0]) {
        (s.fma(s.splat(self.0), s.sub(value, average), average), [])
    }
}
