//! From stored pixels to a batch.

use super::{Augmentation, Placement};
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements that one task should make at least.
const TASK_ELEMENTS: usize = 1 << 14;

/// Stored pixel values.
#[derive(Clone, Copy, Debug)]
pub enum Pixels<'a> {
    /// Bytes.
    U8(&'a [u8]),
    /// Floating point.
    F32(&'a [f32]),
}

/// A data set's images, `[count, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// All pixels.
    pub pixels: Pixels<'a>,
    /// Images.
    pub count: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Channels.
    pub channels: usize,
}

/// What is taken from a stored value and what the rest is multiplied with, channel by channel, laid out over one row of an
/// image, so that normalizing a row is one loop over three arrays.
#[derive(Clone, Debug)]
pub struct Normalization {
    channels: usize,
    mean: Vec<f32>,
    scale: Vec<f32>,
}

impl Normalization {
    /// For rows of `width` pixels: `(value - mean[c]) * scale[c]`, in units of the stored values (for bytes, 0..=255).
    ///
    /// # Errors
    /// `mean` and `scale` of different lengths or empty, or values that are not finite.
    pub fn new(width: usize, mean: &[f32], scale: &[f32]) -> Result<Self> {
        check_length("scale", scale.len(), mean.len())?;
        if mean.is_empty() || !mean.iter().chain(scale).all(|value| value.is_finite()) {
            return Err(KernelError::Invalid(
                "mean and scale need one finite number for each channel".into(),
            ));
        }
        checked_product("image row", &[width, mean.len()])?;
        Ok(Normalization {
            channels: mean.len(),
            mean: mean.repeat(width),
            scale: scale.repeat(width),
        })
    }
}

/// Gathers the images at `indices` into `output`, `[indices, height, width, channels]`: cropped and flipped where an
/// augmentation is given, then normalized. Pixels beyond the image count as 0 before normalization.
///
/// The result for an index does not depend on the other indices of the batch.
///
/// # Errors
/// An index that is not less than `images.count`, slices that do not fit, a normalization made for other rows, or a crop
/// padding larger than the image.
pub fn gather_images(
    images: &Images,
    normalization: &Normalization,
    augmentation: Option<&Augmentation>,
    indices: &[u32],
    output: &mut [f32],
) -> Result {
    let Images {
        count,
        height,
        width,
        channels,
        ..
    } = *images;
    let image = checked_product("image", &[height, width, channels])?;
    if image == 0 {
        return Err(KernelError::Invalid(format!(
            "images of {height} x {width} x {channels} have no pixels"
        )));
    }
    let stored = match images.pixels {
        Pixels::U8(values) => values.len(),
        Pixels::F32(values) => values.len(),
    };
    check_length(
        "images",
        stored,
        checked_product("images", &[count, image])?,
    )?;
    check_length("normalization", normalization.mean.len(), width * channels)?;
    check_length("normalization channels", normalization.channels, channels)?;
    check_length(
        "output",
        output.len(),
        checked_product("output", &[indices.len(), image])?,
    )?;
    check_indices(indices, count)?;
    if let Some(augmentation) = augmentation {
        augmentation.check(height, width)?;
    }
    let images_per_task = TASK_ELEMENTS.div_ceil(image);
    let work = output.len();
    let output = DisjointMut::new(output);
    for_each_task(indices.len().div_ceil(images_per_task), work, |task| {
        let range = piece(task, images_per_task, indices.len());
        // SAFETY: `piece` gives each task its own images of the batch.
        let part = unsafe { output.part(range.start * image..range.end * image) };
        for (&index, output) in indices[range].iter().zip(part.chunks_exact_mut(image)) {
            let at = index as usize * image;
            let (placement, padding) = match augmentation {
                Some(augmentation) => (augmentation.placement(index), augmentation.crop_padding),
                None => (
                    Placement {
                        top: 0,
                        left: 0,
                        flipped: false,
                    },
                    0,
                ),
            };
            match images.pixels {
                Pixels::U8(values) => dispatch(OneImage {
                    pixels: &values[at..at + image],
                    normalization,
                    placement,
                    padding,
                    output,
                }),
                Pixels::F32(values) => dispatch(OneImage {
                    pixels: &values[at..at + image],
                    normalization,
                    placement,
                    padding,
                    output,
                }),
            }
        }
    });
    Ok(())
}

fn check_indices(indices: &[u32], count: usize) -> Result {
    match indices.iter().find(|&&index| index as usize >= count) {
        Some(index) => Err(KernelError::Invalid(format!(
            "index {index} is not one of {count} images"
        ))),
        None => Ok(()),
    }
}

/// One image of the batch.
struct OneImage<'a, T> {
    pixels: &'a [T],
    normalization: &'a Normalization,
    placement: Placement,
    padding: usize,
    output: &'a mut [f32],
}

impl<T: Copy + Into<f32>> SimdOp for OneImage<'_, T> {
    type Output = ();

    /// Plain loops over rows, which the compiler vectorizes for the level they are inlined into.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let OneImage {
            pixels,
            normalization,
            placement,
            padding,
            output,
        } = self;
        let (channels, mean, scale) = (
            normalization.channels,
            &normalization.mean[..],
            &normalization.scale[..],
        );
        let row_elements = mean.len();
        let (height, width) = (output.len() / row_elements, row_elements / channels);
        // Columns `first..end` of the cut lie on the image; the source column is `column + left - padding`.
        let first = padding.saturating_sub(placement.left);
        let end = width.min((width + padding).saturating_sub(placement.left));
        for (y, row) in output.chunks_exact_mut(row_elements).enumerate() {
            let source_row = (y + placement.top).wrapping_sub(padding);
            if source_row >= height || first >= end {
                fill_black(row, mean, scale);
                continue;
            }
            let source = source_row * row_elements + (first + placement.left - padding) * channels;
            let source = &pixels[source..][..(end - first) * channels];
            if placement.flipped {
                let (black_right, rest) = row.split_at_mut((width - end) * channels);
                let (inside, black_left) = rest.split_at_mut(source.len());
                fill_black(black_right, mean, scale);
                fill_black(black_left, mean, scale);
                // The channel counts of grey and colour images as constants: loops of that length unroll.
                match channels {
                    1 => normalize_mirrored(inside, source, mean, scale, 1),
                    3 => normalize_mirrored(inside, source, mean, scale, 3),
                    channels => normalize_mirrored(inside, source, mean, scale, channels),
                }
            } else {
                let (black_left, rest) = row.split_at_mut(first * channels);
                let (inside, black_right) = rest.split_at_mut(source.len());
                fill_black(black_left, mean, scale);
                fill_black(black_right, mean, scale);
                normalize(inside, source, mean, scale);
            }
        }
    }
}

/// Whole pixels, the first of which takes the first channel's mean.
#[inline(always)]
fn normalize<T: Copy + Into<f32>>(output: &mut [f32], source: &[T], mean: &[f32], scale: &[f32]) {
    for (((output, &value), mean), scale) in output.iter_mut().zip(source).zip(mean).zip(scale) {
        *output = (value.into() - mean) * scale;
    }
}

/// The same with the pixels in reverse order.
#[inline(always)]
fn normalize_mirrored<T: Copy + Into<f32>>(
    output: &mut [f32],
    source: &[T],
    mean: &[f32],
    scale: &[f32],
    channels: usize,
) {
    let mirrored = output.chunks_exact_mut(channels).rev();
    for (pixel, source) in mirrored.zip(source.chunks_exact(channels)) {
        for channel in 0..channels {
            pixel[channel] = (source[channel].into() - mean[channel]) * scale[channel];
        }
    }
}

#[inline(always)]
fn fill_black(output: &mut [f32], mean: &[f32], scale: &[f32]) {
    for ((output, mean), scale) in output.iter_mut().zip(mean).zip(scale) {
        *output = (0.0 - mean) * scale;
    }
}

/// `output[i] = labels[indices[i]]`.
///
/// # Errors
/// An index beyond the labels, or slices that do not fit.
pub fn gather_labels(labels: &[i32], indices: &[u32], output: &mut [i32]) -> Result {
    check_length("output", output.len(), indices.len())?;
    check_indices(indices, labels.len())?;
    for (output, &index) in output.iter_mut().zip(indices) {
        *output = labels[index as usize];
    }
    Ok(())
}
