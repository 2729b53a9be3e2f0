//! Scratch space that a thread keeps from one kernel to the next, so that a training step allocates nothing in steady state.

use std::cell::RefCell;

thread_local! {
    static SINGLE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
    static DOUBLE: RefCell<Vec<Vec<f64>>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with `length` f32 zeros. Calls may nest, and a task that rayon runs inside `body` may call this too: every
/// use has its own buffer.
pub(super) fn with_f32<R>(length: usize, body: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = SINGLE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.clear();
    buffer.resize(length, 0.0);
    let result = body(&mut buffer);
    SINGLE.with_borrow_mut(|kept| kept.push(buffer));
    result
}

/// Runs `body` with `length` f64 zeros; see [`with_f32`].
pub(super) fn with_f64<R>(length: usize, body: impl FnOnce(&mut [f64]) -> R) -> R {
    let mut buffer = DOUBLE.with_borrow_mut(Vec::pop).unwrap_or_default();
    buffer.clear();
    buffer.resize(length, 0.0);
    let result = body(&mut buffer);
    DOUBLE.with_borrow_mut(|kept| kept.push(buffer));
    result
}
