use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

fn positive_state(groups: usize, channels: usize, seed: u32) -> Vec<f32> {
    let mut state: Vec<f32> = coarse_values(2 * groups * channels, seed)
        .iter()
        .map(|v| v / 4.0)
        .collect();
    let half = groups * channels;
    state[half..].iter_mut().for_each(|v| *v = v.abs() + 0.5);
    state
}

/// Compares a gradient with central differences of `Σ weights · f(values)`.
fn check(values: &[f32], gradient: &[f32], f: impl Fn(&[f32]) -> Vec<f32>, weights: &[f32]) {
    let objective = |values: &[f32]| -> f64 {
        let results = f(values);
        let pairs = results.iter().zip(weights);
        pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let largest = gradient.iter().fold(1e-3f32, |m, g| m.max(g.abs()));
    for index in (0..values.len()).step_by(3) {
        let mut changed = values.to_vec();
        changed[index] = values[index] + 0.0078125;
        let above = objective(&changed);
        changed[index] = values[index] - 0.0078125;
        let numeric = (above - objective(&changed)) / 0.015625;
        let error = (numeric - f64::from(gradient[index])).abs();
        assert!(
            error < 5e-3 * f64::from(largest),
            "{index}: {numeric} {}",
            gradient[index]
        );
    }
}

#[test]
fn predictions_have_their_gradients() {
    for (groups, inputs, outputs, channel_groups, positions) in [
        (1, 1, 1, 1, 1),
        (2, 3, 5, 1, 9),
        (3, 16, 17, 1, 1),
        (2, 6, 4, 2, 9),
        (2, 33, 33, 33, 9),
    ] {
        let state = positive_state(groups, inputs, 1);
        let rows = inputs / channel_groups;
        let weight: Vec<f32> = coarse_values(positions * rows * outputs, 2)
            .iter()
            .map(|w| w / 8.0)
            .collect();
        let (bias, noise) = (coarse_values(outputs, 3), coarse_values(outputs, 4));
        let weights = coarse_values(2 * groups * outputs, 5);
        let run = |state: &[f32], weight: &[f32], bias: &[f32], noise: &[f32]| {
            let transition = Transition {
                groups,
                in_channels: inputs,
                out_channels: outputs,
                channel_groups,
                weight,
                bias: Some(bias),
                noise: Some(noise),
            };
            let mut after = vec![f32::NAN; 2 * groups * outputs];
            predict(transition, state, &mut after).unwrap();
            after
        };
        let mut gradients = [
            vec![f32::NAN; state.len()],
            vec![f32::NAN; weight.len()],
            vec![f32::NAN; outputs],
            vec![f32::NAN; outputs],
        ];
        let [before, of_weight, of_bias, of_noise] = &mut gradients;
        predict_backward(
            Transition {
                groups,
                in_channels: inputs,
                out_channels: outputs,
                channel_groups,
                weight: &weight,
                bias: Some(&bias),
                noise: Some(&noise),
            },
            &state,
            &weights,
            TransitionGradients {
                before: Some(before),
                weight: Some(of_weight),
                bias: Some(of_bias),
                noise: Some(of_noise),
            },
        )
        .unwrap();
        let [before, of_weight, of_bias, of_noise] = &gradients;
        check(&state, before, |s| run(s, &weight, &bias, &noise), &weights);
        check(
            &weight,
            of_weight,
            |w| run(&state, w, &bias, &noise),
            &weights,
        );
        check(
            &bias,
            of_bias,
            |b| run(&state, &weight, b, &noise),
            &weights,
        );
        check(
            &noise,
            of_noise,
            |n| run(&state, &weight, &bias, n),
            &weights,
        );
    }
}

/// What [`predict`] and [`predict_backward`] compute, from their definitions: prediction, gradient of the state, of the weight.
fn naive(transition: Transition, before: &[f32], gradient: &[f32]) -> [Vec<f64>; 3] {
    let Transition {
        groups,
        in_channels,
        out_channels,
        weight,
        ..
    } = transition;
    let (rows, width) = (transition.rows(), transition.reach());
    let mut after = vec![0.0; 2 * groups * out_channels];
    let (mut of_state, mut of_weight) = (vec![0.0; before.len()], vec![0.0; weight.len()]);
    for (index, &w) in weight.iter().enumerate() {
        let (row, out) = (index / out_channels % rows, index % out_channels);
        let input = out / width * rows + row;
        let w = f64::from(w);
        for (array, (value, slope)) in [(w, 1.0), (w * w, 2.0 * w)].into_iter().enumerate() {
            for group in array * groups..(array + 1) * groups {
                let (from, to) = (group * in_channels + input, group * out_channels + out);
                let (state, outer) = (f64::from(before[from]), f64::from(gradient[to]));
                after[to] += state * value;
                of_state[from] += outer * value;
                of_weight[index] += outer * state * slope;
            }
        }
    }
    [after, of_state, of_weight]
}

#[test]
fn predictions_are_those_of_the_definition() {
    at_every_level(|| {
        for (groups, inputs, outputs, channel_groups, positions) in [
            (1, 1, 1, 1, 1),
            (1, 3, 16, 1, 9),
            (1, 64, 64, 1, 9),
            (2, 7, 15, 1, 9),
            (17, 16, 33, 1, 9),
            (35, 17, 65, 1, 1),
            (2, 5, 530, 1, 4),
            (3, 6, 40, 2, 9),
            (18, 33, 66, 33, 9),
        ] {
            let state = positive_state(groups, inputs, 1);
            let weight = coarse_values(positions * inputs / channel_groups * outputs, 2);
            let gradient = coarse_values(2 * groups * outputs, 3);
            let transition = Transition {
                groups,
                in_channels: inputs,
                out_channels: outputs,
                channel_groups,
                weight: &weight,
                bias: None,
                noise: None,
            };
            let mut after = vec![f32::NAN; gradient.len()];
            predict(transition, &state, &mut after).unwrap();
            let mut both = [vec![f32::NAN; state.len()], vec![f32::NAN; weight.len()]];
            let mut alone = both.clone();
            let [before, of_weight] = &mut both;
            let gradients = TransitionGradients {
                before: Some(before),
                weight: Some(of_weight),
                ..TransitionGradients::default()
            };
            predict_backward(transition, &state, &gradient, gradients).unwrap();
            let [before, of_weight] = &mut alone;
            for gradients in [
                TransitionGradients {
                    before: Some(before),
                    ..TransitionGradients::default()
                },
                TransitionGradients {
                    weight: Some(of_weight),
                    ..TransitionGradients::default()
                },
            ] {
                predict_backward(transition, &state, &gradient, gradients).unwrap();
            }
            assert_eq!(both, alone, "one gradient without the other");
            let expected = naive(transition, &state, &gradient);
            let [before, of_weight] = both;
            for (actual, expected) in [after, before, of_weight].into_iter().zip(expected) {
                let largest = expected.iter().fold(0.0f64, |most, e| most.max(e.abs()));
                for (index, (actual, expected)) in actual.iter().zip(&expected).enumerate() {
                    let error = (f64::from(*actual) - expected).abs();
                    assert!(
                        error <= 6e-8 * expected.abs() + 1e-14 * largest,
                        "{inputs} to {outputs} channels, {index}: {actual} {expected}"
                    );
                }
            }
        }
    });
}

#[test]
fn predictions_from_far_apart_values_are_right() {
    at_every_level(|| {
        let weight = [1e20f32, 1e-20, -1e20, 3e-20];
        let transition = Transition {
            groups: 1,
            in_channels: 1,
            out_channels: 2,
            channel_groups: 1,
            weight: &weight,
            bias: None,
            noise: None,
        };
        let mut after = [f32::NAN; 4];
        predict(transition, &[2.0, 1e-10], &mut after).unwrap();
        let expected = [0.0f32, 8e-20, 2e30, 0.0];
        for (actual, expected) in after.iter().zip(expected) {
            assert!((actual - expected).abs() <= 1e-6 * expected, "{after:?}");
        }
        predict(transition, &[2.0, 1e20], &mut after).unwrap();
        assert!((after[3] - 1e-19).abs() < 1e-24, "{after:?}");
    });
}

#[test]
fn rectified_and_normalized_states_have_their_gradients() {
    let state = positive_state(2, 7, 1);
    let weights = coarse_values(state.len(), 2);
    let rectified = |state: &[f32]| {
        let mut after = vec![f32::NAN; state.len()];
        rectify(state, &mut after).unwrap();
        after
    };
    let mut gradient = vec![f32::NAN; state.len()];
    rectify_backward(&state, &weights, &mut gradient).unwrap();
    check(&state, &gradient, rectified, &weights);

    let (gamma, beta) = (coarse_values(7, 3), coarse_values(7, 4));
    let run = |state: &[f32], gamma: &[f32], beta: &[f32]| {
        let affine = Affine {
            gamma: Some(gamma),
            beta: Some(beta),
        };
        let mut after = vec![f32::NAN; state.len()];
        normalized(state, 7, affine, 0.5, &mut after).unwrap();
        after
    };
    let (mut dgamma, mut dbeta) = (vec![f32::NAN; 7], vec![f32::NAN; 7]);
    normalized_backward(
        &state,
        7,
        Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        },
        0.5,
        &weights,
        AffineGradients {
            dx: Some(&mut gradient),
            dgamma: Some(&mut dgamma),
            dbeta: Some(&mut dbeta),
        },
    )
    .unwrap();
    check(&state, &gradient, |s| run(s, &gamma, &beta), &weights);
    check(&gamma, &dgamma, |g| run(&state, g, &beta), &weights);
    check(&beta, &dbeta, |b| run(&state, &gamma, b), &weights);
}

#[test]
fn threads_do_not_change_bits() {
    let (groups, inputs, outputs) = (17, 40, 130);
    let state = positive_state(groups, inputs, 1);
    let weight = coarse_values(9 * inputs * outputs, 2);
    assert_same_bits_at_any_thread_count(|| {
        let transition = Transition {
            groups,
            in_channels: inputs,
            out_channels: outputs,
            channel_groups: 1,
            weight: &weight,
            bias: None,
            noise: None,
        };
        let mut after = vec![0.0; 2 * groups * outputs];
        predict(transition, &state, &mut after).unwrap();
        let (mut before, mut gradient) = (vec![0.0; state.len()], vec![0.0; weight.len()]);
        let gradients = TransitionGradients {
            before: Some(&mut before),
            weight: Some(&mut gradient),
            ..TransitionGradients::default()
        };
        predict_backward(transition, &state, &after, gradients).unwrap();
        vec![after, before, gradient]
    });
}

#[test]
fn misfits_are_refused() {
    assert!(rectify(&[0.0; 3], &mut [0.0; 3]).is_err());
    assert!(rectify(&[0.0; 4], &mut [0.0; 3]).is_err());
    assert!(normalized(&[0.0; 6], 2, Affine::default(), 1e-5, &mut [0.0; 6]).is_err());
    assert!(normalized(&[0.0; 4], 2, Affine::default(), -1.0, &mut [0.0; 4]).is_err());
    let transition = |weight| Transition {
        groups: 1,
        in_channels: 2,
        out_channels: 3,
        channel_groups: 1,
        weight,
        bias: None,
        noise: None,
    };
    assert!(predict(transition(&[0.0; 6]), &[0.0; 4], &mut [0.0; 6]).is_ok());
    assert!(predict(transition(&[]), &[0.0; 4], &mut [0.0; 6]).is_err());
    assert!(predict(transition(&[0.0; 7]), &[0.0; 4], &mut [0.0; 6]).is_err());
    assert!(predict(transition(&[0.0; 6]), &[0.0; 3], &mut [0.0; 6]).is_err());
    assert!(predict(transition(&[0.0; 6]), &[0.0; 4], &mut [0.0; 5]).is_err());
}
