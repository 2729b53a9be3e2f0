//! Batch Kalman normalization and the states that flow from layer to layer.

use super::Family;
use super::normalization_arguments::{
    AffineSlots, Passed, activation, fill, fill_wanted, shape, with_running_statistics,
};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::kalman::RunningStatistics;
use evenkeel_kernels::norm::kalman::link::{
    self as links, KalmanLink, LinkGradients, PriorWeight, SAVED, ShortcutState, Source,
};
use evenkeel_kernels::norm::kalman::transition::{
    self as transitions, Transition, TransitionGradients,
};
use evenkeel_kernels::norm::{AffineGradients, Shape};

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
    let running = [arguments.optional_slot()?, arguments.optional_slot()?];
    let numbers = Numbers::read(arguments)?;
    let (momentum, first_group_only) = (arguments.f32()?, arguments.bool()?);
    let units = numbers.units();
    let lengths = [numbers.shape.elements()?, 2 * units, SAVED * units];
    fill(heap, arguments, lengths, |heap, [y, state, saved]| {
        with_running_statistics(heap, running, |heap, running| {
            let running = running.map(|[mean, variance]| RunningStatistics {
                mean,
                variance,
                momentum,
                first_group_only,
            });
            let link = link(heap, tensors, numbers)?;
            Ok(links::forward(link, running, y, state, saved)?)
        })
    })
}

/// `[gradients of the Tensors] kalman_norm_backward(…Passed, stateGradient?, …Tensors, …Numbers, wants …)`.
fn norm_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let state_gradient = arguments.optional_slot()?;
    let tensors = Tensors::read(arguments)?;
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
    fill_wanted(heap, arguments, lengths, |heap, gradients| {
        let [dx, dgamma, dbeta, residual, state, rest @ ..] = gradients;
        let [transition_weight, bias, noise, prior_weight, shortcut] = rest;
        Ok(links::backward(
            link(heap, tensors, numbers)?,
            passed.saved(heap)?,
            passed.gradient(heap)?,
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
        )?)
    })
}

/// `weight, bias?, noise?, groups, inChannels, outChannels, channelGroups`.
struct TransitionSlots {
    weight: usize,
    bias: Option<usize>,
    noise: Option<usize>,
    groups: usize,
    in_channels: usize,
    out_channels: usize,
    channel_groups: usize,
}

impl TransitionSlots {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(TransitionSlots {
            weight: arguments.slot()?,
            bias: arguments.optional_slot()?,
            noise: arguments.optional_slot()?,
            groups: arguments.usize()?,
            in_channels: arguments.usize()?,
            out_channels: arguments.usize()?,
            channel_groups: arguments.usize()?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<Transition<'a>> {
        Ok(Transition {
            weight: heap.f32(self.weight)?,
            bias: heap.optional_f32(self.bias)?,
            noise: heap.optional_f32(self.noise)?,
            groups: self.groups,
            in_channels: self.in_channels,
            out_channels: self.out_channels,
            channel_groups: self.channel_groups,
        })
    }
}

/// `[prediction] kalman_predict(state, weight, bias?, noise?, groups, inChannels, outChannels, channelGroups)`.
fn predict(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (state, layer) = (arguments.slot()?, TransitionSlots::read(arguments)?);
    let length = 2 * layer.groups * layer.out_channels;
    fill(heap, arguments, [length], |heap, [prediction]| {
        let transition = layer.get(heap)?;
        Ok(transitions::predict(
            transition,
            heap.f32(state)?,
            prediction,
        )?)
    })
}

/// `[gradients of state, weight, bias, noise] kalman_predict_backward(gradient, state, weight, bias?, noise?, groups, inChannels,
/// outChannels, channelGroups, wants …)`.
fn predict_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, state) = (arguments.slot()?, arguments.slot()?);
    let layer = TransitionSlots::read(arguments)?;
    let (inputs, weights) = (heap.f32(state)?.len(), heap.f32(layer.weight)?.len());
    let lengths = [inputs, weights, layer.out_channels, layer.out_channels];
    fill_wanted(heap, arguments, lengths, |heap, gradients| {
        let [before, weight, bias, noise] = gradients;
        let gradients = TransitionGradients {
            before,
            weight,
            bias,
            noise,
        };
        let (state, gradient) = (heap.f32(state)?, heap.f32(gradient)?);
        Ok(transitions::predict_backward(
            layer.get(heap)?,
            state,
            gradient,
            gradients,
        )?)
    })
}

/// `[state] kalman_rectify(state)`.
fn rectify(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let state = arguments.slot()?;
    let length = heap.f32(state)?.len();
    fill(heap, arguments, [length], |heap, [after]| {
        Ok(transitions::rectify(heap.f32(state)?, after)?)
    })
}

/// `[gradient of state] kalman_rectify_backward(gradient, state)`.
fn rectify_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, state) = (arguments.slot()?, arguments.slot()?);
    let length = heap.f32(state)?.len();
    fill(heap, arguments, [length], |heap, [target]| {
        let (state, gradient) = (heap.f32(state)?, heap.f32(gradient)?);
        Ok(transitions::rectify_backward(state, gradient, target)?)
    })
}

/// `state, gamma?, beta?, channels, epsilon`.
struct Normalized {
    state: usize,
    affine: AffineSlots,
    channels: usize,
    epsilon: f32,
}

impl Normalized {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(Normalized {
            state: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            channels: arguments.usize()?,
            epsilon: arguments.f32()?,
        })
    }
}

/// `[state] kalman_normalized(…Normalized)`.
fn normalized(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Normalized::read(arguments)?;
    let length = heap.f32(norm.state)?.len();
    fill(heap, arguments, [length], |heap, [after]| {
        let (state, affine) = (heap.f32(norm.state)?, norm.affine.get(heap)?);
        let (channels, epsilon) = (norm.channels, norm.epsilon);
        Ok(transitions::normalized(
            state, channels, affine, epsilon, after,
        )?)
    })
}

/// `[gradients of state, gamma, beta] kalman_normalized_backward(gradient, …Normalized, wants …)`.
fn normalized_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = Normalized::read(arguments)?;
    let lengths = [heap.f32(norm.state)?.len(), norm.channels, norm.channels];
    fill_wanted(heap, arguments, lengths, |heap, [dx, dgamma, dbeta]| {
        Ok(transitions::normalized_backward(
            heap.f32(norm.state)?,
            norm.channels,
            norm.affine.get(heap)?,
            norm.epsilon,
            heap.f32(gradient)?,
            AffineGradients { dx, dgamma, dbeta },
        )?)
    })
}
