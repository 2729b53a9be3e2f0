use super::*;
use crate::norm::batch::{self, BatchNorm};
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const EPSILON: f32 = 1e-5;

struct Results {
    /// `y`, `dx`, dgamma, dbeta, running mean, running deviation.
    arrays: Vec<Vec<f32>>,
    saved: Vec<f32>,
}

fn run(shape: Shape, x: &[f32], limits: Limits, activation: Activation) -> Results {
    let channels = shape.channels;
    let (gamma, beta) = (coarse_values(channels, 2), coarse_values(channels, 3));
    let norm = BatchRenorm {
        shape,
        x,
        affine: Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
        activation,
    };
    let (mut mean, mut deviation) = (coarse_values(channels, 5), vec![2.5; channels]);
    let (mut y, mut saved) = (vec![f32::NAN; x.len()], vec![f32::NAN; SAVED * channels]);
    let running = RunningDeviation {
        mean: &mut mean,
        deviation: &mut deviation,
        momentum: 0.25,
    };
    forward(norm, EPSILON, limits, running, &mut y, &mut saved).unwrap();
    let mut dx = vec![f32::NAN; x.len()];
    let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
    };
    backward(norm, &saved, &coarse_values(x.len(), 4), gradients).unwrap();
    Results {
        arrays: vec![y, dx, dgamma, dbeta, mean, deviation],
        saved,
    }
}

/// The equations of the paper and their derivatives, in f64, without activation.
fn oracle(shape: Shape, x: &[f32], limits: Limits) -> Vec<Vec<f64>> {
    let channels = shape.channels;
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let (gamma, beta) = (
        wide(coarse_values(channels, 2)),
        wide(coarse_values(channels, 3)),
    );
    let dy = wide(coarse_values(x.len(), 4));
    let x = wide(x.to_vec());
    let count = (x.len() / channels) as f64;
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    let (mut running_mean, mut running_deviation) =
        (wide(coarse_values(channels, 5)), vec![2.5; channels]);
    for channel in 0..channels {
        let own = || (channel..x.len()).step_by(channels);
        let mean = own().map(|i| x[i]).sum::<f64>() / count;
        let variance = own().map(|i| (x[i] - mean).powi(2)).sum::<f64>() / count;
        let deviation = (variance + f64::from(EPSILON)).sqrt();
        let most = f64::from(limits.scale);
        let r = (deviation / running_deviation[channel]).clamp(1.0 / most, most);
        let shift = f64::from(limits.shift);
        let d = ((mean - running_mean[channel]) / running_deviation[channel]).clamp(-shift, shift);
        let normalized = |i: usize| (x[i] - mean) / deviation;
        let factor = gamma[channel] * r;
        let first = own().map(|i| dy[i] * factor).sum::<f64>() / count;
        let second = own().map(|i| dy[i] * factor * normalized(i)).sum::<f64>() / count;
        for i in own() {
            let value = normalized(i) * r + d;
            y[i] = value * gamma[channel] + beta[channel];
            dgamma[channel] += dy[i] * value;
            dbeta[channel] += dy[i];
            dx[i] = (dy[i] * factor - first - normalized(i) * second) / deviation;
        }
        running_mean[channel] += 0.25 * (mean - running_mean[channel]);
        running_deviation[channel] += 0.25 * (deviation - running_deviation[channel]);
    }
    vec![y, dx, dgamma, dbeta, running_mean, running_deviation]
}

const SHAPES: [(usize, usize, usize); 9] = [
    (1, 9, 1),
    (2, 12, 3),
    (1, 50, 7),
    (3, 25, 15),
    (2, 4, 16),
    (5, 1, 17),
    (2, 300, 33),
    (3, 7, 64),
    (2, 2000, 65),
];

#[test]
fn follows_the_equations_at_every_level() {
    at_every_level(|| {
        for (batch, positions, channels) in SHAPES {
            let shape = Shape {
                batch,
                positions,
                channels,
            };
            let x = coarse_values(shape.elements().unwrap(), 1);
            for (scale, shift) in [(1.0, 0.0), (1.5, 0.5), (1e30, 1e30)] {
                let limits = Limits { scale, shift };
                let actual = run(shape, &x, limits, Activation::Identity).arrays;
                for (index, (actual, expected)) in
                    actual.iter().zip(&oracle(shape, &x, limits)).enumerate()
                {
                    let largest = expected.iter().fold(1.0f64, |most, v| most.max(v.abs()));
                    for (actual, expected) in actual.iter().zip(expected) {
                        assert!(
                            (f64::from(*actual) - expected).abs() <= 2e-6 * largest,
                            "result {index} of {shape:?}, {limits:?}: {actual}, expected {expected}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn is_batch_norm_of_corrected_parameters_also_with_an_activation() {
    at_every_level(|| {
        let shape = Shape {
            batch: 2,
            positions: 300,
            channels: 33,
        };
        let x = coarse_values(shape.elements().unwrap(), 1);
        let limits = Limits {
            scale: 2.0,
            shift: 1.0,
        };
        let results = run(shape, &x, limits, Activation::Silu);
        let (gamma, beta) = (coarse_values(33, 2), coarse_values(33, 3));
        let affine = Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        };
        let mut values = [0.0; 66];
        corrected(&affine, &results.saved[99..], &mut values);
        let norm = BatchNorm {
            shape,
            x: &x,
            affine: Affine {
                gamma: Some(&values[..33]),
                beta: Some(&values[33..]),
            },
            residual: None,
            activation: Activation::Silu,
        };
        let (mut y, mut saved) = (vec![0.0; x.len()], vec![0.0; 99]);
        batch::forward_training(norm, EPSILON, None, &mut y, &mut saved).unwrap();
        assert_eq!(y, results.arrays[0]);
        let mut dx = vec![0.0; x.len()];
        let gradients = AffineGradients {
            dx: Some(&mut dx),
            ..Default::default()
        };
        let dy = coarse_values(x.len(), 4);
        batch::backward_training(norm, &saved, &dy, gradients, None).unwrap();
        assert_eq!(dx, results.arrays[1]);
    });
}

#[test]
fn limits_grow_linearly_between_their_steps() {
    let schedule = Schedule {
        plain: 10.0,
        scale_until: 30.0,
        shift_until: 10.0,
        maximum_scale: 3.0,
        maximum_shift: f64::INFINITY,
    };
    let limits = [0.0, 9.0, 10.0, 20.0, 30.0, 1e6].map(|steps| schedule.limits(steps));
    assert_eq!(limits.map(|l| l.scale), [1.0, 1.0, 1.0, 2.0, 3.0, 3.0]);
    assert_eq!(limits.map(|l| l.shift), [0.0, 0.0, 3e38, 3e38, 3e38, 3e38]);
}

#[test]
fn threads_do_not_change_bits() {
    let shape = Shape {
        batch: 3,
        positions: 1600,
        channels: 33,
    };
    let x = coarse_values(shape.elements().unwrap(), 1);
    let limits = Limits {
        scale: 2.0,
        shift: 1.0,
    };
    assert_same_bits_at_any_thread_count(|| run(shape, &x, limits, Activation::Relu).arrays);
}

#[test]
fn a_batch_that_is_not_finite_moves_nothing() {
    let shape = Shape {
        batch: 4,
        positions: 1,
        channels: 3,
    };
    let mut x = coarse_values(12, 1);
    x[4] = f32::NAN;
    let limits = Limits {
        scale: 2.0,
        shift: 1.0,
    };
    let results = run(shape, &x, limits, Activation::Identity).arrays;
    assert!(results[0][1].is_nan() && results[0][0].is_finite());
    assert_eq!(results[4], coarse_values(3, 5));
    assert_eq!(results[5], [2.5; 3]);
}

#[test]
fn constants_give_the_offset_also_with_epsilon_0_and_no_running_deviation() {
    let norm = BatchRenorm {
        shape: Shape {
            batch: 4,
            positions: 1,
            channels: 1,
        },
        x: &[2.0; 4],
        affine: Affine {
            gamma: None,
            beta: Some(&[0.5]),
        },
        activation: Activation::Identity,
    };
    let running = RunningDeviation {
        mean: &mut [2.0],
        deviation: &mut [0.0],
        momentum: 0.1,
    };
    let limits = Limits {
        scale: 3.0,
        shift: 5.0,
    };
    let (mut y, mut saved) = ([f32::NAN; 4], [f32::NAN; SAVED]);
    forward(norm, 0.0, limits, running, &mut y, &mut saved).unwrap();
    assert_eq!(y, [0.5; 4]);
    let mut dx = [f32::NAN; 4];
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        ..Default::default()
    };
    backward(norm, &saved, &[1.0; 4], gradients).unwrap();
    assert_eq!(dx, [0.0; 4]);
}

#[test]
fn misfits_are_refused() {
    let attempt = |scale, shift, momentum, saved: usize| {
        let norm = BatchRenorm {
            shape: Shape {
                batch: 2,
                positions: 1,
                channels: 2,
            },
            x: &[0.0; 4],
            affine: Affine::default(),
            activation: Activation::Relu,
        };
        let running = RunningDeviation {
            mean: &mut [0.0; 2],
            deviation: &mut [1.0; 2],
            momentum,
        };
        let mut saved = vec![0.0; saved];
        let limits = Limits { scale, shift };
        forward(norm, 1e-5, limits, running, &mut [0.0; 4], &mut saved)
    };
    assert!(attempt(1.0, 0.0, 0.1, 10).is_ok());
    assert!(attempt(0.5, 0.0, 0.1, 10).is_err());
    assert!(attempt(1.0, -1.0, 0.1, 10).is_err());
    assert!(attempt(1.0, f32::NAN, 0.1, 10).is_err());
    assert!(attempt(1.0, 0.0, 1.5, 10).is_err());
    assert!(attempt(1.0, 0.0, 0.1, 9).is_err());
}
