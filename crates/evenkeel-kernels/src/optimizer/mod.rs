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
    fn call<S: Simd>(mut self, s: S) {
        let length = self.weights.len();
        let whole = length - length % S::LANES;
        for at in (0..whole).step_by(S::LANES) {
            // SAFETY: LANES values follow `at` in every slice: all are `length` long.
            unsafe { self.vector(s, at, S::LANES) };
        }
        if whole < length {
            // SAFETY: `length - whole < LANES` values follow `whole` in every slice.
            unsafe { self.vector(s, whole, length - whole) };
        }
    }
}

impl<R: Rule<STATES>, const STATES: usize> Sweep<'_, R, STATES> {
    /// Takes `lanes` values from `at`; where that is a constant, loads and stores are plain ones.
    ///
    /// # Safety
    /// `at + lanes` must not exceed the slices' length, nor `lanes` a vector's.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&mut self, s: S, at: usize, lanes: usize) {
        // SAFETY: the caller's promise; a state is as long as the weights.
        unsafe {
            let mut states = [s.zero(); STATES];
            for (state, values) in states.iter_mut().zip(&self.states) {
                if let Some(values) = values {
                    *state = load(s, values.as_ptr().add(at), lanes);
                }
            }
            let weights = self.weights.as_mut_ptr().add(at);
            let weight = load(s, weights, lanes);
            let gradient = load(s, self.gradients.as_ptr().add(at), lanes);
            let (weight, states) = self.rule.apply(s, weight, gradient, states);
            store(s, weight, weights, lanes);
            for (state, values) in states.into_iter().zip(&mut self.states) {
                if let Some(values) = values {
                    store(s, state, values.as_mut_ptr().add(at), lanes);
                }
            }
        }
    }
}

/// # Safety
/// `lanes` values must follow `from`, at most those of a vector.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, from: *const f32, lanes: usize) -> S::F32 {
    // SAFETY: the caller's promise.
    unsafe {
        if lanes == S::LANES {
            s.load(from)
        } else {
            s.load_partial(from, lanes)
        }
    }
}

/// # Safety
/// As [`load`], of memory that may be written.
#[inline(always)]
unsafe fn store<S: Simd>(s: S, value: S::F32, to: *mut f32, lanes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        if lanes == S::LANES {
            s.store(value, to);
        } else {
            s.store_partial(value, to, lanes);
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
