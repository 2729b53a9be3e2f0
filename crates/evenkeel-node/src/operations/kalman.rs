//! Batch Kalman normalization and the states that flow from layer to layer.

use super::Family;
use super::normalization::{AffineSlots, Wanted, activation, shape, with_running_statistics};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::norm::kalman::{
    self, KalmanNorm, Prior, PriorGradients, RunningStatistics, SAVED,
};
use evenkeel_kernels::norm::kalman_transition::{
    self as transitions, Transition, TransitionGradients,
};
use evenkeel_kernels::norm::{Affine, AffineGradients};

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

/// The next arguments: `prior?, priorWeight?`, and later `guarded`.
struct PriorSlots([Option<usize>; 2]);

impl PriorSlots {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(PriorSlots([
            arguments.optional_slot()?,
            arguments.optional_slot()?,
        ]))
    }

    fn get<'a>(&self, heap: &'a Heap, guarded: bool) -> Outcome<Option<Prior<'a>>> {
        let PriorSlots([Some(state), Some(weight)]) = *self else {
            return Ok(None);
        };
        let weight = heap.f32(weight)?;
        let weight = weight.first().copied().map(f64::from);
        Ok(Some(Prior {
            state: heap.f32(state)?,
            weight: weight.ok_or_else(|| Failure::internal("the prior's weight is empty"))?,
            guarded,
        }))
    }
}

/// `[output, posterior, saved] kalman_norm(input, gamma?, beta?, prior?, priorWeight?, runningMean?, runningVariance?, batch, positions,
/// channels, groups, epsilon, momentum, guarded, firstGroupOnly, activation …)`.
fn norm(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let affine = AffineSlots::read(arguments)?;
    let prior = PriorSlots::read(arguments)?;
    let running = (arguments.optional_slot()?, arguments.optional_slot()?);
    let shape = shape(arguments)?;
    let groups = arguments.usize()?;
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let (guarded, first_group_only) = (arguments.bool()?, arguments.bool()?);
    let activation = activation(arguments)?;
    let units = groups * shape.channels;
    let mut output = heap.allocate_f32(shape.elements()?)?;
    let mut posterior = heap.allocate_f32(2 * units)?;
    let mut saved = heap.allocate_f32(SAVED * units)?;
    let (output_values, posterior_values) = (output.f32_mut()?, posterior.f32_mut()?);
    let saved_values = saved.f32_mut()?;
    with_running_statistics(heap, running, |heap, running| {
        let running = running.map(|[mean, variance]| RunningStatistics {
            mean,
            variance,
            momentum,
            first_group_only,
        });
        let norm = KalmanNorm {
            shape,
            groups,
            x: heap.f32(input)?,
            affine: affine.get(heap)?,
            prior: prior.get(heap, guarded)?,
            activation,
        };
        Ok(kalman::forward(
            norm,
            epsilon,
            running,
            output_values,
            posterior_values,
            saved_values,
        )?)
    })?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, posterior);
    heap.put(arguments.output(2)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta, prior, priorWeight] kalman_norm_backward(outputGradient, input, gamma?, beta?, prior?,
/// priorWeight?, saved, posteriorGradient?, batch, positions, channels, groups, guarded, activation …, wants …)`.
fn norm_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (gradient, input) = (arguments.slot()?, arguments.slot()?);
    let affine = AffineSlots::read(arguments)?;
    let prior = PriorSlots::read(arguments)?;
    let (saved, posterior_gradient) = (arguments.slot()?, arguments.optional_slot()?);
    let shape = shape(arguments)?;
    let groups = arguments.usize()?;
    let guarded = arguments.bool()?;
    let activation = activation(arguments)?;
    let (elements, channels) = (shape.elements()?, shape.channels);
    let lengths = [elements, channels, channels, 2 * groups * channels, 1];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta, state, weight] = wanted.get()?;
    let norm = KalmanNorm {
        shape,
        groups,
        x: heap.f32(input)?,
        affine: affine.get(heap)?,
        prior: prior.get(heap, guarded)?,
        activation,
    };
    kalman::backward(
        norm,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        heap.optional_f32(posterior_gradient)?,
        AffineGradients { dx, dgamma, dbeta },
        PriorGradients { state, weight },
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
