//! The sizes of a binary convolution, checked once.

use super::{GROUP, words_of};
use crate::error::{KernelError, Result, checked_product};

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PaddingValue {
    /// Nothing: products with the outside are left out of the sum, as if it were 0. What papers train with.
    #[default]
    Zero,
    /// +1.
    Plus,
    /// -1.
    Minus,
}

/// A 2-D convolution (cross-correlation) of signs by signs.
///
/// Input `[batch, height, width, words]` with `words = ceil(inChannels / 32)`; weights as [`super::pack_weights`] lays them out; output
/// `[batch, outHeight, outWidth, outChannels]` with
/// `outHeight = floor((height + 2·padding - dilation·(kernelHeight - 1) - 1) / stride) + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BinaryConv2d {
    /// Images; may be 0.
    pub batch: usize,
    /// `[height, width]` of the input.
    pub size: [usize; 2],
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// `[height, width]` of the kernel.
    pub kernel: [usize; 2],
    /// Distance between windows, `[vertical, horizontal]`.
    pub stride: [usize; 2],
    /// Rows added above and below, columns added left and right.
    pub padding: [usize; 2],
    /// Distance between the kernel's elements, `[vertical, horizontal]`.
    pub dilation: [usize; 2],
    /// What is added.
    pub padding_value: PaddingValue,
}

impl BinaryConv2d {
    /// A linear layer: `rows` inputs of `inputs` features each.
    pub fn linear(rows: usize, inputs: usize, outputs: usize) -> Self {
        BinaryConv2d {
            batch: rows,
            size: [1, 1],
            in_channels: inputs,
            out_channels: outputs,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            padding_value: PaddingValue::Zero,
        }
    }

    /// Checks the sizes and derives the others.
    ///
    /// # Errors
    /// Where a size other than the batch is zero, the kernel does not fit into the padded image, a sum of products does not
    /// fit into 31 bits, or a number of elements overflows.
    pub fn plan(&self) -> Result<Plan> {
        let positive = [
            ("height", self.size[0]),
            ("width", self.size[1]),
            ("input channels", self.in_channels),
            ("output channels", self.out_channels),
            ("kernel height", self.kernel[0]),
            ("kernel width", self.kernel[1]),
            ("vertical stride", self.stride[0]),
            ("horizontal stride", self.stride[1]),
            ("vertical dilation", self.dilation[0]),
            ("horizontal dilation", self.dilation[1]),
        ];
        for (what, value) in positive {
            if value == 0 {
                return Err(KernelError::Invalid(format!(
                    "binary conv2d: {what} must be at least 1, got 0"
                )));
            }
        }
        let (mut padded, mut out_size) = ([0; 2], [0; 2]);
        for axis in 0..2 {
            let overflow = KernelError::Overflow("binary conv2d: padded image");
            padded[axis] = self.padding[axis]
                .checked_mul(2)
                .and_then(|padding| padding.checked_add(self.size[axis]))
                .ok_or(overflow.clone())?;
            let window = (self.kernel[axis] - 1)
                .checked_mul(self.dilation[axis])
                .and_then(|reach| reach.checked_add(1))
                .ok_or(overflow)?;
            if window > padded[axis] {
                return Err(KernelError::Invalid(format!(
                    "binary conv2d: a kernel that spans {window} does not fit into a {} of {} with padding {}",
                    ["height", "width"][axis],
                    self.size[axis],
                    self.padding[axis]
                )));
            }
            out_size[axis] = (padded[axis] - window) / self.stride[axis] + 1;
        }
        let words = words_of(self.in_channels);
        let groups = self.out_channels.div_ceil(GROUP);
        let images = self.batch.max(1);
        // The f32 images that these stand for must fit too: training unpacks them.
        let input = [
            images,
            padded[0],
            padded[1],
            words.saturating_mul(super::WORD_BITS),
        ];
        checked_product("binary conv2d: input", &input)?;
        let outputs = groups.saturating_mul(GROUP);
        checked_product(
            "binary conv2d: output",
            &[images, out_size[0], out_size[1], outputs],
        )?;
        let taps = self.kernel[0].saturating_mul(self.kernel[1]);
        checked_product(
            "binary conv2d: weights",
            &[taps, input[3].saturating_add(1), outputs],
        )?;
        let products = checked_product("binary conv2d: products", &[taps, input[3]])?;
        if products > i32::MAX as usize / 4 {
            return Err(KernelError::Overflow("binary conv2d: a sum of products"));
        }
        Ok(Plan {
            geometry: *self,
            padded,
            out_size,
            words,
            groups,
            taps,
        })
    }
}

/// A [`BinaryConv2d`] whose sizes fit together, with those that follow from it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What it was made from.
    pub geometry: BinaryConv2d,
    /// `[height, width]` of the padded input.
    pub padded: [usize; 2],
    /// `[height, width]` of the output.
    pub out_size: [usize; 2],
    /// Words of one input pixel.
    pub words: usize,
    /// Groups of 16 output channels.
    pub groups: usize,
    /// Elements of the kernel.
    pub taps: usize,
}

impl Plan {
    /// Words of the packed input.
    pub fn input_words(&self) -> usize {
        self.geometry.batch * self.geometry.size[0] * self.geometry.size[1] * self.words
    }

    /// Words of the packed weights: the bits, then for each tap and output channel the number of -1.
    pub fn weight_words(&self) -> usize {
        self.taps * (self.words + 1) * self.groups * GROUP
    }

    /// Pixels of the output, over the whole batch.
    pub fn pixels(&self) -> usize {
        self.geometry.batch * self.out_size[0] * self.out_size[1]
    }

    /// Elements of the output.
    pub fn output_length(&self) -> usize {
        self.pixels() * self.geometry.out_channels
    }

    /// Words of the output's signs.
    pub fn output_words(&self) -> usize {
        self.pixels() * words_of(self.geometry.out_channels)
    }

    /// Words of scratch space that [`super::binary_conv2d`] needs.
    pub fn scratch_words(&self) -> usize {
        let copy = if self.is_padded() {
            self.geometry.batch * self.padded_words()
        } else {
            0
        };
        self.out_size[0] + self.out_size[1] + self.constants_length() + copy
    }

    /// Whether anything is added around the image.
    pub(super) fn is_padded(&self) -> bool {
        self.geometry.padding != [0, 0]
    }

    /// Words of one padded image.
    pub(super) fn padded_words(&self) -> usize {
        self.padded[0] * self.padded[1] * self.words
    }

    /// Constants of every kind of window that there may be.
    pub(super) fn constants_length(&self) -> usize {
        self.most_kinds(0) * self.most_kinds(1) * self.groups * GROUP
    }

    /// The most different ranges of taps inside the image that windows along an axis may have. From one window to the next
    /// neither end of the range grows, and each can fall as often as there are taps.
    fn most_kinds(&self, axis: usize) -> usize {
        if self.is_padded() && self.geometry.padding_value == PaddingValue::Zero {
            self.out_size[axis].min(2 * self.geometry.kernel[axis] + 1)
        } else {
            1
        }
    }

    /// The taps along `axis` that window `index` has inside the image.
    pub(super) fn inside(&self, axis: usize, index: usize) -> std::ops::Range<usize> {
        let g = &self.geometry;
        let (start, dilation) = (index * g.stride[axis], g.dilation[axis]);
        // Tap k lies at start + k·dilation of the padded axis, and the image at padding..padding + size.
        let first = g.padding[axis].saturating_sub(start).div_ceil(dilation);
        let end = (g.padding[axis] + g.size[axis])
            .saturating_sub(start)
            .div_ceil(dilation);
        let end = end.min(g.kernel[axis]);
        first.min(end)..end
    }

    /// Binary multiplications of the whole convolution.
    pub fn multiplications(&self) -> usize {
        self.output_length()
            .saturating_mul(self.taps * self.geometry.in_channels)
    }
}
