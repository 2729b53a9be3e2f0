//! The sizes of a 2-D convolution, checked once.

use crate::error::{KernelError, Result, checked_product};
use crate::parallel::multiply_adds;

/// How the kernel moves over the image; the default is stride 1, no padding, no dilation, one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dOptions {
    /// Distance between windows, `[vertical, horizontal]`; at least 1.
    pub stride: [usize; 2],
    /// Rows of zeros above and below, columns of zeros left and right.
    pub padding: [usize; 2],
    /// Distance between the kernel's elements, `[vertical, horizontal]`; at least 1.
    pub dilation: [usize; 2],
    /// Groups of channels that do not see each other; divides both channel counts.
    pub groups: usize,
}

impl Default for Conv2dOptions {
    fn default() -> Self {
        Conv2dOptions {
            stride: [1, 1],
            padding: [0, 0],
            dilation: [1, 1],
            groups: 1,
        }
    }
}

/// A 2-D convolution (cross-correlation, as in every deep learning library) whose sizes fit together.
///
/// Input `[batch, height, width, inChannels]`, weight `[kernelHeight, kernelWidth, inChannels / groups, outChannels]`, output
/// `[batch, outHeight, outWidth, outChannels]`, with
/// `outHeight = floor((height + 2·padding - dilation·(kernelHeight - 1) - 1) / stride) + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dGeometry {
    batch: usize,
    size: [usize; 2],
    in_channels: usize,
    out_channels: usize,
    kernel: [usize; 2],
    options: Conv2dOptions,
    out_size: [usize; 2],
}

impl Conv2dGeometry {
    /// Checks the sizes of a convolution of `batch` images of `size = [height, width]` with a `kernel = [height, width]`.
    ///
    /// # Errors
    /// Where a size other than the batch is zero, the groups do not divide the channels, the kernel does not fit into the
    /// padded image, or the number of elements of a tensor overflows.
    pub fn new(
        batch: usize,
        size: [usize; 2],
        in_channels: usize,
        out_channels: usize,
        kernel: [usize; 2],
        options: Conv2dOptions,
    ) -> Result<Self> {
        let positive = [
            ("height", size[0]),
            ("width", size[1]),
            ("input channels", in_channels),
            ("output channels", out_channels),
            ("kernel height", kernel[0]),
            ("kernel width", kernel[1]),
            ("vertical stride", options.stride[0]),
            ("horizontal stride", options.stride[1]),
            ("vertical dilation", options.dilation[0]),
            ("horizontal dilation", options.dilation[1]),
            ("groups", options.groups),
        ];
        for (what, value) in positive {
            if value == 0 {
                return Err(KernelError::Invalid(format!(
                    "conv2d: {what} must be at least 1, got 0"
                )));
            }
        }
        for (what, channels) in [("input", in_channels), ("output", out_channels)] {
            if channels % options.groups != 0 {
                return Err(KernelError::Invalid(format!(
                    "conv2d: {} groups do not divide {channels} {what} channels",
                    options.groups
                )));
            }
        }
        let mut out_size = [0; 2];
        let mut padded = [0; 2];
        for axis in 0..2 {
            let overflow = KernelError::Overflow("conv2d: padded image");
            padded[axis] = options.padding[axis]
                .checked_mul(2)
                .and_then(|padding| padding.checked_add(size[axis]))
                .ok_or(overflow.clone())?;
            let window = (kernel[axis] - 1)
                .checked_mul(options.dilation[axis])
                .and_then(|reach| reach.checked_add(1))
                .ok_or(overflow)?;
            if window > padded[axis] {
                return Err(KernelError::Invalid(format!(
                    "conv2d: a kernel that spans {window} does not fit into {} of {} with padding {}",
                    ["a height", "a width"][axis],
                    size[axis],
                    options.padding[axis]
                )));
            }
            out_size[axis] = (padded[axis] - window) / options.stride[axis] + 1;
        }
        let images = batch.max(1);
        // Kernels copy padded parts of images and fill up channels to whole vectors: these bounds cover them all.
        let wide = |channels: usize| channels.div_ceil(16).saturating_mul(16);
        checked_product(
            "conv2d: input",
            &[images, padded[0], padded[1], wide(in_channels)],
        )?;
        checked_product(
            "conv2d: output",
            &[images, out_size[0], out_size[1], wide(out_channels)],
        )?;
        checked_product(
            "conv2d: weight",
            &[kernel[0], kernel[1], wide(in_channels), wide(out_channels)],
        )?;
        Ok(Conv2dGeometry {
            batch,
            size,
            in_channels,
            out_channels,
            kernel,
            options,
            out_size,
        })
    }

    /// Images.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// `[height, width]` of the input.
    pub fn size(&self) -> [usize; 2] {
        self.size
    }

    /// Channels of the input.
    pub fn in_channels(&self) -> usize {
        self.in_channels
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.out_channels
    }

    /// `[height, width]` of the kernel.
    pub fn kernel(&self) -> [usize; 2] {
        self.kernel
    }

    /// Stride, padding, dilation and groups.
    pub fn options(&self) -> Conv2dOptions {
        self.options
    }

    /// `[height, width]` of the output.
    pub fn out_size(&self) -> [usize; 2] {
        self.out_size
    }

    /// Elements of the input.
    pub fn input_length(&self) -> usize {
        self.batch * self.size[0] * self.size[1] * self.in_channels
    }

    /// Elements of the output.
    pub fn output_length(&self) -> usize {
        self.batch * self.out_size[0] * self.out_size[1] * self.out_channels
    }

    /// Elements of the weight.
    pub fn weight_length(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.group_inputs() * self.out_channels
    }

    /// Multiplications of one pass (padding counted as if it were data).
    pub fn multiplications(&self) -> usize {
        self.output_length()
            .saturating_mul(self.kernel[0] * self.kernel[1] * self.group_inputs())
    }

    /// The same as work that threads may share.
    pub(super) fn work(&self) -> usize {
        multiply_adds(self.multiplications())
    }

    /// Input channels of one group.
    pub(super) fn group_inputs(&self) -> usize {
        self.in_channels / self.options.groups
    }

    /// Output channels of one group.
    pub(super) fn group_outputs(&self) -> usize {
        self.out_channels / self.options.groups
    }

    /// Whether every channel is convolved by itself.
    pub(super) fn is_depthwise(&self) -> bool {
        self.options.groups == self.in_channels && self.in_channels == self.out_channels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn geometry(size: usize, kernel: usize, options: Conv2dOptions) -> Result<Conv2dGeometry> {
        Conv2dGeometry::new(2, [size, size + 1], 6, 4, [kernel, kernel], options)
    }

    #[test]
    fn sizes_follow_the_formula() {
        let options = Conv2dOptions {
            stride: [2, 1],
            padding: [1, 2],
            dilation: [1, 2],
            groups: 2,
        };
        let g = geometry(9, 3, options).unwrap();
        assert_eq!(g.out_size(), [5, 10]);
        assert_eq!(g.input_length(), 2 * 9 * 10 * 6);
        assert_eq!(g.output_length(), 2 * 5 * 10 * 4);
        assert_eq!(g.weight_length(), 3 * 3 * 3 * 4);
    }

    #[test]
    fn misfits_are_refused() {
        let with = |change: fn(&mut Conv2dOptions)| {
            let mut options = Conv2dOptions::default();
            change(&mut options);
            options
        };
        assert!(geometry(2, 3, Conv2dOptions::default()).is_err());
        assert!(geometry(2, 3, with(|o| o.padding = [1, 1])).is_ok());
        assert!(geometry(9, 3, with(|o| o.groups = 4)).is_err());
        assert!(geometry(9, 3, with(|o| o.groups = 0)).is_err());
        assert!(geometry(9, 3, with(|o| o.stride = [0, 1])).is_err());
        assert!(geometry(9, 3, with(|o| o.dilation = [1, usize::MAX])).is_err());
        assert!(geometry(9, 3, with(|o| o.padding = [usize::MAX, 0])).is_err());
        assert!(geometry(9, 0, Conv2dOptions::default()).is_err());
        assert!(geometry(usize::MAX / 2, 3, Conv2dOptions::default()).is_err());
    }
}
