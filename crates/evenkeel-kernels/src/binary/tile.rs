//! The inner loops: counts of differing bits of a few pixels by some groups of output channels, in registers.
//!
//! Lanes are output channels: one word of the input is broadcast and compared with the words of 16 channels at once, so nothing is
//! summed across lanes, and short sums (64 channels, 3×3) run as fast as long ones.

use super::GROUP;
use super::epilogue::Store;
use super::geometry::Plan;
use crate::isa::bits::{BitOp, BitSimd, BitTile};
use std::ops::Range;

/// Which constant each window takes: `K - 2d` becomes `constant - 2d`, where the constant knows what lies outside the image.
#[derive(Clone, Copy)]
pub(super) struct Constants<'a> {
    /// For each output row, the kind of its windows.
    pub rows: &'a [u32],
    /// For each output column, the kind of its windows.
    pub columns: &'a [u32],
    /// Kinds of columns.
    pub column_kinds: usize,
    /// `[row kinds, column kinds, groups, 16]`, read as i32.
    pub values: &'a [u32],
}

/// Some pixels (counted over the batch) by some groups of the output.
pub(super) struct Sweep<'a, E> {
    pub plan: &'a Plan,
    /// The images, padded where the plan is.
    pub input: &'a [u32],
    /// The bits of the weights.
    pub weight: &'a [u32],
    pub constants: Constants<'a>,
    pub pixels: Range<usize>,
    pub groups: Range<usize>,
    pub epilogue: &'a E,
}

impl<E: Store> BitOp for Sweep<'_, E> {
    type Output = ();

    #[inline(always)]
    fn call<S: BitSimd>(self, simd: S) {
        let mut group = self.groups.start;
        while group < self.groups.end {
            let left = self.groups.end - group;
            // One arm remains when this is compiled for an instruction set.
            group += match S::TILE {
                BitTile::Wide => match left {
                    1 => self.sweep::<S, 1, 6>(simd, group),
                    2 => self.sweep::<S, 2, 6>(simd, group),
                    3 => self.sweep::<S, 3, 6>(simd, group),
                    _ => self.sweep::<S, 4, 6>(simd, group),
                },
                BitTile::Medium if left == 1 => self.sweep::<S, 1, 6>(simd, group),
                BitTile::Medium => self.sweep::<S, 2, 6>(simd, group),
                BitTile::Narrow => self.sweep::<S, 2, 4>(simd, group),
                BitTile::Quarter => self.sweep::<S, 4, 4>(simd, group),
            };
        }
    }
}

impl<E: Store> Sweep<'_, E> {
    /// All pixels by the groups of `V` vectors from `group` on, `P` pixels at a time and the rest one by one. Returns the groups.
    #[inline(always)]
    fn sweep<S: BitSimd, const V: usize, const P: usize>(&self, simd: S, group: usize) -> usize {
        let mut cursor = Cursor::new(self.plan, self.constants, self.pixels.start);
        let mut pixel = self.pixels.start;
        while pixel + P <= self.pixels.end {
            self.block::<S, V, P>(simd, pixel, &mut cursor, group);
            pixel += P;
        }
        while pixel < self.pixels.end {
            self.block::<S, V, 1>(simd, pixel, &mut cursor, group);
            pixel += 1;
        }
        V * S::LANES / GROUP
    }

    #[inline(always)]
    fn block<S: BitSimd, const V: usize, const P: usize>(
        &self,
        simd: S,
        pixel: usize,
        cursor: &mut Cursor,
        group: usize,
    ) {
        let mut sources = [std::ptr::null(); P];
        let mut kinds = [0; P];
        for p in 0..P {
            let (offset, kind) = cursor.step();
            debug_assert!(offset < self.input.len());
            // SAFETY: the cursor's offsets lie in the input: a window starts inside the padded image.
            sources[p] = unsafe { self.input.as_ptr().add(offset) };
            kinds[p] = kind;
        }
        let group_words = self.plan.taps * self.plan.words * GROUP;
        debug_assert!((group + V * S::LANES / GROUP) * group_words <= self.weight.len());
        // SAFETY: the plan's windows lie inside the padded images, whose length `binary_conv2d` checked; `group` and those after it
        // that V vectors span are groups of the weights.
        let counts = unsafe {
            let weight = self.weight.as_ptr().add(group * group_words);
            count::<S, V, P>(simd, self.plan, sources, weight, group_words)
        };
        for v in 0..V {
            let channel = group * GROUP + v * S::LANES;
            let mut sums = counts[v];
            for p in 0..P {
                let start = kinds[p] * self.plan.groups * GROUP + channel;
                let constants = &self.constants.values[start..start + S::LANES];
                // SAFETY: `constants` is a vector of them.
                let constant = unsafe { simd.load(constants.as_ptr()) };
                sums[p] = simd.sub(constant, simd.add(sums[p], sums[p]));
            }
            self.epilogue.store(simd, pixel, channel, sums);
        }
    }
}

/// Walks over the output's pixels and says where each one's window starts in the input, and of which kind it is.
struct Cursor<'a> {
    constants: Constants<'a>,
    width: usize,
    height: usize,
    step_x: usize,
    step_y: usize,
    step_image: usize,
    x: usize,
    y: usize,
    row: usize,
    image: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    fn new(plan: &Plan, constants: Constants<'a>, pixel: usize) -> Self {
        let [height, width] = plan.out_size;
        let row_words = plan.padded[1] * plan.words;
        let (y, x) = (pixel / width % height, pixel % width);
        let step_y = plan.geometry.stride[0] * row_words;
        let step_image = plan.padded_words();
        let image = pixel / (width * height) * step_image;
        Cursor {
            constants,
            width,
            height,
            step_x: plan.geometry.stride[1] * plan.words,
            step_y,
            step_image,
            x,
            y,
            row: image + y * step_y,
            image,
        }
    }

    /// The offset and the kind of this pixel's window; goes on to the next.
    #[inline(always)]
    fn step(&mut self) -> (usize, usize) {
        let offset = self.row + self.x * self.step_x;
        let row_kind = self.constants.rows[self.y] as usize;
        let kind = row_kind * self.constants.column_kinds + self.constants.columns[self.x] as usize;
        self.x += 1;
        if self.x == self.width {
            self.x = 0;
            self.y += 1;
            self.row += self.step_y;
            if self.y == self.height {
                self.y = 0;
                self.image += self.step_image;
                self.row = self.image;
            }
        }
        (offset, kind)
    }
}

/// For each vector of output channels and each window, in how many bits they differ.
///
/// # Safety
/// The windows that start at `sources` must lie in readable memory as `plan` walks through them, and so must the groups of
/// `group_words` words, from `weight` on, that V vectors span.
#[inline(always)]
unsafe fn count<S: BitSimd, const V: usize, const P: usize>(
    simd: S,
    plan: &Plan,
    sources: [*const u32; P],
    weight: *const u32,
    group_words: usize,
) -> [[S::Words; P]; V] {
    let [kernel_height, kernel_width] = plan.geometry.kernel;
    let [dilation_y, dilation_x] = plan.geometry.dilation;
    // Neighbouring taps of a row are one run of words, unless they are spread out.
    let (runs, run) = if dilation_x == 1 {
        (1, kernel_width * plan.words)
    } else {
        (kernel_width, plan.words)
    };
    let vectors = GROUP / S::LANES;
    let mut totals = [[simd.splat(0); P]; V];
    let mut tallies = [[simd.nothing(); P]; V];
    let mut room = S::CAPACITY;
    let mut weight = weight;
    for y in 0..kernel_height {
        for x in 0..runs {
            let start = (y * dilation_y * plan.padded[1] + x * dilation_x) * plan.words;
            let mut done = 0;
            while done < run {
                let end = if S::CAPACITY == usize::MAX {
                    run
                } else {
                    run.min(done + room)
                };
                for word in start + done..start + end {
                    // SAFETY: the caller promises that the windows and the groups are readable.
                    unsafe {
                        let mut weights = [simd.splat(0); V];
                        for v in 0..V {
                            let lane = v % vectors * S::LANES;
                            weights[v] = simd.load(weight.add(v / vectors * group_words + lane));
                        }
                        weight = weight.add(GROUP);
                        for p in 0..P {
                            let input = simd.splat(*sources[p].add(word));
                            for v in 0..V {
                                tallies[v][p] = simd.differences(tallies[v][p], input, weights[v]);
                            }
                        }
                    }
                }
                if S::CAPACITY != usize::MAX {
                    room -= end - done;
                    if room == 0 {
                        room = S::CAPACITY;
                        empty(simd, &mut totals, &mut tallies);
                    }
                }
                done = end;
            }
        }
    }
    empty(simd, &mut totals, &mut tallies);
    totals
}

/// Adds the tallies to the totals and starts them again.
#[inline(always)]
fn empty<S: BitSimd, const V: usize, const P: usize>(
    simd: S,
    totals: &mut [[S::Words; P]; V],
    tallies: &mut [[S::Tally; P]; V],
) {
    for v in 0..V {
        for p in 0..P {
            totals[v][p] = simd.add(totals[v][p], simd.total(tallies[v][p]));
            tallies[v][p] = simd.nothing();
        }
    }
}
