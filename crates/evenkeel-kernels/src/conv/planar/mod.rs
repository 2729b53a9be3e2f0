//! Convolution of few channels, stride 1, with vectors over pixels.
//!
//! With at most eight channels on both sides, or sixteen on one, vectors of channels are mostly empty. So a task takes its pixels apart
//! into a plane for every channel ([`planes`]), where neighbouring pixels are neighbours, multiplies vectors of pixels with single
//! weights ([`sums`]), and puts the results together again. The gradient of the input is the same with the kernel turned by 180° and its
//! channels exchanged; that of the weights multiplies planes of the input with planes of the output's gradient ([`gradient`]).

mod gradient;
mod interleave;
mod plan;
mod planes;
mod sums;

use super::geometry::Conv2dGeometry;
use super::window::{Part, Parts};
use crate::gemm::lanes;
use crate::isa::dispatch;
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::{with_indices, with_scratch};
use gradient::{Products, Totals, sums_length};
pub(super) use plan::{is_planar_backward, is_planar_forward, is_planar_gradient};
use planes::{Layout, PutTogether, TakeApart};
use sums::Sums;

/// Lines of the destination that a part covers, with those between images.
fn lines(image_lines: usize, part: &Part) -> usize {
    part.images.len().saturating_sub(1) * image_lines + part.rows.len()
}

/// A convolution of some source with stride 1.
struct Pass {
    /// `[height, width]` of the source and of the destination.
    size: [[usize; 2]; 2],
    /// Channels of the source and of the destination.
    channels: [usize; 2],
    /// Zeros above and left of the source.
    before: [usize; 2],
    kernel: [usize; 2],
    parts: Parts,
    layout: Layout,
}

impl Pass {
    fn new(
        geometry: &Conv2dGeometry,
        size: [[usize; 2]; 2],
        channels: [usize; 2],
        before: [usize; 2],
        parts: Parts,
    ) -> Pass {
        let kernel = geometry.kernel();
        let [source, _] = size;
        // Zeros below and right are those of the next line and image.
        let (pitch, image_lines) = (source[1] + before[1], source[0] + before[0]);
        let lines = lines(image_lines, &parts.largest()) + kernel[0] - 1;
        Pass {
            size,
            channels,
            before,
            kernel,
            parts,
            layout: Layout::new(pitch, image_lines, lines, kernel[1]),
        }
    }

    /// The forward pass, also of the gradient of the weights.
    fn forward(geometry: &Conv2dGeometry, parts: Parts) -> Pass {
        Pass::new(
            geometry,
            [geometry.size(), geometry.out_size()],
            [geometry.in_channels(), geometry.out_channels()],
            geometry.options().padding,
            parts,
        )
    }

    /// The gradient of the input: a convolution of the output's gradient with the turned kernel.
    fn backward(geometry: &Conv2dGeometry, parts: Parts) -> Pass {
        let (kernel, padding) = (geometry.kernel(), geometry.options().padding);
        Pass::new(
            geometry,
            [geometry.out_size(), geometry.size()],
            [geometry.out_channels(), geometry.in_channels()],
            std::array::from_fn(|axis| kernel[axis] - 1 - padding[axis]),
            parts,
        )
    }

    /// Lines of the destination that a part covers, with those between images.
    fn lines(&self, part: &Part) -> usize {
        lines(self.layout.image_lines, part)
    }

    /// Lines of the source that a part sees.
    fn source_lines(&self, part: &Part) -> usize {
        self.lines(part) + self.kernel[0] - 1
    }

    /// Values of a plane from the first pixel of a part to its last.
    fn length(&self, part: &Part) -> usize {
        (self.lines(part) - 1) * self.layout.pitch + self.size[1][1]
    }

    /// The destination's pixels of a part: all lie one after another.
    fn pixels(&self, part: &Part) -> std::ops::Range<usize> {
        let [rows, width] = self.size[1];
        let first = (part.images.start * rows + part.rows.start) * width;
        first..first + part.images.len() * part.rows.len() * width
    }

    /// Appends the distance of each kernel element.
    fn taps(&self, taps: &mut Vec<usize>) {
        for row in 0..self.kernel[0] {
            taps.extend((0..self.kernel[1]).map(|column| row * self.layout.pitch + column));
        }
    }

    /// Runs `body` with planes of what `part` sees of the source.
    fn with_source(&self, source: &[f32], part: &Part, body: impl FnOnce(&[f32])) {
        with_scratch(self.channels[0] * self.layout.stride, |planes| {
            dispatch(TakeApart {
                tensor: source,
                size: self.size[0],
                channels: self.channels[0],
                images: part.images.clone(),
                first_row: part.rows.start as isize - self.before[0] as isize,
                end_row: self.size[0][0],
                lines: self.source_lines(part),
                left: self.before[1],
                layout: self.layout,
                planes: &mut *planes,
            });
            body(planes);
        });
    }

    /// Every destination pixel; the weight is `[taps, sources, destinations]`.
    fn sweep(&self, source: &[f32], weight: &[f32], bias: Option<&[f32]>, destination: &mut [f32]) {
        let channels = self.channels[1];
        let work = destination.len() * weight.len() / channels;
        let outputs = DisjointMut::new(destination);
        with_indices(|taps| {
            self.taps(taps);
            let taps = &taps[..];
            for_each_task(self.parts.count(), work, |task| {
                let part = self.parts.part(task);
                let pixels = self.pixels(&part);
                // SAFETY: parts have different pixels.
                let to = unsafe { outputs.part(pixels.start * channels..pixels.end * channels) };
                self.with_source(source, &part, |planes| {
                    with_scratch(channels * self.layout.stride, |sums| {
                        dispatch(Sums {
                            planes,
                            stride: self.layout.stride,
                            taps,
                            weight,
                            bias,
                            channels: self.channels,
                            to: &mut *sums,
                            length: self.length(&part),
                        });
                        dispatch(PutTogether {
                            planes: sums,
                            layout: self.layout,
                            channels,
                            images: part.images.len(),
                            rows: part.rows.len(),
                            width: self.size[1][1],
                            to,
                        });
                    });
                });
            });
        });
    }
}

/// Output from input; lengths have been checked, and [`is_planar_forward`].
pub(super) fn forward(
    geometry: &Conv2dGeometry,
    input: &[f32],
    weight: &[f32],
    bias: Option<&[f32]>,
    output: &mut [f32],
) {
    let parts = plan::parts(geometry, geometry.out_size());
    Pass::forward(geometry, parts).sweep(input, weight, bias, output);
}

/// Gradient of the input; lengths have been checked, and [`is_planar_backward`].
pub(super) fn backward_data(
    geometry: &Conv2dGeometry,
    output_gradient: &[f32],
    weight: &[f32],
    input_gradient: &mut [f32],
) {
    let (inputs, outputs) = (geometry.in_channels(), geometry.out_channels());
    let parts = plan::parts(geometry, geometry.size());
    with_scratch(weight.len(), |turned| {
        let taps = weight.chunks_exact(inputs * outputs).rev();
        for (to, from) in turned.chunks_exact_mut(inputs * outputs).zip(taps) {
            for (output, to) in to.chunks_exact_mut(inputs).enumerate() {
                for (input, to) in to.iter_mut().enumerate() {
                    *to = from[input * outputs + output];
                }
            }
        }
        Pass::backward(geometry, parts).sweep(output_gradient, turned, None, input_gradient);
    });
}

/// The gradient of the weights; lengths have been checked, and [`is_planar_gradient`].
pub(super) fn backward_weights(
    geometry: &Conv2dGeometry,
    input: &[f32],
    output_gradient: &[f32],
    weight_gradient: &mut [f32],
) {
    let parts = plan::parts(geometry, geometry.out_size());
    let pass = Pass::forward(geometry, parts);
    let count = parts.count();
    let segment_parts = count.div_ceil(plan::segments(geometry));
    let segments = count.div_ceil(segment_parts.max(1));
    if segments == 0 {
        weight_gradient.fill(0.0);
        return;
    }
    let outputs = geometry.out_channels();
    let (weights, length) = (
        weight_gradient.len(),
        sums_length(weight_gradient.len(), lanes()),
    );
    with_scratch(segments * weights, |partials| {
        let all = DisjointMut::new(&mut *partials);
        with_indices(|taps| {
            pass.taps(taps);
            let taps = &taps[..];
            for_each_task(segments, geometry.work(), |segment| {
                // SAFETY: every segment has its own gradient.
                let totals = unsafe { all.part(segment * weights..(segment + 1) * weights) };
                // Vectors of sums stay in the caches of the thread that adds them up; their lanes' sums are all that others read.
                with_scratch(length, |sums| {
                    let range = piece(segment, segment_parts, count);
                    for index in range.clone() {
                        let part = parts.part(index);
                        pass.with_source(input, &part, |planes| {
                            with_scratch(outputs * pass.layout.stride, |gradient| {
                                dispatch(TakeApart {
                                    tensor: output_gradient,
                                    size: pass.size[1],
                                    channels: outputs,
                                    images: part.images.clone(),
                                    first_row: part.rows.start as isize,
                                    end_row: part.rows.end,
                                    lines: pass.lines(&part),
                                    left: 0,
                                    layout: pass.layout,
                                    planes: &mut *gradient,
                                });
                                dispatch(Products {
                                    planes,
                                    gradient,
                                    stride: pass.layout.stride,
                                    taps,
                                    channels: pass.channels,
                                    sums: &mut *sums,
                                    accumulate: index > range.start,
                                    length: pass.length(&part),
                                });
                            });
                        });
                    }
                    dispatch(Totals { sums, totals });
                });
            });
        });
        let (first, others) = partials.split_at(weights);
        weight_gradient.copy_from_slice(first);
        for partial in others.chunks_exact(weights) {
            for (to, from) in weight_gradient.iter_mut().zip(partial) {
                *to += from;
            }
        }
    });
}
