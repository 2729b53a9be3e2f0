//! Memory that is asked for while matrices are multiplied, so that the transforms around it do not wait for memory with the
//! multipliers idle, while memory idles during the multiplication.
//!
//! A transform reads windows a few pixels wide, row by row, which hardware prefetchers follow badly; but the tiles of a group
//! follow one another, so what they read and write is a run of consecutive memory.

use super::kernel::Direction;
use crate::gemm::target::Target;
use crate::isa::Simd;
use crate::parallel::in_segment;
use std::ops::Range;

/// Floats of source and destination from which a forward pass asks for them, as a gradient of weights does for its sources: below, one
/// core's second-level cache holds most of what they read. (Batch 8 of ResNet-20 on 32×32, which stays below, would lose 0 to 1 %.)
const FLOATS: usize = (2 << 20) / 4;
/// The same for the gradient of the input. What it reads was just written, and it writes where another gradient was: with 4 MB, where the
/// forward pass, whose output is memory that no cache holds, gains 7 %, it lost 1 to 2 %.
const GRADIENT_FLOATS: usize = (6 << 20) / 4;

/// Whether a pass in a direction, or in a segment of a batch that is large as a whole, asks for its source and destination of so many floats together.
pub(super) fn pays(direction: Direction, floats: usize) -> bool {
    let least = match direction {
        Direction::Forward => FLOATS,
        Direction::Backward => GRADIENT_FLOATS,
    };
    in_segment() || floats >= least
}

/// Whether a gradient of weights asks for its sources of so many floats together.
pub(super) fn pays_for_weights(floats: usize) -> bool {
    in_segment() || floats >= FLOATS
}

/// Floats in a line of the caches.
const LINE: usize = 16;

/// Consecutive memory that a transform will read or write soon. It is only asked for, so any address is allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Soon {
    first: *const f32,
    lines: usize,
    write: bool,
}

impl Soon {
    /// Nothing.
    pub const NOTHING: Soon = Soon {
        first: std::ptr::null(),
        lines: 0,
        write: false,
    };

    /// A part of what will be read.
    pub fn read(memory: &[f32], range: Range<usize>) -> Soon {
        Soon {
            first: memory.as_ptr().wrapping_add(range.start),
            lines: range.len().div_ceil(LINE),
            write: false,
        }
    }

    /// A part of what will be written.
    pub fn write(target: Target<'_>, range: Range<usize>) -> Soon {
        Soon {
            first: target.pointer().wrapping_add(range.start),
            lines: range.len().div_ceil(LINE),
            write: true,
        }
    }

    /// One of `count` even parts.
    pub fn part(self, index: usize, count: usize) -> Soon {
        let (start, end) = (self.lines * index / count, self.lines * (index + 1) / count);
        Soon {
            first: self.first.wrapping_add(start * LINE),
            lines: end - start,
            ..self
        }
    }

    /// Where it begins and ends, for a micro-kernel, which asks for what will be written as for what will be read.
    pub fn range(self) -> Range<*const f32> {
        self.first..self.first.wrapping_add(self.lines * LINE)
    }

    /// Whether there is nothing to ask for.
    pub fn is_nothing(self) -> bool {
        self.lines == 0
    }

    /// All of it, a few lines at each of `turns` turns.
    #[inline(always)]
    pub fn in_turns(self, turns: usize) -> Turns {
        Turns {
            left: self,
            lines: self.lines.div_ceil(turns.max(1)),
        }
    }
}

/// See [`Soon::in_turns`].
pub(super) struct Turns {
    left: Soon,
    /// Lines of a turn.
    lines: usize,
}

impl Turns {
    /// One turn.
    #[inline(always)]
    pub fn advance<S: Simd>(&mut self, s: S) {
        let lines = self.lines.min(self.left.lines);
        let end = self.left.first.wrapping_add(lines * LINE);
        while self.left.first != end {
            if self.left.write {
                s.prefetch_write(self.left.first);
            } else {
                s.prefetch(self.left.first);
            }
            self.left.first = self.left.first.wrapping_add(LINE);
        }
        self.left.lines -= lines;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::isa::{SimdOp, dispatch};

    struct Advance(Soon, usize);

    impl SimdOp for Advance {
        type Output = (Soon, usize);

        #[inline(always)]
        fn call<S: Simd>(self, s: S) -> (Soon, usize) {
            let mut turns = self.0.in_turns(self.1);
            let mut longest = 0;
            for _ in 0..self.1 {
                let before = turns.left.lines;
                turns.advance(s);
                longest = longest.max(before - turns.left.lines);
            }
            (turns.left, longest)
        }
    }

    #[test]
    fn turns_end_where_the_memory_ends() {
        let memory = [0.0; 16 * 50];
        for (floats, turns) in [
            (0, 3),
            (1, 3),
            (16, 1),
            (17, 4),
            (16 * 50, 7),
            (16 * 50, 99),
        ] {
            let soon = Soon::read(&memory, 0..floats);
            assert_eq!(soon.is_nothing(), floats == 0);
            let (left, longest) = dispatch(Advance(soon, turns));
            assert_eq!(left.lines, 0);
            let lines = floats.div_ceil(LINE);
            assert_eq!(longest, lines.div_ceil(turns));
            assert_eq!(left.first, memory.as_ptr().wrapping_add(lines * LINE));
        }
    }

    #[test]
    fn parts_follow_one_another() {
        let memory = [0.0; 16 * 50];
        let all = Soon::read(&memory, 16..16 * 50);
        let mut next = all.first;
        for index in 0..3 {
            let part = all.part(index, 3);
            assert_eq!(part.first, next);
            next = next.wrapping_add(part.lines * LINE);
        }
        assert_eq!(next, memory.as_ptr().wrapping_add(memory.len()));
    }
}
