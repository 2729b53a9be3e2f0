//! Which convolutions are computed from planes, and how they are cut into tasks: by shape alone, as in [`super::super::plan`].
//!
//! Measured with 3×3 kernels on one thread of Zen 5 (AVX-512), against the algorithms of the other folders: planes take 0.05 to 0.3 of their
//! time for 1→1 and 2→2 on maps of 8×8 to 56×56 at batch sizes 1, 8 and 64, 0.15 to 0.5 for 4→4, 0.4 to 0.65 for 7→7, 0.5 to 0.95 for
//! 8→8, and 0.2 to 0.65 for 1→8, 3→8, 8→3 and 8→1. Exceptions are below.

use super::planes::MOST_CHANNELS;
use crate::conv::geometry::Conv2dGeometry;
use crate::conv::plan::{Algorithm, algorithm};
use crate::conv::window::Parts;
use crate::gemm::lanes;

/// Bytes of planes that a task takes apart, multiplies and puts together: with 96 kB gradients of weights took up to a tenth longer.
const BYTES: usize = 64 * 1024;
/// Work of such a task, at least, in cycles of 32 multiplications: some two microseconds, a few times what a fork costs.
const WORK: usize = 8192;
/// Cycles that taking a pixel apart and putting it together costs beside its multiplications.
const PIXEL: usize = 4;
/// Tasks that a call is cut into where there is enough work: lines that two parts of an image see are taken apart twice.
const TASKS: usize = 8;
/// Largest kernel. (No larger one was measured; 4 zeros beside a line fit the shortest vector.)
const KERNEL: usize = 5;
/// Pixels of a map up to which Winograd's gradient of the weights of 8→8 is up to a quarter faster.
const GRADIENT_PIXELS: usize = 80;

/// Whether a sweep is computed from planes: few channels and stride 1. `[rows, width]` is the output, or the input for its gradient.
pub(in crate::conv) fn is_planar(geometry: &Conv2dGeometry, [rows, width]: [usize; 2]) -> bool {
    let (options, kernel) = (geometry.options(), geometry.kernel());
    let (inputs, outputs) = (geometry.in_channels(), geometry.out_channels());
    options.groups == 1
        && options.stride == [1, 1]
        && options.dilation == [1, 1]
        && (0..2).all(|axis| kernel[axis] <= KERNEL && options.padding[axis] < kernel[axis])
        && inputs.max(outputs) <= MOST_CHANNELS
        // With vectors of 8, 8→8 took a quarter longer than Winograd's: all their lanes have a channel.
        && (inputs * outputs < MOST_CHANNELS * MOST_CHANNELS || lanes() > MOST_CHANNELS)
        // Seven planes take 42 permutations, too many for one product with each: 7→7 on 6×6 took 1.6 times as long.
        && (kernel != [1, 1] || (inputs != 7 && outputs != 7))
        // What is computed between the lines of tiny maps costs more than lanes without a channel: 7→7 on 3×3 took 1.2 times as
        // long, 8→8 on 4×4 and 4→4 on 1×1 1.2 and 1.1 times.
        && 3 * rows * width >= inputs * outputs
}

/// The same for the gradient of the weights.
pub(in crate::conv) fn is_planar_gradient(geometry: &Conv2dGeometry) -> bool {
    let [rows, width] = geometry.out_size();
    is_planar(geometry, [rows, width])
        && (rows * width > GRADIENT_PIXELS
            || algorithm(geometry, [rows, width]) == Algorithm::Direct)
        // Eight outputs fill vectors of 4 (3→8 took 1.1 to 1.5 times as long).
        && (geometry.out_channels() < MOST_CHANNELS || lanes() > 4)
}

/// Pixels of a task, at least.
fn fewest_pixels(geometry: &Conv2dGeometry) -> usize {
    let [rows, columns] = geometry.kernel();
    let products = rows * columns * geometry.in_channels() * geometry.out_channels();
    WORK / (PIXEL + products / 32)
}

/// Parts of a destination of `size`.
pub(super) fn parts(geometry: &Conv2dGeometry, [rows, width]: [usize; 2]) -> Parts {
    let fewest = fewest_pixels(geometry);
    let fitting = BYTES / (4 * (geometry.in_channels() + geometry.out_channels()));
    let pixels = geometry.batch() * rows * width / TASKS;
    let pixels = pixels.clamp(fewest, fitting.max(fewest));
    Parts::new(geometry.batch(), rows, width, pixels)
}

/// Sums of the gradient of the weights that are added up at the end.
pub(super) fn segments(geometry: &Conv2dGeometry) -> usize {
    let [rows, width] = geometry.out_size();
    (geometry.batch() * rows * width / fewest_pixels(geometry)).clamp(1, TASKS)
}
