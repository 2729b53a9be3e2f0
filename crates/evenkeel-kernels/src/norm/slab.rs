//! The passes of a method whose statistics run over positions: measure every piece of a sample, merge, map.
//!
//! Pieces are cut by shape, and what is computed does not depend on who computes it when. So the schedule is free to look at
//! the threads: a thread takes whole samples, whose second pass then reads from cache, unless there are too few samples to keep
//! all threads busy; then they share the pieces. A batch norm is one sample that holds all rows.

use super::columns::{Columns, TILE_ROWS};
use crate::parallel::{
    self, DisjointMut, SERIAL_BELOW, for_each_task, for_each_task_backwards, piece,
};
use crate::scratch::{with_f32, with_f64};
use std::ops::Range;

/// Elements of a piece, about: small enough to stay in a core's second-level cache beside its gradient.
const PIECE_ELEMENTS: usize = 1 << 15;
/// Rows of a piece, at least, where a sample has enough of them: statistics of a piece are merged channel by channel, which takes time
/// where channels are many.
const PIECE_ROWS: usize = 512;
/// Pieces of a sample, at least, for [`PIECE_ROWS`] to count: threads may have to share them.
const PIECES_TO_SHARE: usize = 16;
/// Pieces of a whole batch, at least, where several threads would take it. So a thread norms the images that it takes through the
/// convolutions before and after, also where two small images are all there is.
const PIECES_OF_BATCH: usize = 4;

/// Samples of rows of channels, cut into pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slab {
    pub samples: usize,
    pub positions: usize,
    pub columns: Columns,
    piece_rows: usize,
    pub pieces: usize,
}

impl Slab {
    /// Cuts `samples` samples of `positions` rows of `channels`. Where a sample is an image, its pieces do not depend on the others.
    pub fn new(samples: usize, positions: usize, channels: usize) -> Self {
        Slab::with_pieces(samples, positions, channels, 1)
    }

    /// Cuts the one sample that is all `rows` rows of a batch.
    pub fn of_batch(rows: usize, channels: usize) -> Self {
        let least = if rows * channels >= SERIAL_BELOW {
            PIECES_OF_BATCH
        } else {
            1
        };
        Slab::with_pieces(1, rows, channels, least)
    }

    fn with_pieces(samples: usize, positions: usize, channels: usize, least: usize) -> Self {
        let columns = Columns::new(channels, positions);
        let tile = columns.fold * TILE_ROWS;
        let most = (PIECE_ELEMENTS / channels.max(1))
            .max(PIECE_ROWS.min(positions / PIECES_TO_SHARE))
            .max(TILE_ROWS * TILE_ROWS);
        let pieces = positions.div_ceil(most).max(least);
        let piece_rows = positions.div_ceil(pieces).max(1).next_multiple_of(tile);
        Slab {
            samples,
            positions,
            columns,
            piece_rows,
            pieces: positions.div_ceil(piece_rows).max(1),
        }
    }

    /// Elements of all samples.
    pub fn elements(&self) -> usize {
        self.samples * self.sample_elements()
    }

    fn sample_elements(&self) -> usize {
        self.positions * self.columns.channels
    }

    /// Elements of a piece of a sample, in the whole array.
    pub fn range(&self, sample: usize, index: usize) -> Range<usize> {
        let rows = piece(index, self.piece_rows, self.positions);
        let start = sample * self.sample_elements();
        start + rows.start * self.columns.channels..start + rows.end * self.columns.channels
    }

    /// Rows of every piece, in order.
    pub fn piece_counts(&self) -> impl Iterator<Item = usize> + use<> {
        let slab = *self;
        (0..slab.pieces).map(move |index| piece(index, slab.piece_rows, slab.positions).len())
    }
}

/// One method's passes over a [`Slab`]. Ranges are of elements of the whole arrays.
pub(super) trait Passes: Sync {
    /// f64 values that measuring a piece writes.
    fn measurement_length(&self) -> usize;
    /// f32 parameters of a sample.
    fn parameter_length(&self) -> usize;
    /// Fills the parameters that measuring needs.
    fn prepare(&self, _sample: usize, _parameters: &mut [f32]) {}
    /// Measures a piece.
    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]);
    /// Merges the measurements of a sample's pieces into the first, and fills the parameters of the map.
    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]);
    /// Writes a range of the output.
    fn map(&self, range: Range<usize>, parameters: &[f32]);
}

/// Runs `passes`; `after` sees the measurements of all samples, each as `finish` left it, `stride` values apart.
pub(super) fn run(slab: Slab, passes: &dyn Passes, after: impl FnOnce(&[f64], usize)) {
    let length = passes.measurement_length();
    let stride = slab.pieces * length;
    let work = slab.elements();
    let threads = parallel::threads();
    let by_sample =
        slab.pieces == 1 || slab.samples >= 4 * threads || slab.samples.is_multiple_of(threads);
    with_f64(slab.samples * stride, |measurements| {
        let all = DisjointMut::new(measurements);
        if by_sample {
            for_each_task(slab.samples, work, |sample| {
                // SAFETY: a task has its own sample's measurements.
                let own = unsafe { all.part(sample * stride..(sample + 1) * stride) };
                with_f32(passes.parameter_length(), |parameters| {
                    passes.prepare(sample, parameters);
                    for index in 0..slab.pieces {
                        passes.measure(
                            slab.range(sample, index),
                            parameters,
                            &mut own[index * length..(index + 1) * length],
                        );
                    }
                    passes.finish(sample, own, parameters);
                    // Backwards: what was read last is still in cache.
                    for index in (0..slab.pieces).rev() {
                        passes.map(slab.range(sample, index), parameters);
                    }
                });
            });
        } else {
            share_pieces(slab, passes, &all);
        }
        after(measurements, stride);
    });
}

/// The schedule for few samples: every pass is cut into pieces.
fn share_pieces(slab: Slab, passes: &dyn Passes, measurements: &DisjointMut<f64>) {
    let length = passes.measurement_length();
    let stride = slab.pieces * length;
    let parameter_length = passes.parameter_length();
    let work = slab.elements();
    let tasks = slab.samples * slab.pieces;
    with_f32(slab.samples * parameter_length, |parameters| {
        let of = |sample: usize| sample * parameter_length..(sample + 1) * parameter_length;
        for sample in 0..slab.samples {
            passes.prepare(sample, &mut parameters[of(sample)]);
        }
        for_each_task(tasks, work, |task| {
            let (sample, index) = (task / slab.pieces, task % slab.pieces);
            // SAFETY: a task has its own piece's measurement.
            let own = unsafe { measurements.part(task * length..(task + 1) * length) };
            passes.measure(slab.range(sample, index), &parameters[of(sample)], own);
        });
        for sample in 0..slab.samples {
            // SAFETY: the tasks above have ended.
            let own = unsafe { measurements.part(sample * stride..(sample + 1) * stride) };
            passes.finish(sample, own, &mut parameters[of(sample)]);
        }
        // Backwards: what was read last is still in cache.
        for_each_task_backwards(tasks, work, |task| {
            let (sample, index) = (task / slab.pieces, task % slab.pieces);
            passes.map(slab.range(sample, index), &parameters[of(sample)]);
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_hold_every_element_once_and_are_enough_to_share() {
        for channels in [1, 3, 16, 64, 65, 128, 256, 2048] {
            for positions in [0, 1, 49, 64, 1023, 3136, 25_088, 100_352] {
                let slab = Slab::new(2, positions, channels);
                let mut next = 0;
                for sample in 0..2 {
                    for index in 0..slab.pieces {
                        let range = slab.range(sample, index);
                        assert_eq!(range.start, next, "{positions} x {channels}");
                        next = range.end;
                    }
                }
                assert_eq!(next, slab.elements(), "{positions} x {channels}");
                assert_eq!(slab.piece_counts().sum::<usize>(), positions);
                let elements = positions * channels;
                if positions >= 64 * PIECES_TO_SHARE && elements >= PIECES_TO_SHARE * PIECE_ELEMENTS
                {
                    assert!(
                        slab.pieces >= PIECES_TO_SHARE / 2,
                        "{positions} x {channels}"
                    );
                }
            }
        }
    }
    #[test]
    fn a_batch_is_cut_for_several_threads_and_an_image_by_itself() {
        for (rows, channels) in [(2048, 16), (512, 32), (1024, 16), (3136, 256)] {
            let pieces = Slab::of_batch(rows, channels).pieces;
            assert!(pieces >= PIECES_OF_BATCH, "{rows} x {channels}: {pieces}");
            let [alone, among_others] = [1, 8].map(|images| Slab::new(images, rows, channels));
            assert_eq!(alone.pieces, among_others.pieces);
        }
        assert_eq!(Slab::of_batch(64, 64).pieces, 1);
    }
}
