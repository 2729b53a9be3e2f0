//! The Gaussian proxy of every channel at its nodes: statistics of the activation, and their gradients.
//!
//! Lanes are channels. Sums run over a few nodes in f32 and then in f64.

use super::fused::with_fused;
use super::proxy::Proxy;
use super::scratch::{with_f32, with_f64};
use crate::activation::ActivationFunction;
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};

/// Nodes whose terms are added in f32.
const RUN: usize = 8;

/// Fills arrays of `padded` values from one of every channel; the padding stays 0.
fn fill(arrays: &mut [f32], padded: usize, channels: usize, value: impl Fn(usize, usize) -> f32) {
    for (index, array) in arrays.chunks_exact_mut(padded).enumerate() {
        for (channel, target) in array.iter_mut().enumerate().take(channels) {
            *target = value(index, channel);
        }
    }
}

/// Writes the mean and the inverse deviation of every channel to `output`, `[2, channels]`.
pub(super) fn node_statistics(proxy: &Proxy, epsilon: f32, output: &mut [f32]) {
    let channels = proxy.gamma.len();
    let padded = channels.next_multiple_of(MAX_LANES);
    let (mean, scale) = output.split_at_mut(channels);
    with_f32(2 * padded + MAX_LANES * proxy.nodes.len(), |scratch| {
        let (lines, values) = scratch.split_at_mut(2 * padded);
        fill(lines, padded, channels, |index, channel| {
            let (slope, offset) = proxy.line(channel);
            if index == 0 { slope } else { offset }
        });
        with_f64(2 * padded, |sums| {
            with_fused!(proxy.activation, |activation| dispatch(Statistics {
                lines,
                nodes: proxy.nodes,
                values,
                sums,
                activation,
            }));
            let count = proxy.nodes.len() as f64;
            for channel in 0..channels {
                mean[channel] = sums[channel] as f32;
                let variance = sums[padded + channel] / count;
                scale[channel] = (1.0 / (variance + f64::from(epsilon)).sqrt()) as f32;
            }
        });
    });
}

/// The means, and the sums of squared deviations, of every column.
struct Statistics<'a, A> {
    /// Slopes and offsets.
    lines: &'a [f32],
    nodes: &'a [f32],
    /// Room for the activated nodes of one vector of columns.
    values: &'a mut [f32],
    sums: &'a mut [f64],
    activation: A,
}

impl<A: ActivationFunction> SimdOp for Statistics<'_, A> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let padded = self.lines.len() / 2;
        assert_eq!(self.sums.len(), 2 * padded);
        assert_eq!(self.values.len(), MAX_LANES * self.nodes.len());
        let inverse = simd.splat64(1.0 / self.nodes.len() as f64);
        let mut column = 0;
        while column < padded {
            // SAFETY: `column + LANES <= padded`, as padded is a multiple of every vector's width; `values` holds a vector for each
            // node.
            unsafe {
                let slope = simd.load(self.lines.as_ptr().add(column));
                let offset = simd.load(self.lines.as_ptr().add(padded + column));
                let mut total = [simd.splat64(0.0); 2];
                for start in (0..self.nodes.len()).step_by(RUN) {
                    let mut sum = simd.zero();
                    for index in start..self.nodes.len().min(start + RUN) {
                        let node = simd.splat(self.nodes[index]);
                        let value = self.activation.apply(simd, simd.fma(slope, node, offset));
                        simd.store(value, self.values.as_mut_ptr().add(index * S::LANES));
                        sum = simd.add(sum, value);
                    }
                    let [low, high] = simd.widen(sum);
                    total = [simd.add64(total[0], low), simd.add64(total[1], high)];
                }
                let mean = [simd.mul64(total[0], inverse), simd.mul64(total[1], inverse)];
                let center = simd.narrow(mean);
                let mut squares = [simd.splat64(0.0); 2];
                for start in (0..self.nodes.len()).step_by(RUN) {
                    let mut sum = simd.zero();
                    for index in start..self.nodes.len().min(start + RUN) {
                        let value = simd.load(self.values.as_ptr().add(index * S::LANES));
                        let deviation = simd.sub(value, center);
                        sum = simd.fma(deviation, deviation, sum);
                    }
                    let [low, high] = simd.widen(sum);
                    squares = [simd.add64(squares[0], low), simd.add64(squares[1], high)];
                }
                for half in 0..2 {
                    let target = self.sums.as_mut_ptr().add(column + half * S::LANES / 2);
                    simd.store64(mean[half], target);
                    simd.store64(squares[half], target.add(padded));
                }
            }
            column += S::LANES;
        }
    }
}

/// Writes Σ dv and Σ dv * node, `[2, channels]`, where `v` is a node in front of the activation: the gradients of mean and inverse
/// deviation (`statistics`, as [`node_statistics`] wrote them) follow from `values`, Σ dy and Σ dy * (activation - mean) of every channel.
pub(super) fn node_gradients(
    proxy: &Proxy,
    statistics: &[f32],
    values: &[f32],
    output: &mut [f64],
) {
    let channels = proxy.gamma.len();
    let padded = channels.next_multiple_of(MAX_LANES);
    let (mean, scale) = statistics.split_at(channels);
    let (plain, along) = values.split_at(channels);
    let count = proxy.nodes.len() as f64;
    // y = (a - m) r: dm = -r Σ dy, and dr = Σ dy (a - m), with dr / d variance = -r³ / 2.
    let gradients = |channel: usize| {
        let scale = f64::from(scale[channel]);
        let (plain, along) = (f64::from(plain[channel]), f64::from(along[channel]));
        (-scale * plain / count, -scale.powi(3) * along / count)
    };
    with_f32(5 * padded, |columns| {
        fill(columns, padded, channels, |index, channel| match index {
            0 => proxy.line(channel).0,
            1 => proxy.line(channel).1,
            2 => mean[channel],
            3 => gradients(channel).0 as f32,
            _ => gradients(channel).1 as f32,
        });
        with_f64(2 * padded, |sums| {
            with_fused!(proxy.activation, |activation| dispatch(Gradients {
                columns,
                nodes: proxy.nodes,
                sums,
                activation,
            }));
            output[..channels].copy_from_slice(&sums[..channels]);
            output[channels..].copy_from_slice(&sums[padded..padded + channels]);
        });
    });
}

/// `dv = activation'(v) (constant + factor (activation(v) - mean))`, summed alone and times the node.
struct Gradients<'a, A> {
    /// Slopes, offsets, means, constants, factors.
    columns: &'a [f32],
    nodes: &'a [f32],
    sums: &'a mut [f64],
    activation: A,
}

impl<A: ActivationFunction> SimdOp for Gradients<'_, A> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let padded = self.columns.len() / 5;
        assert_eq!(self.sums.len(), 2 * padded);
        let mut column = 0;
        while column < padded {
            // SAFETY: `column + LANES <= padded`, as padded is a multiple of every vector's width.
            unsafe {
                let mut p = [simd.zero(); 5];
                for (index, p) in p.iter_mut().enumerate() {
                    *p = simd.load(self.columns.as_ptr().add(index * padded + column));
                }
                let [slope, offset, mean, constant, factor] = p;
                let mut totals = [[simd.splat64(0.0); 2]; 2];
                for nodes in self.nodes.chunks(RUN) {
                    let mut sums = [simd.zero(); 2];
                    for &node in nodes {
                        let node = simd.splat(node);
                        let v = simd.fma(slope, node, offset);
                        let deviation = simd.sub(self.activation.apply(simd, v), mean);
                        let da = simd.fma(factor, deviation, constant);
                        let dv = self.activation.gradient(simd, v, da);
                        sums[0] = simd.add(sums[0], dv);
                        sums[1] = simd.fma(dv, node, sums[1]);
                    }
                    for (total, sum) in totals.iter_mut().zip(sums) {
                        let [low, high] = simd.widen(sum);
                        *total = [simd.add64(total[0], low), simd.add64(total[1], high)];
                    }
                }
                for (index, [low, high]) in totals.into_iter().enumerate() {
                    let target = self.sums.as_mut_ptr().add(index * padded + column);
                    simd.store64(low, target);
                    simd.store64(high, target.add(S::LANES / 2));
                }
            }
            column += S::LANES;
        }
    }
}
