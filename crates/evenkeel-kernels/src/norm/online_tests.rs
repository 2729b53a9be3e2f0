use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const EPSILON: f32 = 1e-3;
const KEEP: f64 = 0.875;
const GRADIENT_KEEP: f64 = 0.75;

/// What runs from sample to sample: mean, variance, output control, mean control.
type States = [Vec<f32>; 4];

fn fresh(channels: usize) -> States {
    [
        vec![0.25; channels],
        vec![1.5; channels],
        vec![0.125; channels],
        vec![-0.5; channels],
    ]
}

/// x, gamma, beta and the gradient of y.
fn inputs(shape: Shape) -> [Vec<f32>; 4] {
    let elements = shape.elements().unwrap();
    [
        coarse_values(elements, 1),
        coarse_values(shape.channels, 2),
        coarse_values(shape.channels, 3),
        coarse_values(elements, 4),
    ]
}

fn norm<'a>(shape: Shape, inputs: &'a [Vec<f32>; 4], layer_scaling: bool) -> OnlineNorm<'a> {
    OnlineNorm {
        shape,
        x: &inputs[0],
        affine: Affine {
            gamma: Some(&inputs[1]),
            beta: Some(&inputs[2]),
        },
        epsilon: EPSILON,
        layer_scaling,
        activation: Activation::Silu,
    }
}

/// y, dx, dgamma, dbeta, and the states behind the batch.
fn run(
    shape: Shape,
    inputs: &[Vec<f32>; 4],
    states: &States,
    layer_scaling: bool,
) -> Vec<Vec<f32>> {
    let norm = norm(shape, inputs, layer_scaling);
    let [mut mean, mut variance, mut output, mut sum] = states.clone();
    let mut y = vec![f32::NAN; inputs[0].len()];
    let mut saved = vec![f32::NAN; OnlineNorm::saved_length(shape).unwrap()];
    let running = Running {
        first: &mut mean,
        second: &mut variance,
        keep: KEEP,
    };
    forward(norm, running, &mut y, &mut saved).unwrap();
    let mut dx = vec![f32::NAN; y.len()];
    let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![f32::NAN; shape.channels]);
    let controls = Running {
        first: &mut output,
        second: &mut sum,
        keep: GRADIENT_KEEP,
    };
    let gradients = AffineGradients {
        dx: Some(&mut dx),
        dgamma: Some(&mut dgamma),
        dbeta: Some(&mut dbeta),
    };
    backward(norm, &saved, &inputs[3], controls, gradients).unwrap();
    vec![y, dx, dgamma, dbeta, mean, variance, output, sum]
}

/// The same from the equations, sample by sample in f64.
fn oracle(
    shape: Shape,
    inputs: &[Vec<f32>; 4],
    states: &States,
    layer_scaling: bool,
) -> Vec<Vec<f64>> {
    let wide = |values: &Vec<f32>| values.iter().copied().map(f64::from).collect::<Vec<f64>>();
    let [x, gamma, beta, dy] = inputs.each_ref().map(wide);
    let [mut mean, mut variance, mut output, mut sum] = states.each_ref().map(wide);
    let epsilon = f64::from(EPSILON);
    let (channels, positions) = (shape.channels, shape.positions);
    let elements = positions * channels;
    let [mut y, mut dx] = [0, 1].map(|_| vec![0.0; x.len()]);
    let [mut dgamma, mut dbeta] = [0, 1].map(|_| vec![0.0; channels]);
    for sample in 0..shape.batch {
        let own = sample * elements..(sample + 1) * elements;
        let (x, dy) = (&x[own.clone()], &dy[own.clone()]);
        let (y, dx) = (&mut y[own.clone()], &mut dx[own]);
        let average = |channel: usize, value: &dyn Fn(usize) -> f64| {
            let places = (0..positions).map(|row| row * channels + channel);
            places.map(value).sum::<f64>() / positions as f64
        };
        let deviations: Vec<f64> = variance.iter().map(|v| (v + epsilon).sqrt()).collect();
        let n: Vec<f64> = (0..elements)
            .map(|at| (x[at] - mean[at % channels]) / deviations[at % channels])
            .collect();
        let z: Vec<f64> = (0..elements)
            .map(|at| n[at] * gamma[at % channels] + beta[at % channels])
            .collect();
        let square = z.iter().map(|z| z * z).sum::<f64>() / elements as f64;
        let scale = if layer_scaling {
            1.0 / (square + epsilon).sqrt()
        } else {
            1.0
        };
        let mut dw = vec![0.0; elements];
        for at in 0..elements {
            let w = scale * z[at];
            let gate = 1.0 / (1.0 + (-w).exp());
            y[at] = w * gate;
            dw[at] = dy[at] * gate * (1.0 + w * (1.0 - gate));
        }
        let along = (0..elements).map(|at| dw[at] * scale * z[at]).sum::<f64>() / elements as f64;
        for channel in 0..channels {
            let dz = |at: usize| {
                let part = if layer_scaling {
                    along * scale * z[at]
                } else {
                    0.0
                };
                scale * (dw[at] - part)
            };
            dbeta[channel] += average(channel, &dz) * positions as f64;
            dgamma[channel] += average(channel, &|at| dz(at) * n[at]) * positions as f64;
            let control = 1.0 - GRADIENT_KEEP;
            let a = |at: usize| gamma[channel] * dz(at) - control * output[channel] * n[at];
            let d = |at: usize| a(at) / deviations[channel] - control * sum[channel];
            for row in 0..positions {
                let at = row * channels + channel;
                dx[at] = d(at);
            }
            let moves = (average(channel, &|at| a(at) * n[at]), average(channel, &d));
            output[channel] += moves.0;
            sum[channel] += moves.1;
            let middle = average(channel, &|at| x[at]);
            let spread = average(channel, &|at| (x[at] - middle) * (x[at] - middle));
            let distance = middle - mean[channel];
            variance[channel] = KEEP * variance[channel]
                + (1.0 - KEEP) * spread
                + KEEP * (1.0 - KEEP) * distance * distance;
            mean[channel] += (1.0 - KEEP) * distance;
        }
    }
    vec![y, dx, dgamma, dbeta, mean, variance, output, sum]
}

const NAMES: [&str; 8] = [
    "y",
    "dx",
    "dgamma",
    "dbeta",
    "mean",
    "variance",
    "output control",
    "mean control",
];

/// Asserts that results agree, relative to the largest value of each.
fn assert_near(actual: &[Vec<f32>], expected: &[Vec<f64>], bound: f64, what: &str) {
    for ((actual, expected), name) in actual.iter().zip(expected).zip(NAMES) {
        let largest = expected
            .iter()
            .fold(1e-30, |most: f64, v| most.max(v.abs()));
        for (at, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
            let error = (f64::from(actual) - expected).abs() / largest;
            assert!(
                error <= bound,
                "{what}: {name}[{at}] is {actual}, expected {expected} ({error:.1e})"
            );
        }
    }
}

const SHAPES: [(usize, usize, usize); 10] = [
    (1, 9, 1),
    (3, 12, 3),
    (2, 50, 7),
    (4, 1, 16),
    (3, 25, 17),
    (33, 4, 33),
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
            let (inputs, states) = (inputs(shape), fresh(channels));
            for layer_scaling in [false, true] {
                let actual = run(shape, &inputs, &states, layer_scaling);
                let expected = oracle(shape, &inputs, &states, layer_scaling);
                let what = format!("{shape:?}, layer scaling {layer_scaling}");
                assert_near(&actual, &expected, 1e-5, &what);
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
    assert_same_bits_at_any_thread_count(|| run(shape, &inputs, &fresh(33), true));
}

#[test]
fn values_far_from_zero_keep_their_digits() {
    let shape = Shape {
        batch: 3,
        positions: 300,
        channels: 3,
    };
    let mut inputs = inputs(shape);
    inputs[0].iter_mut().for_each(|x| *x += 65_536.0);
    let mut states = fresh(3);
    states[0].fill(65_536.25);
    let actual = run(shape, &inputs, &states, true);
    let expected = oracle(shape, &inputs, &states, true);
    assert_near(&actual, &expected, 1e-5, "an offset of 65536");
}

#[test]
fn large_values_stay_finite() {
    let shape = Shape {
        batch: 2,
        positions: 30,
        channels: 3,
    };
    let mut inputs = inputs(shape);
    inputs[0].iter_mut().for_each(|x| *x *= 1e17);
    let mut states = fresh(3);
    states[1].fill(1e35);
    let actual = run(shape, &inputs, &states, true);
    let expected = oracle(shape, &inputs, &states, true);
    assert_near(&actual, &expected, 1e-5, "values of 1e18");
}

#[test]
fn nothing_moves_with_a_batch_that_is_not_finite() {
    let shape = Shape {
        batch: 2,
        positions: 4,
        channels: 2,
    };
    let states = fresh(2);
    for bad in [f32::NAN, f32::INFINITY] {
        let mut inputs = inputs(shape);
        inputs[0][3] = bad;
        let actual = run(shape, &inputs, &states, true);
        for (now, before) in actual[4..].iter().zip(&states) {
            assert_eq!(now, before);
        }
    }
}

#[test]
fn misfits_are_refused() {
    let shape = Shape {
        batch: 1,
        positions: 2,
        channels: 4,
    };
    let inputs = inputs(shape);
    let length = OnlineNorm::saved_length(shape).unwrap();
    let attempt = |channels: usize, keep: f64, epsilon: f32, saved: usize| {
        let norm = OnlineNorm {
            epsilon,
            ..norm(shape, &inputs, true)
        };
        let running = Running {
            first: &mut vec![0.0; channels],
            second: &mut vec![1.0; channels],
            keep,
        };
        forward(norm, running, &mut [0.0; 8], &mut vec![0.0; saved])
    };
    assert!(attempt(4, 0.5, 1e-5, length).is_ok());
    assert!(attempt(3, 0.5, 1e-5, length).is_err());
    assert!(attempt(4, 1.5, 1e-5, length).is_err());
    assert!(attempt(4, f64::NAN, 1e-5, length).is_err());
    assert!(attempt(4, 0.5, -1.0, length).is_err());
    assert!(attempt(4, 0.5, 1e-5, length - 1).is_err());
}
