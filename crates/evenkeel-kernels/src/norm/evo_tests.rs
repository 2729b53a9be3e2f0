use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const EPSILON: f32 = 1e-5;

/// Slope, gamma, beta.
fn parameters(channels: usize) -> [Vec<f32>; 3] {
    [2, 3, 5].map(|seed| {
        let values = coarse_values(channels, seed).into_iter();
        values.map(|value| value / 8.0).collect()
    })
}

/// `y`, `dx`, and the gradients of slope, gamma and beta.
fn run(shape: Shape, groups: usize, x: &[f32]) -> Vec<Vec<f32>> {
    let channels = shape.channels;
    let [slope, gamma, beta] = parameters(channels);
    let norm = EvoNormS0 {
        shape,
        groups,
        x,
        slope: &slope,
        affine: Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
    };
    let mut y = vec![f32::NAN; x.len()];
    let mut saved = vec![f32::NAN; 3 * shape.batch * groups];
    forward(norm, EPSILON, &mut y, &mut saved).unwrap();
    let mut dx = vec![f32::NAN; x.len()];
    let mut own = [(); 3].map(|()| vec![f32::NAN; channels]);
    let [dslope, dgamma, dbeta] = &mut own;
    let gradients = EvoNormGradients {
        dx: Some(&mut dx),
        dslope: Some(dslope),
        dgamma: Some(dgamma),
        dbeta: Some(dbeta),
    };
    backward(norm, &saved, &coarse_values(x.len(), 4), gradients).unwrap();
    [y, dx].into_iter().chain(own).collect()
}

/// The equation and its derivatives, in f64.
fn oracle(shape: Shape, groups: usize, x: &[f32]) -> Vec<Vec<f64>> {
    let Shape {
        batch,
        positions,
        channels,
    } = shape;
    let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<f64>>();
    let [slope, gamma, beta] = parameters(channels).map(wide);
    let (x, dy) = (wide(x.to_vec()), wide(coarse_values(x.len(), 4)));
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let mut own = [(); 3].map(|()| vec![0.0; channels]);
    let size = channels / groups;
    for unit in 0..batch * groups {
        let (sample, group) = (unit / groups, unit % groups);
        let places: Vec<(usize, usize)> = (0..positions * size)
            .map(|index| {
                let channel = group * size + index % size;
                (
                    (sample * positions + index / size) * channels + channel,
                    channel,
                )
            })
            .collect();
        let count = places.len() as f64;
        let mean = places.iter().map(|&(i, _)| x[i]).sum::<f64>() / count;
        let variance = places
            .iter()
            .map(|&(i, _)| (x[i] - mean).powi(2))
            .sum::<f64>()
            / count;
        let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
        let gate = |i: usize, c: usize| 1.0 / (1.0 + (-slope[c] * x[i]).exp());
        let mut total = 0.0;
        for &(i, c) in &places {
            let gated = x[i] * gate(i, c);
            y[i] = gated * inverse * gamma[c] + beta[c];
            total += dy[i] * gamma[c] * gated;
            own[0][c] += dy[i] * gamma[c] * inverse * x[i] * gated * (1.0 - gate(i, c));
            own[1][c] += dy[i] * gated * inverse;
            own[2][c] += dy[i];
        }
        for &(i, c) in &places {
            let derivative = gate(i, c) * (1.0 + slope[c] * x[i] * (1.0 - gate(i, c)));
            dx[i] = dy[i] * gamma[c] * inverse * derivative
                - total * inverse.powi(3) * (x[i] - mean) / count;
        }
    }
    [y, dx].into_iter().chain(own).collect()
}

const SHAPES: [(usize, usize, usize, usize); 11] = [
    (1, 9, 1, 1),
    (2, 12, 3, 3),
    (1, 50, 7, 1),
    (3, 25, 15, 5),
    (2, 4, 16, 4),
    (5, 1, 17, 1),
    (2, 300, 33, 3),
    (1, 1, 63, 1),
    (1, 64, 64, 8),
    (2, 1200, 65, 13),
    (0, 4, 3, 1),
];

/// Compares everything with the equation, for inputs around `offset`.
fn check(offset: f32) {
    for (batch, positions, channels, groups) in SHAPES {
        let shape = Shape {
            batch,
            positions,
            channels,
        };
        let x = coarse_values(shape.elements().unwrap(), 1);
        let x: Vec<f32> = x.into_iter().map(|x| x + offset).collect();
        let actual = run(shape, groups, &x);
        let expected = oracle(shape, groups, &x);
        for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            let largest = expected.iter().fold(1.0f64, |most, v| most.max(v.abs()));
            for (actual, expected) in actual.iter().zip(expected) {
                assert!(
                    (f64::from(*actual) - expected).abs() <= 5e-6 * largest,
                    "result {index} of {shape:?} around {offset}: {actual}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn follows_the_equation_at_every_level() {
    at_every_level(|| check(0.0));
}

#[test]
fn inputs_far_from_zero_keep_their_digits() {
    // A thousand and ten thousand times the deviation of the coarse values.
    at_every_level(|| [4.62e3, -4.62e4].into_iter().for_each(check));
}

#[test]
fn threads_do_not_change_bits() {
    let shape = Shape {
        batch: 3,
        positions: 1600,
        channels: 33,
    };
    let x = coarse_values(shape.elements().unwrap(), 1);
    assert_same_bits_at_any_thread_count(|| run(shape, 3, &x));
}

#[test]
fn large_values_stay_finite() {
    at_every_level(|| {
        let norm = EvoNormS0 {
            shape: Shape {
                batch: 1,
                positions: 4,
                channels: 1,
            },
            groups: 1,
            x: &[1e20, -1e20, 3e19, 0.0],
            slope: &[1.0],
            affine: Affine::default(),
        };
        let (mut y, mut saved) = ([0.0; 4], [0.0; 3]);
        forward(norm, EPSILON, &mut y, &mut saved).unwrap();
        assert!((y[0] - 1.0 / 0.516_875f32.sqrt()).abs() < 1e-5);
        assert_eq!([y[1], y[3]], [0.0, 0.0]);
    });
}

#[test]
fn misfits_are_refused() {
    let attempt = |groups, slope: &[f32], saved: usize, epsilon| {
        let norm = EvoNormS0 {
            shape: Shape {
                batch: 1,
                positions: 2,
                channels: 4,
            },
            groups,
            x: &[0.0; 8],
            slope,
            affine: Affine::default(),
        };
        forward(norm, epsilon, &mut [0.0; 8], &mut vec![0.0; saved])
    };
    assert!(attempt(2, &[1.0; 4], 6, 1e-5).is_ok());
    assert!(attempt(3, &[1.0; 4], 9, 1e-5).is_err());
    assert!(attempt(2, &[1.0; 3], 6, 1e-5).is_err());
    assert!(attempt(2, &[1.0; 4], 5, 1e-5).is_err());
    assert!(attempt(2, &[1.0; 4], 6, -1.0).is_err());
}
