//! The Gaussian proxy of every channel at its nodes: statistics of the activation, and what their gradients need.
//!
//! Lanes are channels. Sums run over a few nodes in f32 and then in f64.

use super::fused::with_fused;
use super::moments::inverse_root;
use super::proxy::{Proxy, STATISTICS};
use crate::activation::ActivationFunction;
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_f32, with_f64};

/// Nodes whose terms are added in f32.
const RUN: usize = 8;

/// Columns of a task.
const BLOCK: usize = 4 * MAX_LANES;

/// Writes the statistics of every channel to `output`, `[STATISTICS, channels]`.
pub(super) fn node_statistics(proxy: &Proxy, nodes: &[f32], epsilon: f32, output: &mut [f32]) {
    let channels = proxy.gamma.len();
    let output = DisjointMut::new(output);
    // An activation costs as much as a few elementary operations.
    let work = channels.saturating_mul(4 * nodes.len());
    for_each_task(channels.div_ceil(BLOCK), work, |task| {
        let own = piece(task, BLOCK, channels);
        let padded = own.len().next_multiple_of(MAX_LANES);
        with_f32(2 * padded + 2 * MAX_LANES * nodes.len(), |scratch| {
            let (lines, values) = scratch.split_at_mut(2 * padded);
            for (column, channel) in own.clone().enumerate() {
                let (slope, offset) = proxy.line(channel);
                lines[column] = slope;
                lines[padded + column] = offset;
            }
            with_f64(STATISTICS * padded, |means| {
                with_fused!(proxy.activation, |activation| dispatch(Statistics {
                    lines,
                    nodes,
                    values,
                    means,
                    activation,
                }));
                for variance in &mut means[padded..2 * padded] {
                    *variance = f64::from(inverse_root(*variance, f64::from(epsilon)));
                }
                for (index, means) in means.chunks_exact(padded).enumerate() {
                    let start = index * channels;
                    // SAFETY: tasks have different channels.
                    let output = unsafe { output.part(start + own.start..start + own.end) };
                    for (output, mean) in output.iter_mut().zip(means) {
                        *output = *mean as f32;
                    }
                }
            });
        });
    });
}

/// The means over the nodes, for every column: of the activation, its squared deviation, its slope, slope * node, slope * deviation
/// and slope * deviation * node.
struct Statistics<'a, A> {
    /// Slopes and offsets of the lines that lead from a node to the activation.
    lines: &'a [f32],
    nodes: &'a [f32],
    /// Room for the activated nodes of one vector of columns, and their slopes.
    values: &'a mut [f32],
    means: &'a mut [f64],
    activation: A,
}

impl<A: ActivationFunction> SimdOp for Statistics<'_, A> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let padded = self.lines.len() / 2;
        let count = self.nodes.len();
        assert_eq!(self.means.len(), STATISTICS * padded);
        assert_eq!(self.values.len(), 2 * MAX_LANES * count);
        let inverse = simd.splat64(1.0 / count as f64);
        let one = simd.splat(1.0);
        let mut column = 0;
        while column < padded {
            // SAFETY: `column + LANES <= padded`, as padded is a multiple of every vector's width; `values` holds two vectors for each
            // node.
            unsafe {
                let line = simd.load(self.lines.as_ptr().add(column));
                let offset = simd.load(self.lines.as_ptr().add(padded + column));
                let values = self.values.as_mut_ptr();
                let slopes = values.add(count * S::LANES);
                let mut total = [simd.splat64(0.0); 2];
                for start in (0..count).step_by(RUN) {
                    let mut sum = simd.zero();
                    for index in start..count.min(start + RUN) {
                        let v = simd.fma(line, simd.splat(self.nodes[index]), offset);
                        let (value, slope) = self.activation.value_and_gradient(simd, v, one);
                        simd.store(value, values.add(index * S::LANES));
                        simd.store(slope, slopes.add(index * S::LANES));
                        sum = simd.add(sum, value);
                    }
                    let [low, high] = simd.widen(sum);
                    total = [simd.add64(total[0], low), simd.add64(total[1], high)];
                }
                let mean = [simd.mul64(total[0], inverse), simd.mul64(total[1], inverse)];
                let center = simd.narrow(mean);
                let mut totals = [[simd.splat64(0.0); 2]; STATISTICS - 1];
                for start in (0..count).step_by(RUN) {
                    let mut sums = [simd.zero(); STATISTICS - 1];
                    for index in start..count.min(start + RUN) {
                        let node = simd.splat(self.nodes[index]);
                        let slope = simd.load(slopes.add(index * S::LANES));
                        let value = simd.load(values.add(index * S::LANES));
                        let deviation = simd.sub(value, center);
                        let steep = simd.mul(slope, deviation);
                        sums[0] = simd.fma(deviation, deviation, sums[0]);
                        sums[1] = simd.add(sums[1], slope);
                        sums[2] = simd.fma(slope, node, sums[2]);
                        sums[3] = simd.add(sums[3], steep);
                        sums[4] = simd.fma(steep, node, sums[4]);
                    }
                    for (total, sum) in totals.iter_mut().zip(sums) {
                        let [low, high] = simd.widen(sum);
                        *total = [simd.add64(total[0], low), simd.add64(total[1], high)];
                    }
                }
                for half in 0..2 {
                    let target = self.means.as_mut_ptr().add(column + half * S::LANES / 2);
                    simd.store64(mean[half], target);
                    for (index, total) in totals.iter().enumerate() {
                        let target = target.add((index + 1) * padded);
                        simd.store64(simd.mul64(total[half], inverse), target);
                    }
                }
            }
            column += S::LANES;
        }
    }
}

/// Σ dv and Σ dv * node of a channel, where `v` is a node in front of the activation: the gradients of mean and inverse deviation
/// follow from `plain`, Σ dy, and `along`, Σ dy * (activation - mean).
///
/// With y = (a - m) r, dm = -r Σ dy, and dr = Σ dy (a - m), where dr / d variance = -r³ / 2. So dv = slope (dm + factor (a - m)) / count,
/// and the sums over the nodes are those of the statistics.
pub(super) fn node_gradients(
    statistics: &[f32],
    channels: usize,
    channel: usize,
    plain: f64,
    along: f64,
) -> (f64, f64) {
    let mean_of = |index: usize| f64::from(statistics[index * channels + channel]);
    let scale = mean_of(1);
    let (constant, factor) = (-scale * plain, -scale.powi(3) * along);
    (
        constant * mean_of(2) + factor * mean_of(4),
        constant * mean_of(3) + factor * mean_of(5),
    )
}
