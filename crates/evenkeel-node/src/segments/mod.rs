//! Several commands at a time on a few images, instead of one command at a time on the whole batch.
//!
//! A layer's activations for a batch are larger than a core's cache: written by one command, they come back from memory for the next.
//! But most commands treat every image on its own. So the stream collects such commands in a [`Group`], cuts the batch into segments
//! of a few images, and every thread takes its segments, one after another, through all commands of the group. What one command hands
//! to the next is then still in that thread's second-level cache; a tensor that is freed within the group exists only as the part of
//! a segment and is never written to memory; and threads meet once a group, not once a command. A command that needs the whole batch
//! (the statistics of a batch norm, the loss, the optimizer) ends a group.
//!
//! [`cutting`] is what an operation says of itself (its family's `CUTS`), [`group`] collects commands, [`execution`] runs them.
//!
//! # The same bits, whatever is grouped
//!
//! What a command computes must not depend on the commands around it, nor on when the stream found time to run them. Where images do
//! not meet, that is so by itself. Where a command sums over images (the gradient of a weight), the sums of segments are added in
//! order; [`Segmentation`] cuts by the batch alone, and a command that can be cut is always cut, alone if need be.

pub mod cutting;
pub mod execution;
pub mod group;

use std::ops::Range;

/// Images of the smallest batch that is cut. (Kernels cut smaller ones into tasks themselves.)
const SMALLEST_BATCH: usize = 8;
/// Elements of the smallest tensor for which a command is cut: 4 MB.
const SMALLEST_TENSOR: usize = 1 << 20;
/// Images of a segment, at most.
const IMAGES: usize = 8;
/// Segments that a batch is cut into, at least.
const SEGMENTS: usize = 8;
/// Shares of a batch, at most: each has a sum of its own.
const SHARES: usize = 16;

/// Whether a command on `batch` images, whose largest tensor has `elements`, is cut.
pub fn worthwhile(batch: usize, elements: usize) -> bool {
    batch >= SMALLEST_BATCH && elements >= SMALLEST_TENSOR
}

/// How a batch is cut: into segments of a few images that go through a group of commands at once, and shares of some segments whose
/// sums are made by one thread. By the number of images alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    batch: usize,
    images: usize,
    /// How many segments there are.
    pub segments: usize,
    share: usize,
    /// How many shares there are.
    pub shares: usize,
}

impl Segmentation {
    /// Cuts `batch` images.
    pub fn of(batch: usize) -> Self {
        let images = batch.div_ceil(SEGMENTS).clamp(1, IMAGES);
        let segments = batch.div_ceil(images).max(1);
        let share = segments.div_ceil(SHARES);
        Segmentation {
            batch,
            images,
            segments,
            share,
            shares: segments.div_ceil(share),
        }
    }

    /// The images of a segment.
    pub fn images(&self, segment: usize) -> Range<usize> {
        let first = segment * self.images;
        first..(first + self.images).min(self.batch)
    }

    /// The segments of a share.
    pub fn share(&self, share: usize) -> Range<usize> {
        let first = share * self.share;
        first..(first + self.share).min(self.segments)
    }
}

#[cfg(test)]
mod tests;
