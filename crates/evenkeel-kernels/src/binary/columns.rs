//! Matrices of weights, `[rows, columns]` with a column for each output channel, strip by strip.
//!
//! A strip is a few whole columns: one task, whose sums lie on the stack. A column is summed from the first row to the last, so
//! the result depends on nothing but the shape.

use crate::error::{KernelError, Result};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::for_each_task;
use std::ops::Range;

/// Columns of a strip.
pub(super) const STRIP: usize = 32;

/// One number for each column of a strip.
pub(super) type Strip = [f64; STRIP];

/// The rows of a matrix of `length` elements.
pub(super) fn rows_of(what: &str, length: usize, columns: usize) -> Result<usize> {
    if columns == 0 || !length.is_multiple_of(columns) {
        return Err(KernelError::Invalid(format!(
            "{what}: {length} elements are not a whole number of rows of {columns} columns"
        )));
    }
    Ok(length / columns)
}

/// What is done with a strip. Mark `run` `#[inline(always)]`: its loops are then compiled for the current instruction set.
pub(super) trait StripOp: Sync {
    /// Takes these columns.
    fn run(&self, strip: Range<usize>);
}

/// Runs `op` on every strip of columns, in parallel where `elements` are many.
pub(super) fn for_each_strip(columns: usize, elements: usize, op: impl StripOp) {
    struct Run<'a, O>(&'a O, Range<usize>);
    impl<O: StripOp> SimdOp for Run<'_, O> {
        type Output = ();
        #[inline(always)]
        fn call<S: Simd>(self, _: S) {
            self.0.run(self.1);
        }
    }
    for_each_task(columns.div_ceil(STRIP), elements, |task| {
        let strip = task * STRIP..columns.min((task + 1) * STRIP);
        dispatch(Run(&op, strip));
    });
}

/// Adds `term(value, lane)` of every element of the strip to the sum of its column.
#[inline(always)]
pub(super) fn sum_strip(
    values: &[f32],
    columns: usize,
    strip: &Range<usize>,
    term: impl Fn(f64, usize) -> f64,
) -> Strip {
    let mut sums = [0.0; STRIP];
    for row in values.chunks_exact(columns) {
        add_row(&row[strip.clone()], &mut sums, &term);
    }
    sums
}

/// Adds `term(value, lane)` of one row of a strip. The common widths are constants: then the sums stay in registers.
#[inline(always)]
pub(super) fn add_row(row: &[f32], sums: &mut Strip, term: &impl Fn(f64, usize) -> f64) {
    if let Ok(row) = <&[f32; STRIP]>::try_from(row) {
        for lane in 0..STRIP {
            sums[lane] += term(f64::from(row[lane]), lane);
        }
    } else if let Ok(row) = <&[f32; STRIP / 2]>::try_from(row) {
        for lane in 0..STRIP / 2 {
            sums[lane] += term(f64::from(row[lane]), lane);
        }
    } else {
        for (lane, (&value, sum)) in row.iter().zip(sums).enumerate() {
            *sum += term(f64::from(value), lane);
        }
    }
}

/// As [`sum_strip`], of two matrices of one shape.
#[inline(always)]
pub(super) fn sum_strip_of_two(
    a: &[f32],
    b: &[f32],
    columns: usize,
    strip: &Range<usize>,
    term: impl Fn(f64, f64, usize) -> f64,
) -> Strip {
    let mut sums = [0.0; STRIP];
    for (a, b) in a.chunks_exact(columns).zip(b.chunks_exact(columns)) {
        let pairs = a[strip.clone()].iter().zip(&b[strip.clone()]);
        for (lane, ((&a, &b), sum)) in pairs.zip(&mut sums).enumerate() {
            *sum += term(f64::from(a), f64::from(b), lane);
        }
    }
    sums
}
