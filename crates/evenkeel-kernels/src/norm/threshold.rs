//! The thresholded linear unit of filter response normalization behind a residual sum, in one pass: `max(a + b, tau)`.
//!
//! Singh, Krishnan, "Filter Response Normalization Layer: Eliminating Batch Dependence in the Training of Deep Neural Networks",
//! 2019, section 3.2; the paper has no residual sums, public implementations threshold behind them.

use super::columns::{Place, Terms, load, map_columns, store_output, sum_columns};
use super::geometry::check_optional;
use super::slab::Slab;
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;
use crate::memory::streams;
use crate::parallel::{DisjointMut, for_each_task};
use crate::scratch::{with_f32, with_f64};

/// `y = max(a + b, tau)`; `a`, `b` and `y` are `[rows, channels]`, tau `[channels]`. Equal values count as the sum, and NaN is passed on.
///
/// # Errors
/// Where a length does not fit, or there are no channels.
pub fn add_threshold_forward(a: &[f32], b: &[f32], tau: &[f32], y: &mut [f32]) -> Result {
    let slab = check(a, b, tau)?;
    check_length("add threshold output", y.len(), a.len())?;
    let columns = slab.columns;
    let parts = DisjointMut::new(y);
    with_thresholds(slab, tau, |tau| {
        for_each_task(slab.pieces, a.len(), |piece| {
            let range = slab.range(0, piece);
            // SAFETY: pieces do not overlap.
            let y = unsafe { parts.part(range.clone()) };
            let stream = streams(a.len(), y, columns.width);
            let (a, b) = (&a[range.clone()], &b[range]);
            map_columns(columns, tau, Forward::new(a, b, y, stream));
        });
    });
    Ok(())
}

/// The gradients of [`add_threshold_forward`]: `dsum`, that of `a` and of `b`, is `dy` where `a + b >= tau` and 0 elsewhere; `dtau` is the
/// sum of `dy` elsewhere. An absent gradient is not computed.
///
/// # Errors
/// As [`add_threshold_forward`].
pub fn add_threshold_backward(
    a: &[f32],
    b: &[f32],
    tau: &[f32],
    dy: &[f32],
    dsum: Option<&mut [f32]>,
    dtau: Option<&mut [f32]>,
) -> Result {
    let slab = check(a, b, tau)?;
    check_length("add threshold output gradient", dy.len(), a.len())?;
    check_optional("gradient of the sum", dsum.as_deref(), a.len())?;
    check_optional("dtau", dtau.as_deref(), tau.len())?;
    let (columns, channels) = (slab.columns, tau.len());
    let dsum = dsum.map(DisjointMut::new);
    with_f64(slab.pieces * channels, |sums| {
        let parts = DisjointMut::new(sums);
        with_thresholds(slab, tau, |tau| {
            for_each_task(slab.pieces, a.len(), |piece| {
                let range = slab.range(0, piece);
                // SAFETY: pieces do not overlap, and each has its own sums.
                let (dsum, sums) = unsafe {
                    (
                        dsum.as_ref().map(|dsum| dsum.part(range.clone())),
                        parts.part(piece * channels..(piece + 1) * channels),
                    )
                };
                let dsum = dsum.unwrap_or(&mut []);
                let stream = streams(a.len(), dsum, columns.width);
                let (a, b, dy) = (&a[range.clone()], &b[range.clone()], &dy[range]);
                let terms = Backward::new(a, b, dy, dsum, stream);
                columns.gathered(sums, |sums| sum_columns(columns, tau, terms, sums));
            });
        });
        super::centred::sum_samples(sums, channels, 0, dtau);
    });
    Ok(())
}

/// Checks what both passes read, and cuts its rows into pieces.
fn check(a: &[f32], b: &[f32], tau: &[f32]) -> Result<Slab> {
    let channels = tau.len();
    if channels == 0 || !a.len().is_multiple_of(channels) {
        return Err(KernelError::Invalid(format!(
            "add threshold: {} elements are not a whole number of rows of {channels} channels",
            a.len()
        )));
    }
    check_length("add threshold: b", b.len(), a.len())?;
    Ok(Slab::of_batch(a.len() / channels, channels))
}

/// Runs `body` with tau for every column.
fn with_thresholds(slab: Slab, tau: &[f32], body: impl FnOnce(&[f32])) {
    with_f32(slab.columns.padded, |columns| {
        columns[..tau.len()].copy_from_slice(tau);
        slab.columns.spread(columns);
        body(columns);
    });
}

struct Forward<'a> {
    a: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
    stream: bool,
}

impl<'a> Forward<'a> {
    fn new(a: &'a [f32], b: &'a [f32], y: &'a mut [f32], stream: bool) -> Self {
        assert!(a.len() == b.len() && a.len() == y.len());
        Forward { a, b, y, stream }
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl Terms<0, 1> for Forward<'_> {
    fn length(&self) -> usize {
        self.a.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        &[tau]: &[S::F32; 1],
        _: &mut [S::F32; 0],
    ) {
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let a = load(simd, self.a, place);
            let b = load(simd, self.b, place);
            // In this order equal values and NaN give the sum.
            let y = simd.max(tau, simd.add(a, b));
            store_output(simd, y, self.y, place, self.stream);
        }
    }
}

/// Writes `dsum`, unless it is empty, and adds up `dtau`.
struct Backward<'a> {
    a: &'a [f32],
    b: &'a [f32],
    dy: &'a [f32],
    dsum: &'a mut [f32],
    stream: bool,
}

impl<'a> Backward<'a> {
    fn new(a: &'a [f32], b: &'a [f32], dy: &'a [f32], dsum: &'a mut [f32], stream: bool) -> Self {
        assert!(a.len() == b.len() && a.len() == dy.len());
        assert!(dsum.is_empty() || dsum.len() == a.len());
        Backward {
            a,
            b,
            dy,
            dsum,
            stream,
        }
    }
}

// SAFETY: `new` checked that all arrays have `length` elements.
unsafe impl Terms<1, 1> for Backward<'_> {
    fn length(&self) -> usize {
        self.a.len()
    }

    #[inline(always)]
    unsafe fn add<S: Simd>(
        &mut self,
        simd: S,
        place: Place,
        &[tau]: &[S::F32; 1],
        sums: &mut [S::F32; 1],
    ) {
        // SAFETY: `place` is inside of `length`, and `streams` saw to it that what is streamed is aligned.
        unsafe {
            let a = load(simd, self.a, place);
            let b = load(simd, self.b, place);
            let dy = load(simd, self.dy, place);
            let below = simd.gt(tau, simd.add(a, b));
            sums[0] = simd.add(sums[0], simd.select(below, dy, simd.zero()));
            if !self.dsum.is_empty() {
                let dsum = simd.select(below, simd.zero(), dy);
                store_output(simd, dsum, self.dsum, place, self.stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_bits_at_any_thread_count, at_every_level};

    fn values(count: usize, seed: usize) -> Vec<f32> {
        let value = |i: usize| ((i * 37 + seed * 11) % 23) as f32 / 4.0 - 2.5;
        (0..count).map(value).collect()
    }

    /// The definition, element by element.
    fn oracle(a: &[f32], b: &[f32], tau: &[f32], dy: &[f32]) -> [Vec<f32>; 3] {
        let (mut y, mut dsum) = (vec![0.0; a.len()], vec![0.0; a.len()]);
        let mut dtau = vec![0.0; tau.len()];
        for at in 0..a.len() {
            let (sum, channel) = (a[at] + b[at], at % tau.len());
            if tau[channel] > sum {
                y[at] = tau[channel];
                dtau[channel] += dy[at] as f64;
            } else {
                y[at] = sum;
                dsum[at] = dy[at];
            }
        }
        [y, dsum, dtau.into_iter().map(|sum| sum as f32).collect()]
    }

    #[test]
    fn agrees_with_the_definition() {
        at_every_level(|| {
            for channels in [1, 3, 7, 15, 16, 17, 33, 63, 64, 65, 256] {
                for rows in [0, 1, 2, 9, 130, 1000] {
                    let (a, b) = (values(rows * channels, 1), values(rows * channels, 2));
                    let (tau, dy) = (values(channels, 3), values(rows * channels, 4));
                    let [expected_y, expected_dsum, expected_dtau] = oracle(&a, &b, &tau, &dy);
                    let (mut y, mut dsum) = (vec![f32::NAN; a.len()], vec![f32::NAN; a.len()]);
                    let mut dtau = vec![f32::NAN; channels];
                    add_threshold_forward(&a, &b, &tau, &mut y).unwrap();
                    let gradients = (Some(&mut dsum[..]), Some(&mut dtau[..]));
                    add_threshold_backward(&a, &b, &tau, &dy, gradients.0, gradients.1).unwrap();
                    // Quarters of small whole numbers: all sums are exact.
                    assert_eq!((&y, &dsum), (&expected_y, &expected_dsum));
                    assert_eq!(dtau, expected_dtau, "{rows} rows of {channels}");
                }
            }
        });
    }

    #[test]
    fn a_nan_is_passed_on_and_takes_its_gradient() {
        let (a, b, tau, dy) = ([f32::NAN, 1.0], [0.0, -1.0], [1.0, 0.0], [5.0, 7.0]);
        let (mut y, mut dsum, mut dtau) = ([0.0; 2], [0.0; 2], [1.0; 2]);
        add_threshold_forward(&a, &b, &tau, &mut y).unwrap();
        add_threshold_backward(&a, &b, &tau, &dy, Some(&mut dsum), Some(&mut dtau)).unwrap();
        assert!(y[0].is_nan());
        assert_eq!((y[1], dsum, dtau), (0.0, [5.0, 7.0], [0.0, 0.0]));
    }

    #[test]
    fn the_same_bits_at_any_number_of_threads() {
        let (rows, channels) = (5000, 24);
        let (a, b) = (values(rows * channels, 1), values(rows * channels, 2));
        let tau = values(channels, 3);
        let dy: Vec<f32> = (0..rows * channels)
            .map(|i| 1.0 / (1 + i % 97) as f32)
            .collect();
        assert_same_bits_at_any_thread_count(|| {
            let (mut y, mut dsum) = (vec![0.0; a.len()], vec![0.0; a.len()]);
            let mut dtau = vec![0.0; channels];
            add_threshold_forward(&a, &b, &tau, &mut y).unwrap();
            let gradients = (Some(&mut dsum[..]), Some(&mut dtau[..]));
            add_threshold_backward(&a, &b, &tau, &dy, gradients.0, gradients.1).unwrap();
            vec![y, dsum, dtau]
        });
    }

    #[test]
    fn refuses_lengths_that_do_not_fit() {
        let mut y = [0.0; 4];
        assert!(add_threshold_forward(&[0.0; 4], &[0.0; 4], &[], &mut y).is_err());
        assert!(add_threshold_forward(&[0.0; 4], &[0.0; 4], &[0.0; 3], &mut y).is_err());
        assert!(add_threshold_forward(&[0.0; 4], &[0.0; 2], &[0.0; 2], &mut y).is_err());
        assert!(add_threshold_forward(&[0.0; 4], &[0.0; 4], &[0.0; 2], &mut y[..2]).is_err());
        let short = Some(&mut y[..1]);
        assert!(
            add_threshold_backward(&[0.0; 4], &[0.0; 4], &[0.0; 2], &[0.0; 4], None, short)
                .is_err()
        );
    }
}
