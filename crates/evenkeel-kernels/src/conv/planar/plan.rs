//! Which convolutions are computed from planes, and how they are cut into tasks: by shape alone, as in [`super::super::plan`].
//!
//! Measured with 3×3 kernels on one thread of Zen 5 (AVX-512), against the algorithms of the other folders: planes take 0.05 to 0.3 of their
//! time for 1→1 and 2→2 on maps of 8×8 to 56×56 at batch sizes 1, 8 and 64, 0.15 to 0.5 for 4→4, 0.4 to 0.65 for 7→7, 0.5 to 0.95 for
//! 8→8, and 0.2 to 0.65 for 1→8, 3→8, 8→3 and 8→1. Exceptions are below.

use super::interleave::{MOST_CHANNELS, SQUARE_CHANNELS};
use crate::conv::geometry::Conv2dGeometry;
use crate::conv::plan::{Algorithm, algorithm, is_first_gradient};
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
/// Pixels of a line from which few lanes are lost at its end.
const WIDE: usize = 24;

/// What a pass reads and writes, for the choice of its algorithm.
struct Channels {
    from: usize,
    to: usize,
}

/// Whether the forward pass is computed from planes: few channels and stride 1.
pub(in crate::conv) fn is_planar_forward(geometry: &Conv2dGeometry) -> bool {
    let channels = Channels {
        from: geometry.in_channels(),
        to: geometry.out_channels(),
    };
    is_planar(geometry, geometry.out_size())
        && sweeps(geometry, channels, geometry.out_size())
        && !is_first(geometry)
}

/// The same for the gradient of the input.
pub(in crate::conv) fn is_planar_backward(geometry: &Conv2dGeometry) -> bool {
    let channels = Channels {
        from: geometry.out_channels(),
        to: geometry.in_channels(),
    };
    is_planar(geometry, geometry.size()) && sweeps(geometry, channels, geometry.size())
}

/// The same for the gradient of the weights.
pub(in crate::conv) fn is_planar_gradient(geometry: &Conv2dGeometry) -> bool {
    let (inputs, outputs) = (geometry.in_channels(), geometry.out_channels());
    let [kernel_rows, kernel_columns] = geometry.kernel();
    let [rows, width] = geometry.out_size();
    is_planar(geometry, [rows, width])
        && match (inputs, outputs) {
            // Eight outputs fill vectors of 4: 3→8 took 1.1 to 1.5 times as long.
            (..MOST_CHANNELS, MOST_CHANNELS) => lanes() > 4,
            (MOST_CHANNELS, MOST_CHANNELS) => {
                rows * width > GRADIENT_PIXELS
                    || algorithm(geometry, [rows, width]) == Algorithm::Direct
            }
            // As below: other algorithms are as fast for 3→16.
            (_, SQUARE_CHANNELS) => {
                inputs <= 2 && kernel_rows * kernel_columns >= 9 && !is_first(geometry)
            }
            _ => true,
        }
}

/// Whether the square tiles of first layers are faster: 2→16 took 1.2 to 1.3 times as long from planes, 1→16 as long. With eight outputs (half of
/// the lanes of a tile) planes took 0.5 to 0.8 of their time.
fn is_first(geometry: &Conv2dGeometry) -> bool {
    let channels = [geometry.in_channels(), geometry.out_channels()];
    channels == [2, SQUARE_CHANNELS] && is_first_gradient(geometry)
}

/// What holds for all passes; `[rows, width]` is the output, or the input for its gradient.
fn is_planar(geometry: &Conv2dGeometry, [rows, width]: [usize; 2]) -> bool {
    let (options, kernel) = (geometry.options(), geometry.kernel());
    let (inputs, outputs) = (geometry.in_channels(), geometry.out_channels());
    let (fewer, more) = (inputs.min(outputs), inputs.max(outputs));
    options.groups == 1
        && options.stride == [1, 1]
        && options.dilation == [1, 1]
        && (0..2).all(|axis| kernel[axis] <= KERNEL && options.padding[axis] < kernel[axis])
        // With vectors of 8, 8→8 took a quarter longer than Winograd's: all their lanes have a channel, as those of 16 with 16.
        && match more {
            ..MOST_CHANNELS => true,
            MOST_CHANNELS => fewer < MOST_CHANNELS || lanes() > MOST_CHANNELS,
            SQUARE_CHANNELS => fewer < MOST_CHANNELS && lanes() == SQUARE_CHANNELS,
            _ => false,
        }
        // Seven planes take 42 permutations, too many for one product with each: 7→7 on 6×6 took 1.6 times as long.
        && (kernel != [1, 1] || (inputs != 7 && outputs != 7))
        // What is computed between the lines of tiny maps costs more than lanes without a channel: 7→7 on 3×3 took 1.2 times as
        // long, 8→8 on 4×4 and 4→4 on 1×1 1.2 and 1.1 times.
        && 3 * rows * width >= inputs * outputs
}

/// Whether planes of 16 channels pay in a sweep. As the source always: 16→1 to 16→7 took 0.17 to 0.65 of their time. As the destination, whose
/// channels fill the lanes of other algorithms, for 1→16 (0.4 to 0.9), and for 2→16 on wide maps (0.6 to 0.9; but see [`is_first`]):
/// filtering along rows is as fast for 3→16, and Winograd's algorithm a fifth faster for 8→16.
fn sweeps(geometry: &Conv2dGeometry, channels: Channels, [_, width]: [usize; 2]) -> bool {
    channels.to != SQUARE_CHANNELS
        || geometry.kernel() == [3, 3]
            && (channels.from == 1 || channels.from == 2 && width >= WIDE)
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
