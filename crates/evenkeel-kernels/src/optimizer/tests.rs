//! Optimizer steps against the equations written out in f64, one weight at a time.

use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const LENGTHS: [usize; 12] = [0, 1, 3, 7, 15, 16, 17, 33, 63, 64, 65, 40_000];
const STEPS: u64 = 4;

fn close(actual: &[f32], expected: &[f64], what: &str) {
    for (actual, expected) in actual.iter().zip(expected) {
        assert!(
            (f64::from(*actual) - expected).abs() <= 2e-6 * expected.abs().max(1.0),
            "{what}: {actual} is not {expected}"
        );
    }
}

/// Runs four steps of a kernel and of its oracle, `oracle(step, weight, gradient, state)`, and compares the weights.
fn check<const STATES: usize>(
    what: &str,
    mut kernel: impl FnMut(u64, &mut [f32], &[f32], [&mut [f32]; STATES]) -> Result,
    mut oracle: impl FnMut(u64, f64, f64, &mut [f64; STATES]) -> f64,
) {
    for length in LENGTHS {
        let mut weights = coarse_values(length, 1);
        let mut expected: Vec<f64> = weights.iter().map(|&w| f64::from(w)).collect();
        let mut states: [Vec<f32>; STATES] = std::array::from_fn(|_| vec![0.0; length]);
        let mut oracle_states = vec![[0.0f64; STATES]; length];
        for step in 1..=STEPS {
            let gradients = coarse_values(length, 1 + step as u32);
            let mut states = states.each_mut().into_iter();
            kernel(
                step,
                &mut weights,
                &gradients,
                std::array::from_fn(|_| states.next().unwrap().as_mut_slice()),
            )
            .unwrap();
            for i in 0..length {
                expected[i] = oracle(
                    step,
                    expected[i],
                    f64::from(gradients[i]),
                    &mut oracle_states[i],
                );
            }
            close(&weights, &expected, what);
        }
    }
}

#[test]
fn sgd_matches_its_equations() {
    at_every_level(|| {
        for (momentum, nesterov) in [(0.0, false), (0.9, false), (0.9, true)] {
            for weight_decay in [0.0, 5e-2] {
                let options = Sgd {
                    learning_rate: 0.1,
                    momentum,
                    nesterov,
                    weight_decay,
                    gradient_scale: 0.5,
                };
                check(
                    "sgd",
                    |_, w, g, [v]| {
                        let velocity = (momentum > 0.0).then_some(v);
                        step(&mut [options.update(w, g, velocity)?]);
                        Ok(())
                    },
                    |_, w, g, [v]| {
                        let g = 0.5 * g + weight_decay * w;
                        *v = momentum * *v + g;
                        w - 0.1 * if nesterov { g + momentum * *v } else { *v }
                    },
                );
            }
        }
    });
}

#[test]
fn adam_and_adamw_match_their_equations() {
    at_every_level(|| {
        for decoupled in [false, true] {
            let options = Adam {
                learning_rate: 1e-2,
                betas: [0.9, 0.99],
                // Large enough that a gradient which cancels against the weight decay is no matter of rounding.
                epsilon: 1e-2,
                weight_decay: 0.1,
                decoupled,
                gradient_scale: 2.0,
            };
            check(
                "adam",
                |at, w, g, [m, v]| {
                    step(&mut [options.update(at, w, g, m, v)?]);
                    Ok(())
                },
                |step, w, g, [m, v]| {
                    let (mut w, mut g) = (w, 2.0 * g);
                    if decoupled {
                        w *= 1.0 - 1e-2 * 0.1;
                    } else {
                        g += 0.1 * w;
                    }
                    *m = 0.9 * *m + (1.0 - 0.9) * g;
                    *v = 0.99 * *v + (1.0 - 0.99) * g * g;
                    let corrected = (1.0 - 0.99f64.powi(step as i32)).sqrt();
                    let rate = 1e-2 / (1.0 - 0.9f64.powi(step as i32));
                    w - rate * *m / (v.sqrt() / corrected + 1e-2)
                },
            );
        }
    });
}

#[test]
fn rms_prop_matches_its_equations() {
    at_every_level(|| {
        for momentum in [0.0, 0.9] {
            for centred in [false, true] {
                let options = RmsProp {
                    learning_rate: 1e-2,
                    smoothing: 0.95,
                    epsilon: 1e-3,
                    momentum,
                    weight_decay: 1e-2,
                    gradient_scale: 1.0,
                };
                check(
                    "rms prop",
                    |_, w, g, [mean_square, velocity, mean]| {
                        let state = RmsPropState {
                            mean_square,
                            velocity: (momentum > 0.0).then_some(velocity),
                            mean: centred.then_some(mean),
                        };
                        step(&mut [options.update(w, g, state)?]);
                        Ok(())
                    },
                    |_, w, g, [q, v, m]| {
                        let g = g + 1e-2 * w;
                        *q = 0.95 * *q + (1.0 - 0.95) * g * g;
                        *m = 0.95 * *m + (1.0 - 0.95) * g;
                        let square = if centred { *q - *m * *m } else { *q };
                        *v = momentum * *v + g / (square.sqrt() + 1e-3);
                        w - 1e-2 * *v
                    },
                );
            }
        }
    });
}

#[test]
fn a_constant_gradient_does_not_make_the_centred_variance_negative() {
    let options = RmsProp {
        learning_rate: 1e-3,
        smoothing: 0.5,
        epsilon: 1e-3,
        momentum: 0.0,
        weight_decay: 0.0,
        gradient_scale: 1.0,
    };
    let gradients: Vec<f32> = (0..33).map(|i| 1.1 + i as f32 * 0.7).collect();
    let mut weights = vec![1.0; 33];
    let (mut mean_square, mut mean) = (vec![0.0; 33], vec![0.0; 33]);
    for _ in 0..60 {
        let state = RmsPropState {
            mean_square: &mut mean_square,
            velocity: None,
            mean: Some(&mut mean),
        };
        let update = options.update(&mut weights, &gradients, state);
        step(&mut [update.unwrap()]);
    }
    assert!(weights.iter().all(|w| w.is_finite()), "{weights:?}");
}

#[test]
fn moving_averages_move_by_the_rest_of_the_decay() {
    at_every_level(|| {
        check(
            "average",
            |_, average, value, []| {
                step(&mut [exponential_moving_average(average, value, 0.9)?]);
                Ok(())
            },
            |_, average, value, []| 0.9 * average + 0.1 * value,
        );
    });
}

#[test]
fn norms_neither_overflow_nor_vanish() {
    at_every_level(|| {
        for length in LENGTHS.into_iter().chain([1_000_003]) {
            for scale in [1.0f32, 1e20, 1e-20] {
                let values: Vec<f32> = coarse_values(length, 9).iter().map(|v| v * scale).collect();
                let square = |v: &f32| f64::from(*v) * f64::from(*v);
                // By thousands, or the oracle's own rounding is the larger error.
                let thousands = values
                    .chunks(1000)
                    .map(|v| v.iter().map(square).sum::<f64>());
                let expected: f64 = thousands.sum();
                let actual = sum_of_squares(&values);
                assert!(
                    (actual - expected).abs() <= expected * 1e-13,
                    "{length} {scale}"
                );
            }
        }
    });
    assert_eq!(clip_scale(0.5, 1.0), 1.0);
    assert!((clip_scale(4.0, 1.0) - 0.25).abs() < 1e-6);
    assert!(clip_scale(f64::NAN, 1.0).is_nan());
}

#[test]
fn tensors_together_get_what_each_gets_alone() {
    let options = Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 1e-2,
        gradient_scale: 0.5,
    };
    // Tensors that end within a vector, within a task and beyond one, and one without a momentum.
    let lengths: Vec<usize> = LENGTHS.into_iter().chain([16_384, 100_003, 5]).collect();
    let with = |index: usize| Sgd {
        momentum: if index == 3 { 0.0 } else { 0.9 },
        nesterov: index != 3,
        learning_rate: 0.1 + index as f64,
        ..options
    };
    let values = |seed: u32| -> Vec<Vec<f32>> {
        let each = lengths.iter().zip(seed..);
        each.map(|(&length, seed)| coarse_values(length, seed))
            .collect()
    };
    let gradients = values(2);
    let run = |together: bool| {
        let (mut weights, mut velocities) = (values(1), values(3));
        let mut updates: Vec<_> = (weights.iter_mut().zip(&gradients))
            .zip(&mut velocities)
            .enumerate()
            .map(|(index, ((w, g), v))| with(index).update(w, g, Some(v)).unwrap())
            .collect();
        if together {
            step(&mut updates);
        } else {
            updates.drain(..).for_each(|update| step(&mut [update]));
        }
        drop(updates);
        weights.append(&mut velocities);
        weights
    };
    at_every_level(|| {
        let (together, alone) = (run(true), run(false));
        assert_eq!(together, alone);
        assert_eq!(together[lengths.len() + 3], values(3)[3], "no momentum");
    });
    assert_same_bits_at_any_thread_count(|| run(true));
}

#[test]
fn the_same_bits_at_any_number_of_threads() {
    let (start, gradients) = (coarse_values(100_003, 1), coarse_values(100_003, 2));
    assert_same_bits_at_any_thread_count(|| {
        let mut weights = start.clone();
        let (mut first, mut second) = (vec![0.0; start.len()], vec![0.0; start.len()]);
        let options = Adam {
            learning_rate: 1e-2,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 1e-2,
            decoupled: true,
            gradient_scale: 0.3,
        };
        let update = options.update(1, &mut weights, &gradients, &mut first, &mut second);
        step(&mut [update.unwrap()]);
        let sum = sum_of_squares(&weights).to_bits();
        let halves = [(sum >> 32) as u32, sum as u32]
            .map(f32::from_bits)
            .to_vec();
        vec![weights, first, second, halves]
    });
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let sgd = Sgd {
        learning_rate: 0.1,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 0.0,
        gradient_scale: 1.0,
    };
    let mut weights = [1.0; 3];
    let mut velocity = [0.0; 3];
    assert!(sgd.update(&mut weights, &[1.0; 3], None).is_err());
    let short = Some(&mut velocity[..2]);
    assert!(sgd.update(&mut weights, &[1.0; 3], short).is_err());
    let velocities = Some(&mut velocity[..]);
    assert!(sgd.update(&mut weights, &[1.0; 2], velocities).is_err());
    for bad in [
        Sgd {
            learning_rate: f64::NAN,
            ..sgd
        },
        Sgd {
            learning_rate: -0.1,
            ..sgd
        },
        Sgd {
            learning_rate: f64::INFINITY,
            ..sgd
        },
        Sgd {
            momentum: 1.0,
            ..sgd
        },
        Sgd {
            weight_decay: -1.0,
            ..sgd
        },
        Sgd {
            momentum: 0.0,
            nesterov: true,
            ..sgd
        },
    ] {
        assert!(
            bad.update(&mut weights, &[1.0; 3], Some(&mut velocity))
                .is_err(),
            "{bad:?}"
        );
    }
    let adam = Adam {
        learning_rate: 0.1,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        weight_decay: 0.0,
        decoupled: false,
        gradient_scale: 1.0,
    };
    let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
    assert!(
        adam.update(0, &mut weights, &[1.0; 3], &mut m, &mut v)
            .is_err()
    );
    let bad = Adam {
        betas: [0.9, 1.0],
        ..adam
    };
    assert!(
        bad.update(1, &mut weights, &[1.0; 3], &mut m, &mut v)
            .is_err()
    );
    assert!(exponential_moving_average(&mut weights, &[0.0; 3], 1.5).is_err());
    assert_eq!(
        (weights, velocity, m, v),
        ([1.0; 3], [0.0; 3], [0.0; 3], [0.0; 3])
    );
}
