//! The gradient of the maximum or minimum over axes.

use super::axes::Plan;
use crate::error::{Result, check_length, checked_product};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements per task.
const PIECE: usize = 1 << 14;

/// The gradient of `reduce(Maximum or Minimum)` with result `y`: each element of `dy` goes to the first input, in memory order,
/// that equals its `y` (or is NaN where `y` is); all others get zero.
///
/// # Errors
/// Where a length does not fit, or an axis is out of range or given twice.
pub fn extremum_backward(
    x: &[f32],
    shape: &[usize],
    axes: &[usize],
    y: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result {
    let plan = Plan::new(shape, axes)?;
    check_length("input", x.len(), checked_product("shape", shape)?)?;
    check_length("output", y.len(), plan.outputs())?;
    check_length("output gradient", dy.len(), plan.outputs())?;
    check_length("input gradient", dx.len(), x.len())?;
    let (outputs, count) = (plan.outputs(), plan.count());
    if count == 0 {
        return Ok(());
    }
    dx.fill(0.0);
    let step = (PIECE / count).max(1);
    let length = dx.len();
    let parts = DisjointMut::new(dx);
    for_each_task(outputs.div_ceil(step), length, |task| {
        for output in piece(task, step, outputs) {
            let start = plan.output_offset(output);
            let wanted = y[output];
            let found = (0..count)
                .map(|element| start + plan.element_offset(element))
                .find(|&at| x[at] == wanted || (wanted.is_nan() && x[at].is_nan()));
            if let Some(at) = found {
                // SAFETY: the inputs of different outputs are different elements, and each output belongs to one task.
                let part = unsafe { parts.part(at..at + 1) };
                part[0] = dy[output];
            }
        }
    });
    Ok(())
}
