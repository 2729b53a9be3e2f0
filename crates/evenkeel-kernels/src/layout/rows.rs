//! Choosing rows by index.

use crate::error::{KernelError, Result, check_length, checked_product};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements per task.
const PIECE: usize = 1 << 14;

/// `y[i] = x[indices[i]]` for rows of `width` elements.
///
/// # Errors
/// Where a length does not fit, or an index is not in `0..rows`.
pub fn gather_rows<T: Copy + Send + Sync>(
    x: &[T],
    width: usize,
    indices: &[i32],
    y: &mut [T],
) -> Result {
    check(x.len(), width, indices, y.len())?;
    if width == 0 {
        return Ok(());
    }
    let step = (PIECE / width).max(1);
    let length = y.len();
    let parts = DisjointMut::new(y);
    for_each_task(indices.len().div_ceil(step), length, |task| {
        let rows = piece(task, step, indices.len());
        // SAFETY: tasks have different rows.
        let y = unsafe { parts.part(rows.start * width..rows.end * width) };
        for (row, y) in rows.zip(y.chunks_exact_mut(width)) {
            let from = indices[row] as usize * width;
            y.copy_from_slice(&x[from..from + width]);
        }
    });
    Ok(())
}

/// The gradient of [`gather_rows`]: `dx[indices[i]] += dy[i]`, from zero, in the order of the indices.
///
/// # Errors
/// As for [`gather_rows`].
pub fn scatter_add_rows(dy: &[f32], width: usize, indices: &[i32], dx: &mut [f32]) -> Result {
    check(dx.len(), width, indices, dy.len())?;
    dx.fill(0.0);
    if width == 0 {
        return Ok(());
    }
    for (&index, dy) in indices.iter().zip(dy.chunks_exact(width)) {
        let to = index as usize * width;
        for (dx, dy) in dx[to..to + width].iter_mut().zip(dy) {
            *dx += dy;
        }
    }
    Ok(())
}

fn check(table: usize, width: usize, indices: &[i32], chosen: usize) -> Result {
    let length = checked_product("rows", &[indices.len(), width])?;
    check_length("chosen rows", chosen, length)?;
    // Rows without elements: any index finds one.
    let rows = table.checked_div(width).unwrap_or(usize::MAX);
    if width != 0 && !table.is_multiple_of(width) {
        return Err(KernelError::Invalid(format!(
            "gather: {table} elements are not a whole number of rows of {width}"
        )));
    }
    let outside = |&index: &i32| usize::try_from(index).map_or(true, |index| index >= rows);
    match indices.iter().position(outside) {
        None => Ok(()),
        Some(at) => Err(KernelError::Invalid(format!(
            "gather: index {} at position {at} is not a row: there are {rows}",
            indices[at]
        ))),
    }
}
