//! Splitting work over rayon's threads so that results never depend on how many there are.
//!
//! Tasks are numbered and cut by shape alone; each writes its own part of the output (or its own partial sum, which the
//! caller adds up in order after the join). Kernels run in whatever rayon pool is current.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many elementary operations a kernel runs on the calling thread: a fork and join costs more.
pub const SERIAL_BELOW: usize = 1 << 16;

/// Runs `task(0)`, …, `task(tasks - 1)`, in parallel when `work` (elementary operations in all) is worth a fork.
#[inline]
pub fn for_each_task(tasks: usize, work: usize, task: impl Fn(usize) + Sync) {
    run_tasks(tasks, work, &task);
}

/// Not generic, so that rayon's machinery is compiled once and not for every kernel.
fn run_tasks(tasks: usize, work: usize, task: &(dyn Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads().min(tasks);
    if work < SERIAL_BELOW || threads <= 1 {
        for index in 0..tasks {
            task(index);
        }
        return;
    }
    // Every thread takes the next task until none is left: one fork for each thread, not for each task, and neighbouring
    // tasks run close together in time.
    let next = AtomicUsize::new(0);
    fork(threads, &|| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= tasks {
                break;
            }
            task(index);
        }
    });
}

/// Runs `body` on up to `threads` threads.
fn fork(threads: usize, body: &(dyn Fn() + Sync)) {
    if threads <= 1 {
        body();
    } else {
        rayon::join(body, || fork(threads - 1, body));
    }
}

/// The range of `task` when `length` items are cut into pieces of `piece`.
#[inline]
pub fn piece(task: usize, piece: usize, length: usize) -> std::ops::Range<usize> {
    let start = (task * piece).min(length);
    start..(start + piece).min(length)
}

/// A mutable slice that tasks write disjoint parts of.
///
/// The borrow checker cannot see that tasks with different numbers write different parts; the caller of [`Self::part`]
/// promises it.
pub struct DisjointMut<'a, T> {
    pointer: *mut T,
    length: usize,
    _borrow: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: it is a `&mut [T]` in parts; parts given out do not overlap by the contract of `part`.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}
// SAFETY: as above; `part` is the only access.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Wraps `slice` for as long as it is borrowed.
    pub fn new(slice: &'a mut [T]) -> Self {
        DisjointMut {
            pointer: slice.as_mut_ptr(),
            length: slice.len(),
            _borrow: std::marker::PhantomData,
        }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No two parts that live at the same time may overlap.
    ///
    /// # Panics
    /// Where `range` does not lie inside the slice.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, range: std::ops::Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length);
        // SAFETY: the range lies inside the borrowed slice, and the caller promises that no other live part overlaps it.
        unsafe {
            std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.end - range.start)
        }
    }

    /// All elements, for reading once every part is written.
    ///
    /// # Safety
    /// No part may live at the same time.
    #[inline]
    pub unsafe fn whole(&self) -> &'a [T] {
        // SAFETY: this is the borrowed slice, which nothing changes by the caller's promise.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}
