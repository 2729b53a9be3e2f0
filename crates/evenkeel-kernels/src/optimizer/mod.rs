//! Optimizer updates: one pass over weights, gradients and state.
//!
//! Every optimizer here is a [`Rule`]: what one step does to one vector of weights and its state. An optimizer makes an [`Update`] of each
//! tensor, and [`step`] does them all: each value is read and written once, and a network of small tensors keeps as many threads busy
//! as one large tensor. The gradient's scale factor (gradient clipping) is part of the same pass. State starts at zero.

mod adam;
mod average;
mod bop;
mod norm;
mod rms_prop;
mod sgd;

pub use adam::Adam;
pub use average::exponential_moving_average;
pub use bop::Bop;
pub use norm::{clip_scale, scale_in_place, sum_of_squares};
pub use rms_prop::{RmsProp, RmsPropState};
pub use sgd::Sgd;

use crate::error::{KernelError, Result, check_length};
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use std::ops::Range;

/// Elements of one task: weights, gradients and two states of this many f32 fit into a second-level cache. Whole vectors.
const TASK_ELEMENTS: usize = 1 << 14;

/// One step of an optimizer with at most `STATES` values of state a weight.
pub trait Rule<const STATES: usize>: Copy + Send + Sync {
    /// The new weights and states of one vector; of states that an update lacks, zeros come in, and what comes out is dropped. Mark it
    /// `#[inline(always)]`.
    fn apply<S: Simd>(
        self,
        s: S,
        weight: S::F32,
        gradient: S::F32,
        states: [S::F32; STATES],
    ) -> (S::F32, [S::F32; STATES]);
}

/// What a step does to one tensor of weights, with all that it reads and changes checked. [`Sgd::update`] and its like make it, and
/// [`step`] does it.
pub struct Update<'a, R, const STATES: usize> {
    rule: R,
    weights: DisjointMut<'a, f32>,
    gradients: &'a [f32],
    states: [Option<DisjointMut<'a, f32>>; STATES],
}

impl<'a, R: Rule<STATES>, const STATES: usize> Update<'a, R, STATES> {
    fn new(
        rule: R,
        weights: &'a mut [f32],
        gradients: &'a [f32],
        states: [Option<&'a mut [f32]>; STATES],
    ) -> Result<Self> {
        check_length("gradients", gradients.len(), weights.len())?;
        for state in states.iter().flatten() {
            check_length("state", state.len(), weights.len())?;
        }
        Ok(Update {
            rule,
            weights: DisjointMut::new(weights),
            gradients,
            states: states.map(|state| state.map(DisjointMut::new)),
        })
    }

    /// The elements of a task's `range` when the tensor begins at element `start` of all.
    fn part(&self, range: &Range<usize>, start: usize) -> Range<usize> {
        let within = |at: usize| at.saturating_sub(start).min(self.gradients.len());
        within(range.start)..within(range.end)
    }
}

/// Does `updates`, together.
pub fn step<R: Rule<STATES>, const STATES: usize>(updates: &mut [Update<'_, R, STATES>]) {
    let updates = &*updates;
    // As if the tensors lay one after another, each from a whole vector on.
    let padded =
        |update: &Update<'_, R, STATES>| update.gradients.len().next_multiple_of(MAX_LANES);
    let total: usize = updates.iter().map(padded).sum();
    let tasks = total.div_ceil(TASK_ELEMENTS);
    for_each_task(tasks, total * (STATES + 2), |task| {
        let range = piece(task, TASK_ELEMENTS, total);
        let mut start = 0;
        for update in updates {
            let part = update.part(&range, start);
            if !part.is_empty() {
                dispatch(Sweep {
                    rule: update.rule,
                    // SAFETY: ranges of tasks do not overlap, an update is its own tensor, and this call has it alone.
                    weights: unsafe { update.weights.part(part.clone()) },
                    gradients: &update.gradients[part.clone()],
                    states: std::array::from_fn(|i| {
                        let state = update.states[i].as_ref();
                        // SAFETY: as above.
                        state.map(|state| unsafe { state.part(part.clone()) })
                    }),
                });
            }
            start += padded(update);
            if start >= range.end {
                break;
            }
        }
    });
}

/// A part of one tensor in [`step`]; all slices have the same length.
struct Sweep<'a, R, const STATES: usize> {
    rule: R,
    weights: &'a mut [f32],
    gradients: &'a [f32],
    states: [Option<&'a mut [f32]>; STATES],
}

impl<R: Rule<STATES>, const STATES: usize> SimdOp for Sweep<'_, R, STATES> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let length = self.weights.len();
        let weights = self.weights.as_mut_ptr();
        let gradients = self.gradients.as_ptr();
        // Null where there is none.
        let states = self
            .states
            .map(|state| state.map_or(std::ptr::null_mut(), |state| state.as_mut_ptr()));
        let mut at = 0;
        while at + S::LANES <= length {
            // SAFETY: LANES values follow `at` in every slice: all are `length` long.
            unsafe {
                let mut old = [s.zero(); STATES];
                for i in 0..STATES {
                    if !states[i].is_null() {
                        old[i] = s.load(states[i].add(at));
                    }
                }
                let (weight, new) =
                    self.rule
                        .apply(s, s.load(weights.add(at)), s.load(gradients.add(at)), old);
                s.store(weight, weights.add(at));
                for i in 0..STATES {
                    if !states[i].is_null() {
                        s.store(new[i], states[i].add(at));
                    }
                }
            }
            at += S::LANES;
        }
        let rest = length - at;
        if rest > 0 {
            // SAFETY: `rest < LANES` values follow `at` in every slice.
            unsafe {
                let mut old = [s.zero(); STATES];
                for i in 0..STATES {
                    if !states[i].is_null() {
                        old[i] = s.load_partial(states[i].add(at), rest);
                    }
                }
                let (weight, new) = self.rule.apply(
                    s,
                    s.load_partial(weights.add(at), rest),
                    s.load_partial(gradients.add(at), rest),
                    old,
                );
                s.store_partial(weight, weights.add(at), rest);
                for i in 0..STATES {
                    if !states[i].is_null() {
                        s.store_partial(new[i], states[i].add(at), rest);
                    }
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
