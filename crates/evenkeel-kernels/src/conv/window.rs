//! Convolution as a sliding window over a padded source: what forward, both gradients and depthwise kernels share.
//!
//! A *view* says which pixels of which padded source a destination pixel is computed from. The forward pass has one view: of
//! the input. The gradient of the input is a convolution of the output's gradient, one view per phase of the stride: the
//! pixels `(phase + stride·t)` use only the kernel elements that reach them, so no zeros are inserted or multiplied.

use super::geometry::Conv2dGeometry;
use crate::gemm::rows::Run;
use std::ops::Range;

/// The source of a sweep: an NHWC tensor with zeros around it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// Images.
    pub batch: usize,
    /// `[height, width]` of the tensor.
    pub size: [usize; 2],
    /// Channels of the tensor.
    pub channels: usize,
    /// Zeros above and left.
    pub before: [usize; 2],
    /// `[height, width]` with zeros.
    pub padded: [usize; 2],
    /// Padded pixels between the windows of neighbouring destination pixels.
    pub step: [usize; 2],
    /// Rows of a window.
    pub window: usize,
}

/// One element of a kernel, as seen by a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tap {
    /// Padded pixel, relative to the window.
    at: [usize; 2],
    /// Number of the kernel element in the weight.
    weight: usize,
}

/// Destination pixels with the same pattern of kernel elements.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// Which source elements, relative to the window's first.
    pub runs: Vec<Run>,
    /// The distance of each kernel element's source pixel from the window's first, in elements.
    pub tap_offsets: Vec<usize>,
    /// The number in the weight of each kernel element, in the order of the runs.
    pub weights: Vec<usize>,
    /// The first destination pixel.
    pub start: [usize; 2],
    /// How many destination pixels.
    pub count: [usize; 2],
}

/// Views of one source.
#[derive(Clone, Debug)]
pub(super) struct Views {
    pub frame: Frame,
    pub views: Vec<View>,
    /// `[height, width]` of the destination.
    pub size: [usize; 2],
    /// Channels of the destination.
    pub channels: usize,
    /// Destination pixels between neighbours of one view.
    pub stride: [usize; 2],
}

impl Views {
    /// The forward pass: the source is the input.
    pub fn forward(geometry: &Conv2dGeometry) -> Views {
        let options = geometry.options();
        let (kernel, out_size) = (geometry.kernel(), geometry.out_size());
        let window: [usize; 2] =
            std::array::from_fn(|axis| (kernel[axis] - 1) * options.dilation[axis] + 1);
        let mut frame = Frame {
            batch: geometry.batch(),
            size: geometry.size(),
            channels: geometry.in_channels(),
            before: options.padding,
            padded: std::array::from_fn(|axis| {
                (out_size[axis] - 1) * options.stride[axis] + window[axis]
            }),
            step: options.stride,
            window: window[0],
        };
        frame.settle();
        let taps = (0..kernel[0] * kernel[1]).map(|weight| Tap {
            at: [
                weight / kernel[1] * options.dilation[0],
                weight % kernel[1] * options.dilation[1],
            ],
            weight,
        });
        let view = View::new(
            &frame,
            taps.collect(),
            geometry.group_inputs(),
            [0, 0],
            out_size,
        );
        Views {
            frame,
            views: vec![view],
            size: out_size,
            channels: geometry.out_channels(),
            stride: [1, 1],
        }
    }

    /// The gradient of the input: the source is the gradient of the output.
    pub fn backward(geometry: &Conv2dGeometry) -> Views {
        let options = geometry.options();
        let (kernel, size) = (geometry.kernel(), geometry.size());
        // For every phase of an axis: how many destination pixels it has, and which kernel elements reach them from where.
        let axis_phases = |axis: usize| -> Vec<(usize, Vec<(usize, isize)>)> {
            let (stride, padding, dilation) = (
                options.stride[axis],
                options.padding[axis],
                options.dilation[axis],
            );
            (0..stride.min(size[axis]))
                .map(|phase| {
                    let reaching = (0..kernel[axis]).rev().filter_map(|element| {
                        let distance = (phase + padding) as isize - (element * dilation) as isize;
                        (distance.rem_euclid(stride as isize) == 0)
                            .then(|| (element, distance.div_euclid(stride as isize)))
                    });
                    ((size[axis] - phase).div_ceil(stride), reaching.collect())
                })
                .collect()
        };
        let phases: [_; 2] = std::array::from_fn(axis_phases);
        let (mut before, mut padded, mut window) = ([0; 2], [0; 2], 0);
        for axis in 0..2 {
            let distances = || phases[axis].iter().flat_map(|(_, taps)| taps.iter());
            let lowest = distances().map(|&(_, d)| d).min().unwrap_or(0).min(0);
            before[axis] = lowest.unsigned_abs();
            let highest = distances().map(|&(_, d)| d).max().unwrap_or(0).max(0) as usize;
            let count = phases[axis]
                .iter()
                .map(|&(count, _)| count)
                .max()
                .unwrap_or(0);
            padded[axis] = before[axis] + highest + count;
            if axis == 0 {
                window = before[axis] + highest + 1;
            }
        }
        let mut frame = Frame {
            batch: geometry.batch(),
            size: geometry.out_size(),
            channels: geometry.out_channels(),
            before,
            padded,
            step: [1, 1],
            window,
        };
        frame.settle();
        let mut views = Vec::with_capacity(phases[0].len() * phases[1].len());
        for (row_phase, (rows, row_taps)) in phases[0].iter().enumerate() {
            for (column_phase, (columns, column_taps)) in phases[1].iter().enumerate() {
                let mut taps = Vec::with_capacity(row_taps.len() * column_taps.len());
                for &(r, vertical) in row_taps {
                    for &(c, horizontal) in column_taps {
                        taps.push(Tap {
                            at: [
                                (vertical + before[0] as isize) as usize,
                                (horizontal + before[1] as isize) as usize,
                            ],
                            weight: r * kernel[1] + c,
                        });
                    }
                }
                views.push(View::new(
                    &frame,
                    taps,
                    geometry.group_outputs(),
                    [row_phase, column_phase],
                    [*rows, *columns],
                ));
            }
        }
        Views {
            frame,
            views,
            size,
            channels: geometry.in_channels(),
            stride: options.stride,
        }
    }

    /// Destination rows of the view that has most.
    pub fn rows(&self) -> usize {
        self.views
            .iter()
            .map(|view| view.count[0])
            .max()
            .unwrap_or(0)
    }

    /// Destination pixels of a row of all views together.
    pub fn row_pixels(&self) -> usize {
        self.views.iter().map(|view| view.count[1]).sum::<usize>()
    }
}

impl View {
    /// A view with `inner` consecutive channels of each tap's pixel; `taps` in ascending order of `at`.
    fn new(
        frame: &Frame,
        taps: Vec<Tap>,
        inner: usize,
        start: [usize; 2],
        count: [usize; 2],
    ) -> View {
        let tap_offsets: Vec<usize> = taps
            .iter()
            .map(|tap| (tap.at[0] * frame.padded[1] + tap.at[1]) * frame.channels)
            .collect();
        let mut runs: Vec<Run> = Vec::with_capacity(taps.len());
        for &offset in &tap_offsets {
            match runs.last_mut() {
                Some(run) if run.offset + run.length == offset => run.length += inner,
                _ => runs.push(Run {
                    offset,
                    length: inner,
                }),
            }
        }
        View {
            runs,
            tap_offsets,
            weights: taps.iter().map(|tap| tap.weight).collect(),
            start,
            count,
        }
    }

    /// Elements of a left-hand row.
    pub fn depth(&self) -> usize {
        self.runs.iter().map(|run| run.length).sum()
    }
}

impl Frame {
    /// Whether the source has to be copied between zeros; otherwise it is read where it lies.
    pub fn is_padded(&self) -> bool {
        self.before != [0, 0] || self.padded[0] > self.size[0] || self.padded[1] > self.size[1]
    }

    /// A source that needs no zeros has its own size.
    fn settle(&mut self) {
        if !self.is_padded() {
            self.padded = self.size;
        }
    }

    /// Padded rows that destination rows `rows` are computed from.
    pub fn source_rows(&self, rows: &Range<usize>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        rows.start * self.step[0]..(rows.end - 1) * self.step[0] + self.window
    }

    /// Where those elements of the source lie that `part` is computed from.
    pub fn reads(&self, part: &Part) -> Range<usize> {
        if part.images.is_empty() {
            return 0..0;
        }
        let rows = self.source_rows(&part.rows);
        let row = |image: usize, row: usize| {
            let row = row.saturating_sub(self.before[0]).min(self.size[0]);
            (image * self.size[0] + row) * self.size[1] * self.channels
        };
        row(part.images.start, rows.start)..row(part.images.end - 1, rows.end)
    }

    /// Elements of the padded copy for a part of the destination.
    pub fn copy_length(&self, part: &Part) -> usize {
        part.images.len() * self.source_rows(&part.rows).len() * self.padded[1] * self.channels
    }

    /// Copies what `part` is computed from, with its zeros.
    pub fn copy(&self, source: &[f32], part: &Part, to: &mut [f32]) {
        let rows = self.source_rows(&part.rows);
        let row_length = self.padded[1] * self.channels;
        let left = self.before[1].min(self.padded[1]) * self.channels;
        let kept = self.size[1].min(self.padded[1].saturating_sub(self.before[1])) * self.channels;
        let mut to_rows = to.chunks_exact_mut(row_length);
        for image in part.images.clone() {
            for row in rows.clone() {
                let Some(to) = to_rows.next() else { return };
                if row < self.before[0] || row - self.before[0] >= self.size[0] {
                    to.fill(0.0);
                    continue;
                }
                let from =
                    ((image * self.size[0] + row - self.before[0]) * self.size[1]) * self.channels;
                let (zeros, rest) = to.split_at_mut(left);
                zeros.fill(0.0);
                let (middle, zeros) = rest.split_at_mut(kept);
                middle.copy_from_slice(&source[from..from + kept]);
                zeros.fill(0.0);
            }
        }
    }
}

/// A part of the destination that one task computes: some rows of one image, or all rows of some images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub images: Range<usize>,
    pub rows: Range<usize>,
}

/// The destination cut into parts, by shape alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    batch: usize,
    rows: usize,
    images_per_part: usize,
    rows_per_part: usize,
}

impl Parts {
    /// Parts of about `pixels` destination pixels.
    pub fn new(batch: usize, rows: usize, row_pixels: usize, pixels: usize) -> Parts {
        let image_pixels = (rows * row_pixels).max(1);
        if image_pixels <= pixels {
            let images = (pixels / image_pixels).clamp(1, batch.max(1));
            let parts = batch.max(1).div_ceil(images);
            Parts {
                batch,
                rows,
                images_per_part: batch.max(1).div_ceil(parts),
                rows_per_part: rows,
            }
        } else {
            let parts = image_pixels.div_ceil(pixels);
            Parts {
                batch,
                rows,
                images_per_part: 1,
                rows_per_part: rows.div_ceil(parts).max(1),
            }
        }
    }

    fn parts_per_image(&self) -> usize {
        self.rows.div_ceil(self.rows_per_part.max(1))
    }

    /// How many parts.
    pub fn count(&self) -> usize {
        self.batch.div_ceil(self.images_per_part) * self.parts_per_image()
    }

    /// Part `index`.
    pub fn part(&self, index: usize) -> Part {
        let rows = index % self.parts_per_image() * self.rows_per_part;
        let images = index / self.parts_per_image() * self.images_per_part;
        Part {
            images: images..(images + self.images_per_part).min(self.batch),
            rows: rows..(rows + self.rows_per_part).min(self.rows),
        }
    }

    /// The part that offset tables are made for; every other part uses a beginning of them.
    pub fn largest(&self) -> Part {
        Part {
            images: 0..self.images_per_part.min(self.batch),
            rows: 0..self.rows_per_part.min(self.rows),
        }
    }
}

/// Appends, for every destination pixel of `part` in `view`, the first element of its window in the source (or its copy).
pub(super) fn source_offsets(frame: &Frame, view: &View, part: &Part, offsets: &mut Vec<usize>) {
    let image_rows = if frame.is_padded() {
        frame.source_rows(&part.rows).len()
    } else {
        frame.size[0]
    };
    for image in 0..part.images.len() {
        for row in 0..view_rows(view, part) {
            let first = (image * image_rows + row * frame.step[0]) * frame.padded[1];
            offsets.extend(
                (0..view.count[1]).map(|column| (first + column * frame.step[1]) * frame.channels),
            );
        }
    }
}

/// Appends, for every destination pixel of `part` in `view`, its first element, from the part's first row on.
pub(super) fn destination_offsets(
    views: &Views,
    view: &View,
    part: &Part,
    offsets: &mut Vec<usize>,
) {
    for image in 0..part.images.len() {
        for row in 0..view_rows(view, part) {
            let row = image * views.size[0] + view.start[0] + row * views.stride[0];
            offsets.extend((0..view.count[1]).map(|column| {
                (row * views.size[1] + view.start[1] + column * views.stride[1]) * views.channels
            }));
        }
    }
}

/// How many rows of `part` the view has.
pub(super) fn view_rows(view: &View, part: &Part) -> usize {
    part.rows
        .end
        .min(view.count[0])
        .saturating_sub(part.rows.start)
}

#[cfg(test)]
mod tests {
    use super::super::geometry::Conv2dOptions;
    use super::*;

    #[test]
    fn a_part_reads_the_rows_of_its_windows() {
        let frame = |kernel, stride, padding| {
            let options = Conv2dOptions {
                stride: [stride; 2],
                padding: [padding; 2],
                ..Conv2dOptions::default()
            };
            let geometry = Conv2dGeometry::new(5, [9, 4], 2, 3, [kernel; 2], options);
            Views::forward(&geometry.expect("a valid shape")).frame
        };
        let part = |images, rows| Part { images, rows };
        let row = 4 * 2;
        assert_eq!(frame(1, 1, 0).reads(&part(1..2, 3..5)), 12 * row..14 * row);
        assert_eq!(frame(1, 1, 0).reads(&part(1..4, 0..9)), 9 * row..36 * row);
        assert_eq!(frame(1, 2, 0).reads(&part(0..1, 1..3)), 2 * row..5 * row);
        assert_eq!(frame(3, 1, 1).reads(&part(2..3, 0..2)), 18 * row..21 * row);
        assert_eq!(frame(3, 1, 1).reads(&part(4..5, 7..9)), 42 * row..45 * row);
        assert_eq!(frame(3, 1, 1).reads(&part(0..0, 0..9)), 0..0);
    }
}
