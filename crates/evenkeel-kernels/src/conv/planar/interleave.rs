//! A vector of pixels taken apart into planes and put together again: 1 to 8 channels in registers, 16 as a square that is transposed.

use crate::isa::{MAX_LANES, Simd};

/// Most channels that are taken apart in registers.
pub(super) const MOST_CHANNELS: usize = 8;
/// A number of channels that is transposed.
pub(super) const SQUARE_CHANNELS: usize = 16;

/// Four sequences by twos: even and odd ones first.
#[inline(always)]
fn apart_4<S: Simd>(s: S, v: [S::F32; 4]) -> [S::F32; 4] {
    let (a, b) = (s.take_apart([v[0], v[1]]), s.take_apart([v[2], v[3]]));
    let (even, odd) = (s.take_apart([a[0], b[0]]), s.take_apart([a[1], b[1]]));
    [even[0], odd[0], even[1], odd[1]]
}

/// The inverse of [`apart_4`].
#[inline(always)]
fn together_4<S: Simd>(s: S, v: [S::F32; 4]) -> [S::F32; 4] {
    let (even, odd) = (s.put_together([v[0], v[2]]), s.put_together([v[1], v[3]]));
    let (low, high) = (
        s.put_together([even[0], odd[0]]),
        s.put_together([even[1], odd[1]]),
    );
    [low[0], low[1], high[0], high[1]]
}

/// `CHANNELS` planes of the pixels in `v`: [`Simd::take_apart`] with fewer permutations where the channels have a factor of two.
#[inline(always)]
fn apart<S: Simd, const CHANNELS: usize>(s: S, v: [S::F32; CHANNELS]) -> [S::F32; CHANNELS] {
    let mut to = v;
    match CHANNELS {
        1 => {}
        4 => to.copy_from_slice(&apart_4(s, [v[0], v[1], v[2], v[3]])),
        6 => {
            let pairs: [[S::F32; 2]; 3] = [
                s.take_apart([v[0], v[1]]),
                s.take_apart([v[2], v[3]]),
                s.take_apart([v[4], v[5]]),
            ];
            for parity in 0..2 {
                let three = s.take_apart([pairs[0][parity], pairs[1][parity], pairs[2][parity]]);
                for k in 0..3 {
                    to[2 * k + parity] = three[k];
                }
            }
        }
        8 => {
            let pairs: [[S::F32; 2]; 4] = [
                s.take_apart([v[0], v[1]]),
                s.take_apart([v[2], v[3]]),
                s.take_apart([v[4], v[5]]),
                s.take_apart([v[6], v[7]]),
            ];
            for parity in 0..2 {
                let four = [
                    pairs[0][parity],
                    pairs[1][parity],
                    pairs[2][parity],
                    pairs[3][parity],
                ];
                let four = apart_4(s, four);
                for k in 0..4 {
                    to[2 * k + parity] = four[k];
                }
            }
        }
        _ => to = s.take_apart(v),
    }
    to
}

/// The inverse of [`apart`].
#[inline(always)]
fn together<S: Simd, const CHANNELS: usize>(s: S, v: [S::F32; CHANNELS]) -> [S::F32; CHANNELS] {
    let mut to = v;
    match CHANNELS {
        1 => {}
        4 => to.copy_from_slice(&together_4(s, [v[0], v[1], v[2], v[3]])),
        6 => {
            let even = s.put_together([v[0], v[2], v[4]]);
            let odd = s.put_together([v[1], v[3], v[5]]);
            for k in 0..3 {
                let pair = s.put_together([even[k], odd[k]]);
                (to[2 * k], to[2 * k + 1]) = (pair[0], pair[1]);
            }
        }
        8 => {
            let even = together_4(s, [v[0], v[2], v[4], v[6]]);
            let odd = together_4(s, [v[1], v[3], v[5], v[7]]);
            for k in 0..4 {
                let pair = s.put_together([even[k], odd[k]]);
                (to[2 * k], to[2 * k + 1]) = (pair[0], pair[1]);
            }
        }
        _ => to = s.put_together(v),
    }
    to
}

/// Takes a vector of pixels apart: pixel i of channel k goes to `to[k * stride + i]`.
///
/// # Safety
/// `from` must be valid for reading `LANES * CHANNELS` values, and `to` for writing `LANES` at each of `CHANNELS` multiples of `stride`.
#[inline(always)]
pub(super) unsafe fn take_apart<S: Simd, const CHANNELS: usize>(
    s: S,
    from: *const f32,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise; squares of lanes divide 16 channels.
    unsafe {
        if CHANNELS == SQUARE_CHANNELS {
            for first in (0..CHANNELS).step_by(S::LANES) {
                s.transpose(from.add(first), CHANNELS, to.add(first * stride), stride);
            }
            return;
        }
        let mut vectors = [s.zero(); CHANNELS];
        for k in 0..CHANNELS {
            vectors[k] = s.load(from.add(k * S::LANES));
        }
        let planes = apart::<S, CHANNELS>(s, vectors);
        for k in 0..CHANNELS {
            s.store(planes[k], to.add(k * stride));
        }
    }
}

/// [`take_apart`] for `count` pixels, fewer than a vector, and zeros that fill it up.
///
/// # Safety
/// `from` must be valid for reading `count * CHANNELS` values, and `to` as for [`take_apart`].
#[inline(always)]
pub(super) unsafe fn take_few_apart<S: Simd, const CHANNELS: usize>(
    s: S,
    from: *const f32,
    count: usize,
    to: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller's promise; a square holds LANES pixels of 16 channels.
    unsafe {
        if CHANNELS == SQUARE_CHANNELS {
            let mut pixels = [0.0; MAX_LANES * SQUARE_CHANNELS];
            pixels
                .as_mut_ptr()
                .copy_from_nonoverlapping(from, count * CHANNELS);
            take_apart::<S, CHANNELS>(s, pixels.as_ptr(), to, stride);
            return;
        }
        let mut vectors = [s.zero(); CHANNELS];
        for k in 0..CHANNELS {
            let start = (k * S::LANES).min(count * CHANNELS);
            let values = (count * CHANNELS - start).min(S::LANES);
            vectors[k] = s.load_partial(from.add(start), values);
        }
        let planes = apart::<S, CHANNELS>(s, vectors);
        for k in 0..CHANNELS {
            s.store(planes[k], to.add(k * stride));
        }
    }
}

/// Puts a vector of pixels together, the inverse of [`take_apart`].
///
/// # Safety
/// `from` must be valid for reading `LANES` values at each of `CHANNELS` multiples of `stride`, and `to` for writing `LANES * CHANNELS`.
#[inline(always)]
pub(super) unsafe fn put_together<S: Simd, const CHANNELS: usize>(
    s: S,
    from: *const f32,
    stride: usize,
    to: *mut f32,
) {
    // SAFETY: the caller's promise; squares of lanes divide 16 channels.
    unsafe {
        if CHANNELS == SQUARE_CHANNELS {
            for first in (0..CHANNELS).step_by(S::LANES) {
                s.transpose(from.add(first * stride), stride, to.add(first), CHANNELS);
            }
            return;
        }
        let mut vectors = [s.zero(); CHANNELS];
        for k in 0..CHANNELS {
            vectors[k] = s.load(from.add(k * stride));
        }
        let values = together::<S, CHANNELS>(s, vectors);
        for k in 0..CHANNELS {
            s.store(values[k], to.add(k * S::LANES));
        }
    }
}

/// [`put_together`] for `count` pixels, fewer than a vector.
///
/// # Safety
/// `from` as for [`put_together`]; `to` must be valid for writing `count * CHANNELS` values.
#[inline(always)]
pub(super) unsafe fn put_few_together<S: Simd, const CHANNELS: usize>(
    s: S,
    from: *const f32,
    stride: usize,
    to: *mut f32,
    count: usize,
) {
    // SAFETY: the caller's promise; a square holds LANES pixels of 16 channels.
    unsafe {
        if CHANNELS == SQUARE_CHANNELS {
            let mut pixels = [0.0; MAX_LANES * SQUARE_CHANNELS];
            put_together::<S, CHANNELS>(s, from, stride, pixels.as_mut_ptr());
            to.copy_from_nonoverlapping(pixels.as_ptr(), count * CHANNELS);
            return;
        }
        let mut vectors = [s.zero(); CHANNELS];
        for k in 0..CHANNELS {
            vectors[k] = s.load(from.add(k * stride));
        }
        let values = together::<S, CHANNELS>(s, vectors);
        for k in 0..CHANNELS {
            let start = (k * S::LANES).min(count * CHANNELS);
            let values_left = (count * CHANNELS - start).min(S::LANES);
            s.store_partial(values[k], to.add(start), values_left);
        }
    }
}
