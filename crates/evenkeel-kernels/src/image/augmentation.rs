//! Where a random crop and flip put an image.

use crate::error::{KernelError, Result};
use crate::random::philox4x32;

/// Sets the random numbers of augmentation apart from every other use of the same seed: the upper half of the sequence's number,
/// as `crate::random::Generator` counts.
const DOMAIN: u32 = 0x696d_6167;

/// Random crops and flips, a function of the seed, the epoch and the image's index alone: neither the order of the batches
/// nor the number of threads changes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Augmentation {
    /// The image is padded by this many zero pixels on every side, and a part of its own size is cut out. 0 for no crop.
    pub crop_padding: usize,
    /// Whether half of the images are mirrored left to right.
    pub flip: bool,
    /// The run's seed.
    pub seed: u64,
    /// The pass over the data, so that each one sees other crops.
    pub epoch: u32,
}

/// How one image is cut out and turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Rows between the padded image's top and the cut's.
    pub top: usize,
    /// Columns between the padded image's left edge and the cut's.
    pub left: usize,
    /// Whether the cut is then mirrored.
    pub flipped: bool,
}

impl Augmentation {
    /// The padding, where it can be added to an image of this size without overflow.
    pub(super) fn check(&self, height: usize, width: usize) -> Result {
        if self.crop_padding <= height.min(width) && self.crop_padding < 1 << 30 {
            Ok(())
        } else {
            Err(KernelError::Invalid(format!(
                "crop padding {} must be at most the image's size, {height} x {width}",
                self.crop_padding
            )))
        }
    }

    /// The placement of image `index`, uniform over all offsets.
    pub fn placement(&self, index: u32) -> Placement {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let [top, left, flip, _] = philox4x32([index, self.epoch, 0, DOMAIN], key);
        let offsets = 2 * self.crop_padding as u64 + 1;
        let offset = |random: u32| ((u64::from(random) * offsets) >> 32) as usize;
        Placement {
            top: offset(top),
            left: offset(left),
            flipped: self.flip && flip >> 31 == 1,
        }
    }
}
