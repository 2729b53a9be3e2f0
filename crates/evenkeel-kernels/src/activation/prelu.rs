//! PReLU: a leaky ReLU whose slope is learned (He et al., 2015, equations 1 and 8).

use crate::elementwise::map::vectors;
use crate::error::{KernelError, Result, check_length, checked_product};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::with_f64;

/// Rows per task and per partial sum: fixed, so that the order of the additions is.
const ROWS: usize = 256;

/// `y = x` where positive, `slope * x` elsewhere, with one slope per channel. `x` and `y` are `[rows, channels]`, `slope` is
/// `[channels]` or a single number.
///
/// # Errors
/// Where the lengths do not fit.
pub fn prelu_forward(x: &[f32], slope: &[f32], channels: usize, y: &mut [f32]) -> Result {
    let rows = check(x, slope, channels)?;
    check_length("prelu output", y.len(), x.len())?;
    let parts = DisjointMut::new(y);
    for_each_task(rows.div_ceil(ROWS), x.len(), |task| {
        let rows = piece(task, ROWS, rows);
        let range = rows.start * channels..rows.end * channels;
        // SAFETY: tasks have different rows.
        let y = unsafe { parts.part(range.clone()) };
        dispatch(Forward {
            x: &x[range],
            slope,
            channels,
            y,
        });
    });
    Ok(())
}

/// The gradients of [`prelu_forward`]: `dx = dy` where `x` is positive and `slope * dy` elsewhere; the slope's gradient is the sum
/// of `dy * x` where `x` is not positive, accumulated in f64 in an order fixed by the shape. At `x = 0` the negative side counts.
///
/// # Errors
/// Where the lengths do not fit.
pub fn prelu_backward(
    x: &[f32],
    slope: &[f32],
    channels: usize,
    dy: &[f32],
    dx: &mut [f32],
    slope_gradient: &mut [f32],
) -> Result {
    let rows = check(x, slope, channels)?;
    check_length("prelu output gradient", dy.len(), x.len())?;
    check_length("prelu input gradient", dx.len(), x.len())?;
    check_length("prelu slope gradient", slope_gradient.len(), slope.len())?;
    let tasks = rows.div_ceil(ROWS);
    let length = checked_product("prelu partial sums", &[tasks, channels])?;
    with_f64(length, |partials| {
        {
            let partials = DisjointMut::new(partials);
            let parts = DisjointMut::new(dx);
            for_each_task(tasks, x.len(), |task| {
                let rows = piece(task, ROWS, rows);
                let range = rows.start * channels..rows.end * channels;
                // SAFETY: tasks have different rows, and each has its own partial sums.
                let (dx, sums) = unsafe {
                    (
                        parts.part(range.clone()),
                        partials.part(task * channels..(task + 1) * channels),
                    )
                };
                dispatch(Backward {
                    x: &x[range.clone()],
                    dy: &dy[range],
                    slope,
                    channels,
                    dx,
                    sums,
                });
            });
        }
        let total = |channel: usize| -> f64 {
            (0..tasks).fold(0.0, |total, task| {
                total + partials[task * channels + channel]
            })
        };
        if slope.len() == 1 {
            slope_gradient[0] = (0..channels).map(total).fold(0.0, |sum, own| sum + own) as f32;
        } else {
            for (channel, gradient) in slope_gradient.iter_mut().enumerate() {
                *gradient = total(channel) as f32;
            }
        }
    });
    Ok(())
}

fn check(x: &[f32], slope: &[f32], channels: usize) -> Result<usize> {
    if channels == 0 || !x.len().is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "prelu: {} elements are not a whole number of rows of {channels} channels",
            x.len()
        )));
    }
    if slope.len() != 1 {
        check_length("prelu slope", slope.len(), channels)?;
    }
    Ok(x.len() / channels)
}

struct Forward<'a> {
    x: &'a [f32],
    slope: &'a [f32],
    channels: usize,
    y: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        for (x, y) in self
            .x
            .chunks_exact(self.channels)
            .zip(self.y.chunks_exact_mut(self.channels))
        {
            for (column, lanes) in vectors(simd, self.channels) {
                // SAFETY: column + lanes <= channels, the length of x and y; `slopes` reads as many of the slopes.
                unsafe {
                    let slope = slopes(simd, self.slope, column, lanes);
                    let value = simd.load_partial(x.as_ptr().add(column), lanes);
                    let positive = simd.gt(value, simd.zero());
                    let result = simd.select(positive, value, simd.mul(slope, value));
                    simd.store_partial(result, y.as_mut_ptr().add(column), lanes);
                }
            }
        }
    }
}

/// The slopes of `lanes` channels from `column` on.
///
/// # Safety
/// `slope` must have one element, or at least `column + lanes`.
#[inline(always)]
unsafe fn slopes<S: Simd>(simd: S, slope: &[f32], column: usize, lanes: usize) -> S::F32 {
    if slope.len() == 1 {
        simd.splat(slope[0])
    } else {
        // SAFETY: the caller's promise.
        unsafe { simd.load_partial(slope.as_ptr().add(column), lanes) }
    }
}

struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    slope: &'a [f32],
    channels: usize,
    dx: &'a mut [f32],
    sums: &'a mut [f64],
}

impl SimdOp for Backward<'_> {
    type Output = ();
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let rows = self.x.len() / self.channels;
        for (column, lanes) in vectors(simd, self.channels) {
            let mut sums = [simd.splat64(0.0); 2];
            for row in 0..rows {
                let at = row * self.channels + column;
                // SAFETY: at + lanes <= rows * channels, the length of x, dy and dx; `slopes` as in `Forward`.
                unsafe {
                    let slope = slopes(simd, self.slope, column, lanes);
                    let x = simd.load_partial(self.x.as_ptr().add(at), lanes);
                    let dy = simd.load_partial(self.dy.as_ptr().add(at), lanes);
                    let positive = simd.gt(x, simd.zero());
                    let dx = simd.select(positive, dy, simd.mul(slope, dy));
                    simd.store_partial(dx, self.dx.as_mut_ptr().add(at), lanes);
                    let below = simd.widen(simd.select(positive, simd.zero(), x));
                    let dy = simd.widen(dy);
                    sums = [
                        simd.fma64(below[0], dy[0], sums[0]),
                        simd.fma64(below[1], dy[1], sums[1]),
                    ];
                }
            }
            let mut lane_sums = [0.0f64; crate::isa::MAX_LANES];
            // SAFETY: the buffer holds LANES numbers, and each half writes LANES / 2.
            unsafe {
                simd.store64(sums[0], lane_sums.as_mut_ptr());
                simd.store64(sums[1], lane_sums.as_mut_ptr().add(S::LANES / 2));
            }
            self.sums[column..column + lanes].copy_from_slice(&lane_sums[..lanes]);
        }
    }
}
