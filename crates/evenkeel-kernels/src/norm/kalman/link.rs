//! One link of the chain of [`kalman`] norms in one call: the prediction through the weight layer in front
//! ([`super::transition`]), the norm, and the state for the next link.
//!
//! States are small; what costs at small batches is the handling of many commands.

use super::transition::{
    Transition, TransitionGradients, normalized, normalized_backward, predict, predict_backward,
    rectify, rectify_backward,
};
use super::{KalmanNorm, Prior, PriorGradients, RunningStatistics, check_units};
use crate::activation::Activation;
use crate::error::{KernelError, Result, check_length};
use crate::norm::geometry::{Affine, AffineGradients, Shape, check_optional};
use crate::norm::kalman;
use crate::scratch::with_f32;

/// Arrays of `[groups, channels]` that the forward pass saves: those of [`kalman::forward()`], then the posterior's means and variances.
pub const SAVED: usize = kalman::SAVED + 2;

/// The weight q of a prior.
#[derive(Clone, Copy, Debug)]
pub enum PriorWeight {
    /// q itself.
    Value(f64),
    /// What q is the sigmoid of.
    Logit(f64),
}

impl PriorWeight {
    fn value(self) -> f64 {
        match self {
            PriorWeight::Value(value) => value,
            PriorWeight::Logit(logit) => 1.0 / (1.0 + (-logit).exp()),
        }
    }

    /// The derivative of the value.
    fn slope(self) -> f64 {
        match self {
            PriorWeight::Value(_) => 1.0,
            PriorWeight::Logit(_) => self.value() * (1.0 - self.value()),
        }
    }
}

/// Where a prior comes from.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Means, then variances `[2, groups, in channels]`: in front of the transition, or the prior itself.
    pub state: &'a [f32],
    /// The weight layer that the state goes through.
    pub transition: Option<Transition<'a>>,
    /// Whether a ReLU lies between the state and the transition.
    pub rectified: bool,
    /// The weight of the prior.
    pub weight: PriorWeight,
    /// Whether a group drops an implausible prior.
    pub guarded: bool,
}

/// The state of the other branch of a residual block.
#[derive(Clone, Copy, Debug)]
pub struct ShortcutState<'a> {
    /// Means, then variances `[2, groups, channels]`; of as many channels as the norm or fewer, which are its first.
    pub state: &'a [f32],
    /// Whether a ReLU lies behind the state.
    pub rectified: bool,
}

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct KalmanLink<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// Groups of neighbouring samples; must divide the batch.
    pub groups: usize,
    /// The input.
    pub x: &'a [f32],
    /// Scale and offset.
    pub affine: Affine<'a>,
    /// Added before the activation, of the shape of `x`.
    pub residual: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Activation,
    /// Added to the variance before the root.
    pub epsilon: f32,
    /// The prediction; without it this is batch normalization of every group.
    pub source: Option<Source<'a>>,
    /// Whether the state for the next link is that behind normalization, scale and offset; otherwise it is the posterior.
    pub hands_on_normalized: bool,
    /// Added to the state for the next link.
    pub shortcut: Option<ShortcutState<'a>>,
}

impl<'a> KalmanLink<'a> {
    fn units(&self) -> usize {
        self.groups * self.shape.channels
    }

    fn check(&self) -> Result {
        check_units(self.groups, self.shape.channels)?;
        let units = self.units();
        if let Some(Source { transition, .. }) = self.source {
            let fits = transition
                .is_none_or(|t| t.groups == self.groups && t.out_channels == self.shape.channels);
            if !fits {
                return Err(KernelError::Invalid(format!(
                    "the transition does not lead to {} groups of {} channels",
                    self.groups, self.shape.channels
                )));
            }
        }
        if let Some(ShortcutState { state, .. }) = self.shortcut {
            let whole = self.groups > 0 && state.len().is_multiple_of(2 * self.groups);
            if !whole || state.len() > 2 * units {
                return Err(KernelError::Invalid(format!(
                    "the shortcut's state of {} elements does not fit {} groups of {} channels",
                    state.len(),
                    self.groups,
                    self.shape.channels
                )));
            }
        }
        Ok(())
    }

    fn norm(&self, prior: Option<Prior<'a>>) -> KalmanNorm<'a> {
        KalmanNorm {
            shape: self.shape,
            groups: self.groups,
            x: self.x,
            affine: self.affine,
            prior,
            residual: self.residual,
            activation: self.activation,
        }
    }

    /// Runs `body` with the indices, in the shortcut's state and in the norm's, of every unit of the shortcut.
    fn for_each_shared_unit(&self, shortcut: &[f32], mut body: impl FnMut(usize, usize)) {
        let width = shortcut.len() / (2 * self.groups);
        for row in 0..2 * self.groups {
            for channel in 0..width {
                body(row * width + channel, row * self.shape.channels + channel);
            }
        }
    }
}

/// Runs `body` with the state, behind a ReLU where it says so.
fn with_rectified<R>(
    state: &[f32],
    rectified: bool,
    body: impl FnOnce(&[f32]) -> Result<R>,
) -> Result<R> {
    if !rectified {
        return body(state);
    }
    with_f32(state.len(), |after| {
        rectify(state, after)?;
        body(after)
    })
}

/// [`kalman::forward()`] with the prior predicted as [`predict`] does it, and `state` (`[2, groups, channels]`) for the next link:
/// the posterior, or its [`normalized`] form, plus the shortcut's. `saved` receives [`SAVED`] arrays `[groups, channels]`.
///
/// # Errors
/// Where a length does not fit, the groups do not divide the batch, or a number is out of its range.
pub fn forward(
    link: KalmanLink,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    state: &mut [f32],
    saved: &mut [f32],
) -> Result {
    link.check()?;
    let units = link.units();
    check_length("state", state.len(), 2 * units)?;
    check_length("saved", saved.len(), SAVED * units)?;
    let (saved, posterior) = saved.split_at_mut(kalman::SAVED * units);
    match link.source {
        None => kalman::forward(link.norm(None), link.epsilon, running, y, posterior, saved)?,
        Some(source) => {
            let normalize = |predicted: &[f32]| {
                let prior = Prior {
                    state: predicted,
                    weight: source.weight.value(),
                    guarded: source.guarded,
                };
                let norm = KalmanLink { ..link }.norm(Some(prior));
                kalman::forward(norm, link.epsilon, running, y, posterior, saved)
            };
            match source.transition {
                None => normalize(source.state)?,
                Some(transition) => with_f32(2 * units, |predicted| {
                    with_rectified(source.state, source.rectified, |before| {
                        predict(transition, before, predicted)
                    })?;
                    normalize(predicted)
                })?,
            }
        }
    }
    if link.hands_on_normalized {
        let channels = link.shape.channels;
        normalized(posterior, channels, link.affine, link.epsilon, state)?;
    } else {
        state.copy_from_slice(posterior);
    }
    if let Some(shortcut) = link.shortcut {
        with_rectified(shortcut.state, shortcut.rectified, |other| {
            link.for_each_shared_unit(other, |from, to| state[to] += other[from]);
            Ok(())
        })?;
    }
    Ok(())
}

/// Where [`backward`] writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct LinkGradients<'a> {
    /// The gradients of input, scale and offset.
    pub affine: AffineGradients<'a>,
    /// That of the residual, of its shape.
    pub residual: Option<&'a mut [f32]>,
    /// That of the source's state, of its shape.
    pub state: Option<&'a mut [f32]>,
    /// That of the transition's weight, of its shape.
    pub transition_weight: Option<&'a mut [f32]>,
    /// That of the transition's bias, `[channels]`.
    pub bias: Option<&'a mut [f32]>,
    /// That of the transition's noise, `[channels]`.
    pub noise: Option<&'a mut [f32]>,
    /// That of the prior's weight, or of its logit, `[1]`.
    pub prior_weight: Option<&'a mut [f32]>,
    /// That of the shortcut's state, of its shape.
    pub shortcut: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`], given what it saved, the gradient of `y`, and that of the state where a later link used it.
///
/// # Errors
/// Where a length does not fit, or a gradient is asked for of something that is not there.
pub fn backward(
    link: KalmanLink,
    saved: &[f32],
    dy: &[f32],
    state_gradient: Option<&[f32]>,
    gradients: LinkGradients,
) -> Result {
    link.check()?;
    let units = link.units();
    check_length("saved", saved.len(), SAVED * units)?;
    check_optional("state gradient", state_gradient, 2 * units)?;
    shortcut_gradient(&link, state_gradient, gradients.shortcut)?;
    let (saved, posterior) = saved.split_at(kalman::SAVED * units);
    let AffineGradients { dx, dgamma, dbeta } = gradients.affine;
    let residual = gradients.residual;
    let sources = SourceGradients {
        state: gradients.state,
        weight: gradients.transition_weight,
        bias: gradients.bias,
        noise: gradients.noise,
        prior_weight: gradients.prior_weight,
    };
    let channels = link.shape.channels;
    let Some(outer) = state_gradient.filter(|_| link.hands_on_normalized) else {
        let affine = AffineGradients { dx, dgamma, dbeta };
        return norm_backward(link, saved, dy, state_gradient, affine, residual, sources);
    };
    with_f32(2 * units + 2 * channels, |scratch| {
        let (inner, rest) = scratch.split_at_mut(2 * units);
        let (more_gamma, more_beta) = rest.split_at_mut(channels);
        let (mut dgamma, mut dbeta) = (dgamma, dbeta);
        let own = AffineGradients {
            dx: Some(&mut *inner),
            dgamma: dgamma.is_some().then_some(&mut *more_gamma),
            dbeta: dbeta.is_some().then_some(&mut *more_beta),
        };
        normalized_backward(posterior, channels, link.affine, link.epsilon, outer, own)?;
        let affine = AffineGradients {
            dx,
            dgamma: dgamma.as_deref_mut(),
            dbeta: dbeta.as_deref_mut(),
        };
        norm_backward(link, saved, dy, Some(inner), affine, residual, sources)?;
        for (target, more) in [(dgamma, more_gamma), (dbeta, more_beta)] {
            for (target, more) in target.into_iter().flatten().zip(more) {
                *target += *more;
            }
        }
        Ok(())
    })
}

fn shortcut_gradient(
    link: &KalmanLink,
    state_gradient: Option<&[f32]>,
    target: Option<&mut [f32]>,
) -> Result {
    let Some(target) = target else { return Ok(()) };
    let Some(ShortcutState { state, rectified }) = link.shortcut else {
        return Err(KernelError::Invalid(
            "the gradient of a shortcut's state was asked for, but there is none".into(),
        ));
    };
    check_length("shortcut gradient", target.len(), state.len())?;
    let Some(gradient) = state_gradient else {
        target.fill(0.0);
        return Ok(());
    };
    if !rectified {
        link.for_each_shared_unit(state, |from, to| target[from] = gradient[to]);
        return Ok(());
    }
    with_f32(state.len(), |outer| {
        link.for_each_shared_unit(state, |from, to| outer[from] = gradient[to]);
        rectify_backward(state, outer, target)
    })
}

/// Gradients of what a [`Source`] holds.
struct SourceGradients<'a> {
    state: Option<&'a mut [f32]>,
    weight: Option<&'a mut [f32]>,
    bias: Option<&'a mut [f32]>,
    noise: Option<&'a mut [f32]>,
    prior_weight: Option<&'a mut [f32]>,
}

/// The gradients of the norm and of its prior's source.
fn norm_backward(
    link: KalmanLink,
    saved: &[f32],
    dy: &[f32],
    posterior_gradient: Option<&[f32]>,
    affine: AffineGradients,
    residual: Option<&mut [f32]>,
    sources: SourceGradients,
) -> Result {
    let SourceGradients {
        state,
        weight,
        bias,
        noise,
        mut prior_weight,
    } = sources;
    let Some(source) = link.source else {
        let none = [&state, &weight, &bias, &noise, &prior_weight];
        if none.iter().any(|gradient| gradient.is_some()) {
            return Err(KernelError::Invalid(
                "the gradient of a prior was asked for, but there is no prior".into(),
            ));
        }
        return kalman::backward(
            link.norm(None),
            saved,
            dy,
            posterior_gradient,
            affine,
            residual,
            PriorGradients::default(),
        );
    };
    let units = link.units();
    // The backward pass of the norm reads no more of the prior than that it is there, and its weight.
    with_f32(4 * units, |scratch| {
        let (unread, of_prior) = scratch.split_at_mut(2 * units);
        let prior = Prior {
            state: unread,
            weight: source.weight.value(),
            guarded: source.guarded,
        };
        let wanted = state.is_some() || weight.is_some() || bias.is_some() || noise.is_some();
        let prior_gradients = PriorGradients {
            state: wanted.then_some(&mut *of_prior),
            weight: prior_weight.as_deref_mut(),
        };
        kalman::backward(
            KalmanLink { ..link }.norm(Some(prior)),
            saved,
            dy,
            posterior_gradient,
            affine,
            residual,
            prior_gradients,
        )?;
        for gradient in prior_weight.into_iter().flatten() {
            *gradient = (f64::from(*gradient) * source.weight.slope()) as f32;
        }
        if !wanted {
            return Ok(());
        }
        let Some(transition) = source.transition else {
            if let Some(state) = state {
                check_length("dstate", state.len(), 2 * units)?;
                state.copy_from_slice(of_prior);
            }
            return Ok(());
        };
        with_rectified(source.state, source.rectified, |before| {
            let mut state = state;
            let gradients = TransitionGradients {
                before: state.as_deref_mut(),
                weight,
                bias,
                noise,
            };
            predict_backward(transition, before, of_prior, gradients)?;
            match state {
                Some(state) if source.rectified => with_f32(state.len(), |behind| {
                    behind.copy_from_slice(state);
                    rectify_backward(source.state, behind, state)
                }),
                _ => Ok(()),
            }
        })
    })
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
