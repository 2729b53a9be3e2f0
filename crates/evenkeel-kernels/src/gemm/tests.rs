//! Products against ndarray's, for every transposition and many sizes.

use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};
use ndarray::Array2;

fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

fn close(actual: &[f32], expected: impl Iterator<Item = f64>, what: &str) {
    let expected: Vec<f64> = expected.collect();
    let scale = expected.iter().fold(1e-30f64, |m, x| m.max(x.abs()));
    assert_eq!(actual.len(), expected.len());
    for (index, (&x, &y)) in actual.iter().zip(&expected).enumerate() {
        assert!(
            (f64::from(x) - y).abs() <= 2e-6 * scale,
            "{what}: element {index} is {x}, expected {y}"
        );
    }
}

fn check(m: usize, n: usize, k: usize) {
    let a = Array2::from_shape_vec((m, k), values(m * k, 1)).unwrap();
    let b = Array2::from_shape_vec((k, n), values(k * n, 2)).unwrap();
    let start = values(m * n, 3);
    let exact = a.mapv(f64::from).dot(&b.mapv(f64::from));
    let (at, bt): (Vec<f32>, Vec<f32>) = (
        a.t().iter().copied().collect(),
        b.t().iter().copied().collect(),
    );
    let (a, b) = (a.into_raw_vec_and_offset().0, b.into_raw_vec_and_offset().0);
    for (transpose_a, transpose_b) in [(false, false), (false, true), (true, false), (true, true)] {
        for accumulate in [false, true] {
            let mut c = if accumulate {
                start.clone()
            } else {
                vec![f32::NAN; m * n]
            };
            matmul(
                m,
                n,
                k,
                if transpose_a { &at } else { &a },
                transpose_a,
                if transpose_b { &bt } else { &b },
                transpose_b,
                accumulate,
                &mut c,
            )
            .unwrap();
            let expected = exact
                .iter()
                .zip(&start)
                .map(|(&x, &s)| if accumulate { x + f64::from(s) } else { x });
            close(
                &c,
                expected,
                &format!("{m}x{n}x{k} {transpose_a} {transpose_b}"),
            );
        }
    }
}

#[test]
fn products_match_ndarray() {
    at_every_level(|| {
        for n in [0, 1, 3, 7, 15, 16, 17, 33, 47, 48, 49, 63, 64, 65, 100] {
            check(13, n, 9);
        }
        // Every way to cut rows into tiles, then several blocks of rows, and a matrix that is too large for blocks.
        for m in (0..=40).chain([49, 97, 241]) {
            check(m, 33, 17);
        }
        check(121, 65, 257);
        check(50, 300, 500);
        for k in [0, 1, 2, 15, 255, 256, 257, 600] {
            check(19, 35, k);
        }
        check(300, 200, 100);
    });
}

#[test]
fn a_row_has_the_same_bits_among_any_number_of_rows() {
    for (n, k) in [(100, 64), (33, 300), (300, 500)] {
        let (a, b) = (values(110 * k, 1), values(k * n, 2));
        let product = |m: usize| {
            let mut c = vec![f32::NAN; m * n];
            matmul(m, n, k, &a[..m * k], false, &b, false, false, &mut c).unwrap();
            c
        };
        at_every_level(|| {
            let all = product(110);
            for m in 9..=50 {
                assert!(product(m) == all[..m * n], "{m} rows of {n}, {k}");
            }
        });
    }
}

#[test]
fn few_rows_match_ndarray() {
    at_every_level(|| {
        for m in 1..=9 {
            for (n, k) in [(1, 1), (3, 7), (17, 65), (33, 3), (64, 63), (100, 16)] {
                check(m, n, k);
            }
        }
        for m in [1, 3, 8] {
            // Several tasks, cut anywhere.
            for (n, k) in [(515, 33), (2049, 17), (77, 1030), (5, 1200)] {
                check(m, n, k);
            }
        }
    });
}

#[test]
fn few_rows_of_any_depth() {
    let (n, k) = (5, 40_000);
    let (a, b) = (values(2 * k, 1), values(n * k, 2));
    let expected: Vec<f64> = (0..2 * n)
        .map(|i| {
            let (a, b) = (&a[i / n * k..][..k], &b[i % n * k..][..k]);
            a.iter()
                .zip(b)
                .map(|(&a, &b)| f64::from(a) * f64::from(b))
                .sum()
        })
        .collect();
    at_every_level(|| {
        let mut c = vec![f32::NAN; 2 * n];
        matmul(2, n, k, &a, false, &b, true, false, &mut c).unwrap();
        for (&c, &expected) in c.iter().zip(&expected) {
            // Sums of thousands of terms in f32.
            assert!((f64::from(c) - expected).abs() < 1e-3, "{c} for {expected}");
        }
    });
}

#[test]
fn a_row_has_the_same_bits_in_a_large_batch() {
    at_every_level(|| {
        let (n, k, many) = (133, 257, 50);
        let (a, b, bias) = (values(many * k, 1), values(k * n, 2), values(n, 3));
        let mut all = vec![0.0; many * n];
        linear_forward(many, k, n, &a, &b, Some(&bias), &mut all).unwrap();
        for m in 1..=9 {
            let mut few = vec![f32::NAN; m * n];
            linear_forward(m, k, n, &a[..m * k], &b, Some(&bias), &mut few).unwrap();
            assert!(crate::testing::same_bits(&few, &all[..m * n]), "{m} rows");
        }
    });
}

#[test]
fn linear_layers_and_their_gradients() {
    at_every_level(check_linear_layer);
}

fn check_linear_layer() {
    let (batch, inputs, outputs) = (5, 37, 10);
    let x = values(batch * inputs, 1);
    let w = values(inputs * outputs, 2);
    let bias = values(outputs, 3);
    let g = values(batch * outputs, 4);
    let mut y = vec![f32::NAN; batch * outputs];
    linear_forward(batch, inputs, outputs, &x, &w, Some(&bias), &mut y).unwrap();
    let at = |v: &[f32], i: usize| f64::from(v[i]);
    let expected = (0..batch * outputs).map(|i| {
        let (r, c) = (i / outputs, i % outputs);
        let sum: f64 = (0..inputs)
            .map(|k| at(&x, r * inputs + k) * at(&w, k * outputs + c))
            .sum();
        sum + at(&bias, c)
    });
    close(&y, expected, "forward");
    let mut dx = vec![f32::NAN; batch * inputs];
    linear_backward_input(batch, inputs, outputs, &g, &w, &mut dx).unwrap();
    let expected = (0..batch * inputs).map(|i| {
        let (r, c) = (i / inputs, i % inputs);
        (0..outputs)
            .map(|k| at(&g, r * outputs + k) * at(&w, c * outputs + k))
            .sum()
    });
    close(&dx, expected, "input gradient");
    let mut dw = vec![f32::NAN; inputs * outputs];
    linear_backward_weights(batch, inputs, outputs, &x, &g, &mut dw).unwrap();
    let expected = (0..inputs * outputs).map(|i| {
        let (r, c) = (i / outputs, i % outputs);
        (0..batch)
            .map(|k| at(&x, k * inputs + r) * at(&g, k * outputs + c))
            .sum()
    });
    close(&dw, expected, "weight gradient");
    linear_backward_weights(0, inputs, outputs, &[], &[], &mut dw).unwrap();
    assert!(dw.iter().all(|&x| x == 0.0));
}

#[test]
fn thread_counts_do_not_change_bits() {
    let (m, n, k) = (301, 203, 515);
    let (a, b) = (values(m * k, 1), values(k * n, 2));
    for transpose_a in [false, true] {
        assert_same_bits_at_any_thread_count(|| {
            let mut c = vec![0.0; m * n];
            matmul(m, n, k, &a, transpose_a, &b, true, false, &mut c).unwrap();
            vec![c]
        });
    }
    for (m, transpose_b) in [(1, false), (5, false), (2, true), (8, true)] {
        assert_same_bits_at_any_thread_count(|| {
            let mut c = vec![0.0; m * n];
            matmul(m, n, k, &a[..m * k], false, &b, transpose_b, false, &mut c).unwrap();
            vec![c]
        });
    }
}

#[test]
fn wrong_lengths_are_refused() {
    let mut c = [1.0; 4];
    assert!(matmul(2, 2, 2, &[0.0; 3], false, &[0.0; 4], false, false, &mut c).is_err());
    assert!(matmul(2, 2, 2, &[0.0; 4], false, &[0.0; 5], false, false, &mut c).is_err());
    assert!(
        matmul(
            usize::MAX,
            2,
            2,
            &[],
            false,
            &[0.0; 4],
            false,
            false,
            &mut c
        )
        .is_err()
    );
    assert!(linear_forward(2, 2, 2, &[0.0; 4], &[0.0; 4], Some(&[0.0]), &mut c).is_err());
    assert_eq!(c, [1.0; 4]);
}
