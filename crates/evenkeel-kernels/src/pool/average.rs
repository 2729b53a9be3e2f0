//! Average pooling.

use super::{Plan, Pool2d, rows_per_task};
use crate::error::Result;
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// The mean of each window, summed in f64.
///
/// `input` is `[batch, height, width, channels]`, `output` `[batch, outputHeight, outputWidth, channels]`. The divisor is the
/// number of positions of the window on the input, and with `count_include_padding` on its padding as well (where zeros are
/// added); positions beyond the padding, which `ceil_mode` allows, never count. These are PyTorch's rules.
///
/// # Errors
/// An impossible geometry, or slices that do not fit it.
pub fn average_forward(
    geometry: &Pool2d,
    count_include_padding: bool,
    input: &[f32],
    output: &mut [f32],
) -> Result {
    let plan = geometry.plan()?;
    plan.check(input.len(), output.len())?;
    if plan.output == 0 {
        return Ok(());
    }
    let rows = plan.batch * plan.vertical.output;
    let row_elements = plan.output_row();
    let rows_per_task = rows_per_task(row_elements);
    let output = DisjointMut::new(output);
    for_each_task(rows.div_ceil(rows_per_task), plan.work(), |task| {
        let rows = piece(task, rows_per_task, rows);
        dispatch(Forward {
            plan: &plan,
            count_include_padding,
            input,
            first_row: rows.start,
            // SAFETY: `piece` gives each task its own rows.
            output: unsafe { output.part(rows.start * row_elements..rows.end * row_elements) },
        });
    });
    Ok(())
}

/// How many positions the mean of the window at `y`, `x` is over.
#[inline(always)]
fn divisor(plan: &Plan, count_include_padding: bool, y: usize, x: usize) -> usize {
    let (rows, columns) = (plan.vertical.window(y), plan.horizontal.window(x));
    if count_include_padding {
        rows.padded_length * columns.padded_length
    } else {
        rows.inside.len() * columns.inside.len()
    }
}

/// Rows of the output, counted over the whole batch from `first_row` on.
struct Forward<'a> {
    plan: &'a Plan,
    count_include_padding: bool,
    input: &'a [f32],
    first_row: usize,
    output: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, s: S) {
        let plan = self.plan;
        let channels = plan.channels;
        for (row, output_row) in self.output.chunks_exact_mut(plan.output_row()).enumerate() {
            let (image, y) = (
                (self.first_row + row) / plan.vertical.output,
                (self.first_row + row) % plan.vertical.output,
            );
            let image = &self.input[image * plan.input_image..][..plan.input_image];
            let rows = plan.vertical.window(y).inside;
            for (x, pixel) in output_row.chunks_exact_mut(channels).enumerate() {
                let columns = plan.horizontal.window(x).inside;
                let positions = divisor(plan, self.count_include_padding, y, x);
                let scale = s.splat64(1.0 / positions as f64);
                for channel in (0..channels).step_by(S::LANES) {
                    let lanes = S::LANES.min(channels - channel);
                    let mut sum = [s.splat64(0.0); 2];
                    for row in rows.clone() {
                        for column in columns.clone() {
                            let offset =
                                (row * plan.horizontal.length + column) * channels + channel;
                            // SAFETY: the window lies inside the image, so `offset` is a channel of one of its pixels, and
                            // `lanes` channels follow in that pixel.
                            let value =
                                s.widen(unsafe { load(s, image.as_ptr().add(offset), lanes) });
                            sum = [s.add64(sum[0], value[0]), s.add64(sum[1], value[1])];
                        }
                    }
                    let mean = s.narrow([s.mul64(sum[0], scale), s.mul64(sum[1], scale)]);
                    // SAFETY: `lanes` channels of the pixel follow from `channel` on.
                    unsafe { s.store_partial(mean, pixel.as_mut_ptr().add(channel), lanes) };
                }
            }
        }
    }
}

/// Loads `lanes <= LANES` values, the rest are zero.
///
/// # Safety
/// `pointer` must be valid for reading `lanes` values.
#[inline(always)]
unsafe fn load<S: Simd>(s: S, pointer: *const f32, lanes: usize) -> S::F32 {
    // SAFETY: the caller promises `lanes` readable values.
    unsafe {
        if lanes == S::LANES {
            s.load(pointer)
        } else {
            s.load_partial(pointer, lanes)
        }
    }
}

/// The gradient of [`average_forward`]: each output's gradient, divided by its divisor, goes to every position of its window.
///
/// # Errors
/// As [`average_forward`].
pub fn average_backward(
    geometry: &Pool2d,
    count_include_padding: bool,
    output_gradient: &[f32],
    input_gradient: &mut [f32],
) -> Result {
    let plan = geometry.plan()?;
    plan.check(input_gradient.len(), output_gradient.len())?;
    if plan.input == 0 {
        return Ok(());
    }
    let rows = plan.batch * plan.vertical.length;
    let row_elements = plan.input_row();
    let rows_per_task = rows_per_task(row_elements);
    let input_gradient = DisjointMut::new(input_gradient);
    for_each_task(rows.div_ceil(rows_per_task), plan.work(), |task| {
        let rows = piece(task, rows_per_task, rows);
        // SAFETY: `piece` gives each task its own rows.
        let part =
            unsafe { input_gradient.part(rows.start * row_elements..rows.end * row_elements) };
        dispatch(Backward {
            plan: &plan,
            count_include_padding,
            output_gradient,
            first_row: rows.start,
            input_gradient: part,
        });
    });
    Ok(())
}

/// Rows of the input gradient, counted over the whole batch from `first_row` on.
struct Backward<'a> {
    plan: &'a Plan,
    count_include_padding: bool,
    output_gradient: &'a [f32],
    first_row: usize,
    input_gradient: &'a mut [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    /// The inner loop is left to the compiler, which vectorizes it for the level it is inlined into.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        let plan = self.plan;
        let channels = plan.channels;
        for (row, gradient_row) in self
            .input_gradient
            .chunks_exact_mut(plan.input_row())
            .enumerate()
        {
            let (image, y) = (
                (self.first_row + row) / plan.vertical.length,
                (self.first_row + row) % plan.vertical.length,
            );
            let image = &self.output_gradient[image * plan.output_image..][..plan.output_image];
            gradient_row.fill(0.0);
            for output_y in plan.vertical.covering(y) {
                for (x, pixel) in gradient_row.chunks_exact_mut(channels).enumerate() {
                    for output_x in plan.horizontal.covering(x) {
                        let positions =
                            divisor(plan, self.count_include_padding, output_y, output_x);
                        let scale = 1.0 / positions as f32;
                        let offset = (output_y * plan.horizontal.output + output_x) * channels;
                        for (sum, gradient) in pixel.iter_mut().zip(&image[offset..][..channels]) {
                            *sum += gradient * scale;
                        }
                    }
                }
            }
        }
    }
}
