//! Which axes are reduced, and how the rest is walked.

use crate::elementwise::MAX_DIMENSIONS;
use crate::error::{KernelError, Result, checked_product};

/// The sizes that are left when `axes` of `shape` are reduced.
///
/// # Errors
/// Where an axis is out of range or given twice, or there are more than [`MAX_DIMENSIONS`] dimensions.
pub fn reduced_shape(shape: &[usize], axes: &[usize]) -> Result<Vec<usize>> {
    let reduced = reduced_axes(shape, axes)?;
    Ok((0..shape.len())
        .filter(|&axis| !reduced[axis])
        .map(|axis| shape[axis])
        .collect())
}

/// The axes (and how many) along which a tensor of `target` shape is repeated when it is broadcast to `shape`.
///
/// # Errors
/// Where it does not broadcast to it.
pub fn sum_axes_of_broadcast(
    shape: &[usize],
    target: &[usize],
) -> Result<([usize; MAX_DIMENSIONS], usize)> {
    let missing = shape.len().checked_sub(target.len());
    let fits = missing.is_some_and(|missing| {
        shape.len() <= MAX_DIMENSIONS
            && shape[missing..]
                .iter()
                .zip(target)
                .all(|(&size, &own)| own == size || own == 1)
    });
    let (true, Some(missing)) = (fits, missing) else {
        return Err(KernelError::Invalid(format!(
            "shape {target:?} does not broadcast to {shape:?}"
        )));
    };
    let (mut axes, mut count) = ([0; MAX_DIMENSIONS], 0);
    for axis in 0..shape.len() {
        if axis < missing || target[axis - missing] != shape[axis] {
            axes[count] = axis;
            count += 1;
        }
    }
    Ok((axes, count))
}

fn reduced_axes(shape: &[usize], axes: &[usize]) -> Result<[bool; MAX_DIMENSIONS]> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(KernelError::Invalid(format!(
            "{} dimensions: at most {MAX_DIMENSIONS} are possible",
            shape.len()
        )));
    }
    let mut reduced = [false; MAX_DIMENSIONS];
    for &axis in axes {
        if axis >= shape.len() || reduced[axis] {
            return Err(KernelError::Invalid(format!(
                "axes {axes:?} of shape {shape:?}: each must be below {} and given once",
                shape.len()
            )));
        }
        reduced[axis] = true;
    }
    Ok(reduced)
}

/// Some axes of the input, innermost first, with their strides.
#[derive(Clone, Copy, Default)]
struct Walk {
    rank: usize,
    sizes: [usize; MAX_DIMENSIONS],
    strides: [usize; MAX_DIMENSIONS],
}

impl Walk {
    fn push(&mut self, size: usize, stride: usize) {
        if let Some(last) = self.rank.checked_sub(1)
            && stride == self.strides[last] * self.sizes[last]
        {
            self.sizes[last] *= size;
            return;
        }
        self.sizes[self.rank] = size;
        self.strides[self.rank] = stride;
        self.rank += 1;
    }

    /// Elements, over all axes from number `from` on.
    fn count(&self, from: usize) -> usize {
        self.sizes[from.min(self.rank)..self.rank].iter().product()
    }

    /// Where element `index` is, over all axes from number `from` on.
    #[inline(always)]
    fn offset(&self, from: usize, mut index: usize) -> usize {
        let mut offset = 0;
        for axis in from..self.rank {
            offset += index % self.sizes[axis] * self.strides[axis];
            index /= self.sizes[axis];
        }
        offset
    }
}

/// A reduction's geometry: the axes that are kept and those that are reduced, each without sizes of one and with neighbours
/// merged.
pub(super) struct Plan {
    kept: Walk,
    reduced: Walk,
    outputs: usize,
    count: usize,
}

impl Plan {
    pub(super) fn new(shape: &[usize], axes: &[usize]) -> Result<Self> {
        checked_product("shape", shape)?;
        let is_reduced = reduced_axes(shape, axes)?;
        let (mut kept, mut reduced) = (Walk::default(), Walk::default());
        let (mut outputs, mut count) = (1usize, 1usize);
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            let (walk, total) = if is_reduced[axis] {
                (&mut reduced, &mut count)
            } else {
                (&mut kept, &mut outputs)
            };
            *total = total
                .checked_mul(shape[axis])
                .ok_or(KernelError::Overflow("shape"))?;
            if shape[axis] != 1 {
                walk.push(shape[axis], stride);
            }
            stride *= shape[axis];
        }
        Ok(Plan {
            kept,
            reduced,
            outputs,
            count,
        })
    }

    /// Elements of the output.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    /// Elements that make one element of the output.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many neighbours in memory belong to neighbouring outputs: the innermost axis where it is kept, else 1.
    pub(super) fn width(&self) -> usize {
        if self.kept.rank > 0 && self.kept.strides[0] == 1 {
            self.kept.sizes[0]
        } else {
            1
        }
    }

    /// How many neighbours in memory belong to one output: the innermost axis where it is reduced, else 1.
    pub(super) fn run(&self) -> usize {
        if self.reduced.rank > 0 && self.reduced.strides[0] == 1 {
            self.reduced.sizes[0]
        } else {
            1
        }
    }

    /// Where the inputs of output `index` start.
    #[inline(always)]
    pub(super) fn output_offset(&self, index: usize) -> usize {
        self.kept.offset(0, index)
    }

    /// How far element `index` of an output's inputs lies from their start.
    #[inline(always)]
    pub(super) fn element_offset(&self, index: usize) -> usize {
        self.reduced.offset(0, index)
    }

    /// From element `index` of an output's inputs on: how many lie evenly in memory, and how far apart.
    #[inline(always)]
    pub(super) fn even_rows(&self, index: usize) -> (usize, usize) {
        if self.reduced.rank == 0 {
            return (1, 0);
        }
        let size = self.reduced.sizes[0];
        (size - index % size, self.reduced.strides[0])
    }

    /// Groups of `width` neighbouring outputs.
    pub(super) fn groups(&self) -> usize {
        if self.width() == 1 {
            self.outputs
        } else {
            self.kept.count(1)
        }
    }
}
