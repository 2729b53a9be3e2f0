use super::*;
use crate::norm::AffineGradients;
use crate::norm::batch::RunningStatistics;
use crate::testing::{
    Bounds, assert_follows, assert_same_bits_at_any_thread_count, at_every_level, coarse_values,
};

const EPSILON: f32 = 1e-3;

/// x, gamma, beta, logits of the means, logits of the variances.
fn inputs(shape: Shape) -> Vec<Vec<f32>> {
    vec![
        coarse_values(shape.elements().unwrap(), 1),
        coarse_values(shape.channels, 2),
        coarse_values(shape.channels, 3),
        vec![0.5, -0.3, 1.0],
        vec![-0.2, 0.7, 0.4],
    ]
}

fn norm<'a>(
    shape: Shape,
    inputs: &'a [Vec<f32>],
    given: Option<[&'a [f32]; 2]>,
) -> SwitchableNorm<'a> {
    SwitchableNorm {
        shape,
        x: &inputs[0],
        affine: Affine {
            gamma: Some(&inputs[1]),
            beta: Some(&inputs[2]),
        },
        mean_logits: &inputs[3],
        variance_logits: &inputs[4],
        given,
        epsilon: EPSILON,
        activation: Activation::Silu,
    }
}

/// `y`, and the gradients of all inputs.
fn run(shape: Shape, inputs: &[Vec<f32>], given: Option<[&[f32]; 2]>) -> Vec<Vec<f32>> {
    let norm = norm(shape, inputs, given);
    let mut y = vec![f32::NAN; inputs[0].len()];
    let mut saved = vec![f32::NAN; SAVED * shape.batch * shape.channels];
    forward(norm, None, &mut y, &mut saved).unwrap();
    let mut all: Vec<Vec<f32>> = inputs.iter().map(|i| vec![f32::NAN; i.len()]).collect();
    let [dx, dgamma, dbeta, means, variances] = &mut all[..] else {
        unreachable!()
    };
    let gradients = AffineGradients {
        dx: Some(dx),
        dgamma: Some(dgamma),
        dbeta: Some(dbeta),
    };
    let logits = LogitGradients {
        means: Some(means),
        variances: Some(variances),
    };
    let dy = coarse_values(y.len(), 4);
    backward(norm, &saved, &dy, gradients, logits).unwrap();
    all.insert(0, y);
    all
}

/// Mean and biased variance of some elements.
fn moments(x: &[f64], places: impl Iterator<Item = usize> + Clone) -> [f64; 2] {
    let count = places.clone().count() as f64;
    let mean = places.clone().map(|at| x[at]).sum::<f64>() / count;
    let squares = places.map(|at| (x[at] - mean).powi(2));
    [mean, squares.sum::<f64>() / count]
}

/// The equations of the paper, in f64 and without thinking of speed.
fn oracle(shape: Shape, inputs: &[Vec<f64>], given: Option<[&[f32]; 2]>) -> Vec<f64> {
    let Shape {
        batch,
        positions,
        channels,
    } = shape;
    let x = &inputs[0];
    let softmax = |logits: &[f64]| -> Vec<f64> {
        let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
        logits.iter().map(|logit| logit.exp() / sum).collect()
    };
    let weights = [softmax(&inputs[3]), softmax(&inputs[4])];
    let whole: Vec<[f64; 2]> = (0..channels)
        .map(|channel| match given {
            Some(given) => given.map(|values| f64::from(values[channel])),
            None => moments(
                x,
                (0..batch * positions).map(|row| row * channels + channel),
            ),
        })
        .collect();
    let mut y = vec![0.0; x.len()];
    for sample in 0..batch {
        let start = sample * positions * channels;
        let layer = moments(x, start..start + positions * channels);
        for channel in 0..channels {
            let places = (0..positions).map(|row| start + row * channels + channel);
            let all = [moments(x, places.clone()), layer, whole[channel]];
            let [mean, variance] = [0, 1].map(|kind| {
                let terms = all.iter().zip(&weights[kind]);
                terms
                    .map(|(moments, weight)| moments[kind] * weight)
                    .sum::<f64>()
            });
            let deviation = (variance + f64::from(EPSILON)).sqrt();
            for at in places {
                let z = (x[at] - mean) / deviation * inputs[1][channel] + inputs[2][channel];
                y[at] = z / (1.0 + (-z).exp());
            }
        }
    }
    y
}

const SHAPES: [(usize, usize, usize); 10] = [
    (1, 9, 1),
    (3, 12, 3),
    (2, 50, 7),
    (4, 1, 16),
    (3, 25, 17),
    (1, 4, 33),
    (2, 64, 63),
    (2, 16, 64),
    (2, 1200, 65),
    (0, 4, 3),
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
            let inputs = inputs(shape);
            let mean = coarse_values(channels, 7);
            let variance: Vec<f32> = mean.iter().map(|v| v.abs() + 0.5).collect();
            for given in [None, Some([&mean[..], &variance[..]])] {
                let actual = run(shape, &inputs, given);
                let dy = coarse_values(inputs[0].len(), 4);
                let bounds = Bounds {
                    value: 1e-5,
                    step: 1e-5,
                    gradient: 5e-5,
                };
                let oracle = |inputs: &[Vec<f64>]| oracle(shape, inputs, given);
                assert_follows(&actual, &inputs, &dy, oracle, bounds, &shape);
            }
        }
    });
}

#[test]
fn threads_do_not_change_bits() {
    let shape = Shape {
        batch: 3,
        positions: 1600,
        channels: 33,
    };
    let inputs = inputs(shape);
    assert_same_bits_at_any_thread_count(|| run(shape, &inputs, None));
}

#[test]
fn values_far_from_zero_and_large_ones_keep_their_digits() {
    let shape = Shape {
        batch: 2,
        positions: 300,
        channels: 3,
    };
    let mut all = inputs(shape);
    for scale in [(1.0f32, 65_536.0f32), (1e19, 0.0)] {
        all[0] = coarse_values(1800, 1)
            .iter()
            .map(|x| x * scale.0 + scale.1)
            .collect();
        let wide: Vec<Vec<f64>> = all
            .iter()
            .map(|values| values.iter().copied().map(f64::from).collect())
            .collect();
        let actual = run(shape, &all, None);
        for (actual, expected) in actual[0].iter().zip(oracle(shape, &wide, None)) {
            assert!((f64::from(*actual) - expected).abs() <= 2e-5, "{scale:?}");
        }
        assert!(actual.iter().flatten().all(|value| value.is_finite()));
    }
}

#[test]
fn running_statistics_move_unless_the_batch_is_not_finite() {
    let shape = Shape {
        batch: 2,
        positions: 2,
        channels: 1,
    };
    let attempt = |x: &[f32; 4]| {
        let (mut mean, mut variance) = ([0.0], [1.0]);
        let norm = SwitchableNorm {
            shape,
            x,
            affine: Affine::default(),
            mean_logits: &[1.0; 3],
            variance_logits: &[1.0; 3],
            given: None,
            epsilon: EPSILON,
            activation: Activation::Identity,
        };
        let running = RunningStatistics {
            mean: &mut mean,
            variance: &mut variance,
            momentum: 0.25,
        };
        forward(norm, Some(running), &mut [0.0; 4], &mut [0.0; 8]).unwrap();
        (mean[0], variance[0])
    };
    assert_eq!(attempt(&[0.0, 2.0, 6.0, 8.0]), (1.0, 0.75 + 0.25 * 10.0));
    assert_eq!(attempt(&[0.0, 2.0, f32::NAN, 8.0]), (0.0, 1.0));
}

#[test]
fn misfits_are_refused() {
    let attempt = |logits: &[f32], given: Option<[&[f32]; 2]>, saved: usize| {
        let norm = SwitchableNorm {
            shape: Shape {
                batch: 1,
                positions: 2,
                channels: 4,
            },
            x: &[0.0; 8],
            affine: Affine::default(),
            mean_logits: logits,
            variance_logits: &[0.0; 3],
            given,
            epsilon: EPSILON,
            activation: Activation::Identity,
        };
        forward(norm, None, &mut [0.0; 8], &mut vec![0.0; saved])
    };
    assert!(attempt(&[1.0; 3], None, 16).is_ok());
    assert!(attempt(&[1.0; 2], None, 16).is_err());
    assert!(attempt(&[1.0; 3], Some([&[0.0; 4], &[0.0; 3]]), 16).is_err());
    assert!(attempt(&[1.0; 3], None, 15).is_err());
}
