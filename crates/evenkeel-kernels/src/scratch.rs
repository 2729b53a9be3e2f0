//! Scratch space that a thread keeps from call to call, so that a training step allocates nothing once it has run.

use std::cell::RefCell;

/// One cache line; the unit of allocation, so that vectors loaded from scratch never straddle two lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line([f32; Line::LENGTH]);

impl Line {
    const LENGTH: usize = 16;

    /// Lines that hold `length` f32.
    pub fn count(length: usize) -> usize {
        length.div_ceil(Line::LENGTH)
    }

    /// Makes `lines` hold `length` f32 and no line more.
    pub fn resize(lines: &mut Vec<Line>, length: usize) {
        lines.resize(Line::count(length), Line([0.0; Line::LENGTH]));
    }
}

/// The first `length` f32 of `lines`.
///
/// # Panics
/// Where they hold less.
pub(crate) fn floats_mut(lines: &mut [Line], length: usize) -> &mut [f32] {
    assert!(lines.len() >= Line::count(length));
    // SAFETY: `lines` holds at least `length` initialized f32 in a row (`Line` is `repr(C)` and has no padding: 16 f32 are 64 bytes,
    // its alignment), and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), length) }
}

/// The first `length` f64 of `lines`.
///
/// # Panics
/// Where they hold less.
fn doubles_mut(lines: &mut [Line], length: usize) -> &mut [f64] {
    assert!(lines.len() >= length.div_ceil(Line::LENGTH / 2));
    // SAFETY: as in `floats_mut`: a line is 64 bytes without padding, room for 8 f64, for which it is aligned, and every bit pattern is an f64.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f64>(), length) }
}

thread_local! {
    /// Buffers that no call holds. Nested calls take and return them in stack order, so each depth keeps its own size.
    static LINES: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
    static INDICES: RefCell<Vec<Vec<usize>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `length` f32, aligned to a cache line. What they hold is left over from earlier calls: write before reading.
pub(crate) fn with_scratch<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    with_lines(length, |lines| body(floats_mut(lines, length)))
}

/// Runs `body` with `length` f32 zeros, aligned to a cache line. Calls may nest, and a task that rayon runs inside `body` may call this
/// too: every use has its own buffer.
pub(crate) fn with_f32<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    with_scratch(length, |values| {
        values.fill(0.0);
        body(values)
    })
}

/// Runs `body` with `length` f64 zeros; see [`with_f32`].
pub(crate) fn with_f64<R>(length: usize, body: impl FnOnce(&mut [f64]) -> R) -> R {
    let floats = length.checked_mul(2).expect("fits in memory");
    with_lines(floats, |lines| {
        let values = doubles_mut(lines, length);
        values.fill(0.0);
        body(values)
    })
}

/// Runs `body` with lines that hold `length` f32 at least.
fn with_lines<R>(length: usize, body: impl FnOnce(&mut [Line]) -> R) -> R {
    let mut lines = LINES.with_borrow_mut(|free| free.pop()).unwrap_or_default();
    if lines.len() < Line::count(length) {
        Line::resize(&mut lines, length);
    }
    let result = body(&mut lines);
    LINES.with_borrow_mut(|free| free.push(lines));
    result
}

/// Runs `body` with an empty vector of indices that keeps its capacity between calls.
pub(crate) fn with_indices<R>(body: impl FnOnce(&mut Vec<usize>) -> R) -> R {
    let mut indices = INDICES
        .with_borrow_mut(|free| free.pop())
        .unwrap_or_default();
    indices.clear();
    let result = body(&mut indices);
    INDICES.with_borrow_mut(|free| free.push(indices));
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scratch_is_aligned_nested_and_kept() {
        let first = with_scratch(33, |outer| {
            outer.fill(1.0);
            with_scratch(7, |inner| {
                inner.fill(2.0);
                assert_eq!(inner.as_ptr() as usize % 64, 0);
            });
            assert!(outer.iter().all(|&x| x == 1.0));
            assert_eq!(outer.as_ptr() as usize % 64, 0);
            outer.as_ptr() as usize
        });
        assert_eq!(with_scratch(5, |again| again.as_ptr() as usize), first);
    }

    #[test]
    fn zeros_are_aligned_and_zero_again_after_use() {
        for length in [0, 1, 7, 8, 9, 33] {
            for _ in 0..2 {
                with_f64(length, |doubles| {
                    assert_eq!(doubles, vec![0.0; length]);
                    assert_eq!(doubles.as_ptr() as usize % 64, 0);
                    doubles.fill(f64::NAN);
                });
                with_f32(length, |floats| {
                    assert_eq!(floats, vec![0.0; length]);
                    assert_eq!(floats.as_ptr() as usize % 64, 0);
                    floats.fill(3.0);
                });
            }
        }
    }

    #[test]
    fn indices_start_empty_and_keep_their_capacity() {
        let capacity = with_indices(|indices| {
            indices.extend(0..1000);
            indices.capacity()
        });
        with_indices(|indices| {
            assert!(indices.is_empty());
            assert_eq!(indices.capacity(), capacity);
        });
    }
}
