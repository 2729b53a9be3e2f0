//! The sum of a matrix over its rows, in f64: the gradient of an offset.

use super::centred::add_pieces;
use super::columns::{Columns, Place, TILE_ROWS, load};
use super::slab::Slab;
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task};
use crate::scratch::with_f64;

/// `sums[column] = Σ_rows x[row, column]`, of `rows` rows as long as `sums`; zeros of no rows.
///
/// # Panics
/// Where `x` has another length.
pub(crate) fn sum_rows(rows: usize, x: &[f32], sums: &mut [f32]) {
    assert_eq!(x.len(), rows * sums.len());
    if sums.is_empty() {
        return;
    }
    let length = sums.len();
    let slab = Slab::of_batch(rows, length);
    let columns = slab.columns;
    with_f64(slab.pieces * length, |partial| {
        let parts = DisjointMut::new(partial);
        for_each_task(slab.pieces, x.len(), |index| {
            // SAFETY: every piece has its own sums.
            let own = unsafe { parts.part(index * length..(index + 1) * length) };
            let x = &x[slab.range(0, index)];
            columns.gathered(own, |sums| dispatch(AddRows { columns, x, sums }));
        });
        add_pieces(partial, length);
        for (sum, total) in sums.iter_mut().zip(partial) {
            *sum = *total as f32;
        }
    });
}

/// Adds every element to the sum of its column. Unlike [`super::columns::sum_columns`] nothing is added in f32: large terms of both
/// signs may leave a small sum.
struct AddRows<'a> {
    columns: Columns,
    x: &'a [f32],
    /// `columns.padded` values.
    sums: &'a mut [f64],
}

impl SimdOp for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let Columns { width, padded, .. } = self.columns;
        assert_eq!(self.sums.len(), padded);
        let sums = self.sums.as_mut_ptr();
        let mut rest = self.x;
        while !rest.is_empty() {
            // A folded row may be cut short: it is a tile of its own.
            let rows = (rest.len() / width).min(TILE_ROWS);
            let columns = if rows == 0 { rest.len() } else { width };
            let rows = rows.max(1);
            let (tile, after) = rest.split_at(rows * columns);
            rest = after;
            let mut column = 0;
            // SAFETY: `column + lanes <= columns`, the length of the tile's rows, and a vector of sums from `column` ends at `padded` at
            // most, as both are multiples of a vector's width.
            unsafe {
                while column + 4 * S::LANES <= columns {
                    add_strip::<S, 4>(simd, tile, columns, column, S::LANES, sums);
                    column += 4 * S::LANES;
                }
                while column < columns {
                    let lanes = S::LANES.min(columns - column);
                    add_strip::<S, 1>(simd, tile, columns, column, lanes, sums);
                    column += S::LANES;
                }
            }
        }
    }
}

/// Adds `G` vectors from `column` of every row of `tile` to the sums; of a single vector, only the first `lanes`.
///
/// # Safety
/// `tile` must consist of rows of `width`, `column + (G - 1) * S::LANES + lanes <= width`, and `sums` be valid for `column + G * S::LANES`
/// values.
#[inline(always)]
unsafe fn add_strip<S: Simd, const G: usize>(
    simd: S,
    tile: &[f32],
    width: usize,
    column: usize,
    lanes: usize,
    sums: *mut f64,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut totals = [[simd.splat64(0.0); 2]; G];
        for row in tile.chunks_exact(width) {
            for (vector, total) in totals.iter_mut().enumerate() {
                let place = Place::in_order(column + vector * S::LANES, lanes);
                let [low, high] = simd.widen(load(simd, row, place));
                *total = [simd.add64(total[0], low), simd.add64(total[1], high)];
            }
        }
        for (vector, total) in totals.into_iter().enumerate() {
            for (half, total) in total.into_iter().enumerate() {
                let target = sums.add(column + vector * S::LANES + half * S::LANES / 2);
                simd.store64(simd.add64(simd.load64(target), total), target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    #[test]
    fn sums_every_column_at_every_level_and_size() {
        at_every_level(|| {
            for columns in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65] {
                for rows in [0, 1, 2, 9, 131, 5000] {
                    let x = coarse_values(rows * columns, 1);
                    let mut sums = vec![f32::NAN; columns];
                    sum_rows(rows, &x, &mut sums);
                    for (column, sum) in sums.into_iter().enumerate() {
                        let terms = x.iter().skip(column).step_by(columns);
                        let expected: f64 = terms.map(|&x| f64::from(x)).sum();
                        assert_eq!(sum, expected as f32, "{rows} x {columns}, {column}");
                    }
                }
            }
        });
    }

    #[test]
    fn small_sums_stay_beside_large_terms_of_both_signs() {
        at_every_level(|| {
            let (rows, columns) = (5000, 7);
            let x: Vec<f32> = (0..rows * columns)
                .map(|i| {
                    let large = if i / columns % 2 == 0 { 1e8 } else { -1e8 };
                    large + (i % columns) as f32 * 8.0
                })
                .collect();
            let mut sums = vec![f32::NAN; columns];
            sum_rows(rows, &x, &mut sums);
            for (column, sum) in sums.into_iter().enumerate() {
                assert_eq!(sum, (column * 8 * rows) as f32);
            }
        });
    }

    #[test]
    fn threads_do_not_change_bits() {
        let x: Vec<f32> = (0..3000 * 67).map(|i| (i as f32).sin() * 1e3).collect();
        assert_same_bits_at_any_thread_count(|| {
            let mut sums = vec![0.0; 67];
            sum_rows(3000, &x, &mut sums);
            vec![sums]
        });
    }
}
