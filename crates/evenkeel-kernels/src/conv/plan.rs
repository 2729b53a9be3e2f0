//! How a convolution is cut into tasks. Decided by shape alone, wherever results depend on it, so that they do not depend on the number of
//! threads.

use super::geometry::Conv2dGeometry;
use super::window::{Parts, Views};
use crate::gemm::lanes;
use crate::gemm::panels::Panels;
use crate::parallel::{in_segment, threads};

/// Bytes of padded source that a task copies and then reads several times: they share the second-level cache (1 MB on Zen 5,
/// 1.25 MB on Ice Lake) with a panel of weights.
const SOURCE_BYTES: usize = 192 * 1024;
/// Destination pixels of a task, at least: every task reads all weights once, and this many pixels hide that.
const PIXELS: usize = 256;
/// The same for a small gradient of weights, where the next part is asked for meanwhile: both parts share the second-level cache with the
/// task's sums, which go through the registers once a part.
const SMALL_GRADIENT_PIXELS: usize = 96;
/// Bytes and output channels of a small gradient. (Treated as small, 1024→256, 256→512 and 512→2048 took 1.2 to 1.4 times as long:
/// where panels are read often, packing them for the first-level cache pays.)
const SMALL_GRADIENT_BYTES: usize = 128 * 1024;
const SMALL_GRADIENT_CHANNELS: usize = 256;
/// Tasks that a call is cut into where there is enough work, for up to this many threads.
const TASKS: usize = 32;

/// That, or one where other threads have segments of the batch of their own.
fn tasks() -> usize {
    if in_segment() { 1 } else { TASKS }
}

/// The same for passes whose results do not depend on how they are cut: more where threads outnumber segments and so share them.
fn sweep_tasks() -> usize {
    if in_segment() && threads() == 1 {
        1
    } else {
        TASKS
    }
}

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
        let pixels = (total / sweep_tasks()).clamp(48, fitting.max(PIXELS));
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
    /// Rows of the gradient in one block, a multiple of the micro-kernel's block, within one run of kernel elements.
    pub rows: usize,
    /// Whether a task takes all blocks, so that pixels are copied and packed once, instead of one.
    pub whole: bool,
    /// Whether the gradient is small: then the output's gradient is not packed, if its channels are whole vectors, and the next part of the
    /// input is asked for, too.
    pub small: bool,
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
    // Copies between zeros overlap: the fewer the better.
    let small = bytes <= SMALL_GRADIENT_BYTES
        && geometry.out_channels() <= SMALL_GRADIENT_CHANNELS
        && !frame.is_padded();
    if bytes > WEIGHT_BYTES {
        WeightPlan {
            parts: Parts::new(frame.batch, rows, row_pixels, (4 * fitting).max(2 * PIXELS)),
            segments: 1,
            rows: longest_run.div_ceil(8).next_multiple_of(48),
            whole: false,
            small: false,
        }
    } else {
        let least = if small { SMALL_GRADIENT_PIXELS } else { PIXELS };
        let pixels = (total / tasks()).clamp(48, fitting.max(least));
        let parts = Parts::new(frame.batch, rows, row_pixels, pixels);
        let segments = if in_segment() {
            1
        } else {
            ((4 << 20) / bytes.max(1))
                .clamp(1, 16)
                .min(parts.count().max(1))
        };
        let whole = segments >= 8 || in_segment();
        WeightPlan {
            parts,
            segments,
            rows: if whole {
                longest_run.max(1)
            } else {
                longest_run.div_ceil(4).next_multiple_of(48)
            },
            whole,
            small,
        }
    }
}

/// Channels from which Winograd's algorithm pays: below, its transforms cost more than the multiplications it saves.
const WINOGRAD_CHANNELS: usize = 8;
/// The same with stride 2: with 8 channels on both sides, or 8 and 16, it took 1.2 to 1.3 times as long as the direct algorithm.
const HALF_CHANNELS: usize = 16;
/// Tiles from which transforming the kernel, of 81 elements with stride 2, pays: 8 tiles of 512→1024 took 1.2 times as long as the
/// direct algorithm for the gradient of the input, 32 of 256→512 as long.
const HALF_TILES: f64 = 32.0;
/// Transformed source of one group of tiles: a part of the second-level cache. Groups of 12 to 192 tiles were equally fast.
const WINOGRAD_BYTES: usize = 192 * 1024;
/// Transformed weights beyond this size are transformed again in every task that needs them, and never stored.
const WINOGRAD_WEIGHT_BYTES: usize = 4 << 20;
/// Tiles, at most, that a task takes through the kernels of some panels, which it transforms for them.
const WINOGRAD_LARGE_GROUP: usize = 72;
/// Transformed pixels that tasks share: a part of the third-level cache.
const WINOGRAD_LARGE_BYTES: usize = 8 << 20;
/// Tiles, at most, whose outer products are summed in registers before they are added to the gradient.
const WINOGRAD_DEPTH: usize = 96;
/// At least: each time, the sums go from the cache through the registers.
const WINOGRAD_LEAST_DEPTH: usize = 24;
/// Transformed input and gradient of these tiles: a part of the second-level cache. (64→64 on 56×56, Zen 4 with 1 MB: 28 tiles take 0.92 of
/// the time of 96.)
const WINOGRAD_DEPTH_BYTES: usize = 512 * 1024;
/// Bytes of the sums of a gradient of weights from which the tiles are not cut into segments with sums of their own.
const WINOGRAD_SUMS_BYTES: usize = 512 * 1024;
/// Bytes of the transformed pixels up to which that pays: all of them are transformed first, and each thread has what it reads of them.
const WINOGRAD_PIXELS_BYTES: usize = 5 << 19;
/// Input channels, at most, of a task that sums over all tiles. Results do not depend on it. (On two threads of Zen 4, against 48, which leaves
/// 16 of 64: 64→128 with stride 2 on 56×56 takes 0.98 of the time image by image, 64→64 on 8×8 0.98, 128 channels and more 0.97 to 1.01. With
/// 16 the first takes 0.96 and most others 1.01 to 1.04.)
const WINOGRAD_BLOCK_CHANNELS: usize = 32;
/// [`WINOGRAD_DEPTH`] with stride 2, where a task's sums, 81 for each weight, share the second-level cache with its transformed tiles.
/// (16→32: 0.51 ms with 28 to 48 tiles, 0.55 with 96.)
const HALF_DEPTH: usize = 36;
/// Input channels of one task with stride 2.
const HALF_TASK_CHANNELS: usize = 16;
/// Panels of one task with stride 2.
const HALF_PANELS: usize = 2;
/// Tasks that a Winograd pass is cut into even where a batch of one or two images has few tiles, so that several threads have work.
const WINOGRAD_TASKS: usize = 4;
/// Fewest rows of a matrix that a task multiplies: with two vectors each, they keep the multiply-add units busy.
const WINOGRAD_ROWS: usize = 8;

/// How a pass over 3×3 kernels multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    /// Every multiplication of the definition.
    Direct,
    /// Winograd's F(2×2, 3×3).
    Two,
    /// Winograd's F(4×4, 3×3).
    Four,
    /// Minimal filtering of the phases of a stride of 2, 4×4 outputs a tile.
    Half,
}

/// The algorithm for a pass whose tiles cover `size`: the output, or the input for its gradient.
///
/// Winograd's are for 3×3 kernels with stride 1, or with stride 2 and a padding of 1. The one with the fewest multiplications wins,
/// each weighted with what they cost including the transforms. Measured against the direct algorithm, one thread of Zen 5, forward:
/// F(2×2) 1.3 times faster at 16 channels, 1.7 at 32, 2 at 64 to 256; F(4×4) 1.9, 2.6 and 3 times on maps that its tiles cover well.
/// With stride 2, on two threads, forward, gradient of the input and of the weights: 16→32 on 32×32 1.25, 1.22 and 1.2 times faster,
/// 64→128 on 56×56 1.5, 1.5 and 1.2 (in the machine's slow minutes 1.2, 1.2 and 1.0); on one thread 256→512 on 14×14, whose four tiles
/// cover 49 outputs, 1.1, 1.0 and 1.4.
pub(super) fn algorithm(geometry: &Conv2dGeometry, size: [usize; 2]) -> Algorithm {
    let options = geometry.options();
    let fits = geometry.kernel() == [3, 3]
        && options.dilation == [1, 1]
        && options.groups == 1
        && geometry.in_channels() >= WINOGRAD_CHANNELS
        && geometry.out_channels() >= WINOGRAD_CHANNELS;
    let tiles = |size: [usize; 2], width: usize| {
        size[0].div_ceil(width) as f64 * size[1].div_ceil(width) as f64
    };
    if fits && options.stride == [2, 2] && options.padding == [1, 1] {
        let count = tiles(geometry.out_size(), 4);
        let channels = geometry.in_channels().min(geometry.out_channels());
        return if 1.3 * 81.0 * count < 9.0 * tiles(geometry.out_size(), 1)
            && geometry.batch() as f64 * count >= HALF_TILES
            && channels >= HALF_CHANNELS
        {
            Algorithm::Half
        } else {
            Algorithm::Direct
        };
    }
    if !fits || options.stride != [1, 1] || options.padding.iter().any(|&padding| padding > 2) {
        return Algorithm::Direct;
    }
    let direct = 9.0 * tiles(size, 1);
    let (two, four) = (1.2 * 16.0 * tiles(size, 2), 1.3 * 36.0 * tiles(size, 4));
    if direct <= two.min(four) {
        Algorithm::Direct
    } else if two <= four {
        Algorithm::Two
    } else {
        Algorithm::Four
    }
}

/// How a Winograd pass is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct WinogradPlan {
    /// Whether weights outweigh pixels: then tasks share the transformed pixels instead of the transformed weights.
    pub large: bool,
    /// Tiles of one task; with `large`, tiles transformed at once.
    pub tiles: usize,
    /// Panels of one task.
    pub panels: usize,
    /// Tiles multiplied together.
    pub group: usize,
    /// Input channels of one task of the gradient of the weights.
    pub channels: usize,
}

/// The length of the fewest pieces of at most `most` items that `items` are cut into evenly, without a small rest; at least 1.
pub(super) fn even(items: usize, most: usize) -> usize {
    items.div_ceil(items.div_ceil(most).max(1)).max(1)
}

/// Plans a Winograd sweep over `tiles` tiles with `rows` channels in the source.
pub(super) fn winograd(
    tiles: usize,
    rows: usize,
    panels: Panels,
    [source, kernel]: [usize; 2],
) -> WinogradPlan {
    let tile_bytes = rows.next_multiple_of(16) * source * 4;
    let few = tiles < WINOGRAD_TASKS * WINOGRAD_ROWS && panels.count() > 1 && !in_segment();
    if few || rows * panels.padded_columns() * kernel * 4 > WINOGRAD_WEIGHT_BYTES {
        // Groups of up to 36 tiles share the second-level cache with the kernels of 64 channels.
        let batch = (WINOGRAD_LARGE_BYTES / tile_bytes).max(36);
        let tiles = even(tiles, batch);
        WinogradPlan {
            large: true,
            tiles,
            panels: 1,
            group: even(tiles, WINOGRAD_LARGE_GROUP),
            channels: rows,
        }
    } else {
        let group = (WINOGRAD_BYTES / tile_bytes / 12 * 12)
            .clamp(24, 96)
            .min(share(tiles));
        let group = balanced(tiles, group, |groups| {
            groups.next_multiple_of(WINOGRAD_TASKS)
        });
        WinogradPlan {
            large: false,
            tiles: (tiles / sweep_tasks())
                .clamp(group, 8 * group)
                .next_multiple_of(group),
            panels: panels.count(),
            group,
            channels: rows,
        }
    }
}

/// About `group` of `tiles`, so that there are as many groups as a few threads can share evenly, which `round` makes of their number: of
/// six groups, the last of them small, one of two threads has an eighth more than its half. Among many groups that is little.
fn balanced(tiles: usize, group: usize, round: impl FnOnce(usize) -> usize) -> usize {
    let groups = tiles.div_ceil(group.max(1));
    if in_segment() || !(WINOGRAD_TASKS..4 * WINOGRAD_TASKS).contains(&groups) {
        return group;
    }
    tiles.div_ceil(round(groups)).next_multiple_of(4)
}

/// [`WINOGRAD_TASKS`], or one where other threads have segments of the batch of their own.
fn winograd_tasks() -> usize {
    if in_segment() { 1 } else { WINOGRAD_TASKS }
}

/// What each of [`WINOGRAD_TASKS`] tasks gets of `rows`: an even share, of at least [`WINOGRAD_ROWS`].
fn share(rows: usize) -> usize {
    rows.div_ceil(winograd_tasks())
        .next_multiple_of(4)
        .max(WINOGRAD_ROWS)
}

/// Plans a Winograd gradient of the weights over `tiles` tiles with `rows` input channels.
pub(super) fn winograd_weights(
    tiles: usize,
    rows: usize,
    panels: Panels,
    [source, kernel, product]: [usize; 3],
) -> WinogradPlan {
    let columns = panels.padded_columns();
    let width = columns.div_ceil(panels.count().max(1));
    let weights = rows * columns * kernel * 4;
    let pixels = tiles * (rows * source + columns * product) * 4;
    let few = tiles < WINOGRAD_TASKS * 12 && !in_segment();
    let half = product < source;
    // With stride 2, transforming all of 64→128 on 56×56 first, 13 MB, took 1.3 ms where two threads shared a cache and 2.65 where they did
    // not; by tiles it takes 1.5 and 2.0.
    let fitting = if half {
        weights
    } else {
        2 * WINOGRAD_LARGE_BYTES
    };
    // Segments whose sums take half a megabyte each, which one thread writes and another reads, cost more than transforming all pixels
    // first: 64→64 on 8×8 with 16 images takes 0.78 of the time on one thread and 0.80 on two, with 32 images 0.87 and 0.90. (32→32 on
    // 16×16, with a quarter of the sums: 0.98 and 1.1.)
    let heavy = weights >= WINOGRAD_SUMS_BYTES && pixels <= WINOGRAD_PIXELS_BYTES;
    if few || heavy || weights > WEIGHT_BYTES && pixels <= fitting {
        return WinogradPlan {
            large: true,
            tiles,
            panels: 1,
            group: tiles,
            // They share transformed gradients.
            channels: if few || heavy {
                share(rows).min(WINOGRAD_BLOCK_CHANNELS)
            } else {
                WINOGRAD_BLOCK_CHANNELS
            },
        };
    }
    // Segments multiply the memory that is added up in the end, blocks the transforms of the input: few of both where large.
    let (segments, blocks) = match weights {
        0..=0xFFFF => (16, 1),
        0x1_0000..=0x7_FFFF => (8, 1),
        0x8_0000..=0x1F_FFFF => (4, 2),
        0x20_0000..=0x7F_FFFF => (2, 4),
        _ => (1, 8),
    };
    let segments = if in_segment() { 1 } else { segments };
    let (panels, channels, group) = if half {
        (HALF_PANELS, HALF_TASK_CHANNELS, HALF_DEPTH)
    } else {
        let panels = panels.count().div_ceil(blocks).max(1);
        let tile = 4 * (rows * source + panels * width * product);
        let depth = WINOGRAD_DEPTH_BYTES / tile.max(1);
        let depth = depth.clamp(WINOGRAD_LEAST_DEPTH, WINOGRAD_DEPTH);
        (panels, rows, depth)
    };
    let segment = tiles.div_ceil(segments).max(group.min(share(tiles)));
    WinogradPlan {
        large: false,
        tiles: balanced(tiles, segment, |segments| {
            segments / WINOGRAD_TASKS * WINOGRAD_TASKS
        }),
        panels,
        group,
        channels,
    }
}

/// How minimal filtering along rows takes a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowTaps {
    /// Three taps, F(4, 3).
    Three,
    /// Four taps, F(4, 4).
    Four,
}

/// Most input channels, and most elements of a tap, that are filtered along rows: beyond, transforms weigh more.
const ROW_CHANNELS: usize = 7;
const ROW_ELEMENTS: usize = 16;
/// Fewest outputs: they share one transform of the source.
const ROW_OUTPUTS: usize = 8;
/// Sums of the gradient of the weights that are added up at the end.
const ROW_SEGMENTS: usize = 16;

/// Whether a convolution is filtered along rows, forward and for the gradient of its weights: first layers.
pub(super) fn row_taps(geometry: &Conv2dGeometry) -> Option<RowTaps> {
    let options = geometry.options();
    let (stride, channels) = (options.stride[1], geometry.in_channels());
    let inner = stride * channels;
    let fits = options.groups == 1
        && options.dilation == [1, 1]
        && channels <= ROW_CHANNELS
        && inner <= ROW_ELEMENTS
        && geometry.out_channels() >= ROW_OUTPUTS;
    let (taps, points) = match geometry.kernel()[1].div_ceil(stride) {
        3 => (RowTaps::Three, 6),
        4 => (RowTaps::Four, 7),
        _ => return None,
    };
    let width = geometry.out_size()[1];
    // A quarter fewer products pay for the transforms.
    let products = 4 * width.div_ceil(4) * points * inner;
    (fits && products <= 3 * width * geometry.kernel()[1] * channels).then_some(taps)
}

/// The same for the forward pass, where three taps save too little for products that are stored before their transform: they
/// are taken where a vector holds all outputs. (Stored, 3→16 lost to the direct sum, and 3→64 on 56×56 reached 178 GFLOP/s; the
/// direct sum was not measured there.)
pub(super) fn row_taps_forward(geometry: &Conv2dGeometry) -> Option<RowTaps> {
    row_taps(geometry).filter(|&taps| taps == RowTaps::Four || geometry.out_channels() <= lanes())
}

/// Sums of the gradient of the weights, at most.
pub(super) fn row_segments() -> usize {
    if in_segment() { 1 } else { ROW_SEGMENTS }
}

/// Parts of the output for filtering along rows, where an output row needs `row_bytes` of transformed source.
pub(super) fn row_parts(geometry: &Conv2dGeometry, row_bytes: usize) -> Parts {
    let [rows, width] = geometry.out_size();
    let fitting = (SOURCE_BYTES / row_bytes.max(1)).max(1) * width;
    let pixels = (geometry.batch() * rows * width / tasks()).clamp(48, fitting.max(PIXELS));
    Parts::new(geometry.batch(), rows, width, pixels)
}

/// Tiles multiplied before their products, `floats` a tile, are transformed: they stay in the first-level cache.
pub(super) fn row_group(floats: usize) -> usize {
    (24 * 1024 / (floats * 4)).clamp(12, 96) / 12 * 12
}

/// Tiles of the output's gradient, `floats` each, that are transformed and then multiplied: a part of the second-level cache.
pub(super) fn row_gradient_group(floats: usize) -> usize {
    (128 * 1024 / (floats * 4)).clamp(32, 256)
}

/// Most input channels of a first layer ([`super::first`]): the lanes that a tile has.
const FIRST_CHANNELS: usize = 4;
/// Fewest tiles of a part.
const FIRST_TILES: usize = 16;

/// Whether the forward pass is that of a first layer.
///
/// Measured against filtering along rows and the direct sum on one thread of Zen 5, maps of 4×4 to 224×224: 2→32 to 4→64 and 3→9 to 3→24 took 0.35
/// to 0.95 of their time forward, those and 1→24 to 1→64 0.33 to 0.9 for the weights; with AVX2 (`EVENKEEL_ISA=avx2`) 0.8 to 0.9 and 0.4 to
/// 0.85, without vector instructions beyond SSE2 0.4 to 1 and 0.55 to 0.6. One channel alone has too few products for the transforms of 16
/// lanes: forward 1→24 and 1→32 took 1.1 and 1.2 times as long.
pub(super) fn is_first_forward(geometry: &Conv2dGeometry) -> bool {
    is_first_gradient(geometry) && (geometry.in_channels() > 1 || lanes() < 16)
}

/// The same for the gradient of the weights.
pub(super) fn is_first_gradient(geometry: &Conv2dGeometry) -> bool {
    let options = geometry.options();
    let size = geometry.out_size();
    let tiles = size[0].div_ceil(4) * size[1].div_ceil(4);
    options.groups == 1
        && geometry.kernel() == [3, 3]
        && options.stride == [1, 1]
        && options.dilation == [1, 1]
        && options.padding.iter().all(|&padding| padding <= 2)
        && geometry.in_channels() <= FIRST_CHANNELS
        && geometry.out_channels() >= ROW_OUTPUTS
        // 5×5, 6×6 and 9×9, which cover 0.39, 0.56 and 0.56 of their tiles, took 0.8 to 1.4 times as long; 13×13 covers 0.66.
        && 10 * size[0] * size[1] >= 6 * 16 * tiles
}

/// Parts of a first layer's output, which is `lines` by `tiles` tiles an image.
pub(super) fn first_parts(batch: usize, lines: usize, tiles: usize) -> Parts {
    let count = (batch * lines * tiles / tasks()).max(FIRST_TILES);
    Parts::new(batch, lines, tiles, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_get_even_shares_of_few_groups() {
        let more = |groups: usize| groups.next_multiple_of(WINOGRAD_TASKS);
        let fewer = |groups: usize| groups / WINOGRAD_TASKS * WINOGRAD_TASKS;
        for tiles in 1..2000 {
            for most in [8, 24, 25, 96, 128] {
                let group = balanced(tiles, most, more);
                assert!(group >= 1 && group <= most.next_multiple_of(4));
                let longer = balanced(tiles, most, fewer);
                assert!(longer >= 1 && longer < 2 * most + 4);
                let groups = tiles.div_ceil(most);
                if (WINOGRAD_TASKS..4 * WINOGRAD_TASKS).contains(&groups) {
                    for group in [group, longer] {
                        let groups = tiles.div_ceil(group);
                        let half = groups.div_ceil(2) * group;
                        // Groups are multiples of four tiles, of which the last may lack some.
                        assert!(2 * half <= tiles + 2 * group, "{tiles} by {group}");
                    }
                }
            }
        }
        // The gradient of the input of 64→64 on 8×8 with 32 images, and the gradient of the weights of 16→16 on 32×32 with 8.
        assert_eq!(balanced(128, 24, more), 16);
        assert_eq!(balanced(512, 96, fewer), 128);
        assert_eq!(balanced(4096, 24, more), 24);
        assert_eq!(balanced(16, 24, more), 24);
    }
}
