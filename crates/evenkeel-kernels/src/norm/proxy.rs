//! Proxy normalization: layer or group normalization, affine part, activation, and then the standardization of every channel by
//! what the activation would give for a Gaussian input.
//!
//! Labatie, Masters, Eaton-Rosen, Luschi, "Proxy-Normalizing Activations to Match Batch Normalization while Removing Batch
//! Dependence", NeurIPS 2021.
//!
//! The proxy's mean `m` and inverse deviation `r` depend on parameters alone ([`statistics`]), so for the data they are constants: the
//! forward map ends with one multiplication and one addition more, and the backward map is that of the norm, with `gamma * r` for the
//! scale of the gradient. Besides the sums of a norm the backward pass adds up `dy` and `dy * activation`; with those, sums over the
//! proxy's nodes, which depend on parameters alone too, give the gradients of `m` and `r`.

use super::affine::{
    BackwardInputs, CENTER, FORWARD_PARAMETERS, INVERSE, OFFSET, SCALE, SUM_PARAMETERS,
};
use super::centred::{self, add_pieces, sum_samples};
use super::columns::{Place, Terms, load, map_columns, store, sum_columns};
use super::fused::with_fused;
use super::geometry::{Affine, Groups, Shape, check_epsilon, check_optional};
use super::group::check_groups;
use super::proxy_nodes::{node_gradients, node_statistics};
use super::slab::{self, Passes, Slab};
use crate::activation::{Activation, ActivationFunction};
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;
use crate::parallel::DisjointMut;
use crate::scratch::with_f32;
use std::ops::Range;

/// Arrays of `channels` values that [`statistics`] writes: the mean and the inverse deviation of the activated proxy, and four means
/// from which the gradients of both follow.
pub const STATISTICS: usize = 6;

/// The parameters of the proxy, each `[channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Proxy<'a> {
    /// Scale in front of the activation.
    pub gamma: &'a [f32],
    /// Offset in front of the activation.
    pub beta: &'a [f32],
    /// The proxy's deviation less 1.
    pub proxy_gamma: &'a [f32],
    /// The proxy's mean.
    pub proxy_beta: &'a [f32],
    /// What follows scale and offset.
    pub activation: Activation,
}

impl<'a> Proxy<'a> {
    fn check(&self, channels: usize) -> Result {
        check_length("gamma", self.gamma.len(), channels)?;
        check_length("beta", self.beta.len(), channels)?;
        check_length("proxy gamma", self.proxy_gamma.len(), channels)?;
        check_length("proxy beta", self.proxy_beta.len(), channels)
    }

    fn affine(&self) -> Affine<'a> {
        Affine {
            gamma: Some(self.gamma),
            beta: Some(self.beta),
        }
    }

    /// `(a, b)` with which node q is `activation(a q + b)`.
    pub(super) fn line(&self, channel: usize) -> (f32, f32) {
        let gamma = f64::from(self.gamma[channel]);
        let slope = gamma * (1.0 + f64::from(self.proxy_gamma[channel]));
        let offset = gamma * f64::from(self.proxy_beta[channel]) + f64::from(self.beta[channel]);
        (slope as f32, offset as f32)
    }
}

/// The mean of every channel's activated proxy, `1 / sqrt(variance + epsilon)` (at most the largest f32), and what the gradients of both need: `output` is
/// `[STATISTICS, channels]`. `nodes` are quantiles of the standard normal distribution, at least 1.
///
/// # Errors
/// Where a length does not fit, there are no nodes, or epsilon is negative or not finite.
pub fn statistics(proxy: Proxy, nodes: &[f32], epsilon: f32, output: &mut [f32]) -> Result {
    let channels = proxy.gamma.len();
    proxy.check(channels)?;
    if nodes.is_empty() {
        return Err(KernelError::Invalid("a proxy needs nodes".into()));
    }
    check_length("proxy statistics", output.len(), STATISTICS * channels)?;
    check_epsilon(epsilon)?;
    node_statistics(&proxy, nodes, epsilon, output);
    Ok(())
}

/// What both passes read.
#[derive(Clone, Copy, Debug)]
pub struct ProxyNorm<'a> {
    /// The shape of `x`.
    pub shape: Shape,
    /// Groups of neighbouring channels that share their statistics.
    pub groups: usize,
    /// The input.
    pub x: &'a [f32],
    /// The parameters.
    pub proxy: Proxy<'a>,
    /// What [`statistics`] found for these parameters: `[STATISTICS, channels]`.
    pub statistics: &'a [f32],
}

impl<'a> ProxyNorm<'a> {
    /// Checks the lengths; returns the slab and the length of what is saved.
    fn check(&self) -> Result<(Slab, usize)> {
        let Shape {
            batch,
            positions,
            channels,
        } = self.shape;
        check_length("x", self.x.len(), self.shape.elements()?)?;
        self.proxy.check(channels)?;
        let statistics = self.statistics.len();
        check_length("proxy statistics", statistics, STATISTICS * channels)?;
        let saved = check_groups(self.shape, self.groups)?;
        Ok((Slab::new(batch, positions, channels), saved))
    }
}

/// `y = (activation(normalized x * gamma + beta) - m) * r`, the statistics of the normalization those of [`super::group`].
///
/// `saved` receives `[3, batch, groups]`, as from [`super::group::forward`].
///
/// # Errors
/// Where a length does not fit, `groups` does not divide the channels, or epsilon is negative or not finite.
pub fn forward(norm: ProxyNorm, epsilon: f32, y: &mut [f32], saved: &mut [f32]) -> Result {
    let (slab, saved_length) = norm.check()?;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), saved_length)?;
    check_epsilon(epsilon)?;
    if norm.shape.channels == 0 {
        saved.fill(0.0);
        return Ok(());
    }
    let (y, saved) = (DisjointMut::new(y), DisjointMut::new(saved));
    with_fused!(norm.proxy.activation, |activation| slab::run(
        slab,
        &Forward {
            norm: centred::Forward::<_, false> {
                slab,
                groups: Groups::new(norm.shape.channels, norm.groups),
                x: norm.x,
                residual: &[],
                affine: norm.proxy.affine(),
                epsilon,
                activation,
                y,
                saved,
            },
            statistics: norm.statistics,
        },
        |_, _| {}
    ));
    Ok(())
}

/// Where [`backward`] writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct ProxyGradients<'a> {
    /// The gradient of the input, of its shape.
    pub dx: Option<&'a mut [f32]>,
    /// The gradient of the scale, `[channels]`, as the following ones.
    pub dgamma: Option<&'a mut [f32]>,
    /// The gradient of the offset.
    pub dbeta: Option<&'a mut [f32]>,
    /// The gradient of the proxy's deviation.
    pub dproxy_gamma: Option<&'a mut [f32]>,
    /// The gradient of the proxy's mean.
    pub dproxy_beta: Option<&'a mut [f32]>,
}

/// The gradients of [`forward`] and [`statistics`] together, given that of `y` and what `forward` saved.
///
/// # Errors
/// Where a length does not fit, or `groups` does not divide the channels.
pub fn backward(norm: ProxyNorm, saved: &[f32], dy: &[f32], gradients: ProxyGradients) -> Result {
    let (slab, saved_length) = norm.check()?;
    let channels = norm.shape.channels;
    let ProxyGradients {
        dx,
        dgamma,
        dbeta,
        dproxy_gamma,
        dproxy_beta,
    } = gradients;
    let parameters = [dgamma, dbeta, dproxy_gamma, dproxy_beta];
    check_length("saved", saved.len(), saved_length)?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_optional("dx", dx.as_deref(), norm.x.len())?;
    for gradient in &parameters {
        check_optional("a parameter's gradient", gradient.as_deref(), channels)?;
    }
    if channels == 0 {
        return Ok(());
    }
    with_f32(5 * channels, |scratch| {
        let (scaled, sums) = scratch.split_at_mut(channels);
        for channel in 0..channels {
            scaled[channel] = norm.proxy.gamma[channel] * norm.statistics[channels + channel];
        }
        let scaled = Affine {
            gamma: Some(scaled),
            beta: None,
        };
        let dx = dx.map(DisjointMut::new);
        with_fused!(norm.proxy.activation, |activation| slab::run(
            slab,
            &Backward {
                norm: centred::Backward::<_, false> {
                    slab,
                    groups: Groups::new(norm.shape.channels, norm.groups),
                    constants: false,
                    affine: norm.proxy.affine(),
                    saved,
                    inputs: BackwardInputs {
                        x: norm.x,
                        residual: &[],
                        dy,
                        activation,
                    },
                    dx,
                    dresidual: None,
                },
                scaled,
            },
            |all, stride| {
                for (index, sum) in sums.chunks_exact_mut(channels).enumerate() {
                    sum_samples(all, stride, index * channels, Some(sum));
                }
            }
        ));
        finish_parameters(&norm, sums, parameters);
    });
    Ok(())
}

/// The gradients of the parameters, from the four sums of every channel.
fn finish_parameters(norm: &ProxyNorm, sums: &[f32], gradients: [Option<&mut [f32]>; 4]) {
    let proxy = &norm.proxy;
    let channels = proxy.gamma.len();
    let [mut dgamma, mut dbeta, mut dproxy_gamma, mut dproxy_beta] = gradients;
    for channel in 0..channels {
        let sum = |index: usize| f64::from(sums[index * channels + channel]);
        let centred = sum(3) - f64::from(norm.statistics[channel]) * sum(2);
        let (all, along) = node_gradients(norm.statistics, channels, channel, sum(2), centred);
        let scale = f64::from(norm.statistics[channels + channel]);
        let gamma = f64::from(proxy.gamma[channel]);
        let deviation = 1.0 + f64::from(proxy.proxy_gamma[channel]);
        let mean = f64::from(proxy.proxy_beta[channel]);
        let write = |target: &mut Option<&mut [f32]>, value: f64| {
            if let Some(target) = target {
                target[channel] = value as f32;
            }
        };
        write(&mut dbeta, scale * sum(0) + all);
        write(&mut dgamma, scale * sum(1) + deviation * along + mean * all);
        write(&mut dproxy_gamma, gamma * along);
        write(&mut dproxy_beta, gamma * all);
    }
}

/// Parameters of [`NormalizeProxied`]: those of the norm, `r` and `-m r`.
const MAP_PARAMETERS: usize = FORWARD_PARAMETERS + 2;

struct Forward<'a, A> {
    norm: centred::Forward<'a, A, false>,
    statistics: &'a [f32],
}

impl<A: ActivationFunction> Passes for Forward<'_, A> {
    fn measurement_length(&self) -> usize {
        self.norm.measurement_length()
    }

    fn parameter_length(&self) -> usize {
        MAP_PARAMETERS * self.norm.slab.columns.padded
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        self.norm.measure(range, parameters, measurement);
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.norm.slab.columns;
        let (own, outer) = parameters.split_at_mut(FORWARD_PARAMETERS * columns.padded);
        self.norm.finish(sample, measurements, own);
        let (factor, constant) = outer.split_at_mut(columns.padded);
        let (mean, rest) = self.statistics.split_at(columns.channels);
        let scale = &rest[..columns.channels];
        for channel in 0..columns.channels {
            factor[channel] = scale[channel];
            constant[channel] = -mean[channel] * scale[channel];
        }
        columns.spread(factor);
        columns.spread(constant);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        // SAFETY: ranges of different tasks do not overlap.
        let y = unsafe { self.norm.y.part(range.clone()) };
        let columns = self.norm.slab.columns;
        let x = &self.norm.x[range];
        assert_eq!(x.len(), y.len());
        let terms = NormalizeProxied {
            x,
            y,
            activation: self.norm.activation,
        };
        map_columns(columns, parameters, terms);
    }
}

/// `y = activation(normalized x * gamma + beta) * r - m r`.
struct NormalizeProxied<'a, A> {
    x: &'a [f32],
    y: &'a mut [f32],
    activation: A,
}

// SAFETY: `Forward::map` checked that both arrays have `length` elements.
unsafe impl<A: ActivationFunction> Terms<0, MAP_PARAMETERS> for NormalizeProxied<'_, A> {
    fn length(&self) -> usize {
        self.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; MAP_PARAMETERS],
        _: &mut [S::F32; 0],
    ) {
        let [center, scale, offset, factor, constant] = *p;
        // SAFETY: `place` is inside of `length`.
        unsafe {
            let x = load(simd, self.x, place);
            let z = simd.fma(simd.sub(x, center), scale, offset);
            let y = simd.fma(self.activation.apply(simd, z), factor, constant);
            store(simd, y, self.y, place);
        }
    }
}

/// Sums of a channel: Σ dz, Σ dz * normalized x, Σ dy, Σ dy * activation, where dz lacks the factor `r`.
const SUMS: usize = 4;
/// The sums without the last, where that follows from the others: see [`ActivationFunction::HOMOGENEOUS`].
const FEWER_SUMS: usize = SUMS - 1;

struct Backward<'a, A> {
    norm: centred::Backward<'a, A, false>,
    /// `gamma * r`, which scales the gradient of the normalized value.
    scaled: Affine<'a>,
}

impl<A: ActivationFunction> Backward<'_, A> {
    fn add_up<const N: usize>(&self, range: Range<usize>, parameters: &[f32], sums: &mut [f64]) {
        let columns = self.norm.slab.columns;
        let terms = ProxySums::<A, N> {
            inputs: self.norm.inputs.part(range),
        };
        assert_eq!(terms.inputs.x.len(), terms.inputs.dy.len());
        columns.gathered(sums, |sums| sum_columns(columns, parameters, terms, sums));
    }
}

impl<A: ActivationFunction> Passes for Backward<'_, A> {
    fn measurement_length(&self) -> usize {
        SUMS * self.norm.slab.columns.channels
    }

    fn parameter_length(&self) -> usize {
        self.norm.parameter_length()
    }

    fn prepare(&self, sample: usize, parameters: &mut [f32]) {
        self.norm.prepare(sample, parameters);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        if A::HOMOGENEOUS {
            let sums = &mut measurement[..FEWER_SUMS * self.norm.slab.columns.channels];
            self.add_up::<FEWER_SUMS>(range, parameters, sums);
        } else {
            self.add_up::<SUMS>(range, parameters, measurement);
        }
    }

    fn finish(&self, sample: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let channels = self.norm.slab.columns.channels;
        add_pieces(measurements, SUMS * channels);
        let (sums, outer) = measurements.split_at_mut(2 * channels);
        self.norm
            .finish_scaled(&self.scaled, sample, sums, parameters);
        if A::HOMOGENEOUS {
            // dy * activation = dz * (normalized x * gamma + beta).
            let affine = &self.norm.affine;
            for channel in 0..channels {
                let [gamma, beta] = [affine.gamma(channel), affine.beta(channel)].map(f64::from);
                outer[channels + channel] = gamma * sums[channels + channel] + beta * sums[channel];
            }
        }
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        self.norm.map(range, parameters);
    }
}

/// `N` is [`SUMS`] or [`FEWER_SUMS`].
struct ProxySums<'a, A, const N: usize> {
    inputs: BackwardInputs<'a, A>,
}

// SAFETY: `Backward::add_up` checked that the inputs have the same length.
unsafe impl<A: ActivationFunction, const N: usize> Terms<N, SUM_PARAMETERS>
    for ProxySums<'_, A, N>
{
    fn length(&self) -> usize {
        self.inputs.x.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        p: &[S::F32; SUM_PARAMETERS],
        sums: &mut [S::F32; N],
    ) {
        let activation = self.inputs.activation;
        // SAFETY: `place` is inside of `length`.
        let (x, dy) = unsafe {
            (
                load(simd, self.inputs.x, place),
                load(simd, self.inputs.dy, place),
            )
        };
        let centred = simd.sub(x, p[CENTER]);
        let z = simd.fma(centred, p[SCALE], p[OFFSET]);
        let dz = if N == SUMS {
            let (value, dz) = activation.value_and_gradient(simd, z, dy);
            sums[3] = simd.fma(dy, value, sums[3]);
            dz
        } else {
            activation.gradient(simd, z, dy)
        };
        sums[0] = simd.add(sums[0], dz);
        sums[1] = simd.fma(dz, simd.mul(centred, p[INVERSE]), sums[1]);
        sums[2] = simd.add(sums[2], dy);
    }
}

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
