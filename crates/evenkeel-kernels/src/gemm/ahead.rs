//! Memory that a kernel asks for while it multiplies.

use crate::isa::Simd;
use std::ops::Range;

/// What a micro-kernel asks for in every step of its inner loop.
pub(crate) trait Ask: Copy {
    /// One step.
    fn advance<S: Simd>(&mut self, s: S);
}

/// Nothing: the loop has no instruction for it.
#[derive(Clone, Copy)]
pub(crate) struct Nothing;

impl Ask for Nothing {
    #[inline(always)]
    fn advance<S: Simd>(&mut self, _: S) {}
}

/// Memory that is asked for line by line while a kernel computes, so that reading it later does not wait.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    next: *const f32,
    /// Bytes for every step of the kernel's inner loop.
    step: usize,
    /// Where the memory ends, and what is asked for after it.
    end: *const f32,
    then: [*const f32; 2],
}

impl Ahead {
    /// Nothing: `here` is asked for again and again, which costs nothing where it is in cache.
    #[inline(always)]
    pub(crate) fn none(here: *const f32) -> Ahead {
        Ahead::stream(here, 0)
    }

    /// Both ranges within `steps` steps, as far as a line a step gets; nothing, `here`, where they are empty. They are only asked for, so
    /// any address is allowed.
    #[inline(always)]
    pub(crate) fn all(ranges: [Range<*const f32>; 2], steps: usize, here: *const f32) -> Ahead {
        let bytes = |range: &Range<*const f32>| range.end.addr().saturating_sub(range.start.addr());
        let bytes = bytes(&ranges[0]) + bytes(&ranges[1]);
        if bytes == 0 {
            return Ahead::none(here);
        }
        let [mut first, mut then] = ranges;
        if first.is_empty() {
            std::mem::swap(&mut first, &mut then);
        }
        Ahead {
            next: first.start,
            // The last step of each may reach beyond it.
            step: bytes.div_ceil(steps.saturating_sub(2).max(1)).min(64),
            end: first.end,
            then: [then.start, then.end],
        }
    }

    /// `step` bytes a step, from `next` on.
    #[inline(always)]
    pub(crate) fn stream(next: *const f32, step: usize) -> Ahead {
        Ahead {
            next,
            step,
            end: std::ptr::without_provenance(usize::MAX),
            then: [next; 2],
        }
    }

    /// What comes when everything up to `end` was asked for. Apart, so that it takes no registers from the loops around [`Self::advance`].
    #[cold]
    #[inline(never)]
    fn past_end(self) -> Ahead {
        let [next, end] = self.then;
        if next < end {
            Ahead {
                next,
                end,
                then: [end; 2],
                ..self
            }
        } else {
            // The last line again: an empty slice may point nowhere, and asking there takes a walk through the page tables.
            Ahead::none(self.next.wrapping_byte_sub(self.step))
        }
    }
}

impl Ask for Ahead {
    /// The next `step` bytes; after `end`, the memory that comes then, and after that nothing.
    #[inline(always)]
    fn advance<S: Simd>(&mut self, s: S) {
        s.prefetch(self.next);
        self.next = self.next.wrapping_byte_add(self.step);
        if self.next >= self.end {
            *self = self.past_end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{SimdOp, dispatch};

    /// Distances, in floats from `here`, of what is asked for in some steps.
    struct Asked<'a> {
        values: [&'a [f32]; 2],
        here: &'a [f32],
        steps: usize,
    }

    impl SimdOp for Asked<'_> {
        type Output = Vec<isize>;

        #[inline(always)]
        fn call<S: Simd>(self, s: S) -> Vec<isize> {
            let here = self.here.as_ptr();
            let mut ahead = Ahead::all(self.values.map(<[f32]>::as_ptr_range), self.steps, here);
            let mut asked = Vec::new();
            for _ in 0..self.steps {
                asked.push((ahead.next as isize - here as isize) / 4);
                ahead.advance(s);
            }
            asked
        }
    }

    #[test]
    fn every_line_of_both_slices_is_asked_for() {
        let memory = vec![0.0; 4096];
        for (first, then, steps) in [
            (0..1600, 2000..2640, 145),
            (0..1600, 2000..2640, 1000),
            (0..1600, 0..0, 140),
            (0..0, 2000..2640, 43),
            (160..208, 320..1008, 50),
        ] {
            let asked = dispatch(Asked {
                values: [&memory[first.clone()], &memory[then.clone()]],
                here: &memory,
                steps,
            });
            assert!(asked.iter().all(|at| (0..4096).contains(at)));
            for range in [first, then] {
                for line in range.step_by(16).map(|start| start as isize) {
                    let found = asked.iter().any(|at| (line..line + 16).contains(at));
                    assert!(found, "line {line} in {steps} steps: {asked:?}");
                }
            }
        }
        let nothing = dispatch(Asked {
            values: [&[], &[]],
            here: &memory,
            steps: 6,
        });
        assert_eq!(nothing, [0; 6]);
    }
}
