//! Copying between two layouts of the same elements: what permuting, slicing, padding and joining have in common.

use crate::elementwise::MAX_DIMENSIONS;
use crate::parallel::{for_each_task, piece};

/// Elements per task.
const PIECE: usize = 1 << 14;

/// Side of the tiles of a transposition: a tile of the source and one of the destination fit in the first-level cache.
const TILE: usize = 32;

/// The walk: sizes with both strides, innermost (as the destination sees it) first, without sizes of one and with neighbours
/// merged where both layouts permit it.
pub(super) struct Walk {
    rank: usize,
    sizes: [usize; MAX_DIMENSIONS],
    from: [usize; MAX_DIMENSIONS],
    to: [usize; MAX_DIMENSIONS],
    length: usize,
}

impl Walk {
    /// Over `(size, source stride, destination stride)`, innermost first.
    pub(super) fn new(dimensions: impl Iterator<Item = (usize, usize, usize)>) -> Self {
        let mut walk = Walk {
            rank: 0,
            sizes: [1; MAX_DIMENSIONS],
            from: [1; MAX_DIMENSIONS],
            to: [1; MAX_DIMENSIONS],
            length: 1,
        };
        for (size, from, to) in dimensions {
            walk.length *= size;
            if size == 1 {
                continue;
            }
            if let Some(last) = walk.rank.checked_sub(1)
                && from == walk.from[last] * walk.sizes[last]
                && to == walk.to[last] * walk.sizes[last]
            {
                walk.sizes[last] *= size;
                continue;
            }
            walk.sizes[walk.rank] = size;
            walk.from[walk.rank] = from;
            walk.to[walk.rank] = to;
            walk.rank += 1;
        }
        walk.rank = walk.rank.max(1);
        walk
    }

    /// One past the largest offset into the source and the destination.
    fn ends(&self) -> (usize, usize) {
        let last = |strides: &[usize]| -> usize {
            let offsets = self.sizes.iter().zip(strides);
            offsets.map(|(size, stride)| (size - 1) * stride).sum()
        };
        (last(&self.from) + 1, last(&self.to) + 1)
    }

    /// The offsets of element `index` of the dimensions other than 0 and `skipped`.
    fn offsets(&self, mut index: usize, skipped: usize) -> (usize, usize) {
        let (mut from, mut to) = (0, 0);
        for dimension in 1..self.rank {
            if dimension != skipped {
                let coordinate = index % self.sizes[dimension];
                index /= self.sizes[dimension];
                from += coordinate * self.from[dimension];
                to += coordinate * self.to[dimension];
            }
        }
        (from, to)
    }
}

struct Pointers<T> {
    from: *const T,
    to: *mut T,
}

// SAFETY: they point into slices that `copy` borrows for the length of its tasks, which write disjoint elements.
unsafe impl<T: Send + Sync> Sync for Pointers<T> {}

/// Copies every element of the walk.
///
/// # Panics
/// Where the walk leaves one of the slices: the callers compute it from checked shapes.
pub(super) fn copy<T: Copy + Send + Sync>(walk: &Walk, from: &[T], to: &mut [T]) {
    if walk.length == 0 {
        return;
    }
    let ends = walk.ends();
    assert!(ends.0 <= from.len() && ends.1 <= to.len());
    let pointers = Pointers {
        from: from.as_ptr(),
        to: to.as_mut_ptr(),
    };
    if walk.from[0] == 1 && walk.to[0] == 1 {
        copy_rows(walk, &pointers);
    } else {
        // The dimension along which the source is contiguous, if any: then tiles use whole cache lines of both.
        let other = (1..walk.rank).find(|&dimension| walk.from[dimension] == 1);
        copy_tiles(walk, &pointers, other.unwrap_or(1));
    }
}

/// Both layouts are contiguous along dimension 0.
fn copy_rows<T: Copy + Send + Sync>(walk: &Walk, pointers: &Pointers<T>) {
    let width = walk.sizes[0];
    for_each_task(walk.length.div_ceil(PIECE), walk.length, |task| {
        let range = piece(task, PIECE, walk.length);
        let mut at = range.start;
        while at < range.end {
            let column = at % width;
            let length = (width - column).min(range.end - at);
            let (from, to) = walk.offsets(at / width, 0);
            // SAFETY: these are elements of the walk, which `copy` found to lie inside both slices; the slices are different
            // borrows, and different pieces have different elements.
            unsafe {
                std::ptr::copy_nonoverlapping(
                    pointers.from.add(from + column),
                    pointers.to.add(to + column),
                    length,
                );
            }
            at += length;
        }
    });
}

/// A transposition of dimension 0 with `other`, for each element of the dimensions that are left.
fn copy_tiles<T: Copy + Send + Sync>(walk: &Walk, pointers: &Pointers<T>, other: usize) {
    let (width, height) = (walk.sizes[0], walk.sizes[other]);
    let bands = height.div_ceil(TILE);
    let units = walk.length / (width * height) * bands;
    let step = (PIECE / (width * TILE.min(height))).max(1);
    for_each_task(units.div_ceil(step), walk.length, |task| {
        for unit in piece(task, step, units) {
            let (from, to) = walk.offsets(unit / bands, other);
            let rows = piece(unit % bands, TILE, height);
            for first in (0..width).step_by(TILE) {
                for row in rows.clone() {
                    let from = from + row * walk.from[other];
                    let to = to + row * walk.to[other];
                    for column in first..(first + TILE).min(width) {
                        // SAFETY: as in `copy_rows`.
                        unsafe {
                            *pointers.to.add(to + column * walk.to[0]) =
                                *pointers.from.add(from + column * walk.from[0]);
                        }
                    }
                }
            }
        }
    });
}
