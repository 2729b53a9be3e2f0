//! Inputs that break a careless sum: constants, a mean far from zero, squares past f32's range, no samples, no numbers.

use super::*;

/// Runs batch norm without parameters, and returns y, the running mean and variance, and dx.
fn run_batch_norm(shape: Shape, x: &[f32], dy: &[f32], epsilon: f32) -> Vec<Vec<f32>> {
    let norm = BatchNorm {
        shape,
        x,
        affine: Affine::default(),
        residual: None,
        activation: Activation::Identity,
    };
    let (mut mean, mut variance) = (vec![1.0; shape.channels], vec![1.0; shape.channels]);
    let running = RunningStatistics {
        mean: &mut mean,
        variance: &mut variance,
        momentum: 1.0,
    };
    let mut y = vec![f32::NAN; x.len()];
    let mut saved = vec![f32::NAN; 3 * shape.channels];
    batch::forward_training(norm, epsilon, Some(running), &mut y, &mut saved).expect("fits");
    let mut dx = vec![f32::NAN; x.len()];
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        ..Default::default()
    };
    batch::backward_training(norm, &saved, dy, gradients, None).expect("fits");
    vec![y, mean, variance, dx]
}

fn plain(shape: Shape, over: Over, centred: bool, epsilon: f32) -> Norm {
    Norm {
        shape,
        over,
        centred,
        epsilon: epsilon as f64,
        activation: Activation::Identity,
        gamma: vec![1.0; shape.channels],
        beta: vec![0.0; shape.channels],
        tau: None,
        residual: None,
        given: None,
    }
}

#[test]
fn statistics_of_hard_inputs() {
    let shape = Shape {
        batch: 2,
        positions: 700,
        channels: 3,
    };
    let elements = 4200;
    let dy = random(2, elements);
    let mut late = scaled(random(1, elements), 1e-3, 0.0);
    late[..3].fill(1e3);
    for (what, x, epsilon) in [
        ("constant", vec![1e4; elements], 1e-5),
        (
            "constant, not a sum of powers of two",
            vec![0.1; elements],
            1e-5,
        ),
        (
            "mean far from zero",
            scaled(random(1, elements), 0.1, 1e4),
            1e-5,
        ),
        (
            "mean very far",
            scaled(random(1, elements), 10.0, -1e7),
            1e-5,
        ),
        ("huge", scaled(random(1, elements), 1e20, 0.0), 1e-5),
        ("tiny", scaled(random(1, elements), 1e-20, 0.0), 1e-5),
        (
            "tiny, epsilon 0",
            scaled(random(1, elements), 1e-20, 0.0),
            0.0,
        ),
        (
            "small, epsilon 0",
            scaled(random(1, elements), 1e-16, 1e-15),
            0.0,
        ),
        ("an outlier first", late, 1e-5),
    ] {
        let norm = plain(shape, Over::Batch, true, epsilon);
        let mut expected: Vec<f64> = norm.forward(&x);
        if what.starts_with("constant") {
            // The oracle's own mean is not exact.
            expected.fill(0.0);
        }
        let results = run_batch_norm(shape, &x, &dy, epsilon);
        let dx = norm.backward(&x, &dy).dx;
        for (name, result, expected, tolerance) in [
            ("y", &results[0], &expected, 1e-6),
            ("dx", &results[3], &dx, 1e-4),
        ] {
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (value, expected) in result.iter().zip(expected) {
                assert!(
                    (*value as f64 - expected).abs() <= tolerance * largest,
                    "{what}: {name} {value}, expected {expected} (largest {largest:e})"
                );
            }
        }
        let statistics = norm.statistics(&x);
        for channel in 0..3 {
            let mean = statistics[channel].0;
            assert!((results[1][channel] as f64 - mean).abs() <= 1e-6 * mean.abs().max(1e-30));
        }
    }
}

#[test]
fn filter_response_of_hard_inputs() {
    let shape = Shape {
        batch: 2,
        positions: 50,
        channels: 3,
    };
    let dy = random(2, 300);
    for (what, x, epsilon) in [
        ("zeros", vec![0.0; 300], 1e-6),
        ("huge", scaled(random(1, 300), 1e20, 0.0), 1e-6),
        ("tiny", scaled(random(1, 300), 1e-20, 0.0), 1e-6),
        ("tiny, epsilon 0", scaled(random(1, 300), 1e-20, 0.0), 0.0),
    ] {
        let oracle = plain(shape, Over::Group(3), false, epsilon);
        let norm = FilterResponseNorm {
            shape,
            x: &x,
            affine: Affine::default(),
            epsilon: Epsilon {
                fixed: epsilon,
                learned: None,
            },
            ending: Ending::Function(Activation::Identity),
        };
        let mut y = vec![f32::NAN; 300];
        let mut saved = vec![f32::NAN; 6];
        filter_response::forward(norm, &mut y, &mut saved).expect("fits");
        let mut dx = vec![f32::NAN; 300];
        let gradients = FilterResponseGradients {
            dx: Some(&mut dx),
            ..Default::default()
        };
        filter_response::backward(norm, &saved, &dy, gradients).expect("fits");
        for (name, result, expected, tolerance) in [
            ("y", &y, oracle.forward(&x), 1e-6),
            ("dx", &dx, oracle.backward(&x, &dy).dx, 2e-5),
        ] {
            let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
            for (value, expected) in result.iter().zip(&expected) {
                assert!(
                    (*value as f64 - expected).abs() <= tolerance * largest,
                    "{what}: {name} {value}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn equal_values_count_as_the_first_operand() {
    let shape = Shape {
        batch: 1,
        positions: 2,
        channels: 1,
    };
    let norm = FilterResponseNorm {
        shape,
        x: &[0.0, 0.0],
        affine: Affine::default(),
        epsilon: Epsilon {
            fixed: 1e-6,
            learned: None,
        },
        ending: Ending::Threshold(&[0.0]),
    };
    let (mut y, mut saved) = ([f32::NAN; 2], [f32::NAN]);
    filter_response::forward(norm, &mut y, &mut saved).expect("fits");
    assert_eq!(y, [0.0, 0.0]);
    let (mut dbeta, mut dtau) = ([f32::NAN], [f32::NAN]);
    let gradients = FilterResponseGradients {
        dbeta: Some(&mut dbeta),
        dtau: Some(&mut dtau),
        ..Default::default()
    };
    filter_response::backward(norm, &saved, &[1.0, 2.0], gradients).expect("fits");
    assert_eq!((dbeta, dtau), ([3.0], [0.0]));
}

#[test]
fn a_batch_that_is_not_finite_moves_no_running_statistic() {
    let shape = Shape {
        batch: 4,
        positions: 5,
        channels: 2,
    };
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = random(1, 40);
        x[17] = bad;
        let results = run_batch_norm(shape, &x, &random(2, 40), 1e-5);
        assert_eq!(results[1], [1.0, 1.0]);
        assert_eq!(results[2], [1.0, 1.0]);
        assert!(results[0].iter().any(|y| y.is_nan()), "the NaN must show");
    }
}

#[test]
fn one_value_a_channel_moves_the_mean_only() {
    let shape = Shape {
        batch: 1,
        positions: 1,
        channels: 3,
    };
    let results = run_batch_norm(shape, &[1.0, 2.0, 3.0], &[1.0; 3], 1e-5);
    assert_eq!(results[0], [0.0; 3]);
    assert_eq!(results[1], [1.0, 2.0, 3.0]);
    assert_eq!(results[2], [1.0; 3]);
    assert_eq!(results[3], [0.0; 3]);
}

#[test]
fn empty_maps() {
    for (batch, positions, channels) in [(0, 4, 3), (2, 0, 3), (2, 4, 0)] {
        let shape = Shape {
            batch,
            positions,
            channels,
        };
        let results = run_batch_norm(shape, &[], &[], 1e-5);
        assert_eq!(results[1], vec![1.0; channels]);
        let groups = if channels == 0 { 1 } else { channels };
        let mut saved = vec![0.0; 3 * batch * groups];
        let affine = Affine::default();
        group::forward(
            shape,
            groups,
            &[],
            affine,
            1e-5,
            Activation::Relu,
            &mut [],
            &mut saved,
        )
        .expect("fits");
        let (mut dgamma, mut dbeta) = (vec![f32::NAN; channels], vec![f32::NAN; channels]);
        let gradients = AffineGradients {
            dx: Some(&mut []),
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
        };
        group::backward(
            shape,
            groups,
            &[],
            affine,
            Activation::Relu,
            &saved,
            &[],
            gradients,
        )
        .expect("fits");
        assert_eq!(dgamma, vec![0.0; channels]);
        assert_eq!(dbeta, vec![0.0; channels]);
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let shape = Shape {
        batch: 2,
        positions: 3,
        channels: 4,
    };
    let x = [0.0; 24];
    let (mut y, mut saved) = ([0.0; 24], [0.0; 24]);
    let affine = Affine::default();
    let relu = Activation::Relu;
    let mut run = |shape, groups, x: &[f32], affine, epsilon, units: usize| {
        group::forward(
            shape,
            groups,
            x,
            affine,
            epsilon,
            relu,
            &mut y,
            &mut saved[..3 * units],
        )
    };
    assert!(run(shape, 2, &x, affine, 1e-5, 4).is_ok());
    assert!(run(shape, 3, &x, affine, 1e-5, 6).is_err(), "3 groups");
    assert!(run(shape, 0, &x, affine, 1e-5, 0).is_err(), "0 groups");
    assert!(run(shape, 2, &x[1..], affine, 1e-5, 4).is_err(), "x");
    assert!(run(shape, 2, &x, affine, 1e-5, 3).is_err(), "saved");
    assert!(run(shape, 2, &x, affine, -1.0, 4).is_err(), "epsilon");
    assert!(run(shape, 2, &x, affine, f32::NAN, 4).is_err(), "epsilon");
    let short = Affine {
        gamma: Some(&[1.0; 3]),
        beta: None,
    };
    assert!(run(shape, 2, &x, short, 1e-5, 4).is_err(), "gamma");
    let large = Shape {
        batch: usize::MAX,
        ..shape
    };
    assert!(run(large, 2, &x, affine, 1e-5, 4).is_err(), "overflow");
}

#[test]
fn rows_of_hard_inputs() {
    let shape = Shape {
        batch: 2,
        positions: 5,
        channels: 37,
    };
    let dy = random(2, 370);
    let mut zero_epsilon = scaled(random(1, 370), 1e-20, 0.0);
    zero_epsilon[0] = 1e-20;
    for (what, x, epsilon) in [
        ("constant", vec![1e4; 370], 1e-5),
        ("mean far from zero", scaled(random(1, 370), 0.1, 1e4), 1e-5),
        ("huge", scaled(random(1, 370), 1e20, 0.0), 1e-5),
        ("tiny", scaled(random(1, 370), 1e-20, 0.0), 1e-5),
        ("tiny, epsilon 0", zero_epsilon, 0.0),
    ] {
        for centred in [true, false] {
            let oracle = plain(shape, Over::Channels, centred, epsilon);
            let (mut y, mut dx) = (vec![f32::NAN; 370], vec![f32::NAN; 370]);
            let identity = Activation::Identity;
            if centred {
                let mut saved = vec![f32::NAN; 30];
                let affine = Affine::default();
                layer_channels::forward(shape, &x, affine, epsilon, identity, &mut y, &mut saved)
                    .expect("fits");
                let gradients = AffineGradients {
                    dx: Some(&mut dx),
                    ..Default::default()
                };
                layer_channels::backward(shape, &x, affine, identity, &saved, &dy, gradients)
                    .expect("fits");
            } else {
                let mut saved = vec![f32::NAN; 10];
                rms::forward(shape, &x, None, epsilon, identity, &mut y, &mut saved).expect("fits");
                rms::backward(shape, &x, None, identity, &saved, &dy, Some(&mut dx), None)
                    .expect("fits");
            }
            for (name, result, expected, tolerance) in [
                ("y", &y, oracle.forward(&x), 1e-6),
                ("dx", &dx, oracle.backward(&x, &dy).dx, 5e-5),
            ] {
                let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (value, expected) in result.iter().zip(&expected) {
                    assert!(
                        (*value as f64 - expected).abs() <= tolerance * largest,
                        "{what}, centred {centred}: {name} {value}, expected {expected} ({largest})"
                    );
                }
            }
        }
    }
}
