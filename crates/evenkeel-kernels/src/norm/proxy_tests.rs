use super::*;
use crate::testing::{
    assert_same_bits_at_any_thread_count, at_every_level, coarse_values, same_bits,
};

const EPSILON: f32 = 1e-3;
const PROXY_EPSILON: f32 = 0.03;
const NODES: [f32; 9] = [-1.6, -1.0, -0.6, -0.3, 0.0, 0.3, 0.6, 1.0, 1.6];

/// Gamma, beta, proxy gamma, proxy beta, small enough that the gradients' terms do not cancel.
fn parameters(channels: usize) -> [Vec<f32>; 4] {
    [11, 12, 13, 14].map(|seed| {
        let values = coarse_values(channels, seed).into_iter();
        values.map(|value| value / 8.0).collect()
    })
}

/// Statistics, `y`, `dx` and the gradients of the four parameters.
fn run(shape: Shape, groups: usize, x: &[f32], activation: Activation) -> Vec<Vec<f32>> {
    let channels = shape.channels;
    let own = parameters(channels);
    let proxy = Proxy {
        gamma: &own[0],
        beta: &own[1],
        proxy_gamma: &own[2],
        proxy_beta: &own[3],
        activation,
    };
    let mut constants = vec![f32::NAN; STATISTICS * channels];
    statistics(proxy, &NODES, PROXY_EPSILON, &mut constants).unwrap();
    let norm = ProxyNorm {
        shape,
        groups,
        x,
        proxy,
        statistics: &constants,
    };
    let mut y = vec![f32::NAN; x.len()];
    let mut saved = vec![f32::NAN; 3 * shape.batch * groups];
    forward(norm, EPSILON, &mut y, &mut saved).unwrap();
    let mut dx = vec![f32::NAN; x.len()];
    let mut gradients = [(); 4].map(|()| vec![f32::NAN; channels]);
    let [dgamma, dbeta, dproxy_gamma, dproxy_beta] = &mut gradients;
    let dy = coarse_values(x.len(), 15);
    backward(
        norm,
        &saved,
        &dy,
        ProxyGradients {
            dx: Some(&mut dx),
            dgamma: Some(dgamma),
            dbeta: Some(dbeta),
            dproxy_gamma: Some(dproxy_gamma),
            dproxy_beta: Some(dproxy_beta),
        },
    )
    .unwrap();
    constants.truncate(2 * channels);
    [constants, y, dx].into_iter().chain(gradients).collect()
}

/// The equations of the paper and their derivatives, in f64 and without thinking of speed.
fn oracle(shape: Shape, groups: usize, x: &[f32], activation: Activation) -> Vec<Vec<f64>> {
    let Shape {
        batch,
        positions,
        channels,
    } = shape;
    let own =
        parameters(channels).map(|values| values.into_iter().map(f64::from).collect::<Vec<_>>());
    let [gamma, beta, proxy_gamma, proxy_beta] = &own;
    let dy: Vec<f64> = coarse_values(x.len(), 15)
        .into_iter()
        .map(f64::from)
        .collect();
    let nodes = NODES.map(f64::from);
    let count = nodes.len() as f64;
    let at = |channel: usize, node: f64| {
        let p = (1.0 + proxy_gamma[channel]) * node + proxy_beta[channel];
        (p, gamma[channel] * p + beta[channel])
    };
    let mut constants = vec![0.0; 2 * channels];
    for channel in 0..channels {
        let values = nodes.map(|node| activation.value(at(channel, node).1));
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|a| (a - mean).powi(2)).sum::<f64>() / count;
        constants[channel] = mean;
        constants[channels + channel] = 1.0 / (variance + f64::from(PROXY_EPSILON)).sqrt();
    }
    let size = channels / groups;
    let (mut y, mut dx) = (vec![0.0; x.len()], vec![0.0; x.len()]);
    let mut parameters = [(); 4].map(|()| vec![0.0; channels]);
    let (mut plain, mut along) = (vec![0.0; channels], vec![0.0; channels]);
    for sample in 0..batch {
        for group in 0..groups {
            let unit: Vec<(usize, usize)> = (0..positions)
                .flat_map(|position| {
                    (group * size..(group + 1) * size).map(move |channel| {
                        (
                            (sample * positions + position) * channels + channel,
                            channel,
                        )
                    })
                })
                .collect();
            let length = unit.len() as f64;
            let mean = unit.iter().map(|&(i, _)| f64::from(x[i])).sum::<f64>() / length;
            let variance = unit
                .iter()
                .map(|&(i, _)| (f64::from(x[i]) - mean).powi(2))
                .sum::<f64>()
                / length;
            let inverse = 1.0 / (variance + f64::from(EPSILON)).sqrt();
            let mut sums = [0.0; 2];
            let mut inner = Vec::new();
            for &(index, channel) in &unit {
                let normalized = (f64::from(x[index]) - mean) * inverse;
                let z = gamma[channel] * normalized + beta[channel];
                let scale = constants[channels + channel];
                y[index] = (activation.value(z) - constants[channel]) * scale;
                let dz = dy[index] * scale * activation.slope(z);
                plain[channel] += dy[index];
                along[channel] += dy[index] * y[index];
                parameters[0][channel] += dz * normalized;
                parameters[1][channel] += dz;
                let outer = dz * gamma[channel];
                sums[0] += outer / length;
                sums[1] += outer * normalized / length;
                inner.push((index, normalized, outer));
            }
            for (index, normalized, outer) in inner {
                dx[index] = inverse * (outer - sums[0] - normalized * sums[1]);
            }
        }
    }
    for channel in 0..channels {
        let (mean, scale) = (constants[channel], constants[channels + channel]);
        let (dm, ds) = (
            -scale * plain[channel],
            -0.5 * scale * scale * along[channel],
        );
        for node in nodes {
            let (p, v) = at(channel, node);
            let da = dm / count + ds * 2.0 / count * (activation.value(v) - mean);
            let dv = da * activation.slope(v);
            parameters[0][channel] += dv * p;
            parameters[1][channel] += dv;
            parameters[2][channel] += dv * gamma[channel] * node;
            parameters[3][channel] += dv * gamma[channel];
        }
    }
    [constants, y, dx].into_iter().chain(parameters).collect()
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

/// Compares everything with the equations, at every activation.
fn check(shape: Shape, groups: usize, x: &[f32], bound: f64) {
    for activation in [
        Activation::Identity,
        Activation::Relu,
        Activation::LeakyRelu { slope: 0.25 },
        Activation::Silu,
        Activation::Gelu,
    ] {
        let actual = run(shape, groups, x, activation);
        let expected = oracle(shape, groups, x, activation);
        for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
            // The sums of parameters may cancel.
            let terms = if index < 3 {
                1
            } else {
                shape.batch * shape.positions
            };
            let least = terms as f64;
            let largest = expected.iter().fold(least, |most, v| most.max(v.abs()));
            for (actual, expected) in actual.iter().zip(expected) {
                assert!(
                    (f64::from(*actual) - expected).abs() <= bound * largest,
                    "result {index} of {shape:?}, {activation:?}: {actual}, expected {expected}"
                );
            }
        }
    }
}

#[test]
fn follows_the_equations_at_every_level() {
    at_every_level(|| {
        for (batch, positions, channels, groups) in SHAPES {
            let shape = Shape {
                batch,
                positions,
                channels,
            };
            let x = coarse_values(shape.elements().unwrap(), 10);
            check(shape, groups, &x, 2e-5);
        }
    });
}

#[test]
fn inputs_far_from_zero_keep_their_digits() {
    // The deviation of the coarse values.
    const DEVIATION: f32 = 4.62;
    at_every_level(|| {
        for (batch, positions, channels, groups) in SHAPES {
            let shape = Shape {
                batch,
                positions,
                channels,
            };
            for offset in [1e3 * DEVIATION, -1e4 * DEVIATION] {
                let values = coarse_values(shape.elements().unwrap(), 10).into_iter();
                // A factor that leaves no value with zeros at its end.
                let x: Vec<f32> = values.map(|value| 0.997_3 * value + offset).collect();
                check(shape, groups, &x, 2e-5);
            }
        }
    });
}

#[test]
fn a_large_offset_leaves_the_variance_its_digits() {
    let nodes: Vec<f32> = (0..200).map(|i| (i as f32 - 99.5) / 58.0).collect();
    let variance = nodes.iter().map(|q| f64::from(*q).powi(2)).sum::<f64>() / 200.0;
    let proxy = Proxy {
        gamma: &[1.0],
        beta: &[200.0],
        proxy_gamma: &[0.0],
        proxy_beta: &[0.0],
        activation: Activation::Relu,
    };
    let mut constants = [0.0; STATISTICS];
    statistics(proxy, &nodes, 0.0, &mut constants).unwrap();
    assert_eq!(constants[0], 200.0);
    assert!((f64::from(constants[1]).powi(-2) / variance - 1.0).abs() < 1e-5);
}

#[test]
fn a_proxy_without_deviation_gives_numbers_also_with_epsilon_0() {
    let proxy = Proxy {
        gamma: &[1.0],
        beta: &[-100.0],
        proxy_gamma: &[0.0],
        proxy_beta: &[0.0],
        activation: Activation::Relu,
    };
    let mut constants = [f32::NAN; STATISTICS];
    statistics(proxy, &NODES, 0.0, &mut constants).unwrap();
    let norm = ProxyNorm {
        shape: Shape {
            batch: 1,
            positions: 4,
            channels: 1,
        },
        groups: 1,
        x: &[1.0, 2.0, 3.0, 4.0],
        proxy,
        statistics: &constants,
    };
    let (mut y, mut saved) = ([f32::NAN; 4], [f32::NAN; 3]);
    forward(norm, EPSILON, &mut y, &mut saved).unwrap();
    assert_eq!(y, [0.0; 4]);
    let mut dx = [f32::NAN; 4];
    let mut others = [[f32::NAN]; 4];
    let [dgamma, dbeta, dproxy_gamma, dproxy_beta] = &mut others;
    let gradients = ProxyGradients {
        dx: Some(&mut dx),
        dgamma: Some(dgamma),
        dbeta: Some(dbeta),
        dproxy_gamma: Some(dproxy_gamma),
        dproxy_beta: Some(dproxy_beta),
    };
    backward(norm, &saved, &[1.0; 4], gradients).unwrap();
    assert_eq!((dx, others), ([0.0; 4], [[0.0]; 4]));
}

#[test]
fn a_sample_has_the_same_bits_alone_and_in_a_batch() {
    at_every_level(|| {
        for (positions, channels) in [(25, 17), (4000, 16), (1, 64)] {
            let shape = |batch| Shape {
                batch,
                positions,
                channels,
            };
            let x = coarse_values(3 * positions * channels, 10);
            let sample = positions * channels;
            let whole = run(shape(3), 1, &x, Activation::Silu);
            let alone = run(shape(1), 1, &x[sample..2 * sample], Activation::Silu);
            assert!(same_bits(&whole[1][sample..2 * sample], &alone[1]));
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
    let x = coarse_values(shape.elements().unwrap(), 10);
    assert_same_bits_at_any_thread_count(|| run(shape, 3, &x, Activation::Relu));
}

#[test]
fn misfits_are_refused() {
    let proxy = |channels| Proxy {
        gamma: &[1.0; 4][..channels],
        beta: &[0.0; 4],
        proxy_gamma: &[0.0; 4],
        proxy_beta: &[0.0; 4],
        activation: Activation::Relu,
    };
    let check = |channels, nodes, epsilon, length: usize| {
        statistics(proxy(channels), nodes, epsilon, &mut vec![0.0; length])
    };
    assert!(check(4, &NODES, 0.03, 24).is_ok());
    assert!(check(4, &NODES, 0.03, 23).is_err());
    assert!(check(3, &NODES, 0.03, 18).is_err());
    assert!(check(4, &NODES, f32::NAN, 24).is_err());
    assert!(check(4, &[], 0.03, 24).is_err());
    let norm = |groups, statistics| ProxyNorm {
        shape: Shape {
            batch: 1,
            positions: 2,
            channels: 4,
        },
        groups,
        x: &[0.0; 8],
        proxy: proxy(4),
        statistics,
    };
    let pass = |groups, statistics, saved: usize| {
        forward(
            norm(groups, statistics),
            1e-3,
            &mut [0.0; 8],
            &mut vec![0.0; saved],
        )
    };
    assert!(pass(2, &[1.0; 24], 6).is_ok());
    assert!(pass(3, &[1.0; 24], 9).is_err());
    assert!(pass(2, &[1.0; 8], 6).is_err());
    assert!(pass(2, &[1.0; 24], 5).is_err());
    let short = ProxyGradients {
        dproxy_beta: Some(&mut [0.0; 3]),
        ..Default::default()
    };
    assert!(backward(norm(2, &[1.0; 24]), &[0.0; 6], &[0.0; 8], short).is_err());
}
