use super::*;
use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

const EPSILON: f32 = 1e-2;

/// One case: shape, groups, channels in front, positions of the weight, groups of channels, and what the link does.
#[derive(Clone, Copy, Debug)]
struct Case {
    shape: Shape,
    groups: usize,
    inputs: usize,
    kernel: usize,
    channel_groups: usize,
    rectified: bool,
    normalized: bool,
    shortcut: Option<(usize, bool)>,
}

fn cases() -> Vec<Case> {
    let shape = |batch, positions, channels| Shape {
        batch,
        positions,
        channels,
    };
    let plain = Case {
        shape: shape(4, 9, 6),
        groups: 2,
        inputs: 4,
        kernel: 9,
        channel_groups: 2,
        rectified: true,
        normalized: true,
        shortcut: Some((4, true)),
    };
    vec![
        plain,
        Case {
            normalized: false,
            shortcut: Some((6, false)),
            ..plain
        },
        Case {
            shape: shape(3, 4, 17),
            groups: 1,
            inputs: 33,
            kernel: 1,
            channel_groups: 1,
            rectified: false,
            shortcut: None,
            ..plain
        },
        Case {
            shape: shape(2, 16, 65),
            groups: 2,
            inputs: 16,
            channel_groups: 1,
            ..plain
        },
    ]
}

fn state(units: usize, seed: u32) -> Vec<f32> {
    let mut state = coarse_values(2 * units, seed);
    state[units..].iter_mut().for_each(|v| *v = v.abs() + 0.5);
    state
}

/// The inputs of a case, in one order: x, gamma, beta, residual, state, weight, bias, noise, logit, shortcut's state.
fn inputs(case: Case) -> Vec<Vec<f32>> {
    let elements = case.shape.elements().unwrap();
    let channels = case.shape.channels;
    let weights = case.kernel * case.inputs / case.channel_groups * channels;
    let shortcut = case.shortcut.map_or(0, |(width, _)| width);
    let small = |values: Vec<f32>| values.into_iter().map(|v| v / 8.0).collect();
    vec![
        coarse_values(elements, 1),
        coarse_values(channels, 2),
        coarse_values(channels, 3),
        coarse_values(elements, 4),
        state(case.groups * case.inputs, 5),
        small(coarse_values(weights, 6)),
        coarse_values(channels, 7),
        coarse_values(channels, 8),
        vec![0.3],
        state(case.groups * shortcut, 9),
    ]
}

fn link<'a>(case: Case, inputs: &'a [Vec<f32>]) -> KalmanLink<'a> {
    let [
        x,
        gamma,
        beta,
        residual,
        before,
        weight,
        bias,
        noise,
        logit,
        shortcut,
    ] = inputs
    else {
        unreachable!()
    };
    KalmanLink {
        shape: case.shape,
        groups: case.groups,
        x,
        affine: Affine {
            gamma: Some(gamma),
            beta: Some(beta),
        },
        residual: Some(residual),
        activation: Activation::Silu,
        epsilon: EPSILON,
        source: Some(Source {
            state: before,
            transition: Some(Transition {
                groups: case.groups,
                in_channels: case.inputs,
                out_channels: case.shape.channels,
                channel_groups: case.channel_groups,
                weight,
                bias: Some(bias),
                noise: Some(noise),
            }),
            rectified: case.rectified,
            weight: PriorWeight::Logit(f64::from(logit[0])),
            guarded: false,
        }),
        hands_on_normalized: case.normalized,
        shortcut: case.shortcut.map(|(_, rectified)| ShortcutState {
            state: shortcut,
            rectified,
        }),
    }
}

/// `y` and the state.
fn run(case: Case, inputs: &[Vec<f32>]) -> [Vec<f32>; 3] {
    let units = case.groups * case.shape.channels;
    let mut y = vec![f32::NAN; inputs[0].len()];
    let mut state = vec![f32::NAN; 2 * units];
    let mut saved = vec![f32::NAN; SAVED * units];
    forward(link(case, inputs), None, &mut y, &mut state, &mut saved).unwrap();
    [y, state, saved]
}

/// What the loss weighs `y` and the state with.
fn outer(case: Case) -> [Vec<f32>; 2] {
    let units = case.groups * case.shape.channels;
    [
        coarse_values(case.shape.elements().unwrap(), 10),
        coarse_values(2 * units, 11),
    ]
}

/// The gradients of all inputs, in their order.
fn gradients(case: Case, inputs: &[Vec<f32>], saved: &[f32]) -> Vec<Vec<f32>> {
    let [dy, dstate] = outer(case);
    let mut all: Vec<Vec<f32>> = inputs.iter().map(|i| vec![f32::NAN; i.len()]).collect();
    let mut next = all.iter_mut().map(|gradient| Some(&mut gradient[..]));
    let mut take = || next.next().flatten();
    let gradients = LinkGradients {
        affine: AffineGradients {
            dx: take(),
            dgamma: take(),
            dbeta: take(),
        },
        residual: take(),
        state: take(),
        transition_weight: take(),
        bias: take(),
        noise: take(),
        prior_weight: take(),
        shortcut: take().filter(|_| case.shortcut.is_some()),
    };
    backward(link(case, inputs), saved, &dy, Some(&dstate), gradients).unwrap();
    all
}

/// The weighed sum of both outputs.
fn loss(case: Case, inputs: &[Vec<f32>]) -> f64 {
    let [y, state, _] = run(case, inputs);
    let [dy, dstate] = outer(case);
    let product = |values: &[f32], weights: &[f32]| -> f64 {
        let terms = values.iter().zip(weights);
        terms.map(|(v, w)| f64::from(*v) * f64::from(*w)).sum()
    };
    product(&y, &dy) + product(&state, &dstate)
}

#[test]
fn is_its_parts_one_after_another() {
    at_every_level(|| {
        for case in cases() {
            let inputs = inputs(case);
            let link = link(case, &inputs);
            let (source, units) = (link.source.unwrap(), link.units());
            let rectified = |state: &[f32], yes: bool| {
                let mut after = state.to_vec();
                if yes {
                    rectify(state, &mut after).unwrap();
                }
                after
            };
            let before = rectified(source.state, source.rectified);
            let mut predicted = vec![0.0; 2 * units];
            predict(source.transition.unwrap(), &before, &mut predicted).unwrap();
            let prior = Prior {
                state: &predicted,
                weight: source.weight.value(),
                guarded: false,
            };
            let mut y = vec![0.0; inputs[0].len()];
            let (mut posterior, mut saved) =
                (vec![0.0; 2 * units], vec![0.0; kalman::SAVED * units]);
            kalman::forward(
                KalmanLink { ..link }.norm(Some(prior)),
                EPSILON,
                None,
                &mut y,
                &mut posterior,
                &mut saved,
            )
            .unwrap();
            let mut expected = posterior.clone();
            if case.normalized {
                let channels = case.shape.channels;
                normalized(&posterior, channels, link.affine, EPSILON, &mut expected).unwrap();
            }
            if let Some((width, yes)) = case.shortcut {
                let other = rectified(&inputs[9], yes);
                for (row, values) in other.chunks_exact(width).enumerate() {
                    for (channel, value) in values.iter().enumerate() {
                        expected[row * case.shape.channels + channel] += value;
                    }
                }
            }
            let [actual_y, actual_state, _] = run(case, &inputs);
            assert_eq!((actual_y, actual_state), (y, expected), "{case:?}");
        }
    });
}

#[test]
fn gradients_agree_with_finite_differences() {
    for case in cases() {
        let mut inputs = inputs(case);
        let [_, _, saved] = run(case, &inputs);
        let all = gradients(case, &inputs, &saved);
        for (index, gradient) in all.iter().enumerate() {
            if index == 9 && case.shortcut.is_none() {
                continue;
            }
            let largest = gradient.iter().fold(1.0f32, |most, g| most.max(g.abs()));
            for at in (0..gradient.len()).step_by(gradient.len() / 7 + 1) {
                let value = inputs[index][at];
                let step = 4e-3;
                inputs[index][at] = value + step;
                let above = loss(case, &inputs);
                inputs[index][at] = value - step;
                let below = loss(case, &inputs);
                inputs[index][at] = value;
                let expected = (above - below) / f64::from(2.0 * step);
                let error = (f64::from(gradient[at]) - expected).abs();
                assert!(
                    error <= 2e-2 * f64::from(largest),
                    "input {index} at {at} of {case:?}: {} {expected}",
                    gradient[at]
                );
            }
        }
    }
}

#[test]
fn threads_do_not_change_bits() {
    let case = Case {
        shape: Shape {
            batch: 6,
            positions: 1600,
            channels: 33,
        },
        groups: 3,
        inputs: 40,
        kernel: 9,
        channel_groups: 1,
        ..cases()[0]
    };
    let inputs = inputs(case);
    assert_same_bits_at_any_thread_count(|| {
        let [y, state, saved] = run(case, &inputs);
        let mut all = gradients(case, &inputs, &saved);
        all.extend([y, state]);
        all
    });
}

#[test]
fn misfits_are_refused() {
    let case = cases()[0];
    let inputs = inputs(case);
    let units = case.groups * case.shape.channels;
    let attempt = |link: KalmanLink, saved: usize| {
        let (mut y, mut state) = (vec![0.0; link.x.len()], vec![0.0; 2 * units]);
        forward(link, None, &mut y, &mut state, &mut vec![0.0; saved])
    };
    let link = link(case, &inputs);
    assert!(attempt(link, SAVED * units).is_ok());
    assert!(attempt(link, SAVED * units - 1).is_err());
    let source = link.source.map(|source| Source {
        state: &source.state[1..],
        ..source
    });
    assert!(attempt(KalmanLink { source, ..link }, SAVED * units).is_err());
    let shortcut = link.shortcut.map(|shortcut| ShortcutState {
        state: &shortcut.state[1..],
        ..shortcut
    });
    assert!(attempt(KalmanLink { shortcut, ..link }, SAVED * units).is_err());
    let without = KalmanLink {
        source: None,
        shortcut: None,
        ..link
    };
    let (saved, dy) = (vec![1.0; SAVED * units], vec![0.0; link.x.len()]);
    let mut gradient = vec![0.0; 1];
    let gradients = LinkGradients {
        prior_weight: Some(&mut gradient),
        ..LinkGradients::default()
    };
    assert!(backward(without, &saved, &dy, None, gradients).is_err());
    let mut gradient = vec![0.0; inputs[9].len()];
    let gradients = LinkGradients {
        shortcut: Some(&mut gradient),
        ..LinkGradients::default()
    };
    assert!(backward(without, &saved, &dy, None, gradients).is_err());
}
