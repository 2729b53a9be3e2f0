//! The loop under every elementwise kernel: a function of `N` vectors, applied along contiguous memory.

use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};

/// Elements per task: 64 KB of f32, which fits in a core's second-level cache together with its other operands.
pub(crate) const PIECE: usize = 1 << 14;

/// A function of `N` numbers, as vectors.
pub(crate) trait VectorMap<const N: usize>: Copy + Send + Sync {
    /// The function. Implementations are `#[inline(always)]`.
    fn apply<S: Simd>(self, simd: S, x: [S::F32; N]) -> S::F32;
}

/// Where the operands of a map lie: pointers that may cross to other threads.
#[derive(Clone, Copy)]
pub(crate) struct Operands<const N: usize> {
    pub inputs: [*const f32; N],
    pub output: *mut f32,
}

// SAFETY: the functions that take an `Operands` are unsafe, and their callers promise that the memory is theirs for the length
// of the call; tasks write disjoint parts of the output.
unsafe impl<const N: usize> Send for Operands<N> {}
// SAFETY: as above.
unsafe impl<const N: usize> Sync for Operands<N> {}

impl<const N: usize> Operands<N> {
    /// The same operands, `offset` elements on.
    ///
    /// # Safety
    /// Every operand must be at least `offset` elements long.
    #[inline(always)]
    unsafe fn advance(self, offset: usize) -> Self {
        // SAFETY: the caller promises that the offset lies inside (or one past) each operand.
        unsafe {
            Operands {
                inputs: self.inputs.map(|input| input.add(offset)),
                output: self.output.add(offset),
            }
        }
    }
}

/// `output[i] = function(inputs[0][i], ..., inputs[N - 1][i])` for `i` below `length`, in parallel.
///
/// # Safety
/// Every input must be valid for reading, and the output for writing, `length` f32. An input may be the output itself (the
/// operation is then in place), but may not overlap it otherwise.
pub(crate) unsafe fn map<const N: usize>(
    function: impl VectorMap<N>,
    operands: Operands<N>,
    length: usize,
) {
    for_each_task(length.div_ceil(PIECE), length, |task| {
        let range = piece(task, PIECE, length);
        // SAFETY: the range lies inside `length`, and the caller promised that many elements everywhere.
        let operands = unsafe { operands.advance(range.start) };
        dispatch(Contiguous {
            function,
            operands,
            length: range.len(),
        });
    });
}

struct Contiguous<F, const N: usize> {
    function: F,
    operands: Operands<N>,
    length: usize,
}

impl<F: VectorMap<N>, const N: usize> SimdOp for Contiguous<F, N> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        // SAFETY: `map` made this value with operands of `length` elements, aliased at most in place.
        unsafe { row(simd, self.function, self.operands, [true; N], self.length) }
    }
}

/// One row: operand `i` advances with the output where `advances[i]`, and is a single number for the whole row where not.
///
/// # Safety
/// The output and every operand that advances must be valid for `length` f32, the others for one. An input may be the output
/// itself but may not overlap it otherwise.
#[inline(always)]
pub(crate) unsafe fn row<S: Simd, const N: usize>(
    simd: S,
    function: impl VectorMap<N>,
    operands: Operands<N>,
    advances: [bool; N],
    length: usize,
) {
    let full = length - length % S::LANES;
    let rest = length - full;
    let mut i = 0;
    while i < full {
        let x = std::array::from_fn(
            #[inline(always)]
            |operand| {
                let input = operands.inputs[operand];
                // SAFETY: i + LANES <= length, and a number that does not advance can be read once.
                unsafe {
                    if advances[operand] {
                        simd.load(input.add(i))
                    } else {
                        simd.splat(*input)
                    }
                }
            },
        );
        // SAFETY: i + LANES <= length elements are writable. All inputs of these lanes were read above.
        unsafe { simd.store(function.apply(simd, x), operands.output.add(i)) };
        i += S::LANES;
    }
    if rest > 0 {
        let x = std::array::from_fn(
            #[inline(always)]
            |operand| {
                let input = operands.inputs[operand];
                // SAFETY: as above, with the `rest` elements that are left.
                unsafe {
                    if advances[operand] {
                        simd.load_partial(input.add(i), rest)
                    } else {
                        simd.splat(*input)
                    }
                }
            },
        );
        // SAFETY: `rest` elements are writable from i on.
        unsafe { simd.store_partial(function.apply(simd, x), operands.output.add(i), rest) };
    }
}

/// Slices as operands of a map that writes elsewhere.
pub(crate) fn operands<const N: usize>(inputs: [&[f32]; N], output: &mut [f32]) -> Operands<N> {
    Operands {
        inputs: inputs.map(<[f32]>::as_ptr),
        output: output.as_mut_ptr(),
    }
}

/// The first `n` lanes from memory, the others `filler`.
///
/// # Safety
/// `p` must be valid for reading `n <= LANES` f32.
#[inline(always)]
pub(crate) unsafe fn load_filled<S: Simd>(simd: S, p: *const f32, n: usize, filler: f32) -> S::F32 {
    if n == S::LANES {
        // SAFETY: the caller's promise.
        return unsafe { simd.load(p) };
    }
    const ONES: [f32; MAX_LANES] = [1.0; MAX_LANES];
    // SAFETY: the caller's promise, and `n` is less than the length of `ONES`.
    unsafe {
        let present = simd.gt(simd.load_partial(ONES.as_ptr(), n), simd.zero());
        simd.select(present, simd.load_partial(p, n), simd.splat(filler))
    }
}

/// The vectors that make a row: `(first element, lanes)`, whole ones and then what is left.
///
/// An iterator rather than a function that takes a closure: a closure that is not inlined loses the instruction set, and every
/// operation of its body becomes a call.
pub(crate) struct Vectors {
    next: usize,
    length: usize,
    lanes: usize,
}

/// The vectors of `length` elements.
#[inline(always)]
pub(crate) fn vectors<S: Simd>(_: S, length: usize) -> Vectors {
    Vectors {
        next: 0,
        length,
        lanes: S::LANES,
    }
}

impl Iterator for Vectors {
    type Item = (usize, usize);

    #[inline(always)]
    fn next(&mut self) -> Option<(usize, usize)> {
        if self.next >= self.length {
            return None;
        }
        let first = self.next;
        self.next += self.lanes;
        Some((first, self.lanes.min(self.length - first)))
    }
}
