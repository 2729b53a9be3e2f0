//! Batch Kalman normalization and the states that flow from layer to layer.

use super::Family;
use super::normalization::{AffineSlots, Wanted, activation, shape, with_running_statistics};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::kalman::RunningStatistics;
use evenkeel_kernels::norm::kalman_link::{
    self, KalmanLink, LinkGradients, PriorWeight, SAVED, ShortcutState, Source,
};
use evenkeel_kernels::norm::kalman_transition::{
    self as transitions, Transition, TransitionGradients,
};
use evenkeel_kernels::norm::{Affine, AffineGradients, Shape};

pub const OPERATIONS: Family = &[
    ("kalman_norm", norm),
    ("kalman_norm_backward", norm_gradient),
    ("kalman_predict", predict),
    ("kalman_predict_backward", predict_gradient),
    ("kalman_rectify", rectify),
    ("kalman_rectify_backward", rectify_gradient),
    ("kalman_normalized", normalized),
    ("kalman_normalized_backward", normalized_gradient),
];

/// Tensors of both commands: `input, gamma?, beta?, residual?, state?, weight?, bias?, noise?, priorWeight?, shortcutState?`.
#[derive(Clone, Copy)]
struct Tensors {
    input: usize,
    affine: AffineSlots,
    residual: Option<usize>,
    state: Option<usize>,
    weight: Option<usize>,
    bias: Option<usize>,
    noise: Option<usize>,
    prior_weight: Option<usize>,
    shortcut: Option<usize>,
}

impl Tensors {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Tensors {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            residual: arguments.optional_slot()?,
            state: arguments.optional_slot()?,
            weight: arguments.optional_slot()?,
            bias: arguments.optional_slot()?,
            noise: arguments.optional_slot()?,
            prior_weight: arguments.optional_slot()?,
            shortcut: arguments.optional_slot()?,
        })
    }
}

/// Numbers of both commands: `batch, positions, channels, groups, epsilon, inChannels, channelGroups, rectified, isLogit, fixedWeight,
/// guarded, handsOnNormalized, shortcutRectified, activation …`.
#[derive(Clone, Copy)]
struct Numbers {
    shape: Shape,
    groups: usize,
    epsilon: f32,
    in_channels: usize,
    channel_groups: usize,
    rectified: bool,
    is_logit: bool,
    fixed_weight: f64,
    guarded: bool,
    hands_on_normalized: bool,
    shortcut_rectified: bool,
    activation: Activation,
}

impl Numbers {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Numbers {
            shape: shape(arguments)?,
            groups: arguments.usize()?,
            epsilon: arguments.f32()?,
            in_channels: arguments.usize()?,
            channel_groups: arguments.usize()?,
            rectified: arguments.bool()?,
            is_logit: arguments.bool()?,
            fixed_weight: arguments.f64()?,
            guarded: arguments.bool()?,
            hands_on_normalized: arguments.bool()?,
            shortcut_rectified: arguments.bool()?,
            activation: activation(arguments)?,
        })
    }

    fn units(&self) -> usize {
        self.groups * self.shape.channels
    }
}

/// The link that the arguments of both commands describe.
fn link<'a>(heap: &'a Heap, tensors: Tensors, numbers: Numbers) -> Outcome<KalmanLink<'a>> {
    let weight = match heap.optional_f32(tensors.prior_weight)? {
        None => PriorWeight::Value(numbers.fixed_weight),
        Some([weight]) if numbers.is_logit => PriorWeight::Logit(f64::from(*weight)),
        Some([weight]) => PriorWeight::Value(f64::from(*weight)),
        Some(_) => return Err(Failure::internal("the prior's weight is one number")),
    };
    let transition = match heap.optional_f32(tensors.weight)? {
        None => None,
        Some(weight) => Some(Transition {
            weight,
            bias: heap.optional_f32(tensors.bias)?,
            noise: heap.optional_f32(tensors.noise)?,
            groups: numbers.groups,
            in_channels: numbers.in_channels,
            out_channels: numbers.shape.channels,
            channel_groups: numbers.channel_groups,
        }),
    };
    Ok(KalmanLink {
        shape: numbers.shape,
        groups: numbers.groups,
        x: heap.f32(tensors.input)?,
        affine: tensors.affine.get(heap)?,
        residual: heap.optional_f32(tensors.residual)?,
        activation: numbers.activation,
        epsilon: numbers.epsilon,
        source: heap.optional_f32(tensors.state)?.map(|state| Source {
            state,
            transition,
            rectified: numbers.rectified,
            weight,
            guarded: numbers.guarded,
        }),
        hands_on_normalized: numbers.hands_on_normalized,
        shortcut: heap
            .optional_f32(tensors.shortcut)?
            .map(|state| ShortcutState {
                state,
                rectified: numbers.shortcut_rectified,
            }),
    })
}

/// `[output, state, saved] kalman_norm(…Tensors, runningMean?, runningVariance?, …Numbers, momentum, firstGroupOnly)`.
fn norm(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let tensors = Tensors::read(arguments)?;
    let running = (arguments.optional_slot()?, arguments.optional_slot()?);
    let numbers = Numbers::read(arguments)?;
    let (momentum, first_group_only) = (arguments.f32()?, arguments.bool()?);
    let mut output = heap.allocate_f32(numbers.shape.elements()?)?;
    let mut state = heap.allocate_f32(2 * numbers.units())?;
    let mut saved = heap.allocate_f32(SAVED * numbers.units())?;
    let (output_values, state_values) = (output.f32_mut()?, state.f32_mut()?);
    let saved_values = saved.f32_mut()?;
    with_running_statistics(heap, running, |heap, running| {
        let running = running.map(|[mean, variance]| RunningStatistics {
            mean,
            variance,
            momentum,
            first_group_only,
        });
        Ok(kalman_link::forward(
            link(heap, tensors, numbers)?,
            running,
            output_values,
            state_values,
            saved_values,
        )?)
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, state);
    heap.put(arguments.output(2)?, saved);
    Ok(())
}

/// `[gradients of the differentiable Tensors] kalman_norm_backward(outputGradient, …Tensors, saved, stateGradient?, …Numbers, wants …)`.
fn norm_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let tensors = Tensors::read(arguments)?;
    let (saved, state_gradient) = (arguments.slot()?, arguments.optional_slot()?);
    let numbers = Numbers::read(arguments)?;
    let (elements, channels) = (numbers.shape.elements()?, numbers.shape.channels);
    let length = |slot| -> Outcome<usize> { Ok(heap.optional_f32(slot)?.map_or(0, <[f32]>::len)) };
    let lengths = [
        elements,
        channels,
        channels,
        elements,
        length(tensors.state)?,
        length(tensors.weight)?,
        channels,
        channels,
        1,
        length(tensors.shortcut)?,
    ];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [
        dx,
        dgamma,
        dbeta,
        residual,
        state,
        transition_weight,
        bias,
        noise,
        prior_weight,
        shortcut,
    ] = wanted.get()?;
    kalman_link::backward(
        link(heap, tensors, numbers)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        heap.optional_f32(state_gradient)?,
        LinkGradients {
            affine: AffineGradients { dx, dgamma, dbeta },
            residual,
            state,
            transition_weight,
            bias,
            noise,
            prior_weight,
            shortcut,
        },
    )?;
    wanted.put(heap, arguments)
}

/// The next arguments: `weight, bias?, noise?, groups, inChannels, outChannels, channelGroups`.
fn transition<'a>(heap: &'a Heap, arguments: &mut Arguments) -> Outcome<Transition<'a>> {
    Ok(Transition {
        weight: heap.f32(arguments.slot()?)?,
        bias: heap.optional_f32(arguments.optional_slot()?)?,
        noise: heap.optional_f32(arguments.optional_slot()?)?,
        groups: arguments.usize()?,
        in_channels: arguments.usize()?,
        out_channels: arguments.usize()?,
        channel_groups: arguments.usize()?,
    })
}

/// `[prediction] kalman_predict(state, weight, bias?, noise?, groups, inChannels, outChannels, channelGroups)`.
fn predict(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let state = heap.f32(arguments.slot()?)?;
    let transition = transition(heap, arguments)?;
    let mut output = heap.allocate_f32(2 * transition.groups * transition.out_channels)?;
    transitions::predict(transition, state, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradients of state, weight, bias, noise] kalman_predict_backward(gradient, state, weight, bias?, noise?, groups, inChannels,
/// outChannels, channelGroups, wants …)`.
fn predict_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = heap.f32(arguments.slot()?)?;
    let state = heap.f32(arguments.slot()?)?;
    let transition = transition(heap, arguments)?;
    let outputs = transition.out_channels;
    let lengths = [state.len(), transition.weight.len(), outputs, outputs];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [before, weight, bias, noise] = wanted.get()?;
    let gradients = TransitionGradients {
        before,
        weight,
        bias,
        noise,
    };
    transitions::predict_backward(transition, state, gradient, gradients)?;
    wanted.put(heap, arguments)
}

/// `[state] kalman_rectify(state)`.
fn rectify(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let state = heap.f32(arguments.slot()?)?;
    let mut output = heap.allocate_f32(state.len())?;
    transitions::rectify(state, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradient of state] kalman_rectify_backward(gradient, state)`.
fn rectify_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = heap.f32(arguments.slot()?)?;
    let state = heap.f32(arguments.slot()?)?;
    let mut output = heap.allocate_f32(state.len())?;
    transitions::rectify_backward(state, gradient, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// The next arguments: `state, gamma?, beta?, channels, epsilon`.
fn normalization<'a>(
    heap: &'a Heap,
    arguments: &mut Arguments,
) -> Outcome<(&'a [f32], usize, Affine<'a>, f32)> {
    let state = heap.f32(arguments.slot()?)?;
    let affine = AffineSlots::read(arguments)?.get(heap)?;
    Ok((state, arguments.usize()?, affine, arguments.f32()?))
}

/// `[state] kalman_normalized(state, gamma?, beta?, channels, epsilon)`.
fn normalized(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (state, channels, affine, epsilon) = normalization(heap, arguments)?;
    let mut output = heap.allocate_f32(state.len())?;
    transitions::normalized(state, channels, affine, epsilon, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// `[gradients of state, gamma, beta] kalman_normalized_backward(gradient, state, gamma?, beta?, channels, epsilon, wants …)`.
fn normalized_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = heap.f32(arguments.slot()?)?;
    let (state, channels, affine, epsilon) = normalization(heap, arguments)?;
    let mut wanted = Wanted::read(heap, arguments, [state.len(), channels, channels])?;
    let [dx, dgamma, dbeta] = wanted.get()?;
    let gradients = AffineGradients { dx, dgamma, dbeta };
    transitions::normalized_backward(state, channels, affine, epsilon, gradient, gradients)?;
    wanted.put(heap, arguments)
}
