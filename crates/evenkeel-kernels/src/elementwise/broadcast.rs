//! NumPy's broadcasting: shapes are aligned at their last dimension, and a dimension of one is repeated.

use super::map::{Operands, PIECE, VectorMap, map, row};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};

/// The most dimensions that a shape may have.
pub const MAX_DIMENSIONS: usize = 8;

/// The shape that `a` and `b` broadcast to.
///
/// # Errors
/// [`KernelError::Invalid`] where two sizes differ and neither is one, or there are more than [`MAX_DIMENSIONS`] dimensions.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], dimension: usize| -> usize {
        let missing = rank - shape.len();
        if dimension < missing {
            1
        } else {
            shape[dimension - missing]
        }
    };
    let mut shape = Vec::with_capacity(rank);
    for dimension in 0..rank {
        shape.push(match (size(a, dimension), size(b, dimension)) {
            (a, b) if a == b => a,
            (1, b) => b,
            (a, 1) => a,
            _ => {
                return Err(KernelError::Invalid(format!(
                    "shapes {a:?} and {b:?} do not broadcast"
                )));
            }
        });
    }
    if rank > MAX_DIMENSIONS {
        return Err(KernelError::Invalid(format!(
            "{rank} dimensions: at most {MAX_DIMENSIONS} are possible"
        )));
    }
    Ok(shape)
}

/// How `N` operands are walked together: the output's dimensions, innermost first, without those of size one and with
/// neighbours merged where every operand permits it. Along the innermost dimension each operand's stride is zero or one.
#[derive(Clone, Copy)]
pub(crate) struct Plan<const N: usize> {
    rank: usize,
    sizes: [usize; MAX_DIMENSIONS],
    strides: [[usize; MAX_DIMENSIONS]; N],
    length: usize,
}

impl<const N: usize> Plan<N> {
    /// The plan for operands of `shapes`, each of which must broadcast to `output`.
    pub(crate) fn new(shapes: [&[usize]; N], output: &[usize]) -> Result<Self> {
        if output.len() > MAX_DIMENSIONS {
            return Err(KernelError::Invalid(format!(
                "{} dimensions: at most {MAX_DIMENSIONS} are possible",
                output.len()
            )));
        }
        let mut plan = Plan {
            rank: 0,
            sizes: [1; MAX_DIMENSIONS],
            strides: [[0; MAX_DIMENSIONS]; N],
            length: checked_product("broadcast shape", output)?,
        };
        for shape in shapes {
            let missing = output.len().checked_sub(shape.len());
            let fits = missing.is_some_and(|missing| {
                shape
                    .iter()
                    .zip(&output[missing..])
                    .all(|(&size, &wanted)| size == wanted || size == 1)
            });
            if !fits {
                return Err(KernelError::Invalid(format!(
                    "shape {shape:?} does not broadcast to {output:?}"
                )));
            }
        }
        if plan.length == 0 {
            // Nothing is walked, and products of the other sizes need not fit.
            plan.rank = 1;
            return Ok(plan);
        }
        // The stride, were an operand not repeated, of the dimension in hand.
        let mut steps = [1usize; N];
        for (from_last, &size) in output.iter().rev().enumerate() {
            let mut strides = [0; N];
            for operand in 0..N {
                let shape = shapes[operand];
                let own = if from_last < shape.len() {
                    shape[shape.len() - 1 - from_last]
                } else {
                    1
                };
                if own != 1 {
                    strides[operand] = steps[operand];
                    steps[operand] *= own;
                }
            }
            if size != 1 {
                plan.push(size, strides);
            }
        }
        plan.rank = plan.rank.max(1);
        Ok(plan)
    }

    fn push(&mut self, size: usize, strides: [usize; N]) {
        if let Some(last) = self.rank.checked_sub(1) {
            let mergeable = (0..N)
                .all(|operand| strides[operand] == self.strides[operand][last] * self.sizes[last]);
            if mergeable {
                self.sizes[last] *= size;
                return;
            }
        }
        self.sizes[self.rank] = size;
        for operand in 0..N {
            self.strides[operand][self.rank] = strides[operand];
        }
        self.rank += 1;
    }

    fn is_contiguous(&self) -> bool {
        self.rank == 1 && self.strides.iter().all(|strides| strides[0] == 1)
    }

    /// Where each operand's row number `row` starts.
    #[inline(always)]
    fn offsets(&self, mut row: usize) -> [usize; N] {
        let mut offsets = [0; N];
        for dimension in 1..self.rank {
            let index = row % self.sizes[dimension];
            row /= self.sizes[dimension];
            for operand in 0..N {
                offsets[operand] += index * self.strides[operand][dimension];
            }
        }
        offsets
    }
}

/// Checks that each operand has as many elements as its shape says.
pub(crate) fn check_operands<const N: usize>(
    operands: [(&'static str, usize, &[usize]); N],
) -> Result {
    for (argument, length, shape) in operands {
        check_length(argument, length, checked_product(argument, shape)?)?;
    }
    Ok(())
}

/// Applies `function` to broadcast operands, in parallel.
///
/// # Safety
/// The output must be valid for writing as many f32 as its shape has, and every input for reading as many as theirs have. An
/// input that has the output's shape may be the output itself; none may overlap it otherwise.
pub(crate) unsafe fn broadcast_map<const N: usize>(
    function: impl VectorMap<N>,
    plan: &Plan<N>,
    operands: Operands<N>,
) {
    if plan.length == 0 {
        return;
    }
    if plan.is_contiguous() {
        // SAFETY: nothing is repeated, so every operand has `length` elements.
        unsafe { map(function, operands, plan.length) };
        return;
    }
    if plan.is_narrow() {
        // SAFETY: as promised to this function.
        unsafe { narrow_map(function, plan, operands) };
        return;
    }
    for_each_task(plan.length.div_ceil(PIECE), plan.length, |task| {
        dispatch(Rows {
            function,
            plan,
            operands,
            range: piece(task, PIECE, plan.length),
        });
    });
}

/// A stretch of the output, which may begin and end inside a row.
struct Rows<'a, F, const N: usize> {
    function: F,
    plan: &'a Plan<N>,
    operands: Operands<N>,
    range: std::ops::Range<usize>,
}

impl<F: VectorMap<N>, const N: usize> SimdOp for Rows<'_, F, N> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let width = self.plan.sizes[0];
        let advances = self.plan.strides.map(|strides| strides[0] == 1);
        let mut at = self.range.start;
        while at < self.range.end {
            let column = at % width;
            let length = (width - column).min(self.range.end - at);
            let offsets = self.plan.offsets(at / width);
            // SAFETY: the offsets are those of an index inside the output's shape, so they lie inside each operand, and with
            // them the `length` elements from `column` on (one element where an operand does not advance).
            unsafe {
                let operands = Operands {
                    inputs: std::array::from_fn(|operand| {
                        let column = if advances[operand] { column } else { 0 };
                        self.operands.inputs[operand].add(offsets[operand] + column)
                    }),
                    output: self.operands.output.add(at),
                };
                row(simd, self.function, operands, advances, length);
            }
            at += length;
        }
    }
}

/// Elements of the repeated vectors of [`narrow_map`].
const TILE: usize = 1024;

impl<const N: usize> Plan<N> {
    /// Whether this is a matrix with few columns, combined with vectors of one row or with single numbers, and long enough for
    /// [`narrow_map`] to pay.
    fn is_narrow(&self) -> bool {
        self.rank == 2
            && self.sizes[0] <= 128
            && self.length >= 4 * TILE
            && self.strides.iter().all(|strides| {
                let repeated = strides[1] == 0;
                let whole = strides[0] == 1 && strides[1] == self.sizes[0];
                repeated || whole
            })
    }
}

/// Few channels would leave most lanes of a row's last vector empty. So the row vectors are repeated until they fill a tile, and
/// many rows are done as one long one.
///
/// # Safety
/// As for [`broadcast_map`]; the plan must be narrow.
unsafe fn narrow_map<const N: usize>(
    function: impl VectorMap<N>,
    plan: &Plan<N>,
    operands: Operands<N>,
) {
    let width = plan.sizes[0];
    let tile = TILE / width * width;
    let mut repeated = [[0.0f32; TILE]; N];
    for operand in 0..N {
        if plan.strides[operand][1] == 0 && plan.strides[operand][0] == 1 {
            // SAFETY: this operand has one row of `width` elements.
            let vector = unsafe { std::slice::from_raw_parts(operands.inputs[operand], width) };
            for copy in repeated[operand][..tile].chunks_exact_mut(width) {
                copy.copy_from_slice(vector);
            }
        }
    }
    // Whole tiles per task, so that each tile starts at the first channel.
    let step = PIECE.div_ceil(tile) * tile;
    for_each_task(plan.length.div_ceil(step), plan.length, |task| {
        dispatch(Tiles {
            function,
            plan,
            operands,
            repeated: &repeated,
            tile,
            range: piece(task, step, plan.length),
        });
    });
}

struct Tiles<'a, F, const N: usize> {
    function: F,
    plan: &'a Plan<N>,
    operands: Operands<N>,
    repeated: &'a [[f32; TILE]; N],
    tile: usize,
    range: std::ops::Range<usize>,
}

impl<F: VectorMap<N>, const N: usize> SimdOp for Tiles<'_, F, N> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let advances = self.plan.strides.map(|strides| strides[0] == 1);
        for at in self.range.clone().step_by(self.tile) {
            let length = self.tile.min(self.range.end - at);
            // SAFETY: an operand with a row stride is as long as the output; a repeated vector is at least `length` long; a single
            // number is read in place.
            unsafe {
                let operands = Operands {
                    inputs: std::array::from_fn(|operand| {
                        if self.plan.strides[operand][1] != 0 {
                            self.operands.inputs[operand].add(at)
                        } else if advances[operand] {
                            self.repeated[operand].as_ptr()
                        } else {
                            self.operands.inputs[operand]
                        }
                    }),
                    output: self.operands.output.add(at),
                };
                row(simd, self.function, operands, advances, length);
            }
        }
    }
}
