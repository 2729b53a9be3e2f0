//! Splitting work over rayon's threads so that results never depend on how many there are.
//!
//! Tasks are numbered and cut by shape alone; each writes its own part of the output (or its own partial sum, which the
//! caller adds up in order after the join). Kernels run in whatever rayon pool is current.

use crate::crew;
use crate::trials::Work;
use std::cell::Cell;
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Below this many elementary operations a kernel runs on the calling thread: a fork and join costs more. Norms and other passes over
/// the activations of two small images are above it, since a thread should find its image in its own cache in the next convolution.
pub const SERIAL_BELOW: usize = 1 << 14;

/// The elementary operations that take as long as `count` multiply-adds of a matrix product, which works in registers.
#[inline]
pub fn multiply_adds(count: usize) -> usize {
    count / 4
}

/// Runs `task(0)`, …, `task(tasks - 1)`, in parallel when `work` (elementary operations in all) is worth a fork.
#[inline]
#[track_caller]
pub fn for_each_task(tasks: usize, work: usize, task: impl Fn(usize) + Sync) {
    run_tasks(tasks, work, Order::Forwards, &task);
}

/// The same from the last task to the first: a second pass over memory that is larger than a cache starts with what the first pass
/// left there.
#[inline]
#[track_caller]
pub fn for_each_task_backwards(tasks: usize, work: usize, task: impl Fn(usize) + Sync) {
    run_tasks(tasks, work, Order::Backwards, &task);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Forwards,
    Backwards,
}

/// Not generic, so that rayon's machinery is compiled once and not for every kernel.
#[track_caller]
fn run_tasks(tasks: usize, work: usize, order: Order, task: &(dyn Fn(usize) + Sync)) {
    let run = |range: std::ops::Range<usize>, index: usize| match order {
        Order::Forwards => task(range.start + index),
        Order::Backwards => task(range.end - 1 - index),
    };
    let threads = threads().min(tasks);
    if work < SERIAL_BELOW || threads <= 1 {
        for index in 0..tasks {
            run(0..tasks, index);
        }
        return;
    }
    // A part of the tasks for every thread, by its number: kernels that go through the same images one after another find them in
    // the thread's own caches. Where threads do not share a cache, fetching them from another thread costs more than computing
    // them. A thread that is done helps with the other parts.
    let parts = threads.min(MAX_PARTS);
    let taken = [const { Taken(AtomicUsize::new(0)) }; MAX_PARTS];
    let work = Work {
        place: std::ptr::from_ref(Location::caller()).addr(),
        tasks,
        operations: work,
    };
    crew::fork(threads - 1, work, &|| {
        let first = rayon::current_thread_index().unwrap_or(0);
        for part in (0..parts).map(|offset| (first + offset) % parts) {
            let range = part * tasks / parts..(part + 1) * tasks / parts;
            loop {
                let index = taken[part].0.fetch_add(1, Ordering::Relaxed);
                if index >= range.len() {
                    break;
                }
                run(range.clone(), index);
            }
        }
    });
}

/// Threads that the tasks of a kernel may use here.
pub fn threads() -> usize {
    if SEGMENT.get() == Segment::Alone {
        1
    } else {
        rayon::current_num_threads()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Segment {
    /// Kernels see a whole batch.
    None,
    /// They see a segment, and may fork.
    Shared,
    /// They see a segment, and other threads are busy with others.
    Alone,
}

thread_local! {
    static SEGMENT: Cell<Segment> = const { Cell::new(Segment::None) };
}

/// Runs `body` on a segment of a batch: some of its images, which one thread takes through several kernels while other threads take
/// other images. Kernels need not cut their work for other threads then, and sum over few images at once. `alone`: every thread has
/// segments enough, so that kernels do not fork.
pub fn segment<R>(alone: bool, body: impl FnOnce() -> R) -> R {
    let inside = if alone {
        Segment::Alone
    } else {
        Segment::Shared
    };
    let _restore = Restore(SEGMENT.replace(inside));
    body()
}

/// Whether this thread is inside [`segment`]. Plans that read it cut less: results depend on it, and on no number of threads.
#[inline]
pub fn in_segment() -> bool {
    SEGMENT.get() != Segment::None
}

/// Puts back what held before, even where a kernel panics.
struct Restore(Segment);

impl Drop for Restore {
    fn drop(&mut self) {
        SEGMENT.set(self.0);
    }
}

/// Threads beyond this many share parts.
const MAX_PARTS: usize = 64;

/// How many tasks of a part have been taken; on a cache line of its own, so that threads do not disturb each other.
#[repr(align(64))]
struct Taken(AtomicUsize);

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
// SAFETY: as above. Besides `part` there is `whole`, which shares elements between threads, and `T: Sync` allows that.
unsafe impl<T: Send + Sync> Sync for DisjointMut<'_, T> {}

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

    /// Where the elements are, and how many.
    pub(crate) fn as_raw_parts(&self) -> (*mut T, usize) {
        (self.pointer, self.length)
    }

    /// All elements, for reading once every part is written.
    ///
    /// # Safety
    /// No part may live at the same time, and where several threads call it, `T` must be [`Sync`].
    #[inline]
    pub unsafe fn whole(&self) -> &'a [T] {
        // SAFETY: this is the borrowed slice, which by the caller's promise nothing changes and several threads may read.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn every_task_runs_once_in_either_order() {
        for threads in 1..=4 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().expect("a thread pool");
            for tasks in [0, 1, 2, 3, 7, 64, 65, 1000] {
                for work in [0, SERIAL_BELOW] {
                    let seen = Mutex::new(Vec::new());
                    let note = |task| seen.lock().unwrap().push(task);
                    pool.install(|| for_each_task(tasks, work, note));
                    let mut forwards = std::mem::take(&mut *seen.lock().unwrap());
                    pool.install(|| for_each_task_backwards(tasks, work, note));
                    let mut backwards = seen.into_inner().unwrap();
                    if threads == 1 || work == 0 {
                        assert!(forwards.iter().copied().eq(0..tasks));
                        assert!(backwards.iter().copied().eq((0..tasks).rev()));
                    }
                    forwards.sort_unstable();
                    backwards.sort_unstable();
                    assert!(forwards.iter().copied().eq(0..tasks));
                    assert_eq!(forwards, backwards);
                }
            }
        }
    }

    #[test]
    fn a_segment_that_is_alone_stays_on_its_thread() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3);
        let pool = pool.build().expect("a thread pool");
        pool.install(|| {
            let home = std::thread::current().id();
            assert!(!in_segment());
            segment(true, || {
                assert!(in_segment());
                for_each_task(100, SERIAL_BELOW, |_| {
                    assert_eq!(std::thread::current().id(), home);
                });
            });
            assert!(!in_segment());
            let broken = std::panic::catch_unwind(|| segment(false, || panic!("on purpose")));
            assert!(broken.is_err() && !in_segment());
        });
    }

    #[test]
    fn more_threads_than_parts_share_them() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(MAX_PARTS + 3);
        let pool = pool.build().expect("a thread pool");
        let seen = Mutex::new(vec![0; 500]);
        pool.install(|| for_each_task(500, SERIAL_BELOW, |task| seen.lock().unwrap()[task] += 1));
        assert_eq!(seen.into_inner().unwrap(), vec![1; 500]);
    }
}
