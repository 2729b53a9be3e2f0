//! Every normalization kernel against plain f64 loops, on every instruction set of this machine, with the same bits on 1, 2 and 3
//! threads. A test binary of its own, because it forces instruction sets.

mod hard;
mod oracle;

use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::isa::{Level, force_level};
use evenkeel_kernels::norm::batch::{self, BatchNorm, RunningStatistics};
use evenkeel_kernels::norm::filter_response::{
    self, Ending, Epsilon, EpsilonForm, FilterResponseGradients, FilterResponseNorm,
};
use evenkeel_kernels::norm::{Affine, AffineGradients, Shape, group, layer_channels, rms};
use oracle::{Norm, Over};
use std::sync::Mutex;

static LEVEL: Mutex<()> = Mutex::new(());

/// A result by name, with the largest error allowed relative to the largest magnitude expected.
struct Expected {
    name: &'static str,
    values: Vec<f64>,
    tolerance: f64,
}

fn expect(name: &'static str, values: Vec<f64>, tolerance: f64) -> Expected {
    Expected {
        name,
        values,
        tolerance,
    }
}

/// Runs `run` at every level with 1, 2 and 3 threads, and compares bits across threads and values with `expected`.
fn check(what: &str, expected: &[Expected], run: impl Fn() -> Vec<Vec<f32>> + Sync) {
    let _guard = LEVEL
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    for level in Level::available() {
        assert!(force_level(level));
        let mut first: Option<Vec<Vec<u32>>> = None;
        for threads in [1, 2, 3] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            let results = pool.install(&run);
            let bits: Vec<Vec<u32>> = results
                .iter()
                .map(|result| result.iter().map(|value| value.to_bits()).collect())
                .collect();
            match &first {
                None => first = Some(bits),
                Some(first) => assert!(
                    first == &bits,
                    "{what}, {}: {threads} threads gave other bits than 1",
                    level.name()
                ),
            }
            if threads > 1 {
                continue;
            }
            assert_eq!(results.len(), expected.len());
            for (result, expected) in results.iter().zip(expected) {
                let name = expected.name;
                assert_eq!(result.len(), expected.values.len(), "{what}: {name}");
                let largest = expected.values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
                for (index, (value, wanted)) in result.iter().zip(&expected.values).enumerate() {
                    let error = (*value as f64 - wanted).abs();
                    assert!(
                        error <= expected.tolerance * largest,
                        "{what}, {}: {name}[{index}] is {value}, expected {wanted} (largest {largest:e})",
                        level.name()
                    );
                }
            }
        }
    }
}

/// Numbers between -1 and 1 with a bell's shape, the same on every run.
fn random(seed: u64, length: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(12345);
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    next();
    (0..length).map(|_| next() + next() + next()).collect()
}

fn scaled(values: Vec<f32>, scale: f32, shift: f32) -> Vec<f32> {
    values.into_iter().map(|x| x * scale + shift).collect()
}

fn shapes() -> Vec<Shape> {
    let mut shapes = vec![];
    for channels in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65] {
        for (batch, positions) in [(2, 12), (1, 49), (3, 1), (1, 300)] {
            shapes.push((batch, positions, channels));
        }
    }
    // Several pieces, several threads, folded and not.
    shapes.extend([
        (1, 3000, 64),
        (2, 1300, 65),
        (5, 4097, 17),
        (3, 50_000, 1),
        (4, 333, 130),
    ]);
    shapes
        .into_iter()
        .map(|(batch, positions, channels)| Shape {
            batch,
            positions,
            channels,
        })
        .collect()
}

const FORWARD: f64 = 1e-6;
const BACKWARD: f64 = 2e-5;

/// Inputs and parameters for a shape.
struct Data {
    x: Vec<f32>,
    dy: Vec<f32>,
    residual: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    tau: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
}

fn data(shape: Shape) -> Data {
    let elements = shape.elements().expect("a small shape");
    let channels = shape.channels;
    let spread = |seed, scale, shift| scaled(random(seed, channels), scale, shift);
    Data {
        x: scaled(random(1, elements), 3.0, 0.7),
        dy: random(2, elements),
        residual: random(3, elements),
        gamma: spread(4, 0.5, 1.0),
        beta: spread(5, 0.5, 0.0),
        tau: spread(6, 0.5, -0.1),
        mean: spread(7, 0.5, 0.5),
        variance: spread(8, 0.5, 2.0),
    }
}

fn affine(data: &Data) -> Affine<'_> {
    Affine {
        gamma: Some(&data.gamma),
        beta: Some(&data.beta),
    }
}

fn norm(shape: Shape, over: Over, data: &Data, activation: Activation, epsilon: f32) -> Norm {
    Norm {
        shape,
        over,
        centred: true,
        epsilon: epsilon as f64,
        activation,
        gamma: data.gamma.clone(),
        beta: data.beta.clone(),
        tau: None,
        residual: None,
        given: None,
    }
}

#[test]
fn batch_norm_training() {
    for shape in shapes() {
        let data = data(shape);
        let many = shape.batch * shape.positions > 200;
        for (activation, with_residual) in [
            (Activation::Identity, false),
            (Activation::Relu, false),
            (Activation::Relu, true),
            (Activation::Tanh, true),
        ] {
            if many && with_residual != (shape.channels % 2 == 1) {
                continue;
            }
            let mut expected = norm(shape, Over::Batch, &data, activation, 1e-5);
            expected.residual = with_residual.then(|| data.residual.clone());
            let gradients = expected.backward(&data.x, &data.dy);
            let statistics = expected.statistics(&data.x);
            let blend = |old: f32, new: f64| 0.9 * old as f64 + 0.1 * new;
            let running_mean = data
                .mean
                .iter()
                .zip(&statistics)
                .map(|(&old, s)| blend(old, s.0))
                .collect();
            let running_variance = data
                .variance
                .iter()
                .zip(&statistics)
                .map(|(&old, s)| blend(old, s.1 * s.2 / (s.2 - 1.0)))
                .collect();
            let what = format!("batch norm {shape:?} {activation:?} residual {with_residual}");
            let expected = [
                expect("y", expected.forward(&data.x), FORWARD),
                expect("running mean", running_mean, FORWARD),
                expect("running variance", running_variance, FORWARD),
                expect("dx", gradients.dx, BACKWARD),
                expect("dgamma", gradients.dgamma, BACKWARD),
                expect("dbeta", gradients.dbeta, BACKWARD),
                expect(
                    "dresidual",
                    if with_residual {
                        gradients.dresidual
                    } else {
                        vec![]
                    },
                    BACKWARD,
                ),
            ];
            check(&what, &expected, || {
                let norm = BatchNorm {
                    shape,
                    x: &data.x,
                    affine: affine(&data),
                    residual: with_residual.then_some(&data.residual[..]),
                    activation,
                };
                let (mut mean, mut variance) = (data.mean.clone(), data.variance.clone());
                let running = RunningStatistics {
                    mean: &mut mean,
                    variance: &mut variance,
                    momentum: 0.1,
                };
                let mut y = vec![f32::NAN; data.x.len()];
                let mut saved = vec![f32::NAN; 3 * shape.channels];
                batch::forward_training(norm, 1e-5, Some(running), &mut y, &mut saved)
                    .expect("fits");
                let mut dx = vec![f32::NAN; data.x.len()];
                let mut dgamma = vec![f32::NAN; shape.channels];
                let mut dbeta = vec![f32::NAN; shape.channels];
                let mut dresidual = vec![f32::NAN; if with_residual { data.x.len() } else { 0 }];
                let gradients = AffineGradients {
                    dx: Some(&mut dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                };
                batch::backward_training(
                    norm,
                    &saved,
                    &data.dy,
                    gradients,
                    with_residual.then_some(&mut dresidual[..]),
                )
                .expect("fits");
                vec![y, mean, variance, dx, dgamma, dbeta, dresidual]
            });
        }
    }
}

#[test]
fn batch_norm_inference() {
    for shape in shapes() {
        let data = data(shape);
        let mut expected = norm(shape, Over::Batch, &data, Activation::Relu, 1e-5);
        expected.residual = Some(data.residual.clone());
        expected.given = Some((data.mean.clone(), data.variance.clone()));
        let gradients = expected.backward(&data.x, &data.dy);
        let expected = [
            expect("y", expected.forward(&data.x), FORWARD),
            expect("dx", gradients.dx, BACKWARD),
            expect("dgamma", gradients.dgamma, BACKWARD),
            expect("dbeta", gradients.dbeta, BACKWARD),
            expect("dresidual", gradients.dresidual, BACKWARD),
        ];
        check(&format!("batch norm, given {shape:?}"), &expected, || {
            let norm = BatchNorm {
                shape,
                x: &data.x,
                affine: affine(&data),
                residual: Some(&data.residual),
                activation: Activation::Relu,
            };
            let (mean, variance) = (&data.mean[..], &data.variance[..]);
            let mut y = vec![f32::NAN; data.x.len()];
            batch::forward_inference(norm, mean, variance, 1e-5, &mut y).expect("fits");
            let mut dx = vec![f32::NAN; data.x.len()];
            let mut dresidual = dx.clone();
            let mut dgamma = vec![f32::NAN; shape.channels];
            let mut dbeta = vec![f32::NAN; shape.channels];
            let gradients = AffineGradients {
                dx: Some(&mut dx),
                dgamma: Some(&mut dgamma),
                dbeta: Some(&mut dbeta),
            };
            batch::backward_inference(
                norm,
                mean,
                variance,
                1e-5,
                &data.dy,
                gradients,
                Some(&mut dresidual),
            )
            .expect("fits");
            vec![y, dx, dgamma, dbeta, dresidual]
        });
    }
}

#[test]
fn group_norm() {
    for shape in shapes() {
        let data = data(shape);
        let channels = shape.channels;
        let choices = [1, 2, 3, 4, 5, channels];
        for groups in choices.into_iter().filter(|g| channels.is_multiple_of(*g)) {
            if channels / groups * shape.positions < 2 {
                continue;
            }
            let activation = if groups == 1 {
                Activation::Silu
            } else {
                Activation::Relu
            };
            let expected = norm(shape, Over::Group(groups), &data, activation, 1e-5);
            let gradients = expected.backward(&data.x, &data.dy);
            let expected = [
                expect("y", expected.forward(&data.x), FORWARD),
                expect("dx", gradients.dx, BACKWARD),
                expect("dgamma", gradients.dgamma, BACKWARD),
                expect("dbeta", gradients.dbeta, BACKWARD),
            ];
            check(&format!("group norm {shape:?} {groups}"), &expected, || {
                let mut y = vec![f32::NAN; data.x.len()];
                let mut saved = vec![f32::NAN; 3 * shape.batch * groups];
                group::forward(
                    shape,
                    groups,
                    &data.x,
                    affine(&data),
                    1e-5,
                    activation,
                    &mut y,
                    &mut saved,
                )
                .expect("fits");
                let mut dx = vec![f32::NAN; data.x.len()];
                let mut dgamma = vec![f32::NAN; channels];
                let mut dbeta = vec![f32::NAN; channels];
                let gradients = AffineGradients {
                    dx: Some(&mut dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                };
                group::backward(
                    shape,
                    groups,
                    &data.x,
                    affine(&data),
                    activation,
                    &saved,
                    &data.dy,
                    gradients,
                )
                .expect("fits");
                vec![y, dx, dgamma, dbeta]
            });
        }
    }
}

#[test]
fn filter_response_norm() {
    for shape in shapes() {
        let mut data = data(shape);
        for (index, learned) in [
            None,
            Some((EpsilonForm::Absolute, -1e-4)),
            Some((EpsilonForm::Exponential, -5.0)),
        ]
        .into_iter()
        .enumerate()
        {
            let epsilon = Epsilon {
                fixed: 1e-6,
                learned,
            };
            if learned.is_some() {
                data.x = scaled(random(9, data.x.len()), 0.05, 0.0);
            }
            let with_tau = index < 2;
            let (sum, derivative) = match learned {
                None => (1e-6, 0.0),
                Some((EpsilonForm::Absolute, e)) => (1e-6 + e.abs() as f64, -1.0),
                Some((EpsilonForm::Exponential, e)) => (1e-6 + (e as f64).exp(), (e as f64).exp()),
            };
            let mut expected = norm(
                shape,
                Over::Group(shape.channels),
                &data,
                Activation::Silu,
                0.0,
            );
            expected.centred = false;
            expected.epsilon = sum + 1e-6f32 as f64 - 1e-6;
            expected.tau = with_tau.then(|| data.tau.clone());
            let gradients = expected.backward(&data.x, &data.dy);
            let expected = [
                expect("y", expected.forward(&data.x), FORWARD),
                expect("dx", gradients.dx, BACKWARD),
                expect("dgamma", gradients.dgamma, BACKWARD),
                expect("dbeta", gradients.dbeta, BACKWARD),
                expect(
                    "dtau",
                    if with_tau { gradients.dtau } else { vec![] },
                    BACKWARD,
                ),
                expect("depsilon", vec![gradients.depsilon * derivative], 1e-4),
            ];
            let what = format!("filter response norm {shape:?} {epsilon:?}");
            check(&what, &expected, || {
                let norm = FilterResponseNorm {
                    shape,
                    x: &data.x,
                    affine: affine(&data),
                    epsilon,
                    ending: if with_tau {
                        Ending::Threshold(&data.tau)
                    } else {
                        Ending::Function(Activation::Silu)
                    },
                };
                let mut y = vec![f32::NAN; data.x.len()];
                let mut saved = vec![f32::NAN; shape.batch * shape.channels];
                filter_response::forward(norm, &mut y, &mut saved).expect("fits");
                let mut dx = vec![f32::NAN; data.x.len()];
                let mut dgamma = vec![f32::NAN; shape.channels];
                let mut dbeta = vec![f32::NAN; shape.channels];
                let mut dtau = vec![f32::NAN; if with_tau { shape.channels } else { 0 }];
                let mut depsilon = 0.0;
                let gradients = FilterResponseGradients {
                    dx: Some(&mut dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                    dtau: with_tau.then_some(&mut dtau[..]),
                    depsilon: learned.is_some().then_some(&mut depsilon),
                };
                filter_response::backward(norm, &saved, &data.dy, gradients).expect("fits");
                vec![y, dx, dgamma, dbeta, dtau, vec![depsilon]]
            });
        }
    }
}

#[test]
fn over_channels() {
    for shape in shapes() {
        let mut data = data(shape);
        let rows = shape.batch * shape.positions;
        for activation in [Activation::Relu, Activation::Identity, Activation::Tanh] {
            if shape.channels > 1 {
                let expected = norm(shape, Over::Channels, &data, activation, 1e-5);
                let gradients = expected.backward(&data.x, &data.dy);
                let expected = [
                    expect("y", expected.forward(&data.x), FORWARD),
                    expect("dx", gradients.dx, BACKWARD),
                    expect("dgamma", gradients.dgamma, BACKWARD),
                    expect("dbeta", gradients.dbeta, BACKWARD),
                ];
                check(
                    &format!("layer norm {shape:?} {activation:?}"),
                    &expected,
                    || {
                        let mut y = vec![f32::NAN; data.x.len()];
                        let mut saved = vec![f32::NAN; 3 * rows];
                        let affine = affine(&data);
                        layer_channels::forward(
                            shape, &data.x, affine, 1e-5, activation, &mut y, &mut saved,
                        )
                        .expect("fits");
                        let mut dx = vec![f32::NAN; data.x.len()];
                        let mut dgamma = vec![f32::NAN; shape.channels];
                        let mut dbeta = vec![f32::NAN; shape.channels];
                        let gradients = AffineGradients {
                            dx: Some(&mut dx),
                            dgamma: Some(&mut dgamma),
                            dbeta: Some(&mut dbeta),
                        };
                        layer_channels::backward(
                            shape, &data.x, affine, activation, &saved, &data.dy, gradients,
                        )
                        .expect("fits");
                        vec![y, dx, dgamma, dbeta]
                    },
                );
            }
            let beta = std::mem::replace(&mut data.beta, vec![0.0; shape.channels]);
            let mut expected = norm(shape, Over::Channels, &data, activation, 1e-2);
            data.beta = beta;
            expected.centred = false;
            let gradients = expected.backward(&data.x, &data.dy);
            let expected = [
                expect("y", expected.forward(&data.x), FORWARD),
                expect("dx", gradients.dx, BACKWARD),
                expect("dgamma", gradients.dgamma, BACKWARD),
            ];
            check(
                &format!("rms norm {shape:?} {activation:?}"),
                &expected,
                || {
                    let mut y = vec![f32::NAN; data.x.len()];
                    let mut saved = vec![f32::NAN; rows];
                    let gamma = Some(&data.gamma[..]);
                    rms::forward(shape, &data.x, gamma, 1e-2, activation, &mut y, &mut saved)
                        .expect("fits");
                    let mut dx = vec![f32::NAN; data.x.len()];
                    let mut dgamma = vec![f32::NAN; shape.channels];
                    rms::backward(
                        shape,
                        &data.x,
                        gamma,
                        activation,
                        &saved,
                        &data.dy,
                        Some(&mut dx),
                        Some(&mut dgamma),
                    )
                    .expect("fits");
                    vec![y, dx, dgamma]
                },
            );
        }
    }
}
