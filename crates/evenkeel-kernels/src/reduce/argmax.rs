//! The index of the largest number of each row.

use crate::error::{KernelError, Result, check_length};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements per task.
const PIECE: usize = 1 << 14;

/// For each row of `x` (`[rows, columns]`), the column of its largest number: the first where several are equal, and the first
/// NaN where there is one.
///
/// # Errors
/// Where the lengths do not fit, or a row is empty or too long for an i32.
pub fn argmax_last_axis(x: &[f32], columns: usize, output: &mut [i32]) -> Result {
    if columns == 0 || i32::try_from(columns).is_err() {
        return Err(KernelError::Invalid(format!(
            "argmax over {columns} columns: expected 1 to {}",
            i32::MAX
        )));
    }
    let rows = output.len();
    check_length("argmax input", x.len(), rows.saturating_mul(columns))?;
    let step = (PIECE / columns).max(1);
    let parts = DisjointMut::new(output);
    for_each_task(rows.div_ceil(step), x.len(), |task| {
        let rows = piece(task, step, rows);
        // SAFETY: tasks have different rows.
        let results = unsafe { parts.part(rows.clone()) };
        let x = x[rows.start * columns..rows.end * columns].chunks_exact(columns);
        for (row, result) in x.zip(results) {
            *result = largest(row) as i32;
        }
    });
    Ok(())
}

fn largest(row: &[f32]) -> usize {
    let mut best = 0;
    for (column, &x) in row.iter().enumerate() {
        if row[best].is_nan() {
            break;
        }
        if x > row[best] || x.is_nan() {
            best = column;
        }
    }
    best
}
