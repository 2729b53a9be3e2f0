//! Max pooling.

use super::{Plan, Pool2d, rows_per_task};
use crate::error::{KernelError, Result, check_length};
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// The largest window, in taps, that an index of one byte can tell apart.
pub const MAX_WINDOW: usize = 256;

/// The largest value of each window.
///
/// `input` is `[batch, height, width, channels]`, `output` `[batch, outputHeight, outputWidth, channels]`. Where `indices` is
/// given it has the output's shape and receives, for [`max_backward`], which tap of the window won: `row * kernelWidth +
/// column`. The first of equal values wins. A NaN wins over every number, and the first NaN over later ones, so it is
/// passed on. Padding never wins.
///
/// # Errors
/// An impossible geometry, slices that do not fit it, or a window of more than [`MAX_WINDOW`] taps.
pub fn max_forward(
    geometry: &Pool2d,
    input: &[f32],
    output: &mut [f32],
    indices: Option<&mut [u8]>,
) -> Result {
    let plan = geometry.plan()?;
    check_window(geometry)?;
    plan.check(input.len(), output.len())?;
    if let Some(indices) = &indices {
        check_length("indices", indices.len(), plan.output)?;
    }
    if plan.output == 0 {
        return Ok(());
    }
    let rows = plan.batch * plan.vertical.output;
    let row_elements = plan.output_row();
    let rows_per_task = rows_per_task(row_elements);
    let output = DisjointMut::new(output);
    let indices = indices.map(DisjointMut::new);
    for_each_task(rows.div_ceil(rows_per_task), plan.work(), |task| {
        let rows = piece(task, rows_per_task, rows);
        let elements = rows.start * row_elements..rows.end * row_elements;
        dispatch(Forward {
            plan: &plan,
            input,
            first_row: rows.start,
            // SAFETY: `piece` gives each task its own rows.
            output: unsafe { output.part(elements.clone()) },
            // SAFETY: as above.
            indices: indices
                .as_ref()
                .map(|indices| unsafe { indices.part(elements.clone()) }),
        });
    });
    Ok(())
}

fn check_window(geometry: &Pool2d) -> Result {
    let [height, width] = geometry.kernel;
    match height.checked_mul(width) {
        Some(taps) if taps <= MAX_WINDOW => Ok(()),
        _ => Err(KernelError::Invalid(format!(
            "a max pooling window holds at most {MAX_WINDOW} positions, got {height} x {width}"
        ))),
    }
}

/// Rows of the output, counted over the whole batch from `first_row` on.
struct Forward<'a> {
    plan: &'a Plan,
    input: &'a [f32],
    first_row: usize,
    output: &'a mut [f32],
    indices: Option<&'a mut [u8]>,
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(mut self, s: S) {
        let plan = self.plan;
        let channels = plan.channels;
        let whole = channels - channels % S::LANES;
        for (row, output_row) in self.output.chunks_exact_mut(plan.output_row()).enumerate() {
            let (image, y) = (
                (self.first_row + row) / plan.vertical.output,
                (self.first_row + row) % plan.vertical.output,
            );
            let image = &self.input[image * plan.input_image..][..plan.input_image];
            let mut index_row = self
                .indices
                .as_deref_mut()
                .map(|indices| &mut indices[row * plan.output_row()..][..plan.output_row()]);
            for (x, pixel) in output_row.chunks_exact_mut(channels).enumerate() {
                let mut index_pixel = index_row
                    .as_deref_mut()
                    .map(|indices| &mut indices[x * channels..][..channels]);
                let mut channel = 0;
                while channel < channels {
                    let lanes = S::LANES.min(channels - channel);
                    let (best, index) = if channel < whole {
                        // SAFETY: all LANES channels from `channel` on exist.
                        unsafe { window::<S, true>(s, plan, image, y, x, channel, lanes) }
                    } else {
                        // SAFETY: the `lanes` channels from `channel` on exist.
                        unsafe { window::<S, false>(s, plan, image, y, x, channel, lanes) }
                    };
                    let mut buffer = [0.0f32; MAX_LANES];
                    // SAFETY: `lanes` values fit into the pixel from `channel` on; the buffer holds a whole vector.
                    unsafe {
                        s.store_partial(best, pixel[channel..].as_mut_ptr(), lanes);
                        s.store(index, buffer.as_mut_ptr());
                    }
                    if let Some(indices) = index_pixel.as_deref_mut() {
                        for (index, value) in
                            indices[channel..channel + lanes].iter_mut().zip(buffer)
                        {
                            // SAFETY: a tap is an integer below MAX_WINDOW.
                            *index = unsafe { value.to_int_unchecked::<i32>() } as u8;
                        }
                    }
                    channel += lanes;
                }
            }
        }
    }
}

/// The largest values of one window and the taps they came from, for `lanes` channels from `channel` on.
///
/// # Safety
/// `image` must be one image of `plan`, `y` and `x` an output position, and `channel + lanes <= channels`, with
/// `lanes == LANES` where `WHOLE`.
#[inline(always)]
unsafe fn window<S: Simd, const WHOLE: bool>(
    s: S,
    plan: &Plan,
    image: &[f32],
    y: usize,
    x: usize,
    channel: usize,
    lanes: usize,
) -> (S::F32, S::F32) {
    let (rows, columns) = (plan.vertical.window(y), plan.horizontal.window(x));
    let load = |row: usize, column: usize| {
        let offset = (row * plan.horizontal.length + column) * plan.channels + channel;
        debug_assert!(offset + lanes <= image.len());
        // SAFETY: the windows lie inside the image, so `offset` is a channel of one of its pixels, and the caller promises
        // that `lanes` channels follow.
        unsafe {
            let pointer = image.as_ptr().add(offset);
            if WHOLE {
                s.load(pointer)
            } else {
                s.load_partial(pointer, lanes)
            }
        }
    };
    let tap_of = |row: usize, column: usize| row * plan.horizontal.kernel + column;
    let mut best = load(rows.inside.start, columns.inside.start);
    let mut index = s.splat(tap_of(rows.first_tap, columns.first_tap) as f32);
    for (row_tap, row) in rows.inside.enumerate() {
        for (column_tap, column) in columns.inside.clone().enumerate() {
            let value = load(row, column);
            let tap =
                s.splat(tap_of(rows.first_tap + row_tap, columns.first_tap + column_tap) as f32);
            // `best >= value` is false where the value is greater or either is NaN; a best that is NaN stays.
            let (stays, is_number) = (s.ge(best, value), s.ge(best, best));
            index = s.select(stays, index, s.select(is_number, tap, index));
            best = s.select(stays, best, s.select(is_number, value, best));
        }
    }
    (best, index)
}

/// The gradient of [`max_forward`]: each output's gradient goes to the tap that `indices` names.
///
/// # Errors
/// As [`max_forward`].
pub fn max_backward(
    geometry: &Pool2d,
    output_gradient: &[f32],
    indices: &[u8],
    input_gradient: &mut [f32],
) -> Result {
    let plan = geometry.plan()?;
    check_window(geometry)?;
    plan.check(input_gradient.len(), output_gradient.len())?;
    check_length("indices", indices.len(), plan.output)?;
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
            output_gradient,
            indices,
            first_row: rows.start,
            input_gradient: part,
        });
    });
    Ok(())
}

/// Rows of the input gradient, counted over the whole batch from `first_row` on.
struct Backward<'a> {
    plan: &'a Plan,
    output_gradient: &'a [f32],
    indices: &'a [u8],
    first_row: usize,
    input_gradient: &'a mut [f32],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    /// The inner loop mixes bytes and f32, which the compiler vectorizes for the level it is inlined into.
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
            let image = image * plan.output_image;
            let output_gradient = &self.output_gradient[image..][..plan.output_image];
            let indices = &self.indices[image..][..plan.output_image];
            gradient_row.fill(0.0);
            for output_y in plan.vertical.covering(y) {
                let row_tap = plan.vertical.tap(y, output_y) * plan.horizontal.kernel;
                for (x, pixel) in gradient_row.chunks_exact_mut(channels).enumerate() {
                    for output_x in plan.horizontal.covering(x) {
                        let tap = (row_tap + plan.horizontal.tap(x, output_x)) as u8;
                        let offset = (output_y * plan.horizontal.output + output_x) * channels;
                        let window = &output_gradient[offset..][..channels];
                        let winners = &indices[offset..][..channels];
                        for channel in 0..channels {
                            let mine = winners[channel] == tap;
                            pixel[channel] += if mine { window[channel] } else { 0.0 };
                        }
                    }
                }
            }
        }
    }
}
