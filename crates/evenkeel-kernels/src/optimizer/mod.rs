//! Optimizer updates: one pass over weights, gradients and state.
//!
//! Every optimizer here is a [`Rule`]: what one step does to one vector of weights and its state. One sweep runs any rule,
//! so that each value is read and written once a step. The gradient's scale factor (gradient clipping) is part of the same
//! pass. State starts at zero.

mod adam;
mod average;
mod bop;
mod norm;
mod rms_prop;
mod sgd;

pub use adam::{Adam, adam_step};
pub use average::exponential_moving_average_step;
pub use bop::{Bop, bop_step};
pub use norm::{clip_scale, scale_in_place, sum_of_squares};
pub use rms_prop::{RmsProp, RmsPropState, rms_prop_step};
pub use sgd::{Sgd, sgd_step};

use crate::error::{KernelError, Result, check_length};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements of one task: weights, gradients and two states of this many f32 fit into a second-level cache.
const TASK_ELEMENTS: usize = 1 << 14;

/// One step of an optimizer with `STATES` values of state a weight.
trait Rule<const STATES: usize>: Copy + Send + Sync {
    /// The new weights and states of one vector. Mark it `#[inline(always)]`.
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        states: [S::F32; STATES],
    ) -> (S::F32, [S::F32; STATES]);
}

/// Applies `rule` to every weight.
fn sweep<R: Rule<STATES>, const STATES: usize>(
    rule: R,
    weights: &mut [f32],
    gradients: &[f32],
    states: [&mut [f32]; STATES],
) -> Result {
    let length = weights.len();
    check_length("gradients", gradients.len(), length)?;
    for state in &states {
        check_length("state", state.len(), length)?;
    }
    let weights = DisjointMut::new(weights);
    let states = states.map(DisjointMut::new);
    for_each_task(
        length.div_ceil(TASK_ELEMENTS),
        length * (STATES + 2),
        |task| {
            let range = piece(task, TASK_ELEMENTS, length);
            dispatch(Sweep {
                rule,
                // SAFETY: `piece` gives each task its own range.
                weights: unsafe { weights.part(range.clone()) },
                gradients: &gradients[range.clone()],
                // SAFETY: as above.
                states: std::array::from_fn(|i| unsafe { states[i].part(range.clone()) }),
            });
        },
    );
    Ok(())
}

/// One task of [`sweep`]; all slices have the same length.
struct Sweep<'a, R, const STATES: usize> {
    rule: R,
    weights: &'a mut [f32],
    gradients: &'a [f32],
    states: [&'a mut [f32]; STATES],
}

impl<R: Rule<STATES>, const STATES: usize> SimdOp for Sweep<'_, R, STATES> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let length = self.weights.len();
        let weights = self.weights.as_mut_ptr();
        let gradients = self.gradients.as_ptr();
        let states = self.states.map(|state| state.as_mut_ptr());
        let mut at = 0;
        while at + S::LANES <= length {
            // SAFETY: LANES values follow `at` in every slice: all are `length` long.
            unsafe {
                let (weight, new) = self.rule.apply(
                    s,
                    s.load(weights.add(at)),
                    s.load(gradients.add(at)),
                    std::array::from_fn(|i| s.load(states[i].add(at))),
                );
                s.store(weight, weights.add(at));
                for i in 0..STATES {
                    s.store(new[i], states[i].add(at));
                }
            }
            at += S::LANES;
        }
        let rest = length - at;
        if rest > 0 {
            // SAFETY: `rest < LANES` values follow `at` in every slice.
            unsafe {
                let (weight, new) = self.rule.apply(
                    s,
                    s.load_partial(weights.add(at), rest),
                    s.load_partial(gradients.add(at), rest),
                    std::array::from_fn(|i| s.load_partial(states[i].add(at), rest)),
                );
                s.store_partial(weight, weights.add(at), rest);
                for i in 0..STATES {
                    s.store_partial(new[i], states[i].add(at), rest);
                }
            }
        }
    }
}

/// Checks that a hyperparameter is a number in `low..high`.
fn check_range(name: &str, value: f64, low: f64, high: f64) -> Result {
    if value >= low && value < high {
        Ok(())
    } else {
        Err(KernelError::Invalid(format!(
            "{name} must be at least {low} and less than {high}, got {value}"
        )))
    }
}

#[cfg(test)]
mod tests;
