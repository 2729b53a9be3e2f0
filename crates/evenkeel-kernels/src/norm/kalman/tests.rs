use super::*;
use crate::norm::AffineGradients;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const EPSILON: f32 = 1e-5;

/// Everything one forward and one backward pass write.
struct Passes {
    y: Vec<f32>,
    posterior: Vec<f32>,
    dx: Vec<f32>,
    dgamma: Vec<f32>,
    state: Vec<f32>,
    weight: Vec<f32>,
}

fn run(shape: Shape, groups: usize, x: &[f32], prior: Option<Prior>) -> Passes {
    let units = groups * shape.channels;
    let (gamma, beta) = (
        coarse_values(shape.channels, 5),
        coarse_values(shape.channels, 6),
    );
    let norm = KalmanNorm {
        shape,
        groups,
        x,
        affine: Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
        prior,
        residual: None,
        activation: Activation::Identity,
    };
    let mut passes = Passes {
        y: vec![f32::NAN; x.len()],
        posterior: vec![f32::NAN; 2 * units],
        dx: vec![f32::NAN; x.len()],
        dgamma: vec![f32::NAN; shape.channels],
        state: vec![f32::NAN; 2 * units],
        weight: vec![f32::NAN; 1],
    };
    let mut saved = vec![f32::NAN; SAVED * units];
    let Passes { y, posterior, .. } = &mut passes;
    forward(norm, EPSILON, None, y, posterior, &mut saved).unwrap();
    let with_prior = prior.is_some();
    backward(
        norm,
        &saved,
        &coarse_values(x.len(), 7),
        Some(&coarse_values(2 * units, 8)),
        AffineGradients {
            dx: Some(&mut passes.dx),
            dgamma: Some(&mut passes.dgamma),
            dbeta: None,
        },
        None,
        PriorGradients {
            state: with_prior.then_some(&mut passes.state[..]),
            weight: with_prior.then_some(&mut passes.weight[..]),
        },
    )
    .unwrap();
    passes
}

/// The equations of the paper and their derivatives, in f64 and without thinking of speed.
fn oracle(shape: Shape, groups: usize, x: &[f32], state: &[f32], q: f64) -> [Vec<f64>; 5] {
    let channels = shape.channels;
    let units = groups * channels;
    let (gamma, beta) = (coarse_values(channels, 5), coarse_values(channels, 6));
    let (dy, out) = (coarse_values(x.len(), 7), coarse_values(2 * units, 8));
    let rows = x.len() / channels / groups;
    let count = rows as f64;
    let mut results = [
        vec![0.0; x.len()],
        vec![0.0; 2 * units],
        vec![0.0; x.len()],
        vec![0.0; 2 * units],
        vec![0.0; 1],
    ];
    for unit in 0..units {
        let (group, channel) = (unit / channels, unit % channels);
        let at = |row: usize| (group * rows + row) * channels + channel;
        let value = |row: usize| f64::from(x[at(row)]);
        let observed = (0..rows).map(value).sum::<f64>() / count;
        let spread = (0..rows)
            .map(|row| (value(row) - observed).powi(2))
            .sum::<f64>()
            / count;
        let (m0, v0) = (f64::from(state[unit]), f64::from(state[units + unit]));
        let delta = observed - m0;
        let m = q * m0 + (1.0 - q) * observed;
        let v = q * v0 + (1.0 - q) * spread + q * (1.0 - q) * delta * delta;
        let r = 1.0 / (v + f64::from(EPSILON)).sqrt();
        let gamma = f64::from(gamma[channel]);
        let u = |row: usize| gamma * f64::from(dy[at(row)]);
        let normalized = |row: usize| (value(row) - m) * r;
        let dv = f64::from(out[units + unit])
            - 0.5 * r * r * (0..rows).map(|row| u(row) * normalized(row)).sum::<f64>();
        let dm = f64::from(out[unit]) - r * (0..rows).map(u).sum::<f64>();
        let of_mean = (1.0 - q) * dm + 2.0 * q * (1.0 - q) * delta * dv;
        for row in 0..rows {
            results[0][at(row)] = gamma * normalized(row) + f64::from(beta[channel]);
            results[2][at(row)] = r * u(row)
                + of_mean / count
                + (1.0 - q) * dv * 2.0 * (value(row) - observed) / count;
        }
        (results[1][unit], results[1][units + unit]) = (m, v);
        results[3][unit] = q * dm - 2.0 * q * (1.0 - q) * delta * dv;
        results[3][units + unit] = q * dv;
        results[4][0] +=
            dm * (m0 - observed) + dv * (v0 - spread + (1.0 - 2.0 * q) * delta * delta);
    }
    results
}

fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64, what: &str) {
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (actual, expected) in actual.iter().zip(expected) {
        let error = (f64::from(*actual) - expected).abs();
        assert!(error <= tolerance * largest, "{what}: {actual} {expected}");
    }
}

fn shapes() -> Vec<(Shape, usize)> {
    let shape = |batch, positions, channels| Shape {
        batch,
        positions,
        channels,
    };
    vec![
        (shape(1, 9, 1), 1),
        (shape(4, 4, 3), 2),
        (shape(6, 6, 7), 3),
        (shape(2, 49, 15), 2),
        (shape(8, 1, 16), 2),
        (shape(3, 25, 17), 1),
        (shape(2, 300, 33), 1),
        (shape(4, 16, 64), 4),
        (shape(2, 1000, 65), 2),
    ]
}

#[test]
fn agrees_with_the_equations_at_every_level() {
    at_every_level(|| {
        for (shape, groups) in shapes() {
            let x = coarse_values(shape.elements().unwrap(), 1);
            let units = groups * shape.channels;
            let mut state = coarse_values(2 * units, 2);
            state[units..].iter_mut().for_each(|v| *v = v.abs() + 0.5);
            for q in [0.0, 0.25, 0.9, 1.0] {
                let prior = Prior {
                    state: &state,
                    weight: q,
                    guarded: false,
                };
                let passes = run(shape, groups, &x, Some(prior));
                let [y, posterior, dx, dstate, dweight] = oracle(shape, groups, &x, &state, q);
                assert_close(&passes.y, &y, 2e-6, "y");
                assert_close(&passes.posterior, &posterior, 1e-6, "posterior");
                assert_close(&passes.dx, &dx, 1e-5, "dx");
                assert_close(&passes.state, &dstate, 1e-5, "state");
                assert_close(&passes.weight, &dweight, 1e-4, "weight");
            }
        }
    });
}

#[test]
fn values_far_from_zero_keep_their_digits() {
    let shape = Shape {
        batch: 2,
        positions: 400,
        channels: 3,
    };
    let x: Vec<f32> = coarse_values(2400, 1)
        .iter()
        .map(|x| x + 65_536.0)
        .collect();
    let passes = run(shape, 2, &x, None);
    let [y, ..] = oracle(shape, 2, &x, &[0.0; 12], 0.0);
    assert_close(&passes.y, &y, 2e-6, "y");
    let large: Vec<f32> = coarse_values(2400, 1).iter().map(|x| x * 1e19).collect();
    assert!(run(shape, 2, &large, None).y.iter().all(|y| y.is_finite()));
}

#[test]
fn without_a_prior_a_residual_is_that_of_batch_norm() {
    use crate::norm::batch::{self, BatchNorm};
    at_every_level(|| {
        for (shape, _) in shapes() {
            let elements = shape.elements().unwrap();
            let (x, residual) = (coarse_values(elements, 1), coarse_values(elements, 2));
            let dy = coarse_values(elements, 3);
            let (affine, activation) = (Affine::default(), Activation::Relu);
            let outputs = || [(); 3].map(|()| vec![f32::NAN; elements]);
            let norm = BatchNorm {
                shape,
                x: &x,
                affine,
                residual: Some(&residual),
                activation,
            };
            let expected = {
                let [mut y, mut dx, mut dresidual] = outputs();
                let mut saved = vec![0.0; 3 * shape.channels];
                batch::forward_training(norm, EPSILON, None, &mut y, &mut saved).unwrap();
                let gradients = AffineGradients {
                    dx: Some(&mut dx),
                    ..AffineGradients::default()
                };
                batch::backward_training(norm, &saved, &dy, gradients, Some(&mut dresidual))
                    .unwrap();
                [y, dx, dresidual]
            };
            let norm = KalmanNorm {
                shape,
                groups: 1,
                x: &x,
                affine,
                prior: None,
                residual: Some(&residual),
                activation,
            };
            let [mut y, mut dx, mut dresidual] = outputs();
            let mut posterior = vec![0.0; 2 * shape.channels];
            let mut saved = vec![0.0; SAVED * shape.channels];
            forward(norm, EPSILON, None, &mut y, &mut posterior, &mut saved).unwrap();
            let gradients = AffineGradients {
                dx: Some(&mut dx),
                ..AffineGradients::default()
            };
            let none = PriorGradients::default();
            backward(
                norm,
                &saved,
                &dy,
                None,
                gradients,
                Some(&mut dresidual),
                none,
            )
            .unwrap();
            assert_eq!([y, dx, dresidual], expected, "{shape:?}");
        }
    });
}

#[test]
fn threads_do_not_change_bits() {
    let shape = Shape {
        batch: 6,
        positions: 1600,
        channels: 33,
    };
    let x = coarse_values(shape.elements().unwrap(), 3);
    let state: Vec<f32> = coarse_values(6 * 33, 4).iter().map(|v| v.abs()).collect();
    assert_same_bits_at_any_thread_count(|| {
        let prior = Prior {
            state: &state,
            weight: 0.3,
            guarded: true,
        };
        let Passes {
            y,
            posterior,
            dx,
            dgamma,
            state,
            weight,
        } = run(shape, 3, &x, Some(prior));
        vec![y, posterior, dx, dgamma, state, weight]
    });
}

#[test]
fn misfits_are_refused() {
    let shape = Shape {
        batch: 4,
        positions: 1,
        channels: 1,
    };
    let check = |groups: usize, prior: Option<Prior>, saved: usize| {
        let norm = KalmanNorm {
            shape,
            groups,
            x: &[0.0; 4],
            affine: Affine::default(),
            prior,
            residual: None,
            activation: Activation::Identity,
        };
        let mut posterior = vec![0.0; 2 * groups];
        let mut saved = vec![0.0; saved];
        forward(
            norm,
            EPSILON,
            None,
            &mut [0.0; 4],
            &mut posterior,
            &mut saved,
        )
    };
    let prior = |weight: f64, state| {
        Some(Prior {
            state,
            weight,
            guarded: false,
        })
    };
    assert!(check(2, None, 12).is_ok());
    assert!(check(3, None, 18).is_err());
    assert!(check(0, None, 0).is_err());
    assert!(check(2, None, 11).is_err());
    assert!(check(2, prior(0.5, &[0.0; 4]), 12).is_ok());
    assert!(check(2, prior(0.5, &[0.0; 3]), 12).is_err());
    assert!(check(2, prior(1.5, &[0.0; 4]), 12).is_err());
    assert!(check(2, prior(f64::NAN, &[0.0; 4]), 12).is_err());
}

#[test]
fn more_groups_than_there_is_memory_are_refused_for_no_samples() {
    let norm = KalmanNorm {
        shape: Shape {
            batch: 0,
            positions: 1,
            channels: 4,
        },
        groups: 1 << 62,
        x: &[],
        affine: Affine::default(),
        prior: None,
        residual: None,
        activation: Activation::Identity,
    };
    assert!(forward(norm, EPSILON, None, &mut [], &mut [], &mut []).is_err());
}
