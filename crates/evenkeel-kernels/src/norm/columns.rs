//! Sums over the rows of a matrix, column by column, and maps over it with parameters of every column: the one loop under all
//! methods whose statistics run over positions.
//!
//! A *tile* is a few rows, and the loop takes a few vectors of columns at a time down a tile: the columns' parameters stay in
//! registers for all its rows, memory is read in order (a processor fetches ahead of nothing else), and an f32 sum grows by
//! [`TILE_ROWS`] terms at most before it is added to an f64. Lanes are columns, so a sum's order does not depend on the vector's
//! width, nor on how many vectors are taken at a time.

use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::scratch::with_f64;

/// Rows of a tile.
pub(super) const TILE_ROWS: usize = 8;
/// Columns that a row is folded to where channels are few: as many as the widest instruction set takes at a time.
const STRIP_COLUMNS: usize = 4 * MAX_LANES;

/// How far ahead of itself a loop asks for memory, in elements: processors stop fetching ahead at the end of a page, and lose
/// track where several arrays are read at once.
const PREFETCH_AHEAD: usize = 2048;
/// The same for a loop whose strips jump from row to row. It asks for the second-level cache: a tile of many columns, the one that
/// it asks for, sums and parameters are together more than a first-level cache of 32 KB, and what comes early would leave it again.
const PREFETCH_AHEAD_OF_STRIPS: usize = 2 * PREFETCH_AHEAD;

/// The elements that a step of a loop takes, `at..at + lanes` of every array, and the one `ahead` of them that it asks for.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub at: usize,
    /// At most those of a vector; where they are a constant, loads and stores are plain ones.
    pub lanes: usize,
    /// May wrap around, to stand for an element before `at`.
    pub ahead: usize,
    /// Whether it is asked for into the second-level cache alone.
    pub far: bool,
}

impl Place {
    /// In a loop that takes elements in the order in which they lie.
    #[inline(always)]
    pub fn in_order(at: usize, lanes: usize) -> Self {
        Place {
            at,
            lanes,
            ahead: PREFETCH_AHEAD,
            far: false,
        }
    }
}

/// Loads the values at `place`, and asks for those ahead.
///
/// # Safety
/// `place` must be inside of `values`, and its lanes at most `S::LANES`.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(simd: S, values: &[f32], place: Place) -> S::F32 {
    let Place {
        at,
        lanes,
        ahead,
        far,
    } = place;
    debug_assert!(lanes <= S::LANES && at + lanes <= values.len());
    // SAFETY: the caller's promise.
    unsafe {
        let p = values.as_ptr().add(at);
        if lanes == S::LANES {
            if far {
                simd.prefetch_far(p.wrapping_add(ahead));
            } else {
                simd.prefetch(p.wrapping_add(ahead));
            }
            simd.load(p)
        } else {
            simd.load_partial(p, lanes)
        }
    }
}

/// Stores values at `place`.
///
/// # Safety
/// `place` must be inside of `values`, and its lanes at most `S::LANES`.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(simd: S, v: S::F32, values: &mut [f32], place: Place) {
    let Place { at, lanes, .. } = place;
    debug_assert!(lanes <= S::LANES && at + lanes <= values.len());
    // SAFETY: the caller's promise.
    unsafe {
        let p = values.as_mut_ptr().add(at);
        if lanes == S::LANES {
            simd.store(v, p);
        } else {
            simd.store_partial(v, p, lanes);
        }
    }
}

/// Stores as [`store`] does, past the caches where `stream`.
///
/// # Safety
/// As [`store`]; where `stream`, the values at `place` must be aligned to a vector.
#[inline(always)]
pub(super) unsafe fn store_output<S: Simd>(
    simd: S,
    v: S::F32,
    values: &mut [f32],
    place: Place,
    stream: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        if stream && place.lanes == S::LANES {
            debug_assert!(place.at + place.lanes <= values.len());
            simd.stream(v, values.as_mut_ptr().add(place.at));
        } else {
            store(simd, v, values, place);
        }
    }
}

/// How channels lie in the columns of a matrix.
///
/// Few channels would leave most of a vector empty, so `fold` neighbouring rows become one row of `fold * channels` columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    pub channels: usize,
    /// Rows that make one row of columns.
    pub fold: usize,
    /// `channels * fold`.
    pub width: usize,
    /// `width` rounded up to whole vectors: the length of an array of column parameters or sums.
    pub padded: usize,
}

impl Columns {
    /// The columns of `rows` rows of `channels`, by shape alone (not by the instruction set: sums keep their order).
    pub fn new(channels: usize, rows: usize) -> Self {
        let mut fold = 1;
        if (1..STRIP_COLUMNS).contains(&channels) {
            let whole =
                |columns: usize| columns >> channels.trailing_zeros().min(columns.trailing_zeros());
            fold = whole(STRIP_COLUMNS);
            // Parameters of that many columns would crowd out the data.
            if fold * channels > 4 * STRIP_COLUMNS {
                fold = if channels < 2 * MAX_LANES {
                    whole(MAX_LANES)
                } else {
                    1
                };
            }
            while fold > 1 && rows < fold * TILE_ROWS {
                fold /= 2;
            }
            // A width that leaves a part of a vector over is no better than no fold.
            if !(fold * channels).is_multiple_of(MAX_LANES) {
                fold = 1;
            }
        }
        let width = channels * fold;
        Columns {
            channels,
            fold,
            width,
            padded: width.next_multiple_of(MAX_LANES),
        }
    }

    /// Copies the first `channels` values of an array of column parameters over the other folded rows.
    #[inline(always)]
    pub fn spread(&self, values: &mut [f32]) {
        for row in 1..self.fold {
            values.copy_within(..self.channels, row * self.channels);
        }
    }

    /// Runs `sum` on arrays of `padded` column sums, as many as `out` has arrays of `channels`, and writes the channels' sums.
    pub fn gathered(&self, out: &mut [f64], sum: impl FnOnce(&mut [f64])) {
        let arrays = out.len() / self.channels.max(1);
        with_f64(arrays * self.padded, |sums| {
            sum(sums);
            for (out, sums) in out
                .chunks_exact_mut(self.channels.max(1))
                .zip(sums.chunks_exact_mut(self.padded.max(1)))
            {
                self.gather(sums);
                out.copy_from_slice(&sums[..self.channels]);
            }
        });
    }

    /// Adds the sums of the folded rows to those of the first, in order.
    pub fn gather(&self, sums: &mut [f64]) {
        for row in 1..self.fold {
            let (first, rest) = sums.split_at_mut(self.channels);
            let start = (row - 1) * self.channels;
            for (sum, part) in first.iter_mut().zip(&rest[start..start + self.channels]) {
                *sum += part;
            }
        }
    }
}

/// What [`sum_columns`] does to every element, given `P` parameters of its column: `N` terms to add up, or (with `N = 0`) only a map.
///
/// # Safety
/// `add` may touch only the elements at its place, of arrays of [`Terms::length`] elements.
pub(super) unsafe trait Terms<const N: usize, const P: usize> {
    /// Elements of the matrix, by now checked against every array that `add` touches.
    fn length(&self) -> usize;

    /// Takes the elements at `place`.
    ///
    /// Where the columns' width is a multiple of [`MAX_LANES`], `place.at` is one of `S::LANES`: outputs that begin aligned stay so.
    ///
    /// # Safety
    /// `place` is inside of `self.length()`, and its lanes are at most `S::LANES`.
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        parameters: &[S::F32; P],
        sums: &mut [S::F32; N],
    );
}

/// Adds the terms of every element to the sums of its column; `sums` holds `N` arrays of `columns.padded`, and `parameters` `P` (and
/// maybe others behind them).
pub(super) fn sum_columns<const N: usize, const P: usize, T: Terms<N, P>>(
    columns: Columns,
    parameters: &[f32],
    terms: T,
    sums: &mut [f64],
) {
    assert!(parameters.len() >= P * columns.padded);
    assert_eq!(sums.len(), N * columns.padded);
    dispatch(SumColumns {
        columns,
        parameters,
        terms,
        sums,
    });
}

/// Maps every element with its column's parameters.
pub(super) fn map_columns<const P: usize, T: Terms<0, P>>(
    columns: Columns,
    parameters: &[f32],
    terms: T,
) {
    sum_columns::<0, P, T>(columns, parameters, terms, &mut []);
}

struct SumColumns<'a, const N: usize, const P: usize, T> {
    columns: Columns,
    parameters: &'a [f32],
    terms: T,
    sums: &'a mut [f64],
}

impl<const N: usize, const P: usize, T: Terms<N, P>> SimdOp for SumColumns<'_, N, P, T> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, simd: S) {
        let width = self.columns.width;
        if width == 0 {
            return;
        }
        let length = self.terms.length();
        let mut start = 0;
        while start < length {
            // A folded row may be cut short: it is a tile of its own.
            let rows = ((length - start) / width).min(TILE_ROWS);
            let columns = if rows == 0 { length - start } else { width };
            // SAFETY: the tile ends at `length` at most.
            unsafe { self.tile(simd, start, rows.max(1), columns) };
            start += rows.max(1) * columns;
        }
        if N == 0 {
            simd.drain();
        }
    }
}

impl<const N: usize, const P: usize, T: Terms<N, P>> SumColumns<'_, N, P, T> {
    /// Takes `rows` rows from element `start`, the first `width` columns of each.
    ///
    /// # Safety
    /// `start + (rows - 1) * columns.width + width <= terms.length()`, `width <= columns.width`.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&mut self, simd: S, start: usize, rows: usize, width: usize) {
        let mut column = 0;
        // SAFETY: columns stay below `width`, and padded arrays hold whole vectors.
        unsafe {
            if Self::fits::<S>(4) {
                if width == 4 * S::LANES {
                    return self.strip::<S, 4, true>(simd, start, rows, 0, S::LANES);
                }
                while column + 4 * S::LANES <= width {
                    self.strip::<S, 4, false>(simd, start, rows, column, S::LANES);
                    column += 4 * S::LANES;
                }
            }
            if Self::fits::<S>(2) {
                while column + 2 * S::LANES <= width {
                    self.strip::<S, 2, false>(simd, start, rows, column, S::LANES);
                    column += 2 * S::LANES;
                }
            }
            while column + S::LANES <= width {
                self.strip::<S, 1, false>(simd, start, rows, column, S::LANES);
                column += S::LANES;
            }
            if column < width {
                self.strip::<S, 1, false>(simd, start, rows, column, width - column);
            }
        }
    }

    /// Whether the parameters and sums of that many vectors fit in registers, beside what a term computes with.
    #[inline(always)]
    fn fits<S: Simd>(vectors: usize) -> bool {
        vectors * (P + N) + 4 <= S::REGISTERS
    }

    /// Takes `G` vectors of columns from `column` down `rows` rows; of a single vector, only the first `lanes`. `WHOLE`: they are all
    /// columns.
    ///
    /// # Safety
    /// As [`Self::tile`], and `column + (G - 1) * S::LANES + lanes <= width`.
    #[inline(always)]
    unsafe fn strip<S: Simd, const G: usize, const WHOLE: bool>(
        &mut self,
        simd: S,
        start: usize,
        rows: usize,
        column: usize,
        lanes: usize,
    ) {
        // SAFETY: by the caller's promise every element is inside `length`; `column + G * S::LANES <= padded`, because padded is
        // a multiple of every vector width; `sum_columns` checked that parameters and sums are whole arrays of `padded`.
        unsafe {
            let mut parameters = [[simd.zero(); P]; G];
            for vector in 0..G {
                for index in 0..P {
                    let from = index * self.columns.padded + column + vector * S::LANES;
                    parameters[vector][index] = simd.load(self.parameters.as_ptr().add(from));
                }
            }
            let mut sums = [[simd.zero(); N]; G];
            let mut at = start + column;
            // Strips jump from row to row; what is asked for lies in order, as processors fetch it best.
            let ahead = PREFETCH_AHEAD_OF_STRIPS.max(TILE_ROWS * self.columns.width);
            let mut ask = start + column * rows + ahead;
            for _ in 0..rows {
                for vector in 0..G {
                    let at = at + vector * S::LANES;
                    let mut place = Place::in_order(at, lanes);
                    if !WHOLE {
                        place.far = true;
                        place.ahead = ask.wrapping_sub(at);
                        ask += S::LANES;
                    }
                    let (parameters, sums) = (&parameters[vector], &mut sums[vector]);
                    self.terms.add(simd, place, parameters, sums);
                }
                at += self.columns.width;
            }
            for vector in 0..G {
                for index in 0..N {
                    let sum = sums[vector][index];
                    let column = column + vector * S::LANES;
                    let target = self.sums.as_mut_ptr();
                    let target = target.add(index * self.columns.padded + column);
                    if lanes < S::LANES {
                        // Lanes past the end hold anything, and may stand for columns that exist.
                        let mut values = [0.0; MAX_LANES];
                        simd.store(sum, values.as_mut_ptr());
                        for (lane, value) in values.into_iter().enumerate().take(lanes) {
                            *target.add(lane) += value as f64;
                        }
                        continue;
                    }
                    let [low, high] = simd.widen(sum);
                    let upper = target.add(S::LANES / 2);
                    simd.store64(simd.add64(simd.load64(target), low), target);
                    simd.store64(simd.add64(simd.load64(upper), high), upper);
                }
            }
        }
    }
}

/// The sum of every column.
pub(super) struct Sum<'a>(pub &'a [f32]);

// SAFETY: `length` is the slice's; nothing else is read.
unsafe impl Terms<1, 0> for Sum<'_> {
    fn length(&self) -> usize {
        self.0.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        _: &[S::F32; 0],
        sums: &mut [S::F32; 1],
    ) {
        // SAFETY: `place` is inside of `length`.
        let x = unsafe { load(simd, self.0, place) };
        sums[0] = simd.add(sums[0], x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{LARGE, streams};

    #[test]
    fn few_channels_fold_to_whole_vectors() {
        for channels in 1..70 {
            let columns = Columns::new(channels, 1 << 20);
            assert_eq!(columns.width, channels * columns.fold);
            assert!(channels >= 32 || columns.width.is_multiple_of(MAX_LANES));
            assert_eq!(
                Columns::new(channels, 7).fold,
                1,
                "a short matrix is not folded"
            );
        }
    }

    #[test]
    fn sums_every_column_at_every_size() {
        for channels in [1, 2, 3, 5, 7, 15, 16, 17, 31, 32, 33, 63, 65] {
            for rows in [0, 1, 2, 7, 8, 9, 100, 131, 257] {
                let columns = Columns::new(channels, rows);
                let x: Vec<f32> = (0..rows * channels)
                    .map(|i| (i * 37 % 101) as f32 - 50.0)
                    .collect();
                let mut sums = vec![0.0; columns.padded];
                sum_columns(columns, &[], Sum(&x), &mut sums);
                columns.gather(&mut sums);
                for channel in 0..channels {
                    let expected: f64 = (0..rows)
                        .map(|row| x[row * channels + channel] as f64)
                        .sum();
                    assert_eq!(
                        sums[channel], expected,
                        "{rows} rows, channel {channel} of {channels}"
                    );
                }
            }
        }
    }

    #[test]
    fn outputs_past_the_caches_have_the_same_bits() {
        crate::testing::at_every_level(check_outputs_past_the_caches);
    }

    fn check_outputs_past_the_caches() {
        use crate::activation::Activation;
        use crate::norm::{Affine, AffineGradients, Shape, group, layer_channels};
        let shape = Shape {
            batch: 64,
            positions: 1024,
            channels: 64,
        };
        let elements = LARGE;
        assert_eq!(shape.elements(), Ok(elements));
        let x: Vec<f32> = (0..elements).map(|i| (i % 1013) as f32 - 500.0).collect();
        let (affine, relu) = (Affine::default(), Activation::Relu);
        let mut memory = vec![0.0; elements + MAX_LANES];
        let aligned = memory.as_ptr().align_offset(size_of::<f32>() * MAX_LANES);
        let mut outputs = Vec::new();
        for offset in [aligned, (aligned + 1) % MAX_LANES] {
            let y = &mut memory[offset..offset + elements];
            assert_eq!(streams(elements, y, 64), offset == aligned);
            let mut saved = vec![0.0; 3 * 64 * 1024];
            group::forward(shape, 1, &x, affine, 1e-5, relu, y, &mut saved[..3 * 64]).unwrap();
            outputs.push(y.to_vec());
            let gradients = AffineGradients {
                dx: Some(y),
                ..AffineGradients::default()
            };
            group::backward(shape, 1, &x, affine, relu, &saved[..3 * 64], &x, gradients).unwrap();
            outputs.push(y.to_vec());
            layer_channels::forward(shape, &x, affine, 1e-5, relu, y, &mut saved).unwrap();
            outputs.push(y.to_vec());
            let gradients = AffineGradients {
                dx: Some(y),
                ..AffineGradients::default()
            };
            layer_channels::backward(shape, &x, affine, relu, &saved, &x, gradients).unwrap();
            outputs.push(y.to_vec());
        }
        let (past, through) = outputs.split_at(4);
        for (index, (past, through)) in past.iter().zip(through).enumerate() {
            let different =
                |&i: &usize| past[i].to_bits() != through[i].to_bits() || !past[i].is_finite();
            let different = (0..elements).find(different);
            let different = different.map(|i| (i, past[i], through[i]));
            assert_eq!(different, None, "output {index}");
        }
    }
}
