//! Whether short work is faster shared with other threads or done alone, by trying both.
//!
//! Where processors share no cache, what one thread has made costs another more than making it (a training step of two images takes two such
//! threads more than twice as long as one), and in a virtual machine that changes within seconds. So a thread now and then shares all its
//! short work for a while, does all of it alone for a while, and until the next time goes the way that was faster. One way for all work,
//! because it pays to share what the next kernel finds in its own thread's cache. Results do not depend on it.

use std::time::Duration;

/// What a fork does, as far as its time depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Work {
    /// Where in the code it is asked for: an address, which stands for the kernel's pass.
    pub place: usize,
    pub tasks: usize,
    /// Elementary operations in all.
    pub operations: usize,
}

/// Work that takes longer is always shared, and not looked at.
const LONG: Duration = Duration::from_micros(200);
/// Of so many forks of a thread, the last but [`TRIES`] twice are shared for comparison and the last done alone: at the end, because the
/// first ones of a program find nothing in caches. A training step of a ResNet-20 has some 250.
const PERIOD: usize = 1 << 14;
const TRIES: usize = 512;
/// Entries of the table, a power of two. Where two kinds of work have the same, only one of them is compared.
const ENTRIES: usize = 512;

/// How the next fork is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub alone: bool,
    /// Whether [`Trials::note`] is to be told how long it took.
    pub timed: bool,
}

/// What a thread knows of its forks.
#[derive(Default)]
pub(crate) struct Trials {
    forks: usize,
    /// Whether short work is done alone.
    alone: bool,
    table: Vec<Trial>,
}

/// How one kind of work went in one period.
#[derive(Clone, Copy)]
struct Trial {
    work: Work,
    period: usize,
    /// How often it was tried each way, and how long it took at best: other programs only ever make it slower.
    shared: (u32, Duration),
    alone: (u32, Duration),
}

const UNTRIED: (u32, Duration) = (0, Duration::MAX);

impl Trial {
    fn of(work: Work, period: usize) -> Trial {
        Trial {
            work,
            period,
            shared: UNTRIED,
            alone: UNTRIED,
        }
    }
}

impl Trials {
    /// Counts a fork, and says how to do it.
    pub fn way(&mut self, work: Work) -> Way {
        let (period, fork) = (self.forks / PERIOD, self.forks % PERIOD);
        self.forks = self.forks.wrapping_add(1);
        if fork == 0 && period > 0 {
            self.decide(period - 1);
        }
        if (PERIOD - 2 * TRIES..PERIOD - TRIES).contains(&fork) {
            return Way {
                alone: false,
                timed: true,
            };
        }
        let trying = fork >= PERIOD - TRIES;
        let alone = (trying || self.alone) && self.is_short(work);
        Way {
            alone,
            timed: trying && alone,
        }
    }

    /// Whether work took short when it was shared, last time; work that is not known is not short.
    fn is_short(&self, work: Work) -> bool {
        let trial = self.table.get(slot(work));
        trial.is_some_and(|trial| trial.work == work && trial.shared.1 < LONG)
    }

    /// Notes how long the fork took that [`Self::way`] counted last.
    pub fn note(&mut self, work: Work, alone: bool, time: Duration) {
        let period = self.forks.wrapping_sub(1) / PERIOD;
        if self.table.is_empty() {
            self.table.resize(ENTRIES, Trial::of(work, period));
        }
        let trial = &mut self.table[slot(work)];
        if trial.work != work || trial.period != period {
            if alone {
                return;
            }
            *trial = Trial::of(work, period);
        }
        let (count, best) = if alone {
            &mut trial.alone
        } else {
            &mut trial.shared
        };
        *count += 1;
        *best = time.min(*best);
    }

    /// Compares what was tried both ways in `period`.
    fn decide(&mut self, period: usize) {
        let (mut shared, mut alone) = (Duration::ZERO, Duration::ZERO);
        for trial in self.table.iter().filter(|trial| trial.period == period) {
            let count = trial.shared.0.min(trial.alone.0);
            if count > 0 {
                shared += trial.shared.1 * count;
                alone += trial.alone.1 * count;
            }
        }
        if shared != alone {
            self.alone = alone < shared;
        }
    }
}

/// Where work is noted: by the upper bits of products, since its numbers are mostly multiples of powers of two.
fn slot(work: Work) -> usize {
    let Work {
        place,
        tasks,
        operations,
    } = work;
    let mixed = [place, tasks, operations]
        .into_iter()
        .fold(0u64, |mixed, part| {
            (mixed.rotate_left(29) ^ part as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        });
    (mixed >> 32) as usize % ENTRIES
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Work = Work {
        place: 1,
        tasks: 4,
        operations: 1000,
    };

    /// Runs a period, in which forks take turns to do `works`, and returns how often each was done alone.
    fn period<const N: usize>(
        trials: &mut Trials,
        works: [Work; N],
        time: impl Fn(usize, bool) -> u64,
    ) -> [usize; N] {
        let mut alones = [0; N];
        for fork in 0..PERIOD {
            let index = fork % N;
            let way = trials.way(works[index]);
            alones[index] += usize::from(way.alone);
            if way.timed {
                let time = Duration::from_micros(time(fork, way.alone));
                trials.note(works[index], way.alone, time);
            }
        }
        alones
    }

    #[test]
    fn short_work_goes_the_faster_way_and_comes_back() {
        let mut trials = Trials::default();
        let mut period = |shared, alone| {
            let time = |_, way| if way { alone } else { shared };
            period(&mut trials, [WORK], time)[0]
        };
        assert_eq!(period(80, 40), TRIES);
        assert_eq!(
            period(80, 40),
            PERIOD - TRIES,
            "all but those for comparison"
        );
        assert_eq!(period(40, 80), PERIOD - TRIES);
        assert_eq!(period(40, 80), TRIES);
        assert_eq!(period(80, 40), TRIES);
        assert_eq!(period(80, 40), PERIOD - TRIES);
    }

    #[test]
    fn interruptions_decide_nothing() {
        let mut trials = Trials::default();
        let interrupted = |fork: usize, alone| match (alone, fork % 2) {
            (false, 0) => 40,
            (false, _) => 5000,
            (true, _) => 80,
        };
        for _ in 0..3 {
            assert_eq!(period(&mut trials, [WORK], interrupted), [TRIES]);
        }
    }

    #[test]
    fn long_work_is_always_shared() {
        let long = Work { place: 2, ..WORK };
        let mut trials = Trials::default();
        let time = |fork: usize, alone| match (fork % 2, alone) {
            (0, false) => 80,
            (0, true) => 40,
            _ => 201,
        };
        assert_eq!(period(&mut trials, [WORK, long], time), [TRIES / 2, 0]);
        assert_eq!(
            period(&mut trials, [WORK, long], time),
            [(PERIOD - TRIES) / 2, 0]
        );
    }

    #[test]
    fn all_short_work_goes_the_way_that_takes_less_time_together() {
        let others = [
            Work { place: 2, ..WORK },
            Work { tasks: 5, ..WORK },
            Work {
                operations: 1001,
                ..WORK
            },
        ];
        for other in others {
            assert_ne!(slot(WORK), slot(other));
            for (gain, alone) in [(30, TRIES), (50, PERIOD - TRIES)] {
                let mut trials = Trials::default();
                // Alone, the first kind loses 40 µs, and the other gains.
                let time = |fork: usize, alone| match (fork % 2, alone) {
                    (0, false) => 60,
                    (0, true) => 100,
                    (_, false) => 120,
                    (_, true) => 120 - gain,
                };
                period(&mut trials, [WORK, other], time);
                let alones = period(&mut trials, [WORK, other], time);
                assert_eq!(alones, [alone / 2; 2], "gain of {gain}");
            }
        }
    }

    #[test]
    fn what_is_known_no_more_is_not_compared() {
        let mut trials = Trials::default();
        let time = |_, alone| if alone { 40 } else { 80 };
        period(&mut trials, [WORK], time);
        let other = Work { place: 2, ..WORK };
        let slower = |_, alone| if alone { 80 } else { 79 };
        period(&mut trials, [other], slower);
        assert!(!trials.way(other).alone);
    }
}
