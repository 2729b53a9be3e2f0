//! The sum of a matrix over its rows: the gradient of an offset.

use super::centred::add_pieces;
use super::columns::{Sum, sum_columns};
use super::scratch::with_f64;
use super::slab::Slab;
use crate::parallel::{DisjointMut, for_each_task};

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
    let slab = Slab::new(1, rows, length);
    with_f64(slab.pieces * length, |partial| {
        let parts = DisjointMut::new(partial);
        for_each_task(slab.pieces, x.len(), |index| {
            // SAFETY: every piece has its own sums.
            let own = unsafe { parts.part(index * length..(index + 1) * length) };
            let x = &x[slab.range(0, index)];
            slab.columns
                .gathered(own, |sums| sum_columns(slab.columns, Sum(x), sums));
        });
        add_pieces(partial, length);
        for (sum, total) in sums.iter_mut().zip(partial) {
            *sum = *total as f32;
        }
    });
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
    fn threads_do_not_change_bits() {
        let x: Vec<f32> = (0..3000 * 67).map(|i| (i as f32).sin() * 1e3).collect();
        assert_same_bits_at_any_thread_count(|| {
            let mut sums = vec![0.0; 67];
            sum_rows(3000, &x, &mut sums);
            vec![sums]
        });
    }
}
