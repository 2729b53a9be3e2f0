//! RPReLU: a PReLU with learned shifts before and after (Liu et al., "ReActNet", 2020, equation 2).

use crate::error::{KernelError, Result, check_length};
use crate::isa::{Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};
use crate::scratch::with_f64;

/// Rows per task and per partial sum: fixed, so that the order of the additions is.
const ROWS: usize = 256;

/// The learned numbers, one of each for every channel.
#[derive(Clone, Copy, Debug)]
pub struct Rprelu<'a> {
    /// Added before; the negative of the paper's γ.
    pub shift_in: &'a [f32],
    /// The slope where the shifted input is not positive.
    pub slope: &'a [f32],
    /// Added after.
    pub shift_out: &'a [f32],
}

impl Rprelu<'_> {
    fn check(&self, elements: usize) -> Result<usize> {
        let channels = self.slope.len();
        if channels == 0 || !elements.is_multiple_of(channels) {
            return Err(KernelError::Invalid(format!(
                "rprelu: {elements} elements are not a whole number of rows of {channels} channels"
            )));
        }
        check_length("rprelu: shift before", self.shift_in.len(), channels)?;
        check_length("rprelu: shift after", self.shift_out.len(), channels)?;
        Ok(elements / channels)
    }
}

/// The gradients of the learned numbers.
pub struct RpreluGradients<'a> {
    /// Of the shift before.
    pub shift_in: &'a mut [f32],
    /// Of the slope.
    pub slope: &'a mut [f32],
    /// Of the shift after.
    pub shift_out: &'a mut [f32],
}

/// `y = v + shift_out` where `v = x + shift_in` is positive, `slope·v + shift_out` elsewhere. `x` and `y` are `[rows, channels]`.
///
/// # Errors
/// Where the lengths do not fit.
pub fn rprelu_forward(x: &[f32], parameters: Rprelu, y: &mut [f32]) -> Result {
    let rows = parameters.check(x.len())?;
    check_length("rprelu: output", y.len(), x.len())?;
    let channels = parameters.slope.len();
    let parts = DisjointMut::new(y);
    for_each_task(rows.div_ceil(ROWS), x.len(), |task| {
        let rows = piece(task, ROWS, rows);
        let range = rows.start * channels..rows.end * channels;
        // SAFETY: tasks have different rows.
        let y = unsafe { parts.part(range.clone()) };
        dispatch(Forward {
            x: &x[range],
            parameters,
            y,
        });
    });
    Ok(())
}

/// The gradients of [`rprelu_forward`]. With `v = x + shift_in`: `dx = dy` where v is positive and `slope·dy` elsewhere; that of
/// `shift_in` is the sum of dx, of `shift_out` the sum of dy, of `slope` the sum of `dy·v` where v is not positive. Sums are in f64.
///
/// # Errors
/// Where the lengths do not fit.
pub fn rprelu_backward(
    x: &[f32],
    parameters: Rprelu,
    dy: &[f32],
    dx: &mut [f32],
    gradients: RpreluGradients,
) -> Result {
    let rows = parameters.check(x.len())?;
    let channels = parameters.slope.len();
    check_length("rprelu: output gradient", dy.len(), x.len())?;
    check_length("rprelu: input gradient", dx.len(), x.len())?;
    let targets = [gradients.shift_in, gradients.slope, gradients.shift_out];
    for target in &targets {
        check_length("rprelu: gradient of a parameter", target.len(), channels)?;
    }
    let tasks = rows.div_ceil(ROWS);
    with_f64(tasks * 3 * channels, |partials| {
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
                        partials.part(task * 3 * channels..(task + 1) * 3 * channels),
                    )
                };
                dispatch(Backward {
                    x: &x[range.clone()],
                    dy: &dy[range],
                    parameters,
                    dx,
                    sums,
                });
            });
        }
        for (which, target) in targets.into_iter().enumerate() {
            for (channel, target) in target.iter_mut().enumerate() {
                let partials = partials.iter().skip(which * channels + channel);
                *target = partials.step_by(3 * channels).sum::<f64>() as f32;
            }
        }
    });
    Ok(())
}

struct Forward<'a> {
    x: &'a [f32],
    parameters: Rprelu<'a>,
    y: &'a mut [f32],
}

impl SimdOp for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let channels = self.parameters.slope.len();
        for (x, y) in self
            .x
            .chunks_exact(channels)
            .zip(self.y.chunks_exact_mut(channels))
        {
            let mut column = 0;
            while column < channels {
                let lanes = S::LANES.min(channels - column);
                // SAFETY: `lanes` channels from `column` on lie in the rows and in the parameters.
                unsafe {
                    let (shift_in, slope) = before(simd, self.parameters, column, lanes);
                    let shift_out = self.parameters.shift_out.as_ptr().add(column);
                    let v = simd.add(simd.load_partial(x.as_ptr().add(column), lanes), shift_in);
                    let positive = simd.gt(v, simd.zero());
                    let bent = simd.select(positive, v, simd.mul(slope, v));
                    let result = simd.add(bent, simd.load_partial(shift_out, lanes));
                    simd.store_partial(result, y.as_mut_ptr().add(column), lanes);
                }
                column += S::LANES;
            }
        }
    }
}

/// The shift before and the slope of `lanes` channels from `column` on.
///
/// # Safety
/// `column + lanes` must not exceed the channels.
#[inline(always)]
unsafe fn before<S: Simd>(
    simd: S,
    parameters: Rprelu,
    column: usize,
    lanes: usize,
) -> (S::F32, S::F32) {
    // SAFETY: the caller's promise.
    unsafe {
        (
            simd.load_partial(parameters.shift_in.as_ptr().add(column), lanes),
            simd.load_partial(parameters.slope.as_ptr().add(column), lanes),
        )
    }
}

struct Backward<'a> {
    x: &'a [f32],
    dy: &'a [f32],
    parameters: Rprelu<'a>,
    dx: &'a mut [f32],
    /// `[3, channels]`: of the shift before, the slope, the shift after.
    sums: &'a mut [f64],
}

impl SimdOp for Backward<'_> {
    type Output = ();

    /// Goes down one vector of channels at a time, so that its sums stay in registers.
    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let channels = self.parameters.slope.len();
        let mut column = 0;
        while column < channels {
            let lanes = S::LANES.min(channels - column);
            // SAFETY: `lanes` channels from `column` on lie in the parameters.
            let (shift_in, slope) = unsafe { before(simd, self.parameters, column, lanes) };
            let mut sums = [[simd.splat64(0.0); 2]; 3];
            let mut start = column;
            while start < self.x.len() {
                // SAFETY: `lanes` elements from `start` on lie in this row.
                unsafe {
                    let dy = simd.load_partial(self.dy.as_ptr().add(start), lanes);
                    let x = simd.load_partial(self.x.as_ptr().add(start), lanes);
                    let v = simd.add(x, shift_in);
                    let positive = simd.gt(v, simd.zero());
                    let dx = simd.select(positive, dy, simd.mul(slope, dy));
                    let dslope = simd.select(positive, simd.zero(), simd.mul(dy, v));
                    simd.store_partial(dx, self.dx.as_mut_ptr().add(start), lanes);
                    for (sum, term) in sums.iter_mut().zip([dx, dslope, dy]) {
                        let [low, high] = simd.widen(term);
                        *sum = [simd.add64(sum[0], low), simd.add64(sum[1], high)];
                    }
                }
                start += channels;
            }
            for (which, [low, high]) in sums.into_iter().enumerate() {
                let mut lane_sums = [0.0f64; crate::isa::MAX_LANES];
                // SAFETY: the array holds a whole vector of sums.
                unsafe {
                    simd.store64(low, lane_sums.as_mut_ptr());
                    simd.store64(high, lane_sums.as_mut_ptr().add(S::LANES / 2));
                }
                self.sums[which * channels + column..][..lanes]
                    .copy_from_slice(&lane_sums[..lanes]);
            }
            column += S::LANES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level, coarse_values};

    /// Output, then the gradients of x, the shift before, the slope, the shift after.
    fn run(x: &[f32], parameters: &[Vec<f32>], dy: &[f32]) -> Vec<Vec<f32>> {
        let channels = parameters[0].len();
        let given = Rprelu {
            shift_in: &parameters[0],
            slope: &parameters[1],
            shift_out: &parameters[2],
        };
        let mut results = vec![vec![f32::NAN; x.len()]; 2];
        results.extend(vec![vec![f32::NAN; channels]; 3]);
        let [y, dx, shift_in, slope, shift_out] = &mut results[..] else {
            unreachable!()
        };
        rprelu_forward(x, given, y).unwrap();
        let gradients = RpreluGradients {
            shift_in,
            slope,
            shift_out,
        };
        rprelu_backward(x, given, dy, dx, gradients).unwrap();
        results
    }

    fn parameters(channels: usize) -> Vec<Vec<f32>> {
        (0..3).map(|i| coarse_values(channels, 20 + i)).collect()
    }

    #[test]
    fn outputs_and_gradients_are_those_of_plain_loops() {
        at_every_level(|| {
            for (rows, channels) in [
                (0, 3),
                (1, 1),
                (5, 7),
                (300, 16),
                (9, 17),
                (600, 33),
                (4, 65),
            ] {
                let (x, dy) = (
                    coarse_values(rows * channels, 1),
                    coarse_values(rows * channels, 2),
                );
                let p = parameters(channels);
                let got = run(&x, &p, &dy);
                let mut sums = vec![[0.0f64; 3]; channels];
                for index in 0..rows * channels {
                    let channel = index % channels;
                    let v = x[index] + p[0][channel];
                    let (y, dx) = if v > 0.0 {
                        (v, dy[index])
                    } else {
                        sums[channel][1] += f64::from(dy[index] * v);
                        (p[1][channel] * v, p[1][channel] * dy[index])
                    };
                    assert_eq!(got[0][index], y + p[2][channel]);
                    assert_eq!(got[1][index], dx);
                    sums[channel][0] += f64::from(dx);
                    sums[channel][2] += f64::from(dy[index]);
                }
                for channel in 0..channels {
                    for which in 0..3 {
                        assert_eq!(got[2 + which][channel], sums[channel][which] as f32);
                    }
                }
            }
        });
    }

    #[test]
    fn threads_do_not_change_bits() {
        let (x, dy) = (coarse_values(2000 * 65, 1), coarse_values(2000 * 65, 2));
        let parameters = parameters(65);
        assert_same_bits_at_any_thread_count(|| run(&x, &parameters, &dy));
    }

    #[test]
    fn misfits_are_refused() {
        let p = parameters(2);
        let short = Rprelu {
            shift_in: &p[0],
            slope: &p[1],
            shift_out: &p[2][..1],
        };
        assert!(rprelu_forward(&[1.0; 4], short, &mut [0.0; 4]).is_err());
        let good = Rprelu {
            shift_out: &p[2],
            ..short
        };
        assert!(rprelu_forward(&[1.0; 3], good, &mut [0.0; 3]).is_err());
        assert!(rprelu_forward(&[1.0; 4], good, &mut [0.0; 3]).is_err());
    }
}
