//! Moving elements: permuting axes, slices, padding, joining, gathering rows, repeating.
//!
//! All but [`broadcast_copy`] and [`scatter_add_rows`] copy elements of any type, NaN bits included.

mod cast;
mod rows;
mod strided;

pub use cast::{Number, cast};
pub use rows::{gather_rows, scatter_add_rows};

use crate::elementwise::MAX_DIMENSIONS;
use crate::elementwise::broadcast::{Plan, broadcast_map};
use crate::elementwise::map::{VectorMap, operands};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::Simd;
use strided::{Walk, copy};

/// Row-major strides; the shape is checked.
fn strides_of(shape: &[usize]) -> [usize; MAX_DIMENSIONS] {
    let mut strides = [1; MAX_DIMENSIONS];
    for axis in (0..shape.len().saturating_sub(1)).rev() {
        strides[axis] = strides[axis + 1] * shape[axis + 1];
    }
    strides
}

/// The number of elements of a shape with at most [`MAX_DIMENSIONS`] dimensions.
fn check_shape(what: &'static str, shape: &[usize]) -> Result<usize> {
    if shape.len() > MAX_DIMENSIONS {
        return Err(KernelError::Invalid(format!(
            "{what}: {} dimensions, at most {MAX_DIMENSIONS} are possible",
            shape.len()
        )));
    }
    // Sizes of zero do not make the others harmless: strides are products of them.
    let sizes: [usize; MAX_DIMENSIONS] =
        std::array::from_fn(|axis| shape.get(axis).map_or(1, |&size| size.max(1)));
    checked_product(what, &sizes)?;
    checked_product(what, shape)
}

/// `y[i_axes[0], i_axes[1], ...] = x[i_0, i_1, ...]`: axis `k` of `y` is axis `axes[k]` of `x`.
///
/// # Errors
/// Where a length does not fit, or `axes` is not a permutation of the shape's axes.
pub fn permute<T: Copy + Send + Sync>(
    x: &[T],
    shape: &[usize],
    axes: &[usize],
    y: &mut [T],
) -> Result {
    let length = check_shape("permute", shape)?;
    let is_permutation =
        axes.len() == shape.len() && (0..shape.len()).all(|axis| axes.contains(&axis));
    if !is_permutation {
        return Err(KernelError::Invalid(format!(
            "permute: {axes:?} is not an order of the axes of {shape:?}"
        )));
    }
    check_length("permute input", x.len(), length)?;
    check_length("permute output", y.len(), length)?;
    let from = strides_of(shape);
    let mut to = 1;
    let dimensions = axes.iter().rev().map(|&axis| {
        let stride = to;
        to *= shape[axis];
        (shape[axis], from[axis], stride)
    });
    copy(&Walk::new(dimensions), x, y);
    Ok(())
}

/// A part of a tensor: along each axis `size` elements from `start` on, `step` apart.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The first element along each axis.
    pub starts: &'a [usize],
    /// The distance between elements along each axis, at least 1.
    pub steps: &'a [usize],
    /// The number of elements along each axis.
    pub sizes: &'a [usize],
}

impl Part<'_> {
    /// Checks that the part lies inside `shape`; returns its number of elements and where it starts.
    fn check(&self, what: &'static str, shape: &[usize]) -> Result<(usize, usize)> {
        check_shape(what, shape)?;
        let rank = shape.len();
        let fits = [self.starts.len(), self.steps.len(), self.sizes.len()] == [rank; 3]
            && (0..rank).all(|axis| {
                let (start, step, size) = (self.starts[axis], self.steps[axis], self.sizes[axis]);
                let last = size
                    .checked_sub(1)
                    .and_then(|last| last.checked_mul(step))
                    .and_then(|last| last.checked_add(start));
                step >= 1 && (size == 0 || last.is_some_and(|last| last < shape[axis]))
            });
        if !fits {
            return Err(KernelError::Invalid(format!(
                "{what}: {self:?} does not lie inside {shape:?}"
            )));
        }
        let length = check_shape(what, self.sizes)?;
        let strides = strides_of(shape);
        let start = if length == 0 {
            0
        } else {
            (0..rank)
                .map(|axis| self.starts[axis] * strides[axis])
                .sum()
        };
        Ok((length, start))
    }

    /// `(size, stride in the whole, stride in the part)`, innermost first.
    fn dimensions(&self, shape: &[usize]) -> impl Iterator<Item = (usize, usize, usize)> {
        let (whole, part) = (strides_of(shape), strides_of(self.sizes));
        (0..shape.len())
            .rev()
            .map(move |axis| (self.sizes[axis], whole[axis] * self.steps[axis], part[axis]))
    }
}

/// Copies a part of `x` (of `shape`) to `y` (of `part.sizes`).
///
/// # Errors
/// Where a length does not fit, or the part does not lie inside the shape.
pub fn slice<T: Copy + Send + Sync>(x: &[T], shape: &[usize], part: Part, y: &mut [T]) -> Result {
    let (length, start) = part.check("slice", shape)?;
    check_length("slice input", x.len(), checked_product("slice", shape)?)?;
    check_length("slice output", y.len(), length)?;
    let walk = Walk::new(part.dimensions(shape));
    copy(&walk, &x[start.min(x.len())..], y);
    Ok(())
}

/// Copies `x` (of `part.sizes`) over a part of `y` (of `shape`); the rest of `y` stays.
///
/// # Errors
/// Where a length does not fit, or the part does not lie inside the shape.
pub fn insert<T: Copy + Send + Sync>(x: &[T], part: Part, y: &mut [T], shape: &[usize]) -> Result {
    let (length, start) = part.check("insert", shape)?;
    check_length("insert input", x.len(), length)?;
    check_length("insert output", y.len(), checked_product("insert", shape)?)?;
    let dimensions = part
        .dimensions(shape)
        .map(|(size, whole, part)| (size, part, whole));
    let start = start.min(y.len());
    copy(&Walk::new(dimensions), x, &mut y[start..]);
    Ok(())
}

/// `y` is `value` everywhere but at the part, which is `x`: padding, and the gradient of [`slice()`].
///
/// # Errors
/// As for [`insert`].
pub fn pad<T: Copy + Send + Sync>(
    x: &[T],
    part: Part,
    value: T,
    y: &mut [T],
    shape: &[usize],
) -> Result {
    let (length, _) = part.check("pad", shape)?;
    check_length("pad input", x.len(), length)?;
    check_length("pad output", y.len(), checked_product("pad", shape)?)?;
    y.fill(value);
    insert(x, part, y, shape)
}

/// Joins tensors along `axis`: input `i` has `shape` with `sizes[i]` along the axis (whatever `shape` says there); `y` has their sum.
///
/// # Errors
/// Where a length does not fit, there is no such axis, or there is no input.
pub fn concatenate<T: Copy + Send + Sync>(
    inputs: &[&[T]],
    sizes: &[usize],
    shape: &[usize],
    axis: usize,
    y: &mut [T],
) -> Result {
    if axis >= shape.len() || inputs.len() != sizes.len() || inputs.is_empty() {
        return Err(KernelError::Invalid(format!(
            "concatenate: {} inputs with {} sizes along axis {axis} of {shape:?}",
            inputs.len(),
            sizes.len()
        )));
    }
    let total = sizes
        .iter()
        .try_fold(0usize, |total, &size| total.checked_add(size))
        .ok_or(KernelError::Overflow("concatenate"))?;
    let rank = shape.len();
    let mut whole = [1; MAX_DIMENSIONS];
    check_shape("concatenate", shape)?;
    whole[..rank].copy_from_slice(shape);
    whole[axis] = total;
    let length = check_shape("concatenate", &whole[..rank])?;
    check_length("concatenate output", y.len(), length)?;
    let mut own = whole;
    for (input, &size) in inputs.iter().zip(sizes) {
        own[axis] = size;
        check_length(
            "concatenate input",
            input.len(),
            checked_product("concatenate", &own[..rank])?,
        )?;
    }
    let mut starts = [0; MAX_DIMENSIONS];
    for (input, &size) in inputs.iter().zip(sizes) {
        own[axis] = size;
        let part = Part {
            starts: &starts[..rank],
            steps: &[1; MAX_DIMENSIONS][..rank],
            sizes: &own[..rank],
        };
        insert(input, part, y, &whole[..rank])?;
        starts[axis] += size;
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Scale(f32);

impl VectorMap<1> for Scale {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::F32; 1]) -> S::F32 {
        simd.mul(x, simd.splat(self.0))
    }
}

/// `y = x * factor`, where `x` of `shape` broadcasts to `y` of `output_shape`: the gradient of a sum, and with a factor of a mean.
///
/// # Errors
/// Where a length does not fit, or the shape does not broadcast.
pub fn broadcast_copy(
    x: &[f32],
    shape: &[usize],
    factor: f32,
    y: &mut [f32],
    output_shape: &[usize],
) -> Result {
    let plan = Plan::new([shape], output_shape)?;
    check_length("broadcast input", x.len(), checked_product("shape", shape)?)?;
    check_length(
        "broadcast output",
        y.len(),
        checked_product("shape", output_shape)?,
    )?;
    // SAFETY: the lengths are those of the shapes, and a mutable slice overlaps no other.
    unsafe { broadcast_map(Scale(factor), &plan, operands([x], y)) };
    Ok(())
}

#[cfg(test)]
mod tests;
