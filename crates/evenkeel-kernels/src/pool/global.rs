//! Global average pooling: the mean of each channel over all pixels of an image.

use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Channels of one task: a few cache lines of each pixel, and accumulators that stay in registers.
const CHANNEL_BLOCK: usize = 64;

fn check(batch: usize, pixels: usize, channels: usize, input: usize, output: usize) -> Result {
    if pixels == 0 || channels == 0 {
        return Err(KernelError::Invalid(format!(
            "pixels {pixels} and channels {channels} must be at least 1"
        )));
    }
    let input_size = checked_product("global pool input", &[batch, pixels, channels])?;
    check_length("input", input, input_size)?;
    check_length("output", output, batch * channels)
}

/// `output[n, c]` = the mean over pixels of `input[n, pixel, c]`, summed in f64.
///
/// `input` is `[batch, pixels, channels]` (pixels = height * width), `output` `[batch, channels]`.
///
/// # Errors
/// `pixels` or `channels` 0, or slices that do not fit.
pub fn global_average_forward(
    batch: usize,
    pixels: usize,
    channels: usize,
    input: &[f32],
    output: &mut [f32],
) -> Result {
    check(batch, pixels, channels, input.len(), output.len())?;
    let blocks = channels.div_ceil(CHANNEL_BLOCK);
    let output = DisjointMut::new(output);
    for_each_task(batch * blocks, input.len(), |task| {
        let (image, block) = (task / blocks, task % blocks);
        let block = piece(block, CHANNEL_BLOCK, channels);
        let start = image * channels;
        dispatch(Forward {
            channels,
            first_channel: block.start,
            image: &input[image * pixels * channels..][..pixels * channels],
            // SAFETY: each task has its own image and block of channels.
            output: unsafe { output.part(start + block.start..start + block.end) },
        });
    });
    Ok(())
}

struct Forward<'a> {
    channels: usize,
    first_channel: usize,
    image: &'a [f32],
    output: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let pixels = self.image.len() / self.channels;
        for offset in (0..self.output.len()).step_by(S::LANES) {
            let lanes = S::LANES.min(self.output.len() - offset);
            let mut sum = [s.splat64(0.0); 2];
            for pixel in 0..pixels {
                let values =
                    &self.image[pixel * self.channels + self.first_channel + offset..][..lanes];
                // SAFETY: `values` holds `lanes` values.
                let values = s.widen(unsafe { s.load_partial(values.as_ptr(), lanes) });
                sum = [s.add64(sum[0], values[0]), s.add64(sum[1], values[1])];
            }
            let scale = s.splat64(1.0 / pixels as f64);
            let mean = s.narrow([s.mul64(sum[0], scale), s.mul64(sum[1], scale)]);
            // SAFETY: `lanes` values follow in the output from `offset` on.
            unsafe { s.store_partial(mean, self.output[offset..].as_mut_ptr(), lanes) };
        }
    }
}

/// The gradient of [`global_average_forward`]: each channel's gradient, divided by the number of pixels, at every pixel.
///
/// # Errors
/// As [`global_average_forward`].
pub fn global_average_backward(
    batch: usize,
    pixels: usize,
    channels: usize,
    output_gradient: &[f32],
    input_gradient: &mut [f32],
) -> Result {
    check(
        batch,
        pixels,
        channels,
        input_gradient.len(),
        output_gradient.len(),
    )?;
    let pixels_per_task = super::rows_per_task(channels);
    let tasks_per_image = pixels.div_ceil(pixels_per_task);
    let scale = 1.0 / pixels as f32;
    let work = input_gradient.len();
    let input_gradient = DisjointMut::new(input_gradient);
    for_each_task(batch * tasks_per_image, work, |task| {
        let (image, task) = (task / tasks_per_image, task % tasks_per_image);
        let part = piece(task, pixels_per_task, pixels);
        let start = image * pixels;
        dispatch(Backward {
            scale,
            output_gradient: &output_gradient[image * channels..][..channels],
            // SAFETY: each task has its own pixels of its image.
            input_gradient: unsafe {
                input_gradient.part((start + part.start) * channels..(start + part.end) * channels)
            },
        });
    });
    Ok(())
}

struct Backward<'a> {
    scale: f32,
    output_gradient: &'a [f32],
    input_gradient: &'a mut [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    /// A loop that the compiler vectorizes for the level it is inlined into.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let gradient = self.output_gradient;
        for pixel in self.input_gradient.chunks_exact_mut(gradient.len()) {
            for (value, gradient) in pixel.iter_mut().zip(gradient) {
                *value = gradient * self.scale;
            }
        }
    }
}
