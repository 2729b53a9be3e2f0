//! How a convolution is cut into tasks. Decided by shape alone, so that results do not depend on the number of threads.

use super::geometry::Conv2dGeometry;
use super::window::{Parts, Views};

/// Bytes of padded source that a task copies and then reads several times: they share the second-level cache (1 MB on Zen 5,
/// 1.25 MB on Ice Lake) with a panel of weights.
const SOURCE_BYTES: usize = 192 * 1024;
/// Destination pixels of a task, at least: every task reads all weights once, and this many pixels hide that.
const PIXELS: usize = 256;
/// Tasks that a call is cut into where there is enough work, for up to this many threads.
const TASKS: usize = 32;
/// Packed weights beyond this size are read by column, a group of panels per task, instead of whole in every task.
const WEIGHT_BYTES: usize = 1 << 20;

/// How a sweep (forward pass or gradient of the input) is cut.
pub(super) struct SweepPlan {
    /// Parts of the destination's pixels.
    pub parts: Parts,
    /// Panels of one task.
    pub panels: usize,
}

/// Plans a sweep with `panels` panels and `weight_length` packed weights.
pub(super) fn sweep(views: &Views, panels: usize, weight_length: usize) -> SweepPlan {
    let frame = &views.frame;
    let (rows, row_pixels) = (views.rows(), views.row_pixels());
    let total = frame.batch * rows * row_pixels;
    let row_bytes = frame.padded[1] * frame.channels * frame.step[0] * 4;
    let fitting = (SOURCE_BYTES / row_bytes.max(1)).max(1) * row_pixels;
    if weight_length * 4 > WEIGHT_BYTES {
        // Weights are the larger matrix: all pixels at once for a few panels, as far as pixels fit.
        let pixels = (4 * fitting).max(2 * PIXELS);
        SweepPlan {
            parts: Parts::new(frame.batch, rows, row_pixels, pixels),
            panels: panels.div_ceil(8).max(1),
        }
    } else {
        let pixels = (total / TASKS).clamp(48, fitting.max(PIXELS));
        SweepPlan {
            parts: Parts::new(frame.batch, rows, row_pixels, pixels),
            panels,
        }
    }
}

/// How the gradient of the weights is cut.
pub(super) struct WeightPlan {
    /// Parts of the output's pixels.
    pub parts: Parts,
    /// Sums over consecutive parts, each in a gradient of its own; they are added up in order.
    pub segments: usize,
    /// Rows of the gradient in one task, a multiple of the micro-kernel's block, within one run of kernel elements.
    pub rows: usize,
}

/// Plans the gradient of the weights.
pub(super) fn weights(geometry: &Conv2dGeometry, views: &Views, longest_run: usize) -> WeightPlan {
    let frame = &views.frame;
    let (rows, row_pixels) = (views.rows(), views.row_pixels());
    let total = frame.batch * rows * row_pixels;
    let row_bytes = (frame.padded[1] * frame.channels * frame.step[0]
        + row_pixels * geometry.out_channels())
        * 4;
    let fitting = (SOURCE_BYTES / row_bytes.max(1)).max(1) * row_pixels;
    let bytes = geometry.weight_length() * 4;
    if bytes > WEIGHT_BYTES {
        WeightPlan {
            parts: Parts::new(frame.batch, rows, row_pixels, (4 * fitting).max(2 * PIXELS)),
            segments: 1,
            rows: longest_run.div_ceil(8).next_multiple_of(48),
        }
    } else {
        let pixels = (total / TASKS).clamp(48, fitting.max(PIXELS));
        let parts = Parts::new(frame.batch, rows, row_pixels, pixels);
        let segments = ((4 << 20) / bytes.max(1))
            .clamp(1, 16)
            .min(parts.count().max(1));
        WeightPlan {
            parts,
            segments,
            rows: if segments >= 8 {
                longest_run.max(1)
            } else {
                longest_run.div_ceil(4).next_multiple_of(48)
            },
        }
    }
}
