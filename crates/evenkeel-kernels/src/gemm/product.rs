//! `C = op(A)·op(B)`, and adding to C.

use super::columns::{ColumnProduct, Right};
use super::few_rows::FewRows;
use super::lanes;
use super::panels::{Panels, Strided, pack};
use super::rows::{RowProduct, Run};
use super::target::Target;
use crate::error::{Result, check_length, checked_product};
use crate::isa::dispatch;
use crate::parallel::{for_each_task, multiply_adds, piece};
use crate::scratch::{with_indices, with_scratch};
use std::ops::Range;

/// Rows of C in one task: twenty tiles of twelve.
const TASK_ROWS: usize = 240;
/// Panels in one task.
const TASK_PANELS: usize = 4;
/// Elements of the sum over `k` taken at once in `Aᵀ·B`, so that the strips of A and B stay in cache.
const DEPTH: usize = 256;

/// `output[m, n] = op(a)·op(b)`, or `output += op(a)·op(b)` with `accumulate`.
///
/// All matrices are row-major. `a` is `[m, k]`, or `[k, m]` with `transpose_a`; `b` is `[k, n]`, or `[n, k]` with `transpose_b`.
/// Any size may be zero; with `k = 0` the product is zero.
///
/// # Errors
/// Where a length does not fit the sizes, or a product of sizes overflows.
pub fn matmul(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    transpose_a: bool,
    b: &[f32],
    transpose_b: bool,
    accumulate: bool,
    output: &mut [f32],
) -> Result {
    product(
        m,
        n,
        k,
        a,
        transpose_a,
        b,
        transpose_b,
        None,
        accumulate,
        output,
    )
}

/// [`matmul`] with an optional bias, one value per column.
pub(super) fn product(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    transpose_a: bool,
    b: &[f32],
    transpose_b: bool,
    bias: Option<&[f32]>,
    accumulate: bool,
    output: &mut [f32],
) -> Result {
    check_length("a", a.len(), checked_product("a", &[m, k])?)?;
    check_length("b", b.len(), checked_product("b", &[k, n])?)?;
    check_length("output", output.len(), checked_product("output", &[m, n])?)?;
    if let Some(bias) = bias {
        check_length("bias", bias.len(), n)?;
    }
    if output.is_empty() {
        return Ok(());
    }
    if !transpose_a && FewRows::pays(m, n, k, transpose_b) {
        FewRows {
            rows: m,
            columns: n,
            depth: k,
            a,
            b,
            transposed: transpose_b,
            bias,
            accumulate,
            // SAFETY: tasks write different columns of the output.
            c: unsafe { Target::new(output) },
        }
        .run();
        return Ok(());
    }
    let panels = Panels::new(n, lanes());
    let source = Strided {
        values: b,
        origin: 0,
        row_stride: if transpose_b { 1 } else { n },
        column_stride: if transpose_b { k } else { 1 },
    };
    let packed_length = checked_product("packed b", &[k, panels.padded_columns()])?;
    let row_tasks = m.div_ceil(TASK_ROWS);
    let panel_tasks = panels.count().div_ceil(TASK_PANELS);
    // SAFETY: tasks write different rows or different panels of the output.
    let target = unsafe { Target::new(output) };
    with_scratch(packed_length, |packed| {
        pack(packed, panels, k, source);
        let packed = &*packed;
        for_each_task(row_tasks * panel_tasks, multiply_adds(m * n * k), |task| {
            let rows = piece(task / panel_tasks, TASK_ROWS, m);
            let range = piece(task % panel_tasks, TASK_PANELS, panels.count());
            let c = target.from(rows.start * n);
            if transpose_a {
                column_task(m, n, k, a, packed, panels, rows, range, c, accumulate);
            } else {
                with_indices(|offsets| {
                    offsets.extend((0..rows.len()).map(|row| row * k));
                    offsets.extend((0..rows.len()).map(|row| row * n));
                    let (a_offsets, c_offsets) = offsets.split_at(rows.len());
                    dispatch(RowProduct {
                        a: &a[rows.start * k..],
                        a_offsets,
                        runs: &[Run {
                            offset: 0,
                            length: k,
                        }],
                        b: &packed[k * panels.panel(range.start).start..],
                        panels,
                        range,
                        c,
                        c_offsets,
                        bias,
                        accumulate,
                    });
                });
            }
        });
    });
    Ok(())
}

/// One block of rows and panels of `aᵀ·b`: outer products, [`DEPTH`] of them summed in registers at a time.
fn column_task(
    m: usize,
    n: usize,
    k: usize,
    a: &[f32],
    packed: &[f32],
    panels: Panels,
    rows: Range<usize>,
    range: Range<usize>,
    c: Target<'_>,
    accumulate: bool,
) {
    with_indices(|offsets| {
        offsets.extend((0..DEPTH.min(k)).map(|p| p * m));
        // With k = 0 one empty block still writes the zeros.
        for first in (0..k.max(1)).step_by(DEPTH) {
            let depth = DEPTH.min(k - first);
            dispatch(ColumnProduct {
                a: &a[first * m..],
                a_offsets: &offsets[..depth],
                a_start: rows.start,
                count: rows.len(),
                b: Right::Packed {
                    values: packed,
                    rows: k,
                    first,
                },
                panels,
                range: range.clone(),
                c,
                c_stride: n,
                accumulate: accumulate || first > 0,
                ahead: [&[]; 2],
            });
        }
    });
}
