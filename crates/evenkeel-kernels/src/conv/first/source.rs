//! The transformed source: tiles side by side in a vector, each with the few channels of one pixel in four lanes.

use crate::conv::winograd::{Four, Lines};
use crate::isa::{Simd, SimdOp, dispatch};
use std::ops::Range;

/// Outputs of a tile along each axis.
pub(super) const OUTPUTS: usize = 4;
/// Points along each axis.
pub(super) const POINTS: usize = 6;
/// Points of a tile.
pub(super) const SQUARE: usize = POINTS * POINTS;
/// Lanes that a tile has in a transformed vector: the most channels.
pub(super) const QUAD: usize = 4;
/// Slots of a group. Their products, or their transformed gradients, share the first-level cache with the kernel, or its sums: with 16
/// slots gradients of weights of 3→16 took a tenth longer.
pub(super) const SLOTS: usize = 8;

/// A source and the outputs computed from it, in tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    /// `[height, width]` of the source.
    pub size: [usize; 2],
    /// Channels of the source, at most [`QUAD`].
    pub channels: usize,
    /// Zeros above and left.
    pub padding: [usize; 2],
    /// `[height, width]` of the output.
    pub out_size: [usize; 2],
    /// Lanes of a vector.
    pub lanes: usize,
}

/// Where a tile is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tile {
    /// Its place in the group.
    pub slot: usize,
    /// The number of its first pixel in the output.
    pub pixel: usize,
    /// `[rows, columns]` of it that exist.
    pub size: [usize; 2],
}

impl Tiling {
    /// Lines of tiles, and tiles of a line.
    pub(super) fn tiles(&self) -> [usize; 2] {
        self.out_size.map(|pixels| pixels.div_ceil(OUTPUTS))
    }

    /// Tiles of a line, rounded up to whole vectors.
    fn slots(&self) -> usize {
        self.tiles()[1].next_multiple_of(self.lanes / QUAD)
    }

    /// Values of a padded row, with what is read behind it.
    fn row_length(&self) -> usize {
        ((OUTPUTS * self.slots() + POINTS - OUTPUTS) * self.channels + QUAD).next_multiple_of(16)
    }

    /// Values of a row transformed along itself.
    fn half_length(&self) -> usize {
        POINTS * self.slots() * QUAD
    }

    /// Scratch memory of [`Self::for_each_group`].
    pub(super) fn scratch_length(&self) -> usize {
        POINTS * (self.row_length() + self.half_length()) + SQUARE * SLOTS * QUAD
    }

    /// Transforms the lines of tiles `lines` of `images` and calls `take` with groups of up to `SLOTS` slots: what is transformed,
    /// `[column of points][row of points][slot][lane of a quad]`, and which tiles it holds, in order of their slots.
    pub(super) fn for_each_group(
        &self,
        input: &[f32],
        images: Range<usize>,
        lines: Range<usize>,
        scratch: &mut [f32],
        mut take: impl FnMut(&[f32], &[Tile]),
    ) {
        let [tiles, slots] = [self.tiles()[1], self.slots()];
        let [out_height, out_width] = self.out_size;
        let (rows, rest) = scratch.split_at_mut(POINTS * self.row_length());
        let (halves, source) = rest.split_at_mut(POINTS * self.half_length());
        rows.fill(0.0);
        let mut group = [Tile::default(); SLOTS];
        let (mut count, mut used) = (0, 0);
        for image in images {
            for line in lines.clone() {
                let first = OUTPUTS * line;
                // Neighbouring lines share two rows.
                let known = if line > lines.start {
                    POINTS - OUTPUTS
                } else {
                    0
                };
                dispatch(&mut Rows {
                    tiling: self,
                    input,
                    image,
                    range: first + known..first + POINTS,
                    rows: &mut *rows,
                    halves: &mut *halves,
                });
                let height = OUTPUTS.min(out_height - first);
                let pixel = (image * out_height + first) * out_width;
                let mut start = 0;
                while start < slots {
                    if used == SLOTS {
                        take(source, &group[..count]);
                        (count, used) = (0, 0);
                    }
                    let end = slots.min(start + SLOTS - used);
                    dispatch(&mut Columns {
                        halves,
                        first_row: first,
                        slots: start..end,
                        to: &mut *source,
                        to_slot: used,
                    });
                    for tile in start..end.min(tiles) {
                        let column = OUTPUTS * tile;
                        group[count] = Tile {
                            slot: used + tile - start,
                            pixel: pixel + column,
                            size: [height, OUTPUTS.min(out_width - column)],
                        };
                        count += 1;
                    }
                    used += end - start;
                    start = end;
                }
            }
        }
        if count > 0 {
            take(source, &group[..count]);
        }
    }
}

/// Transforms padded rows of an image along themselves. Row i takes place `i % POINTS`.
struct Rows<'a> {
    tiling: &'a Tiling,
    input: &'a [f32],
    image: usize,
    /// Padded rows, at most `POINTS`.
    range: Range<usize>,
    /// Room for copies between zeros; what is never copied to is zero.
    rows: &'a mut [f32],
    /// `[place][vector of tiles][point][tile][lane of a quad]`.
    halves: &'a mut [f32],
}

impl SimdOp for &mut Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        match self.tiling.channels {
            1 => self.run::<S, 1>(s),
            2 => self.run::<S, 2>(s),
            3 => self.run::<S, 3>(s),
            _ => self.run::<S, 4>(s),
        }
    }
}

impl Rows<'_> {
    #[inline(always)]
    fn run<S: Simd, const CHANNELS: usize>(&mut self, s: S) {
        let tiling = self.tiling;
        let (row_length, half_length) = (tiling.row_length(), tiling.half_length());
        let vectors = tiling.slots() * QUAD / S::LANES;
        assert_eq!((tiling.lanes, tiling.channels), (S::LANES, CHANNELS));
        assert_eq!(self.rows.len(), POINTS * row_length);
        assert_eq!(self.halves.len(), POINTS * half_length);
        let [height, width] = tiling.size;
        let length = width * CHANNELS;
        let start = tiling.padding[1] * CHANNELS;
        assert!(start + length <= row_length);
        for row in self.range.clone() {
            let to = &mut self.rows[row % POINTS * row_length + start..][..length];
            let row = row.wrapping_sub(tiling.padding[0]);
            if row >= height {
                to.fill(0.0);
                continue;
            }
            let from = &self.input[(self.image * height + row) * length..][..length];
            let whole = length - length % S::LANES;
            // SAFETY: both have `length` values. (A call of memcpy takes longer for some hundred bytes.)
            unsafe {
                for i in (0..whole).step_by(S::LANES) {
                    s.store(s.load(from.as_ptr().add(i)), to.as_mut_ptr().add(i));
                }
                if whole < length {
                    let value = s.load_partial(from.as_ptr().add(whole), length - whole);
                    s.store_partial(value, to.as_mut_ptr().add(whole), length - whole);
                }
            }
        }
        for row in self.range.clone() {
            let place = row % POINTS;
            let from = self.rows[place * row_length..][..row_length].as_ptr();
            let to = self.halves[place * half_length..][..half_length].as_mut_ptr();
            for vector in 0..vectors {
                // SAFETY: the last quad of the last tile ends within the row's length, and `to` holds `POINTS * vectors` vectors.
                unsafe {
                    let from = from.add(vector * (S::LANES / QUAD * OUTPUTS * CHANNELS));
                    let to = to.add(vector * (POINTS * S::LANES));
                    let mut pixels = [s.zero(); POINTS];
                    for i in 0..POINTS {
                        pixels[i] = s.load_quads(from.add(i * CHANNELS), OUTPUTS * CHANNELS);
                    }
                    let points = Four::input(s, pixels);
                    for k in 0..POINTS {
                        s.store(points[k], to.add(k * S::LANES));
                    }
                }
            }
        }
    }
}

/// Transforms tiles along their columns.
struct Columns<'a> {
    /// Of [`Rows`].
    halves: &'a [f32],
    /// The first padded row of the tiles.
    first_row: usize,
    /// Which tiles of the line, whole vectors.
    slots: Range<usize>,
    /// `[column of points][row of points][slot][lane of a quad]`.
    to: &'a mut [f32],
    to_slot: usize,
}

impl SimdOp for &mut Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let tiles = S::LANES / QUAD;
        let half_length = self.halves.len() / POINTS;
        assert!(self.slots.end * POINTS * QUAD <= half_length);
        assert_eq!(self.to.len(), SQUARE * SLOTS * QUAD);
        assert!(self.slots.start <= self.slots.end);
        assert!(self.to_slot + self.slots.len() <= SLOTS);
        assert!(self.slots.start.is_multiple_of(tiles) && self.slots.len().is_multiple_of(tiles));
        let mut from = [self.halves.as_ptr(); POINTS];
        for i in 0..POINTS {
            from[i] = self.halves[(self.first_row + i) % POINTS * half_length..].as_ptr();
        }
        let to = self.to.as_mut_ptr();
        for slot in (0..self.slots.len()).step_by(tiles) {
            // SAFETY: slots lie in the halves and in `to`, as asserted.
            unsafe {
                let to = to.add((self.to_slot + slot) * QUAD);
                let offset = (self.slots.start + slot) * POINTS * QUAD;
                for column in 0..POINTS {
                    let mut values = [s.zero(); POINTS];
                    for i in 0..POINTS {
                        values[i] = s.load(from[i].add(offset + column * S::LANES));
                    }
                    let values = Four::input(s, values);
                    for row in 0..POINTS {
                        s.store(values[row], to.add((column * POINTS + row) * SLOTS * QUAD));
                    }
                }
            }
        }
    }
}
