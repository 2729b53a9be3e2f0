//! Cross-entropy of logits with class labels or with a distribution, optionally smoothed (Szegedy et al., 2016, section 7).
//!
//! With the target distribution `q` (a label is all of the weight on one class), `q' = (1 - s) q + s / columns` for the smoothing
//! `s`, and the loss of a row is `-sum of q' * log_softmax(x)`. Nothing is saved for the backward pass: it exponentiates again,
//! which costs less than the memory.

use super::rows::{WideSum, count_rows, exponential, partition, rows_per_task};
use crate::elementwise::map::vectors;
use crate::error::{KernelError, Result, check_length};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::with_f64;

/// What the network should have said.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// The class of each row.
    Labels(&'a [i32]),
    /// The weight of each class in each row, `[rows, columns]`, as for distillation. Rows should sum to one; where they do not,
    /// the formula still holds.
    Distribution(&'a [f32]),
}

/// What becomes of the losses of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossReduction {
    /// Their mean, one number; NaN of no rows.
    Mean,
    /// Their sum, one number.
    Sum,
    /// Each stays, `[rows]`.
    None,
}

/// The loss of logits `[rows, columns]`.
///
/// # Errors
/// Where the lengths do not fit, the smoothing is not in `0..=1`, or a label is not in `0..columns`.
pub fn cross_entropy_forward(
    logits: &[f32],
    columns: usize,
    targets: Targets,
    smoothing: f32,
    reduction: LossReduction,
    loss: &mut [f32],
) -> Result {
    let rows = check(logits, columns, targets, smoothing)?;
    check_length("loss", loss.len(), lengths_of_loss(reduction, rows))?;
    let step = rows_per_task(columns);
    let tasks = rows.div_ceil(step);
    let job = |task: usize| {
        let rows = piece(task, step, rows);
        Forward {
            logits: &logits[rows.start * columns..rows.end * columns],
            columns,
            targets: targets.of_rows(rows, columns),
            smoothing: f64::from(smoothing),
        }
    };
    if reduction == LossReduction::None {
        let parts = DisjointMut::new(loss);
        for_each_task(tasks, logits.len(), |task| {
            // SAFETY: tasks have different rows.
            let losses = unsafe { parts.part(piece(task, step, rows)) };
            dispatch(job(task).each(|row, loss| losses[row] = loss as f32));
        });
        return Ok(());
    }
    let total = with_f64(tasks, |partials| {
        let parts = DisjointMut::new(partials);
        for_each_task(tasks, logits.len(), |task| {
            // SAFETY: each task writes its own element.
            let partial = unsafe { parts.part(task..task + 1) };
            partial[0] = 0.0;
            dispatch(job(task).each(|_, loss| partial[0] += loss));
        });
        partials.iter().fold(0.0, |total, partial| total + partial)
    });
    loss[0] = match reduction {
        LossReduction::Mean => total / rows as f64,
        _ => total,
    } as f32;
    Ok(())
}

/// The gradient of [`cross_entropy_forward`] for the logits: `(softmax(x) * sum of q' - q') * dy`, and for the mean divided by the
/// number of rows. `dy` has the loss's shape.
///
/// # Errors
/// As for [`cross_entropy_forward`].
pub fn cross_entropy_backward(
    logits: &[f32],
    columns: usize,
    targets: Targets,
    smoothing: f32,
    reduction: LossReduction,
    dy: &[f32],
    dx: &mut [f32],
) -> Result {
    let rows = check(logits, columns, targets, smoothing)?;
    check_length("loss gradient", dy.len(), lengths_of_loss(reduction, rows))?;
    check_length("logits gradient", dx.len(), logits.len())?;
    let step = rows_per_task(columns);
    let parts = DisjointMut::new(dx);
    for_each_task(rows.div_ceil(step), logits.len(), |task| {
        let part = piece(task, step, rows);
        let range = part.start * columns..part.end * columns;
        // SAFETY: tasks have different rows.
        let dx = unsafe { parts.part(range.clone()) };
        dispatch(Backward {
            logits: &logits[range],
            columns,
            targets: targets.of_rows(part.clone(), columns),
            smoothing: f64::from(smoothing),
            factor: |row: usize| match reduction {
                LossReduction::Mean => f64::from(dy[0]) / rows as f64,
                LossReduction::Sum => f64::from(dy[0]),
                LossReduction::None => f64::from(dy[part.start + row]),
            },
            dx,
        });
    });
    Ok(())
}

fn lengths_of_loss(reduction: LossReduction, rows: usize) -> usize {
    if reduction == LossReduction::None {
        rows
    } else {
        1
    }
}

fn check(logits: &[f32], columns: usize, targets: Targets, smoothing: f32) -> Result<usize> {
    let rows = count_rows("cross-entropy", logits.len(), columns)?;
    if !(0.0..=1.0).contains(&smoothing) {
        return Err(KernelError::Invalid(format!(
            "cross-entropy: label smoothing {smoothing}: expected 0 to 1"
        )));
    }
    match targets {
        Targets::Labels(labels) => {
            check_length("labels", labels.len(), rows)?;
            check_labels("cross-entropy", labels, columns)?;
        }
        Targets::Distribution(weights) => {
            check_length("target distribution", weights.len(), logits.len())?;
        }
    }
    Ok(rows)
}

/// Checks that every label names a class.
pub(super) fn check_labels(what: &str, labels: &[i32], classes: usize) -> Result {
    let outside = |label: &i32| usize::try_from(*label).map_or(true, |label| label >= classes);
    match labels.iter().position(outside) {
        None => Ok(()),
        Some(row) => Err(KernelError::Invalid(format!(
            "{what}: label {} of row {row} is not a class: expected 0 to {}",
            labels[row],
            classes.saturating_sub(1)
        ))),
    }
}

impl<'a> Targets<'a> {
    fn of_rows(self, rows: std::ops::Range<usize>, columns: usize) -> Targets<'a> {
        match self {
            Targets::Labels(labels) => Targets::Labels(&labels[rows]),
            Targets::Distribution(weights) => {
                Targets::Distribution(&weights[rows.start * columns..rows.end * columns])
            }
        }
    }
}

struct Forward<'a> {
    logits: &'a [f32],
    columns: usize,
    targets: Targets<'a>,
    smoothing: f64,
}

impl<'a> Forward<'a> {
    /// Calls `store(row, loss)` for each row.
    fn each<F: FnMut(usize, f64)>(self, store: F) -> ForwardEach<'a, F> {
        ForwardEach { job: self, store }
    }
}

struct ForwardEach<'a, F> {
    job: Forward<'a>,
    store: F,
}

impl<F: FnMut(usize, f64)> SimdOp for ForwardEach<'_, F> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let Forward {
            logits,
            columns,
            targets,
            smoothing,
        } = self.job;
        for (row, x) in logits.chunks_exact(columns).enumerate() {
            let (largest, sum) = partition(simd, x);
            let log_sum = sum.ln();
            let shift = f64::from(largest);
            // With z = x - largest, a class's loss is log_sum - z.
            let mut loss = match targets {
                Targets::Labels(labels) => log_sum - (f64::from(x[labels[row] as usize]) - shift),
                Targets::Distribution(weights) => {
                    let q = &weights[row * columns..(row + 1) * columns];
                    distribution_loss(simd, x, q, largest, log_sum)
                }
            };
            if smoothing > 0.0 {
                let uniform = log_sum - mean_of_shifted(simd, x, largest);
                loss = (1.0 - smoothing) * loss + smoothing * uniform;
            }
            (self.store)(row, loss);
        }
    }
}

/// `sum of q * (log_sum - (x - largest))`.
#[inline(always)]
fn distribution_loss<S: Simd>(simd: S, x: &[f32], q: &[f32], largest: f32, log_sum: f64) -> f64 {
    let shift = simd.splat64(f64::from(largest));
    let log_sum = simd.splat64(log_sum);
    let mut sums = [simd.splat64(0.0); 2];
    for (column, lanes) in vectors(simd, x.len()) {
        // SAFETY: column + lanes <= the length of x and of q. Lanes past the end have no weight.
        let (x, q) = unsafe {
            (
                simd.load_partial(x.as_ptr().add(column), lanes),
                simd.load_partial(q.as_ptr().add(column), lanes),
            )
        };
        // What has no weight costs nothing, even where its logit is minus infinity.
        let weighted = simd.select(simd.gt(simd.abs(q), simd.zero()), x, simd.splat(largest));
        let weighted = simd.select(simd.ge(q, q), weighted, q);
        let (x, q) = (simd.widen(weighted), simd.widen(q));
        let costs = [
            simd.sub64(log_sum, simd.sub64(x[0], shift)),
            simd.sub64(log_sum, simd.sub64(x[1], shift)),
        ];
        sums = [
            simd.fma64(q[0], costs[0], sums[0]),
            simd.fma64(q[1], costs[1], sums[1]),
        ];
    }
    simd.sum64(simd.add64(sums[0], sums[1]))
}

/// The mean of `x - largest`.
#[inline(always)]
fn mean_of_shifted<S: Simd>(simd: S, x: &[f32], largest: f32) -> f64 {
    let mut sum = WideSum::new(simd);
    for (column, lanes) in vectors(simd, x.len()) {
        // SAFETY: column + lanes <= the length of x.
        sum.add(simd, unsafe {
            simd.load_partial(x.as_ptr().add(column), lanes)
        });
    }
    sum.total(simd) / x.len() as f64 - f64::from(largest)
}

struct Backward<'a, F> {
    logits: &'a [f32],
    columns: usize,
    targets: Targets<'a>,
    smoothing: f64,
    factor: F,
    dx: &'a mut [f32],
}

impl<F: Fn(usize) -> f64> SimdOp for Backward<'_, F> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let columns = self.columns;
        let rows = self.logits.chunks_exact(columns);
        for (row, (x, dx)) in rows.zip(self.dx.chunks_exact_mut(columns)).enumerate() {
            let (largest, sum) = partition(simd, x);
            let factor = (self.factor)(row);
            let shift = simd.splat(largest);
            let weights = match self.targets {
                Targets::Labels(_) => None,
                Targets::Distribution(weights) => {
                    Some(&weights[row * columns..(row + 1) * columns])
                }
            };
            let total = weights.map_or(1.0, |weights| {
                let mut sum = WideSum::new(simd);
                for (column, lanes) in vectors(simd, columns) {
                    // SAFETY: column + lanes <= columns, the length of the weights.
                    sum.add(simd, unsafe {
                        simd.load_partial(weights.as_ptr().add(column), lanes)
                    });
                }
                sum.total(simd)
            });
            let total = (1.0 - self.smoothing) * total + self.smoothing;
            let scale = simd.splat((factor * total / sum) as f32);
            let uniform = simd.splat((-factor * self.smoothing / columns as f64) as f32);
            let share = (-factor * (1.0 - self.smoothing)) as f32;
            for (column, lanes) in vectors(simd, columns) {
                let e = exponential(simd, x, shift, column, lanes);
                let mut result = simd.fma(e, scale, uniform);
                // SAFETY: column + lanes <= columns, the length of the weights and of dx.
                unsafe {
                    if let Some(weights) = weights {
                        let q = simd.load_partial(weights.as_ptr().add(column), lanes);
                        result = simd.fma(q, simd.splat(share), result);
                    }
                    simd.store_partial(result, dx.as_mut_ptr().add(column), lanes);
                }
            }
            if let Targets::Labels(labels) = self.targets {
                // The difference is taken in f64: where the network is sure and right, it nearly cancels.
                let label = labels[row] as usize;
                let e = f64::from(x[label] - largest).exp();
                let uniform = self.smoothing / columns as f64;
                dx[label] = (factor * (e / sum - (1.0 - self.smoothing) - uniform)) as f32;
            }
        }
    }
}
