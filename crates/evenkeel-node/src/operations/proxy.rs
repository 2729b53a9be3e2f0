//! Proxy normalization, with the activation fused.

use super::Family;
use super::normalization::{Wanted, activation, shape};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::Shape;
use evenkeel_kernels::norm::proxy::{self, Proxy, ProxyGradients, ProxyNorm};

pub const OPERATIONS: Family = &[
    ("proxy_statistics", statistics),
    ("proxy_norm", forward),
    ("proxy_norm_backward", backward),
];

/// The next arguments: `gamma, beta, proxyGamma, proxyBeta`.
struct ProxySlots([usize; 4]);

impl ProxySlots {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        let mut slots = [0; 4];
        for slot in &mut slots {
            *slot = arguments.slot()?;
        }
        Ok(ProxySlots(slots))
    }

    fn get<'a>(&self, heap: &'a Heap, activation: Activation) -> Outcome<Proxy<'a>> {
        let ProxySlots([gamma, beta, proxy_gamma, proxy_beta]) = *self;
        Ok(Proxy {
            gamma: heap.f32(gamma)?,
            beta: heap.f32(beta)?,
            proxy_gamma: heap.f32(proxy_gamma)?,
            proxy_beta: heap.f32(proxy_beta)?,
            activation,
        })
    }
}

/// `[statistics] proxy_statistics(gamma, beta, proxyGamma, proxyBeta, nodes, epsilon, activation …)`.
fn statistics(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let slots = ProxySlots::read(arguments)?;
    let nodes = arguments.slot()?;
    let epsilon = arguments.f32()?;
    let proxy = slots.get(heap, activation(arguments)?)?;
    let mut output = heap.allocate_f32(proxy::STATISTICS * proxy.gamma.len())?;
    proxy::statistics(proxy, heap.f32(nodes)?, epsilon, output.f32_mut()?)?;
    heap.put(arguments.output(0)?, output);
    Ok(())
}

/// What both passes read: `input, gamma, beta, proxyGamma, proxyBeta, statistics, saved (backward only), batch, positions,
/// channels, groups, activation …`.
struct NormArguments {
    input: usize,
    proxy: ProxySlots,
    statistics: usize,
    saved: Option<usize>,
    shape: Shape,
    groups: usize,
    activation: Activation,
}

impl NormArguments {
    fn read(arguments: &mut Arguments, backward: bool) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            proxy: ProxySlots::read(arguments)?,
            statistics: arguments.slot()?,
            saved: if backward {
                Some(arguments.slot()?)
            } else {
                None
            },
            shape: shape(arguments)?,
            groups: arguments.usize()?,
            activation: activation(arguments)?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<ProxyNorm<'a>> {
        Ok(ProxyNorm {
            shape: self.shape,
            groups: self.groups,
            x: heap.f32(self.input)?,
            proxy: self.proxy.get(heap, self.activation)?,
            statistics: heap.f32(self.statistics)?,
        })
    }
}

/// `[output, saved] proxy_norm(…, epsilon)` with the arguments of [`NormArguments::read`] in front.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments, false)?;
    let epsilon = arguments.f32()?;
    let mut output = heap.allocate_f32(norm.shape.elements()?)?;
    let mut saved = heap.allocate_f32(3 * norm.shape.batch * norm.groups)?;
    proxy::forward(
        norm.get(heap)?,
        epsilon,
        output.f32_mut()?,
        saved.f32_mut()?,
    )?;
    heap.put(arguments.output(0)?, output);
    heap.put(arguments.output(1)?, saved);
    Ok(())
}

/// `[gradients of input, gamma, beta, proxyGamma, proxyBeta] proxy_norm_backward(outputGradient, …, wants …)` with the arguments of
/// [`NormArguments::read`].
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = NormArguments::read(arguments, true)?;
    let channels = norm.shape.channels;
    let lengths = [
        norm.shape.elements()?,
        channels,
        channels,
        channels,
        channels,
    ];
    let mut wanted = Wanted::read(heap, arguments, lengths)?;
    let [dx, dgamma, dbeta, dproxy_gamma, dproxy_beta] = wanted.get()?;
    let saved = norm
        .saved
        .ok_or_else(|| Failure::internal("no saved statistics"))?;
    proxy::backward(
        norm.get(heap)?,
        heap.f32(saved)?,
        heap.f32(gradient)?,
        ProxyGradients {
            dx,
            dgamma,
            dbeta,
            dproxy_gamma,
            dproxy_beta,
        },
    )?;
    wanted.put(heap, arguments)
}
