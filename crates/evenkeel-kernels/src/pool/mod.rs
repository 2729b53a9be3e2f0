//! Max, average and global pooling over NHWC maps.
//!
//! Lanes are channels, so every geometry is vectorized alike. Backward passes *gather*: each task owns rows of the input
//! gradient and reads the windows that cover them. So nothing is scattered between threads, and each element adds its terms
//! in one fixed order.

mod average;
mod global;
mod max;

pub use average::{average_backward, average_forward};
pub use global::{global_average_backward, global_average_forward};
pub use max::{MAX_WINDOW, max_backward, max_forward};

use crate::error::{KernelError, Result, check_length, checked_product};
use std::ops::Range;

/// Elements that one task should touch at least: below this, rows share a task.
const TASK_ELEMENTS: usize = 1 << 14;

/// What a pooling layer slides over: `[batch, height, width, channels]`, pairs are `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Images.
    pub batch: usize,
    /// Rows of the input, at least 1.
    pub height: usize,
    /// Columns of the input, at least 1.
    pub width: usize,
    /// Channels, at least 1.
    pub channels: usize,
    /// Window size, each at least 1.
    pub kernel: [usize; 2],
    /// Distance between windows, each at least 1.
    pub stride: [usize; 2],
    /// Rows and columns added on either side, each at most half the kernel.
    pub padding: [usize; 2],
    /// Whether a last window that hangs over the padded edge counts. A window that would start beyond the input and its
    /// leading padding never does (PyTorch's rule).
    pub ceil_mode: bool,
}

impl Pool2d {
    /// Rows and columns of the output.
    ///
    /// # Errors
    /// Where a size is 0, the padding exceeds half the kernel, or not even one window fits.
    pub fn output_size(&self) -> Result<[usize; 2]> {
        let plan = self.plan()?;
        Ok([plan.vertical.output, plan.horizontal.output])
    }

    fn plan(&self) -> Result<Plan> {
        if self.channels == 0 {
            return Err(KernelError::Invalid("channels must be at least 1".into()));
        }
        let vertical = self.axis("vertical", self.height, 0)?;
        let horizontal = self.axis("horizontal", self.width, 1)?;
        let input_image = checked_product("pool input", &[self.height, self.width, self.channels])?;
        let output_image = checked_product(
            "pool output",
            &[vertical.output, horizontal.output, self.channels],
        )?;
        Ok(Plan {
            batch: self.batch,
            channels: self.channels,
            vertical,
            horizontal,
            input_image,
            output_image,
            input: checked_product("pool input", &[self.batch, input_image])?,
            output: checked_product("pool output", &[self.batch, output_image])?,
        })
    }

    fn axis(&self, name: &str, length: usize, axis: usize) -> Result<Axis> {
        let (kernel, stride, padding) = (self.kernel[axis], self.stride[axis], self.padding[axis]);
        if length == 0 || kernel == 0 || stride == 0 {
            return Err(KernelError::Invalid(format!(
                "{name} size {length}, kernel {kernel} and stride {stride} must be at least 1"
            )));
        }
        if padding > kernel / 2 {
            return Err(KernelError::Invalid(format!(
                "{name} padding {padding} must be at most half the kernel {kernel}"
            )));
        }
        let padded = padding
            .checked_mul(2)
            .and_then(|both| both.checked_add(length))
            .filter(|&padded| padded.checked_add(stride).is_some())
            .ok_or(KernelError::Overflow("pool input"))?;
        let Some(slack) = padded.checked_sub(kernel) else {
            return Err(KernelError::Invalid(format!(
                "{name} kernel {kernel} does not fit into {length} + 2 * {padding} padding"
            )));
        };
        let mut output = slack / stride + 1;
        if self.ceil_mode && slack % stride != 0 && output * stride < length + padding {
            output += 1;
        }
        Ok(Axis {
            length,
            kernel,
            stride,
            padding,
            output,
        })
    }
}

/// One axis of a checked geometry.
#[derive(Clone, Copy)]
struct Axis {
    length: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    output: usize,
}

/// The part of a window that lies on the input, never empty.
struct Window {
    /// Input positions.
    inside: Range<usize>,
    /// The position in the kernel of the first of them.
    first_tap: usize,
    /// Positions of the window on the input and its padding.
    padded_length: usize,
}

impl Axis {
    /// The window of output position `output`.
    ///
    /// It holds at least one input position: it starts before the end of the input because the geometry drops windows that
    /// do not, and it ends after the start because the padding is less than the kernel.
    #[inline(always)]
    fn window(&self, output: usize) -> Window {
        let start = output * self.stride;
        let padded_end = (start + self.kernel).min(self.length + 2 * self.padding);
        let inside = start.saturating_sub(self.padding)
            ..(start + self.kernel - self.padding).min(self.length);
        Window {
            first_tap: inside.start + self.padding - start,
            padded_length: padded_end - start,
            inside,
        }
    }

    /// The output positions whose windows hold input position `input`.
    #[inline(always)]
    fn covering(&self, input: usize) -> Range<usize> {
        let position = input + self.padding;
        let first = match position.checked_sub(self.kernel) {
            Some(before) => before / self.stride + 1,
            None => 0,
        };
        let end = (position / self.stride + 1).min(self.output);
        first.min(end)..end
    }

    /// The position of `input` in the window of `output`, one of [`Self::covering`].
    #[inline(always)]
    fn tap(&self, input: usize, output: usize) -> usize {
        input + self.padding - output * self.stride
    }
}

/// A checked geometry with its sizes in elements.
#[derive(Clone, Copy)]
struct Plan {
    batch: usize,
    channels: usize,
    vertical: Axis,
    horizontal: Axis,
    input_image: usize,
    output_image: usize,
    input: usize,
    output: usize,
}

impl Plan {
    fn check(&self, input: usize, output: usize) -> Result {
        check_length("input", input, self.input)?;
        check_length("output", output, self.output)
    }

    /// Elements of one input row.
    fn input_row(&self) -> usize {
        self.horizontal.length * self.channels
    }

    /// Elements of one output row.
    fn output_row(&self) -> usize {
        self.horizontal.output * self.channels
    }

    /// Elementary operations of a pass: one for each tap of each output.
    fn work(&self) -> usize {
        self.output
            .saturating_mul(self.vertical.kernel * self.horizontal.kernel)
            .max(self.input)
    }
}

/// How many rows of `row` elements make up one task.
fn rows_per_task(row: usize) -> usize {
    TASK_ELEMENTS.div_ceil(row.max(1))
}

#[cfg(test)]
mod tests;
