//! Scratch space that a thread keeps from call to call, so that a training step allocates nothing once it has run.

use std::cell::RefCell;

/// One cache line; the unit of allocation, so that vectors loaded from scratch never straddle two lines.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Line([f32; Line::LENGTH]);

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
pub(super) fn floats_mut(lines: &mut [Line], length: usize) -> &mut [f32] {
    assert!(lines.len() >= Line::count(length));
    // SAFETY: `lines` holds at least `length` initialized f32 in a row (`Line` is `repr(C)` and has no padding: 16 f32 are 64 bytes,
    // its alignment), and the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast::<f32>(), length) }
}

thread_local! {
    /// Buffers that no call holds. Nested calls take and return them in stack order, so each depth keeps its own size.
    static LINES: RefCell<Vec<Vec<Line>>> = const { RefCell::new(Vec::new()) };
    static INDICES: RefCell<Vec<Vec<usize>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `length` f32, aligned to a cache line. What they hold is left over from earlier calls: write before reading.
pub(crate) fn with_scratch<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut lines = LINES.with_borrow_mut(|free| free.pop()).unwrap_or_default();
    if lines.len() < Line::count(length) {
        Line::resize(&mut lines, length);
    }
    let result = body(floats_mut(&mut lines, length));
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
