//! The loops of a reduction.

use super::axes::Plan;
use super::reducer::Reducer;
use crate::elementwise::map::load_filled;
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::with_f64;
use std::ops::Range;

/// Elements per block: one partial result, one task.
const BLOCK: usize = 1 << 14;

/// Rows that a block of columns has at least, so that partial results stay few beside the input.
const MIN_ROWS: usize = 64;

/// Columns per block.
const COLUMNS: usize = 1024;

/// Reduces `x` by `plan`. The lengths are checked.
pub(super) fn run<R: Reducer>(reducer: R, plan: &Plan, x: &[f32], output: &mut [f32]) {
    if plan.outputs() == 0 {
        return;
    }
    if plan.count() == 0 {
        output.fill(reducer.finish(R::NOTHING));
    } else if plan.width() > 1 {
        columns(reducer, plan, x, output);
    } else {
        runs(reducer, plan, x, output);
    }
}

/// Reduces all of `x` to one number.
pub(super) fn total<R: Reducer>(reducer: R, x: &[f32]) -> f64 {
    let blocks = x.len().div_ceil(BLOCK);
    with_f64(blocks, |partials| {
        let parts = DisjointMut::new(partials);
        for_each_task(blocks, x.len(), |block| {
            let segment = &x[piece(block, BLOCK, x.len())];
            // SAFETY: each task writes its own element.
            let partial = unsafe { parts.part(block..block + 1) };
            partial[0] = dispatch(Segment { reducer, segment });
        });
        partials.iter().fold(R::NOTHING, |total, &partial| {
            reducer.combine(total, partial)
        })
    })
}

/// One contiguous stretch, to one number.
struct Segment<'a, R> {
    reducer: R,
    segment: &'a [f32],
}

impl<R: Reducer> SimdOp for Segment<'_, R> {
    type Output = f64;
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) -> f64 {
        reduce_segment(simd, self.reducer, self.segment)
    }
}

#[inline(always)]
fn reduce_segment<S: Simd, R: Reducer>(simd: S, reducer: R, x: &[f32]) -> f64 {
    // Several chains of additions, so that none waits for the one before.
    const CHAINS: usize = 4;
    let chains = if x.len() < CHAINS * S::LANES {
        1
    } else {
        CHAINS
    };
    let mut partials = [reducer.start(simd); CHAINS];
    let mut chunks = x.chunks_exact(CHAINS * S::LANES);
    for chunk in &mut chunks {
        for (chain, partial) in partials.iter_mut().enumerate() {
            // SAFETY: the chunk holds CHAINS vectors.
            let x = unsafe { simd.load(chunk.as_ptr().add(chain * S::LANES)) };
            *partial = reducer.step(simd, *partial, x);
        }
    }
    for rest in chunks.remainder().chunks(S::LANES) {
        // SAFETY: `rest` holds at most LANES numbers.
        let x = unsafe { load_filled(simd, rest.as_ptr(), rest.len(), reducer.filler()) };
        partials[0] = reducer.step(simd, partials[0], x);
    }
    let mut all = partials[0];
    if chains > 1 {
        let low = reducer.merge(simd, partials[0], partials[1]);
        all = reducer.merge(simd, low, reducer.merge(simd, partials[2], partials[3]));
    }
    let mut lanes = [0.0; MAX_LANES];
    reducer.lanes(simd, all, &mut lanes);
    reduce_lanes(reducer, &mut lanes, S::LANES)
}

/// All lanes to one number, by halving.
#[inline(always)]
fn reduce_lanes<R: Reducer>(reducer: R, lanes: &mut [f64; MAX_LANES], count: usize) -> f64 {
    let mut half = count / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = reducer.combine(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Each output is made of runs of neighbours in memory.
fn runs<R: Reducer>(reducer: R, plan: &Plan, x: &[f32], output: &mut [f32]) {
    let (outputs, count) = (plan.outputs(), plan.count());
    let blocks = count.div_ceil(BLOCK);
    if blocks == 1 {
        let parts = DisjointMut::new(output);
        let step = (BLOCK / count).max(1);
        for_each_task(outputs.div_ceil(step), outputs * count, |index| {
            let outputs = piece(index, step, outputs);
            // SAFETY: tasks have different outputs.
            let results = unsafe { parts.part(outputs.clone()) };
            dispatch(Runs {
                reducer,
                plan,
                x,
                outputs,
                elements: 0..count,
                store: |which: usize, total| results[which] = reducer.finish(total),
            });
        });
        return;
    }
    with_f64(outputs * blocks, |partials| {
        let parts = DisjointMut::new(partials);
        for_each_task(outputs * blocks, outputs * count, |index| {
            // SAFETY: each task writes its own element.
            let partial = unsafe { parts.part(index..index + 1) };
            let output = index / blocks;
            dispatch(Runs {
                reducer,
                plan,
                x,
                outputs: output..output + 1,
                elements: piece(index % blocks, BLOCK, count),
                store: |_, total| partial[0] = total,
            });
        });
        for (result, partials) in output.iter_mut().zip(partials.chunks_exact(blocks)) {
            let total = partials.iter().fold(R::NOTHING, |total, &partial| {
                reducer.combine(total, partial)
            });
            *result = reducer.finish(total);
        }
    });
}

/// A range of the inputs of each of some outputs, to one number each.
struct Runs<'a, R, F> {
    reducer: R,
    plan: &'a Plan,
    x: &'a [f32],
    outputs: Range<usize>,
    elements: Range<usize>,
    store: F,
}

impl<R: Reducer, F: FnMut(usize, f64)> SimdOp for Runs<'_, R, F> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let run = self.plan.run();
        for (which, output) in self.outputs.enumerate() {
            let start = self.plan.output_offset(output);
            let mut total = R::NOTHING;
            let mut at = self.elements.start;
            while at < self.elements.end {
                let length = (run - at % run).min(self.elements.end - at);
                let offset = start + self.plan.element_offset(at);
                let part = reduce_segment(simd, self.reducer, &self.x[offset..offset + length]);
                total = self.reducer.combine(total, part);
                at += length;
            }
            (self.store)(which, total);
        }
    }
}

/// Neighbours in memory belong to neighbouring outputs: lanes stay apart to the end.
fn columns<R: Reducer>(reducer: R, plan: &Plan, x: &[f32], output: &mut [f32]) {
    let (count, width, groups) = (plan.count(), plan.width(), plan.groups());
    let rows = (BLOCK / width.min(COLUMNS)).max(MIN_ROWS);
    let blocks = count.div_ceil(rows);
    let stripes = width.div_ceil(COLUMNS);
    with_f64(groups * blocks * width, |partials| {
        let parts = DisjointMut::new(partials);
        for_each_task(groups * blocks * stripes, x.len(), |index| {
            let (stripe, block) = (index % stripes, index / stripes % blocks);
            let group = index / stripes / blocks;
            let columns = piece(stripe, COLUMNS, width);
            let base = (group * blocks + block) * width;
            // SAFETY: tasks differ in group, block or columns.
            let partials = unsafe { parts.part(base + columns.start..base + columns.end) };
            dispatch(Columns {
                reducer,
                plan,
                x,
                start: plan.output_offset(group * width) + columns.start,
                rows: piece(block, rows, count),
                partials,
            });
        });
        for (group, output) in output.chunks_exact_mut(width).enumerate() {
            let partials = &partials[group * blocks * width..(group + 1) * blocks * width];
            for (column, result) in output.iter_mut().enumerate() {
                let total = (0..blocks).fold(R::NOTHING, |total, block| {
                    reducer.combine(total, partials[block * width + column])
                });
                *result = reducer.finish(total);
            }
        }
    });
}

/// Some rows of some columns, to one number for each column.
struct Columns<'a, R> {
    reducer: R,
    plan: &'a Plan,
    x: &'a [f32],
    start: usize,
    rows: Range<usize>,
    partials: &'a mut [f64],
}

impl<R: Reducer> SimdOp for Columns<'_, R> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let columns = self.partials.len();
        // The highest row's end, checked once.
        let last = self.start + self.plan.element_offset(self.rows.end - 1) + columns;
        assert!(last <= self.x.len());
        let mut column = 0;
        while column < columns {
            let lanes = S::LANES.min(columns - column);
            let mut partial = self.reducer.start(simd);
            let mut row = self.rows.start;
            while row < self.rows.end {
                // Rows that lie a fixed step apart.
                let (length, step) = self.plan.even_rows(row);
                let length = length.min(self.rows.end - row);
                let mut offset = self.start + self.plan.element_offset(row) + column;
                for _ in 0..length {
                    // SAFETY: offsets rise with the row number, so this row ends at or before the one that was checked.
                    let x = unsafe { simd.load_partial(self.x.as_ptr().add(offset), lanes) };
                    partial = self.reducer.step(simd, partial, x);
                    offset += step;
                }
                row += length;
            }
            let mut results = [0.0; MAX_LANES];
            self.reducer.lanes(simd, partial, &mut results);
            self.partials[column..column + lanes].copy_from_slice(&results[..lanes]);
            column += lanes;
        }
    }
}
