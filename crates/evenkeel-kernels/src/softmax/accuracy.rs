//! How often the right class is among the first k.

use super::cross_entropy::check_labels;
use super::rows::{count_rows, rows_per_task};
use crate::error::{KernelError, Result, check_length};
use crate::parallel::{for_each_task, piece};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of rows of `logits` (`[rows, columns]`) whose label's logit is among the `k` largest. Of equal logits the earlier
/// class ranks first, so a network that says the same for every class is right for class 0 alone; a NaN is never right.
///
/// # Errors
/// Where the lengths do not fit, `k` is zero, or a label is not in `0..columns`.
pub fn count_top_k(logits: &[f32], columns: usize, labels: &[i32], k: usize) -> Result<usize> {
    let rows = count_rows("top-k accuracy", logits.len(), columns)?;
    check_length("labels", labels.len(), rows)?;
    check_labels("top-k accuracy", labels, columns)?;
    if k == 0 {
        return Err(KernelError::Invalid(
            "top-k accuracy: k is 0, expected 1 or more".into(),
        ));
    }
    // Whole numbers: the sum is the same in any order.
    let count = AtomicUsize::new(0);
    let step = rows_per_task(columns);
    for_each_task(rows.div_ceil(step), logits.len(), |task| {
        let right = piece(task, step, rows)
            .filter(|&row| {
                let x = &logits[row * columns..(row + 1) * columns];
                rank(x, labels[row] as usize).is_some_and(|rank| rank < k)
            })
            .count();
        count.fetch_add(right, Ordering::Relaxed);
    });
    Ok(count.into_inner())
}

/// How many classes come before `label`; none where a NaN makes that meaningless.
fn rank(x: &[f32], label: usize) -> Option<usize> {
    let own = x[label];
    if x.iter().any(|x| x.is_nan()) {
        return None;
    }
    let before = x[..label].iter().filter(|&&x| x >= own).count();
    let after = x[label + 1..].iter().filter(|&&x| x > own).count();
    Some(before + after)
}
