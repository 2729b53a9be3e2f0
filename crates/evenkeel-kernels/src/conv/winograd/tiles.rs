//! Square tiles of an image, numbered through a batch, and the transform of what lies under them.

use super::lines::Lines;
use super::squares::{Even, Framed, Part, Streamed, Whole};
use crate::isa::Simd;
use std::ops::Range;

/// A batch of images, cut into output tiles.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiling {
    /// Images.
    pub batch: usize,
    /// `[height, width]` of the source.
    pub source: [usize; 2],
    /// Channels of the source.
    pub channels: usize,
    /// Zeros above and left of the source.
    pub before: [usize; 2],
    /// `[height, width]` of the destination.
    pub destination: [usize; 2],
    /// Width of a tile.
    pub width: usize,
    /// Source pixels from one tile to the next.
    pub step: usize,
}

/// Cuts `tiles` into groups of `group`. A rest of up to a quarter of that goes with the last group: by itself it would go through all
/// weights for a few tiles.
pub(super) fn groups(tiles: Range<usize>, group: usize) -> impl Iterator<Item = Range<usize>> {
    let mut first = tiles.start;
    std::iter::from_fn(move || {
        let left = tiles.end - first;
        let count = if left <= group + group / 4 {
            left
        } else {
            group
        };
        first += count;
        (count > 0).then_some(first - count..first)
    })
}

/// One tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub image: usize,
    /// The first destination row.
    pub row: usize,
    /// The first destination column.
    pub column: usize,
}

impl Tiling {
    fn rows(&self) -> usize {
        self.destination[0].div_ceil(self.width)
    }

    fn columns(&self) -> usize {
        self.destination[1].div_ceil(self.width)
    }

    /// The first source row and column under a tile.
    #[inline(always)]
    fn corner(&self, tile: Tile) -> [isize; 2] {
        let first = |place: usize| (place / self.width * self.step) as isize;
        [
            first(tile.row) - self.before[0] as isize,
            first(tile.column) - self.before[1] as isize,
        ]
    }

    /// Elements of the source.
    pub fn source_length(&self) -> usize {
        self.batch * self.source[0] * self.source[1] * self.channels
    }

    /// Elements of a destination with `channels` channels.
    pub fn destination_length(&self, channels: usize) -> usize {
        self.batch * self.destination[0] * self.destination[1] * channels
    }

    /// The image and the row of tiles in it of the first row that begins with `tile` or after it.
    fn row_from(&self, tile: usize) -> [usize; 2] {
        let row = tile.min(self.count()).div_ceil(self.columns());
        [row / self.rows(), row % self.rows()]
    }

    /// What tiles read of the source, windows of `window` pixels a side, and those before them do not: consecutive, in whole rows of tiles, so
    /// that what a range reads may be in that of the range before it. Tiles past the last read nothing.
    pub fn reads(&self, tiles: Range<usize>, window: usize) -> Range<usize> {
        let [height, width] = self.source;
        let before = |tile: usize| {
            let [image, row] = self.row_from(tile);
            let rows = match row {
                0 => 0,
                _ => ((row - 1) * self.step + window).saturating_sub(self.before[0]),
            };
            (image * height + rows.min(height)) * width * self.channels
        };
        before(tiles.start)..before(tiles.end)
    }

    /// What tiles cover of a destination with `channels` channels: consecutive, in whole rows of tiles as above.
    pub fn covers(&self, tiles: Range<usize>, channels: usize) -> Range<usize> {
        let [height, width] = self.destination;
        let before = |tile: usize| {
            let [image, row] = self.row_from(tile);
            (image * height + row * self.width) * width * channels
        };
        before(tiles.start)..before(tiles.end)
    }

    /// Tiles in the batch.
    pub fn count(&self) -> usize {
        self.batch * self.rows() * self.columns()
    }

    /// The tiles of a range, in order.
    #[inline(always)]
    pub fn tiles(&self, range: Range<usize>) -> Tiles {
        let (rows, columns) = (self.rows(), self.columns());
        let image_tiles = (rows * columns).max(1);
        Tiles {
            next: Tile {
                image: range.start / image_tiles,
                row: range.start % image_tiles / columns * self.width,
                column: range.start % columns * self.width,
            },
            left: range.len(),
            tiling: *self,
        }
    }
}

/// See [`Tiling::tiles`].
pub(super) struct Tiles {
    next: Tile,
    left: usize,
    tiling: Tiling,
}

impl Iterator for Tiles {
    type Item = Tile;

    #[inline(always)]
    fn next(&mut self) -> Option<Tile> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let tile = self.next;
        self.next.column += self.tiling.width;
        if self.next.column >= self.tiling.destination[1] {
            self.next.column = 0;
            self.next.row += self.tiling.width;
            if self.next.row >= self.tiling.destination[0] {
                self.next.row = 0;
                self.next.image += 1;
            }
        }
        Some(tile)
    }
}

/// Transforms some channels of the source under a tile: element `e` of the transform goes to `to + e * element_stride`.
///
/// # Safety
/// `source` must hold the batch, `zeros` as many zeros as there are channels in the range, which must exist, and `to` these channels
/// rounded up to whole vectors
/// at every element.
#[inline(always)]
pub(super) unsafe fn transform_input<
    S: Simd,
    L: Lines<SOURCE, KERNEL, PRODUCT, OUT>,
    const SOURCE: usize,
    const KERNEL: usize,
    const PRODUCT: usize,
    const OUT: usize,
>(
    s: S,
    tiling: &Tiling,
    tile: Tile,
    range: Range<usize>,
    source: *const f32,
    zeros: *const f32,
    to: *mut f32,
    element_stride: usize,
) {
    let channels = tiling.channels;
    let count = range.len();
    let whole = count / S::LANES * S::LANES;
    let [height, width] = tiling.source;
    let [top, left] = tiling.corner(tile);
    let inside = |first: isize, size: usize| first >= 0 && first as usize + SOURCE <= size;
    // SAFETY: the pixels of a patch hold `channels` floats each, and `to` is long enough, by the caller's promise.
    unsafe {
        let mut channel = 0;
        if inside(top, height) && inside(left, width) {
            let pixel = (tile.image * height + top as usize) * width + left as usize;
            let source = source.add(pixel * channels + range.start).cast_mut();
            while channel < whole {
                let pixels = Streamed {
                    all: Even {
                        first: source.add(channel),
                        row: width * channels,
                        column: channels,
                    },
                    ahead: tiling.step * channels,
                };
                let to = Even::elements(to.add(channel), SOURCE, element_stride);
                L::input_square(s, pixels, to);
                channel += S::LANES;
            }
            if channel == count {
                return;
            }
        }
        let framed = |channel: usize| Framed {
            image: source
                .wrapping_add(tile.image * height * width * channels + range.start + channel),
            size: tiling.source,
            channels,
            first: [top, left],
            zeros,
        };
        while channel < count {
            let to = Even::elements(to.add(channel), SOURCE, element_stride);
            let image = framed(channel);
            if channel < whole {
                L::input_square(s, Whole(image), to);
            } else {
                let lanes = count - channel;
                L::input_square(s, Part { image, lanes }, to);
            }
            channel += S::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_every_tile_once_and_leave_no_small_rest() {
        for (tiles, group) in [
            (5..5, 24),
            (0..24, 24),
            (3..52, 24),
            (0..100, 24),
            (0..7, 2),
        ] {
            let mut next = tiles.start;
            for range in groups(tiles.clone(), group) {
                assert_eq!(range.start, next);
                assert!(range.len() <= group + group / 4);
                assert!(4 * range.len() > group || range == tiles);
                next = range.end;
            }
            assert_eq!(next, tiles.end);
        }
        assert!(groups(0..49, 24).eq([0..24, 24..49]));
    }

    #[test]
    fn tiles_go_through_the_batch_from_any_start() {
        let tiling = Tiling {
            batch: 3,
            source: [5, 7],
            channels: 1,
            before: [1, 1],
            destination: [5, 7],
            width: 2,
            step: 2,
        };
        assert_eq!(tiling.count(), 3 * 3 * 4);
        let all: Vec<Tile> = tiling.tiles(0..tiling.count()).collect();
        let mut expected = Vec::new();
        for image in 0..3 {
            for row in [0, 2, 4] {
                for column in [0, 2, 4, 6] {
                    expected.push(Tile { image, row, column });
                }
            }
        }
        assert_eq!(all, expected);
        for start in 0..all.len() {
            let some: Vec<Tile> = tiling.tiles(start..all.len()).collect();
            assert_eq!(some, all[start..]);
        }
    }

    #[test]
    fn memory_of_groups_is_consecutive_and_holds_the_windows() {
        // Window, step, width; and the source, zeros before it, the destination.
        for ([window, step, width], source, before, destination) in [
            ([6, 4, 4], [8, 8], [1, 1], [8, 8]),
            ([6, 4, 4], [13, 10], [0, 0], [11, 8]),
            ([6, 4, 4], [9, 11], [2, 2], [11, 13]),
            ([4, 2, 2], [7, 5], [1, 1], [7, 5]),
            ([9, 8, 4], [15, 17], [1, 1], [8, 9]),
            ([5, 4, 8], [8, 9], [0, 0], [15, 17]),
        ] {
            let tiling = Tiling {
                batch: 3,
                source,
                channels: 3,
                before,
                destination,
                width,
                step,
            };
            let count = tiling.count();
            for group in [1, 2, 5, count] {
                let (mut read, mut covered) = (0, 0);
                for first in (0..count).step_by(group) {
                    let reads = tiling.reads(first..first + group, window);
                    let covers = tiling.covers(first..first + group, 7);
                    assert_eq!([reads.start, covers.start], [read, covered]);
                    [read, covered] = [reads.end, covers.end];
                    // All rows of tiles that begin before the group's end.
                    for tile in tiling.tiles(0..(first + group).min(count)) {
                        let row = (tiling.corner(tile)[0] + window as isize - 1)
                            .clamp(0, source[0] as isize - 1);
                        let pixel = (tile.image * source[0] + row as usize + 1) * source[1];
                        assert!(
                            pixel * tiling.channels <= read,
                            "{tiling:?} {tile:?} {group}"
                        );
                        let row = (tile.row + width).min(destination[0]);
                        let pixel = (tile.image * destination[0] + row) * destination[1];
                        assert!(pixel * 7 <= covered, "{tiling:?} {tile:?} {group}");
                    }
                }
                assert_eq!(read, tiling.source_length());
                assert_eq!(covered, tiling.destination_length(7));
                let past = tiling.reads(count..count + group, window);
                assert!(past.is_empty() && past.end <= tiling.source_length());
            }
        }
    }
}
