use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};

const COLUMNS: [usize; 10] = [1, 2, 3, 7, 10, 15, 16, 17, 65, 1000];

fn logits(rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|i| ((i * 7919) % 601) as f32 / 43.0 - 7.0)
        .collect()
}

fn labels(rows: usize, columns: usize) -> Vec<i32> {
    (0..rows).map(|row| (row * 31 % columns) as i32).collect()
}

/// The logarithm of the softmax of a row in f64.
fn log_softmax_oracle(x: &[f32]) -> Vec<f64> {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let z: Vec<f64> = x
        .iter()
        .map(|&x| f64::from(x) - f64::from(largest))
        .collect();
    let log_sum = z.iter().map(|z| z.exp()).sum::<f64>().ln();
    z.iter().map(|z| z - log_sum).collect()
}

fn close(got: f32, want: f64, tolerance: f64) {
    let difference = (f64::from(got) - want).abs();
    assert!(
        difference <= tolerance * (1.0 + want.abs()),
        "{got} is not {want}"
    );
}

#[test]
fn softmax_and_its_gradient_follow_the_oracle() {
    at_every_level(|| {
        for columns in COLUMNS {
            for rows in [0, 1, 5] {
                check_softmax(rows, columns);
            }
        }
    });
}

fn check_softmax(rows: usize, columns: usize) {
    let x = logits(rows, columns);
    let dy: Vec<f32> = (0..x.len()).map(|i| ((i * 13) % 7) as f32 - 2.5).collect();
    let run = |forward: fn(&[f32], usize, &mut [f32]) -> crate::Result,
               backward: fn(&[f32], &[f32], usize, &mut [f32]) -> crate::Result| {
        let mut y = vec![f32::NAN; x.len()];
        let mut dx = y.clone();
        forward(&x, columns, &mut y).unwrap();
        backward(&y, &dy, columns, &mut dx).unwrap();
        (y, dx)
    };
    let (y, dx) = run(softmax_forward, softmax_backward);
    let (log_y, log_dx) = run(log_softmax_forward, log_softmax_backward);
    for row in 0..rows {
        let at = row * columns;
        let p = log_softmax_oracle(&x[at..at + columns]);
        let dot: f64 = (0..columns)
            .map(|c| p[c].exp() * f64::from(dy[at + c]))
            .sum();
        let sum: f64 = (0..columns).map(|c| f64::from(dy[at + c])).sum();
        for c in 0..columns {
            close(y[at + c], p[c].exp(), 5e-7);
            close(log_y[at + c], p[c], 1e-6);
            let dy = f64::from(dy[at + c]);
            close(dx[at + c], p[c].exp() * (dy - dot), 2e-6);
            close(
                log_dx[at + c],
                dy - p[c].exp() * sum,
                2e-6 * (1.0 + sum.abs()),
            );
        }
    }
}

#[test]
fn cross_entropy_and_its_gradient_follow_the_oracle() {
    at_every_level(|| {
        for columns in COLUMNS {
            for rows in [1, 2, 9] {
                for smoothing in [0.0, 0.1, 1.0] {
                    check_cross_entropy(rows, columns, smoothing);
                }
            }
        }
    });
}

fn check_cross_entropy(rows: usize, columns: usize, smoothing: f32) {
    let x = logits(rows, columns);
    let labels = labels(rows, columns);
    let weights: Vec<f32> = (0..x.len()).map(|i| ((i * 5) % 4) as f32 * 0.3).collect();
    let s = f64::from(smoothing);
    for targets in [Targets::Labels(&labels), Targets::Distribution(&weights)] {
        let q = |row: usize, c: usize| -> f64 {
            let q = match targets {
                Targets::Labels(labels) => f64::from(u8::from(labels[row] as usize == c)),
                Targets::Distribution(weights) => f64::from(weights[row * columns + c]),
            };
            (1.0 - s) * q + s / columns as f64
        };
        // With weights that do not sum to one, smoothing adds the uniform distribution all the same.
        let mut losses = vec![0.0f64; rows];
        for row in 0..rows {
            let p = log_softmax_oracle(&x[row * columns..(row + 1) * columns]);
            losses[row] = -(0..columns).map(|c| q(row, c) * p[c]).sum::<f64>();
        }
        for reduction in [LossReduction::Mean, LossReduction::Sum, LossReduction::None] {
            let wanted = match reduction {
                LossReduction::Mean => vec![losses.iter().sum::<f64>() / rows as f64],
                LossReduction::Sum => vec![losses.iter().sum::<f64>()],
                LossReduction::None => losses.clone(),
            };
            let mut loss = vec![f32::NAN; wanted.len()];
            cross_entropy_forward(&x, columns, targets, smoothing, reduction, &mut loss).unwrap();
            for (&got, &want) in loss.iter().zip(&wanted) {
                close(got, want, 1e-6);
            }
            let dy: Vec<f32> = (0..wanted.len()).map(|i| 0.5 + i as f32).collect();
            let mut dx = vec![f32::NAN; x.len()];
            cross_entropy_backward(&x, columns, targets, smoothing, reduction, &dy, &mut dx)
                .unwrap();
            for row in 0..rows {
                let p = log_softmax_oracle(&x[row * columns..(row + 1) * columns]);
                let total: f64 = (0..columns).map(|c| q(row, c)).sum();
                let factor = match reduction {
                    LossReduction::Mean => f64::from(dy[0]) / rows as f64,
                    LossReduction::Sum => f64::from(dy[0]),
                    LossReduction::None => f64::from(dy[row]),
                };
                for c in 0..columns {
                    let want = factor * (p[c].exp() * total - q(row, c));
                    close(dx[row * columns + c], want, 1e-6 * (1.0 + factor * total));
                }
            }
        }
    }
}

#[test]
fn losses_give_the_same_bits_at_any_number_of_threads() {
    for (rows, columns) in [(9001, 10), (100, 1000), (3, 30_001)] {
        let x = logits(rows, columns);
        let labels = labels(rows, columns);
        assert_same_bits_at_any_thread_count(|| {
            let targets = Targets::Labels(&labels);
            let mut loss = vec![0.0];
            let mut dx = vec![0.0; x.len()];
            let mut y = vec![0.0; x.len()];
            let mean = LossReduction::Mean;
            cross_entropy_forward(&x, columns, targets, 0.1, mean, &mut loss).unwrap();
            cross_entropy_backward(&x, columns, targets, 0.1, mean, &[1.0], &mut dx).unwrap();
            softmax_forward(&x, columns, &mut y).unwrap();
            vec![loss, dx, y]
        });
    }
}

#[test]
fn extreme_logits_are_fine_and_nan_is_not_hidden() {
    at_every_level(|| {
        let mut y = [0.0; 3];
        softmax_forward(&[1e20, -1e20, 1e20], 3, &mut y).unwrap();
        assert_eq!(y, [0.5, 0.0, 0.5]);
        softmax_forward(&[f32::NEG_INFINITY, 0.0, 0.0], 3, &mut y).unwrap();
        assert_eq!(y, [0.0, 0.5, 0.5]);
        softmax_forward(&[f32::NAN, 0.0, 0.0], 3, &mut y).unwrap();
        assert!(y.iter().all(|y| y.is_nan()));
        let mut loss = [0.0];
        let mean = LossReduction::Mean;
        let labels = Targets::Labels(&[1]);
        cross_entropy_forward(&[100.0, -100.0], 2, labels, 0.0, mean, &mut loss).unwrap();
        assert_eq!(loss, [200.0]);
        cross_entropy_forward(&[f32::NAN, 0.0], 2, labels, 0.0, mean, &mut loss).unwrap();
        assert!(loss[0].is_nan());
        // A class without weight may be impossible.
        let weights = Targets::Distribution(&[0.0, 1.0]);
        let x = [f32::NEG_INFINITY, 3.0];
        cross_entropy_forward(&x, 2, weights, 0.0, mean, &mut loss).unwrap();
        assert_eq!(loss, [0.0]);
        // Sure and right: the gradient is tiny, not zero.
        let mut dx = [0.0; 2];
        cross_entropy_backward(&[-20.0, 0.0], 2, labels, 0.0, mean, &[1.0], &mut dx).unwrap();
        assert!((f64::from(dx[1]) / -(-20f64).exp() - 1.0).abs() < 1e-5);
    });
}

#[test]
fn wrong_labels_and_lengths_are_refused_before_anything_is_written() {
    let mut loss = [9.0];
    let x = [0.0; 6];
    let mean = LossReduction::Mean;
    for labels in [[0, 3], [-1, 0], [i32::MIN, 0]] {
        let targets = Targets::Labels(&labels);
        let error = cross_entropy_forward(&x, 3, targets, 0.0, mean, &mut loss).unwrap_err();
        assert!(error.to_string().contains("is not a class"), "{error}");
        let mut dx = [9.0; 6];
        assert!(cross_entropy_backward(&x, 3, targets, 0.0, mean, &[1.0], &mut dx).is_err());
        assert_eq!(dx, [9.0; 6]);
        assert!(count_top_k(&x, 3, &labels, 1).is_err());
    }
    let fine = Targets::Labels(&[0, 2]);
    assert!(cross_entropy_forward(&x, 3, fine, 1.5, mean, &mut loss).is_err());
    assert!(cross_entropy_forward(&x, 3, fine, f32::NAN, mean, &mut loss).is_err());
    assert!(cross_entropy_forward(&x, 4, fine, 0.0, mean, &mut loss).is_err());
    assert!(cross_entropy_forward(&x, 0, fine, 0.0, mean, &mut loss).is_err());
    assert!(cross_entropy_forward(&x, 3, fine, 0.0, LossReduction::None, &mut loss).is_err());
    assert!(softmax_forward(&x, 4, &mut [0.0; 6]).is_err());
    assert!(softmax_backward(&x, &x, 3, &mut [0.0; 5]).is_err());
    assert_eq!(loss, [9.0]);
    cross_entropy_forward(
        &[],
        3,
        Targets::Labels(&[]),
        0.0,
        LossReduction::Sum,
        &mut loss,
    )
    .unwrap();
    assert_eq!(loss, [0.0]);
}

#[test]
fn top_k_counts_ranks_with_ties_to_the_earlier_class() {
    let x = [[1.0, 3.0, 2.0], [5.0, 5.0, 5.0], [0.0, f32::NAN, 1.0]].concat();
    let count = |labels: [i32; 3], k| count_top_k(&x, 3, &labels, k).unwrap();
    assert_eq!(count([1, 0, 2], 1), 2);
    assert_eq!(count([2, 1, 2], 1), 0);
    assert_eq!(count([2, 1, 2], 2), 2);
    assert_eq!(count([0, 2, 1], 3), 2);
    assert_eq!(count([0, 2, 1], 5), 2);
    assert!(count_top_k(&x, 3, &[0, 0, 0], 0).is_err());
}
