use super::*;
use crate::testing::{
    Bounds, assert_follows, assert_same_bits_at_any_thread_count, at_every_level, coarse_values,
};

const EPSILON: f32 = 1e-3;

/// x, slope, gamma, beta.
fn inputs(shape: Shape) -> Vec<Vec<f32>> {
    let small = |seed| -> Vec<f32> {
        let values = coarse_values(shape.channels, seed);
        values.into_iter().map(|value| value / 8.0).collect()
    };
    vec![
        coarse_values(shape.elements().unwrap(), 1),
        small(2),
        small(3),
        small(5),
    ]
}

fn norm<'a>(shape: Shape, inputs: &'a [Vec<f32>], given: Option<&'a [f32]>) -> EvoNormB0<'a> {
    EvoNormB0 {
        shape,
        x: &inputs[0],
        slope: &inputs[1],
        affine: Affine {
            gamma: Some(&inputs[2]),
            beta: Some(&inputs[3]),
        },
        given,
        epsilon: EPSILON,
    }
}

/// `y`, and the gradients of all inputs.
fn run(shape: Shape, inputs: &[Vec<f32>], given: Option<&[f32]>) -> Vec<Vec<f32>> {
    let norm = norm(shape, inputs, given);
    let mut y = vec![f32::NAN; inputs[0].len()];
    let mut saved = vec![f32::NAN; saved_length(shape)];
    forward(norm, None, &mut y, &mut saved).unwrap();
    let mut all: Vec<Vec<f32>> = inputs.iter().map(|i| vec![f32::NAN; i.len()]).collect();
    let [dx, dslope, dgamma, dbeta] = &mut all[..] else {
        unreachable!()
    };
    let gradients = EvoNormGradients {
        dx: Some(dx),
        dslope: Some(dslope),
        dgamma: Some(dgamma),
        dbeta: Some(dbeta),
    };
    backward(norm, &saved, &coarse_values(y.len(), 4), gradients).unwrap();
    all.insert(0, y);
    all
}

/// The equation, in f64.
fn oracle(shape: Shape, inputs: &[Vec<f64>], given: Option<&[f32]>) -> Vec<f64> {
    let Shape {
        batch,
        positions,
        channels,
    } = shape;
    let x = &inputs[0];
    let variance = |values: Vec<f64>| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64
    };
    let root = |variance: f64| (variance + f64::from(EPSILON)).sqrt();
    let mut y = vec![0.0; x.len()];
    for channel in 0..channels {
        let column = |rows: std::ops::Range<usize>| -> Vec<f64> {
            rows.map(|row| x[row * channels + channel]).collect()
        };
        let whole = root(match given {
            Some(given) => f64::from(given[channel]),
            None => variance(column(0..batch * positions)),
        });
        for sample in 0..batch {
            let rows = sample * positions..(sample + 1) * positions;
            let own = root(variance(column(rows.clone())));
            for row in rows {
                let value = x[row * channels + channel];
                let divisor = whole.max(inputs[1][channel] * value + own);
                y[row * channels + channel] =
                    value / divisor * inputs[2][channel] + inputs[3][channel];
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
    (1, 1, 33),
    (2, 64, 63),
    (2, 16, 64),
    (2, 1200, 65),
    (0, 4, 3),
];

fn shapes() -> impl Iterator<Item = Shape> {
    SHAPES
        .into_iter()
        .map(|(batch, positions, channels)| Shape {
            batch,
            positions,
            channels,
        })
}

#[test]
fn follows_the_equation_at_every_level() {
    at_every_level(|| {
        for shape in shapes() {
            let inputs = inputs(shape);
            let variance: Vec<f32> = coarse_values(shape.channels, 7);
            let variance: Vec<f32> = variance.iter().map(|v| v.abs() + 0.5).collect();
            for given in [None, Some(&variance[..])] {
                let actual = run(shape, &inputs, given);
                let dy = coarse_values(inputs[0].len(), 4);
                let bounds = Bounds {
                    value: 5e-6,
                    step: 1e-6,
                    gradient: 2e-5,
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
fn running_variances_move_unless_the_batch_is_not_finite() {
    let shape = Shape {
        batch: 2,
        positions: 2,
        channels: 1,
    };
    let attempt = |x: &[f32; 4]| {
        let mut variance = [1.0];
        let norm = EvoNormB0 {
            shape,
            x,
            slope: &[1.0],
            affine: Affine::default(),
            given: None,
            epsilon: EPSILON,
        };
        let running = RunningVariance {
            variance: &mut variance,
            momentum: 0.25,
        };
        let (mut y, mut saved) = ([0.0; 4], vec![0.0; saved_length(shape)]);
        forward(norm, Some(running), &mut y, &mut saved).unwrap();
        (variance[0], y)
    };
    assert_eq!(attempt(&[0.0, 2.0, 6.0, 8.0]).0, 0.75 + 0.25 * 10.0);
    assert_eq!(attempt(&[0.0, 2.0, f32::INFINITY, 8.0]).0, 1.0);
    let (_, y) = attempt(&[1e20, -1e20, 3e19, 0.0]);
    assert!(y.iter().all(|y| y.is_finite() && y.abs() < 3.0));
}

#[test]
fn channels_without_deviation_give_numbers_also_with_epsilon_0() {
    let shape = Shape {
        batch: 2,
        positions: 3,
        channels: 3,
    };
    // Zeros, a constant and others.
    let x: Vec<f32> = (0..6).flat_map(|i| [0.0, 0.5, i as f32]).collect();
    let (slope, gamma, beta) = ([0.5, -0.5, 0.5], [1.0, 0.0, 1.0], [3.0, 4.0, 5.0]);
    let zeros = [0.0; 3];
    at_every_level(|| {
        for given in [None, Some(&zeros[..])] {
            let norm = EvoNormB0 {
                shape,
                x: &x,
                slope: &slope,
                affine: Affine {
                    gamma: Some(&gamma),
                    beta: Some(&beta),
                },
                given,
                epsilon: 0.0,
            };
            let (mut y, mut saved) = (vec![f32::NAN; 18], vec![f32::NAN; saved_length(shape)]);
            forward(norm, None, &mut y, &mut saved).unwrap();
            for row in y.chunks_exact(3) {
                assert_eq!(row[..2], [3.0, 4.0]);
            }
            let mut dx = vec![f32::NAN; 18];
            let [mut dslope, mut dgamma, mut dbeta] = [[f32::NAN; 3]; 3];
            let gradients = EvoNormGradients {
                dx: Some(&mut dx),
                dslope: Some(&mut dslope),
                dgamma: Some(&mut dgamma),
                dbeta: Some(&mut dbeta),
            };
            backward(norm, &saved, &coarse_values(18, 4), gradients).unwrap();
            let all = [&y[..], &dx, &dslope, &dgamma, &dbeta];
            assert!(all.into_iter().flatten().all(|v| v.is_finite()), "{all:?}");
        }
    });
}

#[test]
fn sizes_that_do_not_fit_are_refused_also_where_there_are_no_elements() {
    let norm = EvoNormB0 {
        shape: Shape {
            batch: usize::MAX / 2,
            positions: 0,
            channels: 4,
        },
        x: &[],
        slope: &[1.0; 4],
        affine: Affine::default(),
        given: None,
        epsilon: EPSILON,
    };
    assert!(forward(norm, None, &mut [], &mut []).is_err());
}

#[test]
fn misfits_are_refused() {
    let attempt = |slope: &[f32], given: Option<&[f32]>, saved: usize, epsilon| {
        let norm = EvoNormB0 {
            shape: Shape {
                batch: 1,
                positions: 2,
                channels: 4,
            },
            x: &[0.0; 8],
            slope,
            affine: Affine::default(),
            given,
            epsilon,
        };
        forward(norm, None, &mut [0.0; 8], &mut vec![0.0; saved])
    };
    assert!(attempt(&[1.0; 4], None, 24, 1e-5).is_ok());
    assert!(attempt(&[1.0; 3], None, 24, 1e-5).is_err());
    assert!(attempt(&[1.0; 4], Some(&[1.0; 3]), 24, 1e-5).is_err());
    assert!(attempt(&[1.0; 4], None, 23, 1e-5).is_err());
    assert!(attempt(&[1.0; 4], None, 24, f32::NAN).is_err());
}
