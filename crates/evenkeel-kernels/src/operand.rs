//! What all tasks of a kernel call read and none of them is given: packed or transformed weights, a transformed source.
//!
//! Made once for all threads, such an operand is written by one thread into memory that another one read in the call before. A processor
//! first takes every such line from the other's cache, one after another: 7 ns a line on two cores of Zen 4, and 29 ns while they share no
//! cache, where a store to a line of one's own takes 0.6 (asking for the right to write ahead of time changes nothing). The transformed
//! kernels of 64 channels took 33 to 45 µs then, and 10 µs by a thread for itself. So each of a few threads makes what its tasks need in
//! memory of its own.

use crate::parallel::{DisjointMut, for_each_task, segment, threads};
use crate::scratch::{Line, floats_mut, with_scratch};
use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};

/// Threads that make operands for themselves, at most: with more, what each repeats weighs more than taking lines from each other, which
/// they share among themselves. (Two were measured.)
const OWN_THREADS: usize = 4;
/// Elements of the largest operand of which every thread has its own, 4 MB: the third-level cache has to hold all of them.
const OWN_ELEMENTS: usize = 1 << 20;

/// Writes a part of an operand, by number; different elements for different parts.
type Fill<'a> = dyn Fn(usize, &DisjointMut<'_, f32>) + Sync + 'a;

/// An operand, in parts.
pub(crate) struct Operand<'a>(Place<'a>);

enum Place<'a> {
    /// It is there, for all threads.
    Common(&'a [f32]),
    /// Every thread that asks for parts makes them.
    Own {
        /// The call's number, which no other call of the process has.
        call: u64,
        length: usize,
        parts: usize,
        fill: &'a Fill<'a>,
    },
}

/// A thread's memory for operands.
struct Own {
    /// The call whose operand it holds.
    call: u64,
    /// The parts that are made.
    made: Vec<bool>,
    lines: Vec<Line>,
}

thread_local! {
    /// Memory that nobody uses at the moment.
    static OWN: RefCell<Vec<Own>> = const { RefCell::new(Vec::new()) };
}

/// The number of the next call; zero is none.
static CALLS: AtomicU64 = AtomicU64::new(1);

/// Runs `body` with an operand of `length` f32 in `parts` parts that `fill` writes, of `work` elementary operations together.
pub(crate) fn with_operand<R>(
    length: usize,
    parts: usize,
    work: usize,
    fill: impl Fn(usize, &DisjointMut<'_, f32>) + Sync,
    body: impl FnOnce(&Operand<'_>) -> R,
) -> R {
    if threads() <= OWN_THREADS && length <= OWN_ELEMENTS {
        return body(&Operand(Place::Own {
            call: CALLS.fetch_add(1, Ordering::Relaxed),
            length,
            parts,
            fill: &fill,
        }));
    }
    with_scratch(length, |memory| {
        let all = DisjointMut::new(&mut *memory);
        for_each_task(parts, work, |part| fill(part, &all));
        body(&Operand::common(memory))
    })
}

impl<'a> Operand<'a> {
    /// An operand that is there.
    pub(crate) fn common(memory: &'a [f32]) -> Self {
        Operand(Place::Common(memory))
    }

    /// Runs `body`, inside a task, with the whole operand, of which `parts` are made and the others may hold anything.
    pub(crate) fn with<R>(
        &self,
        parts: impl IntoIterator<Item = usize>,
        body: impl FnOnce(&[f32]) -> R,
    ) -> R {
        match self.0 {
            Place::Common(memory) => body(memory),
            Place::Own {
                call,
                length,
                parts: all,
                fill,
            } => {
                let mut own = Own::of(call);
                own.prepare(call, length, all);
                own.make(parts, length, fill);
                let result = body(floats_mut(&mut own.lines, length));
                OWN.with_borrow_mut(|free| free.push(own));
                result
            }
        }
    }
}

impl Own {
    /// This thread's memory for `call`, or any that is free.
    fn of(call: u64) -> Own {
        OWN.with_borrow_mut(|free| {
            let last = free.len().checked_sub(1)?;
            let mine = free.iter().position(|own| own.call == call);
            Some(free.swap_remove(mine.unwrap_or(last)))
        })
        .unwrap_or(Own {
            call: 0,
            made: Vec::new(),
            lines: Vec::new(),
        })
    }

    /// Forgets another call's operand.
    fn prepare(&mut self, call: u64, length: usize, parts: usize) {
        if self.call == call {
            return;
        }
        self.call = call;
        self.made.clear();
        self.made.resize(parts, false);
        if self.lines.len() < Line::count(length) {
            Line::resize(&mut self.lines, length);
        }
    }

    /// Makes those of `parts` that are not made yet.
    fn make(&mut self, parts: impl IntoIterator<Item = usize>, length: usize, fill: &Fill<'_>) {
        let all = DisjointMut::new(floats_mut(&mut self.lines, length));
        for part in parts {
            if !self.made[part] {
                // On this thread: it is inside a task.
                segment(true, || fill(part, &all));
                self.made[part] = true;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Runs 40 tasks that each need two neighbouring parts of five, and returns how often parts were made.
    fn run(threads: usize, length: usize, value: f32) -> usize {
        let made = AtomicUsize::new(0);
        let size = length / 5;
        let fill = |part: usize, all: &DisjointMut<'_, f32>| {
            made.fetch_add(1, Ordering::Relaxed);
            // SAFETY: parts do not overlap.
            unsafe { all.part(part * size..(part + 1) * size) }.fill(value + part as f32);
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("a thread pool");
        pool.install(|| {
            with_operand(length, 5, usize::MAX, fill, |operand| {
                for_each_task(40, usize::MAX, |task| {
                    let first = task % 4;
                    operand.with(first..first + 2, |all| {
                        assert_eq!(all.len(), length);
                        for part in first..first + 2 {
                            let part_values = &all[part * size..(part + 1) * size];
                            assert!(part_values.iter().all(|&x| x == value + part as f32));
                        }
                    });
                });
            });
        });
        made.into_inner()
    }

    #[test]
    fn few_threads_make_what_they_need_and_many_make_it_once() {
        for call in 0..20 {
            let value = 10.0 * call as f32;
            assert_eq!(run(1, 35, value), 5);
            assert!((5..=10).contains(&run(2, 35, value)));
            assert_eq!(run(OWN_THREADS + 1, 35, value), 5);
            assert_eq!(run(2, OWN_ELEMENTS + 5, value), 5);
        }
    }

    #[test]
    fn operands_inside_of_operands_keep_apart() {
        let fill = |value: f32| {
            move |_: usize, all: &DisjointMut<'_, f32>| {
                // SAFETY: the only part.
                unsafe { all.part(0..16) }.fill(value);
            }
        };
        let seen = with_operand(16, 1, 0, fill(1.0), |outer| {
            with_operand(16, 1, 0, fill(2.0), |inner| {
                outer.with(0..1, |outer| {
                    inner.with(0..1, |inner| (outer.to_vec(), inner.to_vec()))
                })
            })
        });
        assert_eq!(seen, (vec![1.0; 16], vec![2.0; 16]));
    }

    #[test]
    fn a_part_that_panicked_is_made_again() {
        let tries = AtomicUsize::new(0);
        let fill = |_: usize, all: &DisjointMut<'_, f32>| {
            let first = tries.fetch_add(1, Ordering::Relaxed) == 0;
            assert!(!first, "on purpose");
            // SAFETY: the only part.
            unsafe { all.part(0..16) }.fill(3.0);
        };
        with_operand(16, 1, 0, fill, |operand| {
            let first = || operand.with(0..1, <[f32]>::to_vec);
            assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(first)).is_err());
            assert_eq!(operand.with(0..1, <[f32]>::to_vec), [3.0; 16]);
        });
    }
}
