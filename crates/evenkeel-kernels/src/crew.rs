//! Helpers that stay awake between kernels.
//!
//! Kernels of small batches take some ten microseconds, and waking a thread takes as long (20 to 30 µs in a virtual machine): a helper
//! that sleeps between two kernels comes when the work is done. So a thread of the pool that was woken once looks out for the next kernel
//! for a while. It yields to others meanwhile, and whoever forks never depends on it: work that nobody has begun is taken back.
//!
//! Sharing small work does not always pay (where processors share no cache, a convolution of two images takes two threads twice as long as
//! one), so that it is tried now and then ([`Trials`]).

use crate::trials::{Trials, Way, Work};
use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

/// How long a helper looks out for more work before its thread may sleep.
const AWAKE: Duration = Duration::from_micros(200);

/// Looks at what is being waited for, before yielding.
const SPINS: usize = 64;

static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// Runs `body` here, and on up to `helpers` other threads of the current pool at the same time. It returns when all have returned; a panic
/// of one of them goes on here.
pub(crate) fn fork(helpers: usize, work: Work, body: &(dyn Fn() + Sync)) {
    // A fork inside of `body` has helpers of its own: those that the fork inside of the last one had.
    let mut forks = FORKS.with_borrow_mut(Vec::pop).unwrap_or_default();
    let Way { alone, timed } = forks.trials.way(work);
    let start = timed.then(Instant::now);
    let outcome = run(if alone { 0 } else { helpers }, &mut forks.seats, body);
    if let Some(start) = start {
        forks.trials.note(work, alone, start.elapsed());
    }
    FORKS.with_borrow_mut(|all| all.push(forks));
    if let Err(panic) = outcome {
        resume_unwind(panic);
    }
}

/// Runs `body` here and on up to `helpers` other threads, one for each of the first `seats`, and catches a panic.
fn run(
    helpers: usize,
    seats: &mut Vec<Arc<Seat>>,
    body: &(dyn Fn() + Sync),
) -> std::thread::Result<()> {
    // More threads than processors would look out in each other's way.
    let awake = if helpers < *PROCESSORS {
        AWAKE
    } else {
        Duration::ZERO
    };
    while seats.len() < helpers {
        seats.push(Arc::new(Seat::default()));
    }
    let mut outcome = catch_unwind(AssertUnwindSafe(|| {
        for seat in &seats[..helpers] {
            // SAFETY: every offer is settled below, before `body` ends, whatever panics here.
            unsafe { seat.offer(body, awake) };
        }
        body();
    }));
    for seat in &seats[..helpers] {
        outcome = outcome.and(seat.settle());
    }
    outcome
}

thread_local! {
    /// What this thread's forks need: the last for those that are inside of no other, and so on.
    static FORKS: RefCell<Vec<Forks>> = const { RefCell::new(Vec::new()) };
}

/// What a thread needs to fork.
#[derive(Default)]
struct Forks {
    /// Where its helpers look.
    seats: Vec<Arc<Seat>>,
    trials: Trials,
}

/// Nobody looks here.
const ASLEEP: u8 = 0;
/// A helper looks here, or is on its way.
const FREE: u8 = 1;
/// There is work that nobody has begun.
const OFFERED: u8 = 2;
/// The helper works.
const TAKEN: u8 = 3;
/// It has ended.
const DONE: u8 = 4;

/// Where one thread offers work to one helper. On cache lines of its own.
#[repr(align(128))]
struct Seat {
    state: AtomicU8,
    /// The work: valid while the state is `OFFERED` or `TAKEN`. The thread that forks writes it, while the state is `ASLEEP` or `FREE`.
    body: UnsafeCell<Option<&'static (dyn Fn() + Sync)>>,
    /// A panic of the work. The helper writes it while the state is `TAKEN`; the other thread takes it while it is `DONE`.
    panic: UnsafeCell<Option<Box<dyn Any + Send>>>,
}

impl Default for Seat {
    fn default() -> Self {
        Seat {
            state: AtomicU8::new(ASLEEP),
            body: UnsafeCell::new(None),
            panic: UnsafeCell::new(None),
        }
    }
}

// SAFETY: the state says which of the two threads may use the cells, and passes on what they hold with release and acquire.
unsafe impl Sync for Seat {}
// SAFETY: what the cells hold may go to other threads: a reference to what is `Sync`, and a panic that is `Send`.
unsafe impl Send for Seat {}

impl Seat {
    /// Turns the state `from` into `to`, or says which it is instead.
    fn turn(&self, from: u8, to: u8) -> Result<u8, u8> {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
    }

    /// Offers `body` to this seat's helper, and calls one that will look out for more until there has been none for `awake`.
    ///
    /// # Safety
    /// [`Self::settle`] must be called before `body` ends.
    unsafe fn offer(self: &Arc<Self>, body: &(dyn Fn() + Sync), awake: Duration) {
        // SAFETY: the caller settles the offer before `body` ends, and then no helper has it or will get it.
        let body =
            unsafe { std::mem::transmute::<&(dyn Fn() + Sync), &'static (dyn Fn() + Sync)>(body) };
        // SAFETY: only this thread offers, and settled all before: the state is `ASLEEP` or `FREE`, in which no helper reads it.
        unsafe { *self.body.get() = Some(body) };
        if self.turn(FREE, OFFERED).is_err() {
            self.state.store(OFFERED, Ordering::Release);
            let seat = Arc::clone(self);
            rayon::spawn(move || seat.help(awake));
        }
    }

    /// Takes back what nobody has begun, or waits for its end.
    fn settle(&self) -> std::thread::Result<()> {
        let mut looks = 0;
        loop {
            match self.turn(OFFERED, FREE) {
                Err(TAKEN) => pause(&mut looks),
                Err(DONE) => break,
                // Taken back, or never offered.
                Ok(_) | Err(_) => return Ok(()),
            }
        }
        // SAFETY: the helper is done, and will not use the cell before another offer.
        let panic = unsafe { (*self.panic.get()).take() };
        self.state.store(FREE, Ordering::Release);
        panic.map_or(Ok(()), Err)
    }

    /// Does what is offered, until nothing has been for `awake`.
    fn help(&self, awake: Duration) {
        let mut since = Instant::now();
        let mut looks = 0;
        loop {
            match self.turn(OFFERED, TAKEN) {
                Ok(_) => {
                    // SAFETY: offered work is there, and stays until it is done.
                    let body = unsafe { *self.body.get() };
                    let outcome = catch_unwind(AssertUnwindSafe(|| body.map(|body| body())));
                    // SAFETY: the state is `TAKEN`, by this thread.
                    unsafe { *self.panic.get() = outcome.err() };
                    self.state.store(DONE, Ordering::Release);
                    since = Instant::now();
                    looks = 0;
                }
                Err(FREE) if looks >= SPINS && since.elapsed() >= awake => {
                    if self.turn(FREE, ASLEEP).is_ok() {
                        return;
                    }
                }
                Err(_) => pause(&mut looks),
            }
        }
    }
}

/// Waits a moment: awake at first, then yielding.
fn pause(looks: &mut usize) {
    if *looks < SPINS {
        *looks += 1;
        std::hint::spin_loop();
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const WORK: Work = Work {
        place: 0,
        tasks: 1,
        operations: 1,
    };

    fn in_pool<R: Send>(threads: usize, body: impl FnOnce() -> R + Send) -> R {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().expect("a thread pool").install(body)
    }

    #[test]
    fn the_caller_works_and_helpers_at_most_once_each() {
        for helpers in [0, 1, 2, 7] {
            in_pool(3, || {
                for _ in 0..200 {
                    let (runs, here) = (AtomicUsize::new(0), AtomicUsize::new(0));
                    let home = std::thread::current().id();
                    fork(helpers, WORK, &|| {
                        runs.fetch_add(1, Ordering::Relaxed);
                        if std::thread::current().id() == home {
                            here.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                    assert!((1..=helpers + 1).contains(&runs.into_inner()));
                    assert_eq!(here.into_inner(), 1);
                }
            });
        }
    }

    #[test]
    fn a_helper_comes_while_the_caller_works() {
        in_pool(2, || {
            let both = std::sync::Barrier::new(2);
            // Ends only where two threads meet; the second time the helper is awake or asleep again.
            for pause in [0, 0, 5] {
                std::thread::sleep(Duration::from_millis(pause));
                fork(1, WORK, &|| {
                    both.wait();
                });
            }
        });
    }

    #[test]
    fn forks_inside_of_forks_and_from_many_threads_end() {
        let count = AtomicUsize::new(0);
        let many = || {
            for _ in 0..50 {
                fork(2, WORK, &|| {
                    fork(2, WORK, &|| {
                        count.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(many);
            }
            scope.spawn(|| in_pool(2, many));
        });
        assert!(count.into_inner() >= 5 * 50);
    }

    #[test]
    fn forks_inside_of_forks_use_the_same_helpers_again() {
        in_pool(2, || {
            for _ in 0..10 {
                fork(1, WORK, &|| fork(2, WORK, &|| ()));
            }
            let seats: Vec<usize> =
                FORKS.with_borrow(|all| all.iter().map(|forks| forks.seats.len()).collect());
            assert_eq!(seats, [2, 1]);
        });
    }

    #[test]
    fn a_panic_anywhere_goes_on_here_and_the_next_fork_works() {
        in_pool(2, || {
            let home = std::thread::current().id();
            for on_helper in [false, true] {
                let both = std::sync::Barrier::new(2);
                let outcome = catch_unwind(AssertUnwindSafe(|| {
                    fork(1, WORK, &|| {
                        both.wait();
                        let helps = std::thread::current().id() != home;
                        assert!(helps != on_helper, "on purpose");
                    });
                }));
                assert!(outcome.is_err(), "on the helper: {on_helper}");
                let both = std::sync::Barrier::new(2);
                fork(1, WORK, &|| {
                    both.wait();
                });
            }
        });
    }
}
