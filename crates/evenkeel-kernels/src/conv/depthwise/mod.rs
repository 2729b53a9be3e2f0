//! Convolution of every channel by itself: lanes are channels, and nothing is summed across them.
//!
//! 3×3 kernels have kernels of their own ([`three`]). The others are bound by memory, not by arithmetic, so a task's padded source
//! stays in cache and each of its values is loaded once per kernel element.

mod three;

use super::geometry::Conv2dGeometry;
use super::plan;
use super::sweep::with_source;
use super::window::{Views, destination_offsets, source_offsets, view_rows};
use crate::gemm::target::Target;
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{for_each_task, piece};
use crate::scratch::{with_indices, with_scratch};
use three::Windows;

/// Output from input; lengths have been checked.
pub(super) fn forward(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let views = Views::forward(geometry);
    if is_three(geometry) {
        let windows = windows(geometry, geometry.options().padding);
        sweep_three(&views, windows, false, input, weight, bias, output);
    } else {
        sweep(&views, input, weight, bias, output);
    }
}

/// Gradient of the input; lengths have been checked.
pub(super) fn backward_data(
    geometry: &Conv2dGeometry,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let views = Views::backward(geometry);
    let options = geometry.options();
    if is_three(geometry) && options.stride == [1, 1] && options.padding.iter().all(|&p| p <= 2) {
        // A convolution of the output's gradient with the turned kernel.
        let windows = Windows {
            source: geometry.out_size(),
            positions: geometry.size(),
            ..windows(geometry, options.padding.map(|padding| 2 - padding))
        };
        sweep_three(
            &views,
            windows,
            true,
            output_gradient,
            weight,
            None,
            input_gradient,
        );
    } else {
        sweep(&views, output_gradient, weight, None, input_gradient);
    }
}

/// Whether the kernels of [`three`] serve the forward pass.
fn is_three(geometry: &Conv2dGeometry) -> bool {
    let options = geometry.options();
    geometry.kernel() == [3, 3]
        && options.dilation == [1, 1]
        && (options.stride == [1, 1] || options.stride == [2, 2])
}

fn windows(geometry: &Conv2dGeometry, before: [usize; 2]) -> Windows {
    Windows {
        source: geometry.size(),
        positions: geometry.out_size(),
        channels: geometry.in_channels(),
        before,
        stride: geometry.options().stride[0],
    }
}

fn sweep_three(
    views: &Views,
    windows: Windows,
    turned: bool,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    destination: &mut [f32],
) {
    let parts = plan::sweep(views, 1, 0).parts;
    let work = 9 * destination.len();
    // SAFETY: tasks have different destination pixels.
    let target = unsafe { Target::new(destination) };
    for_each_task(parts.count(), work, |task| {
        let part = parts.part(task);
        dispatch(three::Sweep {
            windows,
            images: part.images,
            rows: part.rows,
            source,
            weight,
            turned,
            bias,
            target,
        });
    });
}

fn sweep(
    views: &Views,
    source: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    destination: &mut [f32],
) {
    let parts = plan::sweep(views, 1, 0).parts;
    let tables = parts.largest();
    let work = destination.len();
    // SAFETY: tasks have different destination pixels.
    let target = unsafe { Target::new(destination) };
    with_indices(|offsets| {
        for view in &views.views {
            source_offsets(&views.frame, view, &tables, offsets);
            destination_offsets(views, view, &tables, offsets);
        }
        let offsets = &offsets[..];
        for_each_task(parts.count(), work, |task| {
            let part = parts.part(task);
            let first = (part.images.start * views.size[0] + part.rows.start * views.stride[0])
                * views.size[1]
                * views.channels;
            with_source(views, source, &part, |source| {
                let mut offsets = offsets;
                for view in &views.views {
                    let pixels = tables.images.len() * view_rows(view, &tables) * view.count[1];
                    let (a_offsets, rest) = offsets.split_at(pixels);
                    let (c_offsets, rest) = rest.split_at(pixels);
                    offsets = rest;
                    let used = part.images.len() * view_rows(view, &part) * view.count[1];
                    if used == 0 {
                        continue;
                    }
                    dispatch(ChannelProduct {
                        a: source,
                        a_offsets: &a_offsets[..used],
                        taps: &view.tap_offsets,
                        weight,
                        weights: &view.weights,
                        channels: views.channels,
                        c: target.from(first),
                        c_offsets: &c_offsets[..used],
                        bias,
                    });
                }
            });
        });
    });
}

/// `C[row][channel] = bias[channel] + Σ_taps A[row + tap][channel]·weight[tap][channel]`.
struct ChannelProduct<'a> {
    a: &'a [f32],
    a_offsets: &'a [usize],
    taps: &'a [usize],
    weight: &'a [f32],
    weights: &'a [usize],
    channels: usize,
    c: Target<'a>,
    c_offsets: &'a [usize],
    bias: Option<&'a [f32]>,
}

impl ChannelProduct<'_> {
    /// `PIXELS` rows, one vector of `lanes` channels from `channel` on.
    ///
    /// # Safety
    /// `call` must have checked, `PIXELS` rows must exist from `row` on, and `lanes` channels from `channel` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const PIXELS: usize>(
        &self,
        s: S,
        row: usize,
        channel: usize,
        lanes: usize,
    ) {
        // SAFETY: rows, taps and channels lie inside the slices (`call` compared the largest of each with the lengths).
        unsafe {
            let load = |p: *const f32| {
                if lanes == S::LANES {
                    s.load(p)
                } else {
                    s.load_partial(p, lanes)
                }
            };
            let a: [*const f32; PIXELS] = std::array::from_fn(|i| {
                self.a
                    .as_ptr()
                    .add(*self.a_offsets.get_unchecked(row + i) + channel)
            });
            let start = match self.bias {
                Some(bias) => load(bias.as_ptr().add(channel)),
                None => s.zero(),
            };
            let mut sums = [start; PIXELS];
            for (&tap, &weight) in self.taps.iter().zip(self.weights) {
                let w = load(self.weight.as_ptr().add(weight * self.channels + channel));
                for i in 0..PIXELS {
                    sums[i] = s.fma(load(a[i].add(tap)), w, sums[i]);
                }
            }
            for i in 0..PIXELS {
                let c = self
                    .c
                    .pointer()
                    .add(*self.c_offsets.get_unchecked(row + i) + channel);
                if lanes == S::LANES {
                    s.store(sums[i], c);
                } else {
                    s.store_partial(sums[i], c, lanes);
                }
            }
        }
    }
}

impl SimdOp for ChannelProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        assert_eq!(self.a_offsets.len(), self.c_offsets.len());
        assert_eq!(self.taps.len(), self.weights.len());
        if let (Some(row), Some(tap)) = (self.a_offsets.iter().max(), self.taps.iter().max()) {
            assert!(row + tap + self.channels <= self.a.len());
        }
        if let Some(row) = self.c_offsets.iter().max() {
            assert!(row + self.channels <= self.c.length());
        }
        if let Some(weight) = self.weights.iter().max() {
            assert!((weight + 1) * self.channels <= self.weight.len());
        }
        assert!(self.bias.is_none_or(|bias| bias.len() == self.channels));
        const PIXELS: usize = 8;
        let rows = self.a_offsets.len();
        let mut row = 0;
        while row < rows {
            let step = if rows - row >= PIXELS { PIXELS } else { 1 };
            for channel in (0..self.channels).step_by(S::LANES) {
                let lanes = S::LANES.min(self.channels - channel);
                // SAFETY: checked above; `step` rows and `lanes` channels exist.
                unsafe {
                    if step == PIXELS {
                        self.tile::<S, PIXELS>(s, row, channel, lanes);
                    } else {
                        self.tile::<S, 1>(s, row, channel, lanes);
                    }
                }
            }
            row += step;
        }
    }
}

/// The gradient of the weights; lengths have been checked.
pub(super) fn backward_weights(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let views = Views::forward(geometry);
    let view = &views.views[0];
    let plan = plan::weights(geometry, &views, geometry.weight_length());
    let parts = plan.parts;
    let segment_parts = parts.count().div_ceil(plan.segments).max(1);
    let segments = parts.count().div_ceil(segment_parts);
    let length = weight_gradient.len();
    weight_gradient.fill(0.0);
    let tables = parts.largest();
    with_scratch(segments * length, |partials| {
        {
            // SAFETY: every task has its own segment.
            let target = unsafe { Target::new(&mut *partials) };
            with_indices(|offsets| {
                source_offsets(&views.frame, view, &tables, offsets);
                let offsets = &offsets[..];
                for_each_task(segments, output_gradient.len(), |segment| {
                    let target = target.from(segment * length);
                    if is_three(geometry) {
                        // SAFETY: this task's own segment.
                        unsafe { std::slice::from_raw_parts_mut(target.pointer(), length) }
                            .fill(0.0);
                    }
                    for index in piece(segment, segment_parts, parts.count()) {
                        let part = parts.part(index);
                        if is_three(geometry) {
                            dispatch(three::Gradient {
                                windows: windows(geometry, geometry.options().padding),
                                images: part.images,
                                rows: part.rows,
                                source: input,
                                gradient: output_gradient,
                                sums: target,
                            });
                            continue;
                        }
                        let pixels = part.images.len() * part.rows.len() * view.count[1];
                        let first = (part.images.start * views.size[0] + part.rows.start)
                            * views.size[1]
                            * views.channels;
                        with_source(&views, input, &part, |source| {
                            dispatch(ChannelGradient {
                                a: source,
                                a_offsets: &offsets[..pixels],
                                taps: &view.tap_offsets,
                                gradient: &output_gradient[first..],
                                channels: views.channels,
                                c: target,
                                accumulate: index % segment_parts > 0,
                            });
                        });
                    }
                });
            });
        }
        for partial in partials.chunks_exact(length) {
            for (to, from) in weight_gradient.iter_mut().zip(partial) {
                *to += from;
            }
        }
    });
}

/// `C[tap][channel] (+)= Σ_rows A[row + tap][channel]·gradient[row][channel]`.
struct ChannelGradient<'a> {
    a: &'a [f32],
    a_offsets: &'a [usize],
    taps: &'a [usize],
    gradient: &'a [f32],
    channels: usize,
    c: Target<'a>,
    accumulate: bool,
}

impl ChannelGradient<'_> {
    /// `TAPS` kernel elements from `tap` on, one vector of `lanes` channels from `channel` on.
    ///
    /// # Safety
    /// `call` must have checked, `TAPS` elements must exist from `tap` on, and `lanes` channels from `channel` on.
    #[inline(always)]
    unsafe fn tile<S: Simd, const TAPS: usize>(
        &self,
        s: S,
        tap: usize,
        channel: usize,
        lanes: usize,
    ) {
        // SAFETY: rows, taps and channels lie inside the slices (`call` compared the largest of each with the lengths).
        unsafe {
            let load = |p: *const f32| {
                if lanes == S::LANES {
                    s.load(p)
                } else {
                    s.load_partial(p, lanes)
                }
            };
            let taps: [usize; TAPS] =
                std::array::from_fn(|i| *self.taps.get_unchecked(tap + i) + channel);
            let mut sums = [s.zero(); TAPS];
            let mut gradient = self.gradient.as_ptr().add(channel);
            for &offset in self.a_offsets {
                let g = load(gradient);
                let a = self.a.as_ptr().add(offset);
                for i in 0..TAPS {
                    sums[i] = s.fma(load(a.add(taps[i])), g, sums[i]);
                }
                gradient = gradient.wrapping_add(self.channels);
            }
            for i in 0..TAPS {
                let c = self.c.pointer().add((tap + i) * self.channels + channel);
                let sum = if self.accumulate {
                    s.add(
                        if lanes == S::LANES {
                            s.load(c)
                        } else {
                            s.load_partial(c, lanes)
                        },
                        sums[i],
                    )
                } else {
                    sums[i]
                };
                if lanes == S::LANES {
                    s.store(sum, c);
                } else {
                    s.store_partial(sum, c, lanes);
                }
            }
        }
    }
}

impl SimdOp for ChannelGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        if let (Some(row), Some(tap)) = (self.a_offsets.iter().max(), self.taps.iter().max()) {
            assert!(row + tap + self.channels <= self.a.len());
        }
        assert!(self.a_offsets.len() * self.channels <= self.gradient.len());
        assert!(self.taps.len() * self.channels <= self.c.length());
        const TAPS: usize = 9;
        for channel in (0..self.channels).step_by(S::LANES) {
            let lanes = S::LANES.min(self.channels - channel);
            let mut tap = 0;
            while tap < self.taps.len() {
                // SAFETY: checked above; the elements and channels exist.
                unsafe {
                    if self.taps.len() - tap >= TAPS {
                        self.tile::<S, TAPS>(s, tap, channel, lanes);
                        tap += TAPS;
                    } else {
                        self.tile::<S, 1>(s, tap, channel, lanes);
                        tap += 1;
                    }
                }
            }
        }
    }
}
