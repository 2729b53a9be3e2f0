//! Proxy normalization, with the activation fused.

use super::Family;
use super::normalization_arguments::{Passed, activation, fill, fill_wanted, shape};
use crate::arguments::Arguments;
use crate::failure::Outcome;
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

/// `input, gamma, beta, proxyGamma, proxyBeta, statistics, batch, positions, channels, groups, activation …`.
struct NormArguments {
    input: usize,
    proxy: ProxySlots,
    statistics: usize,
    shape: Shape,
    groups: usize,
    activation: Activation,
}

impl NormArguments {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(NormArguments {
            input: arguments.slot()?,
            proxy: ProxySlots::read(arguments)?,
            statistics: arguments.slot()?,
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

/// `[output, saved] proxy_norm(…NormArguments, epsilon)`.
fn forward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = NormArguments::read(arguments)?;
    let epsilon = arguments.f32()?;
    let lengths = [norm.shape.elements()?, 3 * norm.shape.batch * norm.groups];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        Ok(proxy::forward(norm.get(heap)?, epsilon, y, saved)?)
    })
}

/// `[gradients of input, gamma, beta, proxyGamma, proxyBeta] proxy_norm_backward(…Passed, …NormArguments, wants …)`.
fn backward(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = NormArguments::read(arguments)?;
    let (elements, channels) = (norm.shape.elements()?, norm.shape.channels);
    let lengths = [elements, channels, channels, channels, channels];
    fill_wanted(heap, arguments, lengths, |heap, gradients| {
        let [dx, dgamma, dbeta, dproxy_gamma, dproxy_beta] = gradients;
        let gradients = ProxyGradients {
            dx,
            dgamma,
            dbeta,
            dproxy_gamma,
            dproxy_beta,
        };
        let (saved, gradient) = (passed.saved(heap)?, passed.gradient(heap)?);
        Ok(proxy::backward(
            norm.get(heap)?,
            saved,
            gradient,
            gradients,
        )?)
    })
}
