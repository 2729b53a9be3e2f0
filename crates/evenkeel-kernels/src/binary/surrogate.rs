//! Gradients that stand in for that of the sign, which is zero almost everywhere.
//!
//! The backward pass needs only `φ(v)`, the surrogate's derivative where the sign was taken. It is kept in 16 bits an element
//! (fixed point, rounded by at most 1.6e-5 of its largest value), or as one bit where it is only 0 or 1, or not at all.

use super::words_of;
use crate::activation::math::exp;
use crate::error::{KernelError, Result, check_length};
use crate::isa::{MAX_LANES, Simd, SimdOp, dispatch};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements of one task, about.
const TASK: usize = 1 << 14;

/// The largest fixed-point number.
const STEPS: f32 = 32767.0;

/// What the gradient of `sign(v)` is taken for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Surrogate {
    /// `φ(v) = 1`.
    Identity,
    /// `φ(v) = 1` where `|v| <= bound`, 0 elsewhere: the straight-through estimator (Hubara et al., "Binarized Neural
    /// Networks", 2016, equation 4).
    Clip {
        /// Above 0.
        bound: f32,
    },
    /// `φ(v) = max(0, 2 - 2|v|)` (Liu et al., "Bi-Real Net", 2018, equation 7).
    Approximate,
    /// `φ(v) = β (2 - βv·tanh(βv/2)) / (1 + cosh(βv))` (Darabi et al., "BNN+", 2018, equation 6).
    Swish {
        /// Above 0; 5 is usual.
        beta: f32,
    },
    /// `φ(v) = 2δ·σ(δv)·(1 - σ(δv))`, which vanishes nowhere (Ma et al., "A&B BNN", 2024).
    Sigmoid {
        /// Above 0; 3 is usual.
        delta: f32,
    },
}

impl Surrogate {
    /// The surrogate with that number and parameter: 0 identity, 1 clip, 2 approximate, 3 swish, 4 sigmoid.
    ///
    /// # Errors
    /// Where the number is unknown or the parameter is not above 0.
    pub fn from_code(code: usize, parameter: f32) -> Result<Self> {
        if matches!(code, 1 | 3 | 4) && !(parameter > 0.0 && parameter.is_finite()) {
            return Err(KernelError::Invalid(format!(
                "surrogate: its parameter must be a finite number above 0, got {parameter}"
            )));
        }
        match code {
            0 => Ok(Surrogate::Identity),
            1 => Ok(Surrogate::Clip { bound: parameter }),
            2 => Ok(Surrogate::Approximate),
            3 => Ok(Surrogate::Swish { beta: parameter }),
            4 => Ok(Surrogate::Sigmoid { delta: parameter }),
            _ => Err(KernelError::Invalid(format!("surrogate: unknown {code}"))),
        }
    }

    /// Bytes that keep the derivatives of `rows` rows of `channels`.
    pub fn stored_bytes(self, rows: usize, channels: usize) -> usize {
        rows * self.row_bytes(channels)
    }

    fn row_bytes(self, channels: usize) -> usize {
        match self {
            Surrogate::Identity => 0,
            Surrogate::Clip { .. } => words_of(channels) * 4,
            _ => 2 * channels,
        }
    }

    /// The largest value of φ, at 0.
    fn largest(self) -> f32 {
        match self {
            Surrogate::Identity | Surrogate::Clip { .. } => 1.0,
            Surrogate::Approximate => 2.0,
            Surrogate::Swish { beta } => beta,
            Surrogate::Sigmoid { delta } => delta / 2.0,
        }
    }

    /// `φ(v) / φ(0)`; 0 for a NaN.
    #[inline(always)]
    fn relative<S: Simd>(self, simd: S, v: S::F32) -> S::F32 {
        let one = simd.splat(1.0);
        match self {
            Surrogate::Identity => one,
            Surrogate::Clip { bound } => {
                let inside = simd.ge(simd.splat(bound), simd.abs(v));
                simd.select(inside, one, simd.zero())
            }
            Surrogate::Approximate => simd.max(simd.sub(one, simd.abs(v)), simd.zero()),
            Surrogate::Swish { beta } => {
                // With t = |βv| and e = exp(-t): tanh(t/2) = (1 - e)/(1 + e) and 1 + cosh(t) = (1 + e)²/(2e).
                let t = simd.mul(simd.abs(v), simd.splat(beta));
                // Past this the value is 0 in fixed point, and infinity times 0 would be NaN.
                let t = simd.min(t, simd.splat(80.0));
                let (bell, sum) = bell(simd, t);
                let tanh = simd.div(simd.sub(simd.splat(2.0), sum), sum);
                let factor = simd.fnma(t, tanh, simd.splat(2.0));
                simd.mul(simd.mul(factor, bell), simd.splat(2.0))
            }
            Surrogate::Sigmoid { delta } => {
                let t = simd.mul(simd.abs(v), simd.splat(delta));
                let (bell, _) = bell(simd, simd.min(t, simd.splat(80.0)));
                simd.mul(bell, simd.splat(4.0))
            }
        }
    }
}

/// With `e = exp(-t)`: `e / (1 + e)²` and `1 + e`.
#[inline(always)]
fn bell<S: Simd>(simd: S, t: S::F32) -> (S::F32, S::F32) {
    let e = exp(simd, simd.neg(t));
    let sum = simd.add(e, simd.splat(1.0));
    (simd.div(e, simd.mul(sum, sum)), sum)
}

fn rows_of(elements: usize, channels: usize) -> Result<usize> {
    if channels == 0 || !elements.is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "surrogate: {elements} elements are not a whole number of rows of {channels} channels"
        )));
    }
    Ok(elements / channels)
}

/// Keeps `φ(x + shift)` for the backward pass. `x` is `[rows, channels]`, `shift` is `[channels]`, `stored` has
/// [`Surrogate::stored_bytes`].
///
/// # Errors
/// Where the lengths do not fit.
pub fn store_derivative(
    surrogate: Surrogate,
    x: &[f32],
    shift: Option<&[f32]>,
    channels: usize,
    stored: &mut [u8],
) -> Result {
    let rows = rows_of(x.len(), channels)?;
    if let Some(shift) = shift {
        check_length("surrogate: shift", shift.len(), channels)?;
    }
    let bytes = surrogate.row_bytes(channels);
    check_length("surrogate: stored", stored.len(), rows * bytes)?;
    if bytes == 0 {
        return Ok(());
    }
    let rows_per_task = (TASK / channels).max(1);
    let parts = DisjointMut::new(stored);
    for_each_task(rows.div_ceil(rows_per_task), x.len(), |task| {
        let rows = piece(task, rows_per_task, rows);
        // SAFETY: tasks have different rows.
        let stored = unsafe { parts.part(rows.start * bytes..rows.end * bytes) };
        dispatch(Derivative {
            surrogate,
            x: &x[rows.start * channels..rows.end * channels],
            shift,
            channels,
            stored,
        });
    });
    Ok(())
}

struct Derivative<'a> {
    surrogate: Surrogate,
    x: &'a [f32],
    shift: Option<&'a [f32]>,
    channels: usize,
    stored: &'a mut [u8],
}

impl SimdOp for Derivative<'_> {
    type Output = ();

    #[inline(always)]
    fn call<S: Simd>(self, simd: S) {
        let bits = matches!(self.surrogate, Surrogate::Clip { .. });
        let row_bytes = self.surrogate.row_bytes(self.channels);
        let scale = simd.splat(STEPS);
        for (row, stored) in self
            .x
            .chunks_exact(self.channels)
            .zip(self.stored.chunks_exact_mut(row_bytes))
        {
            if bits {
                stored.fill(0);
            }
            let mut column = 0;
            while column < self.channels {
                let lanes = S::LANES.min(self.channels - column);
                let mut values = [0.0f32; MAX_LANES];
                // SAFETY: `lanes` values from `column` on lie in the row and in the shift; `values` holds a vector.
                unsafe {
                    let mut v = simd.load_partial(row.as_ptr().add(column), lanes);
                    if let Some(shift) = self.shift {
                        v = simd.add(v, simd.load_partial(shift.as_ptr().add(column), lanes));
                    }
                    let relative = self.surrogate.relative(simd, v);
                    simd.store(simd.round(simd.mul(relative, scale)), values.as_mut_ptr());
                }
                if bits {
                    for (lane, &value) in values[..lanes].iter().enumerate() {
                        let channel = column + lane;
                        stored[channel / 8] |= u8::from(value > 0.0) << (channel % 8);
                    }
                } else {
                    let stored = &mut stored[2 * column..2 * (column + lanes)];
                    for (pair, &value) in stored.chunks_exact_mut(2).zip(&values) {
                        pair.copy_from_slice(&(value as i16).to_le_bytes());
                    }
                }
                column += S::LANES;
            }
        }
    }
}

/// Multiplies the gradient of the signs, `[rows, channels]`, with what [`store_derivative`] kept: in place, it becomes the gradient of
/// what the signs were taken of.
///
/// # Errors
/// Where the lengths do not fit.
pub fn apply_derivative(
    surrogate: Surrogate,
    stored: &[u8],
    channels: usize,
    gradient: &mut [f32],
) -> Result {
    let rows = rows_of(gradient.len(), channels)?;
    let bytes = surrogate.row_bytes(channels);
    check_length("surrogate: stored", stored.len(), rows * bytes)?;
    if bytes == 0 {
        return Ok(());
    }
    let rows_per_task = (TASK / channels).max(1);
    let elements = gradient.len();
    let parts = DisjointMut::new(gradient);
    for_each_task(rows.div_ceil(rows_per_task), elements, |task| {
        let rows = piece(task, rows_per_task, rows);
        // SAFETY: tasks have different rows.
        let gradient = unsafe { parts.part(rows.start * channels..rows.end * channels) };
        dispatch(Apply {
            surrogate,
            stored: &stored[rows.start * bytes..rows.end * bytes],
            channels,
            gradient,
        });
    });
    Ok(())
}

struct Apply<'a> {
    surrogate: Surrogate,
    stored: &'a [u8],
    channels: usize,
    gradient: &'a mut [f32],
}

impl SimdOp for Apply<'_> {
    type Output = ();

    /// Loops over bytes and f32 that the compiler vectorizes for the level it is inlined into.
    #[inline(always)]
    fn call<S: Simd>(self, _: S) {
        if matches!(self.surrogate, Surrogate::Clip { .. }) {
            let row_bytes = self.surrogate.row_bytes(self.channels);
            for (gradient, stored) in self
                .gradient
                .chunks_exact_mut(self.channels)
                .zip(self.stored.chunks_exact(row_bytes))
            {
                for (gradient, &byte) in gradient.chunks_mut(8).zip(stored) {
                    for (bit, gradient) in gradient.iter_mut().enumerate() {
                        *gradient = if byte >> bit & 1 == 1 { *gradient } else { 0.0 };
                    }
                }
            }
            return;
        }
        let step = self.surrogate.largest() / STEPS;
        for (gradient, pair) in self.gradient.iter_mut().zip(self.stored.chunks_exact(2)) {
            *gradient *= f32::from(i16::from_le_bytes([pair[0], pair[1]])) * step;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at_every_level;

    const ALL: [Surrogate; 6] = [
        Surrogate::Identity,
        Surrogate::Clip { bound: 1.0 },
        Surrogate::Clip { bound: 1.25 },
        Surrogate::Approximate,
        Surrogate::Swish { beta: 5.0 },
        Surrogate::Sigmoid { delta: 3.0 },
    ];

    /// The formulas as they stand in the papers.
    fn phi(surrogate: Surrogate, v: f64) -> f64 {
        match surrogate {
            Surrogate::Identity => 1.0,
            Surrogate::Clip { bound } => f64::from(u8::from(v.abs() <= f64::from(bound))),
            Surrogate::Approximate => (2.0 - 2.0 * v.abs()).max(0.0),
            Surrogate::Swish { beta } => {
                let t = f64::from(beta) * v;
                f64::from(beta) * (2.0 - t * (t / 2.0).tanh()) / (1.0 + t.cosh())
            }
            Surrogate::Sigmoid { delta } => {
                let s = 1.0 / (1.0 + (-f64::from(delta) * v).exp());
                2.0 * f64::from(delta) * s * (1.0 - s)
            }
        }
    }

    fn derivative(
        surrogate: Surrogate,
        x: &[f32],
        shift: Option<&[f32]>,
        channels: usize,
    ) -> Vec<f32> {
        let mut stored = vec![0xee; surrogate.stored_bytes(x.len() / channels, channels)];
        store_derivative(surrogate, x, shift, channels, &mut stored).unwrap();
        let mut gradient = vec![1.0; x.len()];
        apply_derivative(surrogate, &stored, channels, &mut gradient).unwrap();
        gradient
    }

    #[test]
    fn derivatives_are_those_of_the_papers() {
        // Exact zeros and ±1 among the points, and far tails.
        let mut points: Vec<f32> = (-1500..=1500).map(|i| i as f32 / 1000.0).collect();
        points.extend([-40.0, 40.0, 1e20, -1e20, f32::INFINITY]);
        at_every_level(|| {
            for surrogate in ALL {
                let got = derivative(surrogate, &points, None, 1);
                for (&x, &got) in points.iter().zip(&got) {
                    let wanted = if x.abs() > 1e10 {
                        phi(
                            surrogate,
                            1e3_f64.copysign(f64::from(x)).clamp(-100.0, 100.0),
                        )
                    } else {
                        phi(surrogate, f64::from(x))
                    };
                    let tolerance = f64::from(surrogate.largest()) * 2e-5;
                    assert!(
                        (f64::from(got) - wanted).abs() <= tolerance,
                        "{surrogate:?} at {x}: {got}, not {wanted}"
                    );
                }
            }
        });
    }

    #[test]
    fn integrals_are_the_step_of_the_sign() {
        let points: Vec<f32> = (-40_000..40_000)
            .map(|i| (i as f32 + 0.5) / 8000.0)
            .collect();
        for surrogate in ALL {
            let step = match surrogate {
                Surrogate::Identity => continue,
                Surrogate::Clip { bound } => 2.0 * f64::from(bound),
                _ => 2.0,
            };
            let sum: f64 = derivative(surrogate, &points, None, 1)
                .iter()
                .map(|&phi| f64::from(phi) / 8000.0)
                .sum();
            assert!((sum - step).abs() < 1e-3, "{surrogate:?}: {sum}");
        }
    }

    #[test]
    fn shifts_belong_to_their_channels_at_every_size() {
        at_every_level(|| {
            for surrogate in ALL {
                for channels in [1, 3, 7, 8, 15, 16, 17, 33, 65] {
                    let x: Vec<f32> = (0..5 * channels)
                        .map(|i| (i % 23) as f32 / 10.0 - 1.1)
                        .collect();
                    let shift: Vec<f32> =
                        (0..channels).map(|i| (i % 5) as f32 / 7.0 - 0.3).collect();
                    let shifted: Vec<f32> =
                        (0..x.len()).map(|i| x[i] + shift[i % channels]).collect();
                    assert_eq!(
                        derivative(surrogate, &x, Some(&shift), channels),
                        derivative(surrogate, &shifted, None, 1),
                        "{surrogate:?}, {channels} channels"
                    );
                }
            }
        });
    }

    #[test]
    fn misfits_are_refused() {
        assert!(Surrogate::from_code(1, 0.0).is_err());
        assert!(Surrogate::from_code(3, f32::NAN).is_err());
        assert!(Surrogate::from_code(9, 1.0).is_err());
        let surrogate = Surrogate::Approximate;
        assert!(store_derivative(surrogate, &[1.0; 4], None, 3, &mut [0; 8]).is_err());
        assert!(store_derivative(surrogate, &[1.0; 4], None, 2, &mut [0; 7]).is_err());
        assert!(store_derivative(surrogate, &[1.0; 4], Some(&[1.0]), 2, &mut [0; 8]).is_err());
        assert!(apply_derivative(surrogate, &[0; 7], 2, &mut [1.0; 4]).is_err());
        assert!(apply_derivative(surrogate, &[0; 8], 0, &mut [1.0; 4]).is_err());
    }
}
