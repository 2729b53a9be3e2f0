//! The compute thread's end of a stream: it takes jobs from the queue and runs their commands, one by one or as a group.

use super::profile::Profile;
use super::queue::{Job, Pending};
use crate::arguments::Arguments;
use crate::buffer::{DType, Pool};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::loader::Delivery;
use crate::operations::{self, Entry, run_command};
use crate::segments::cutting::{Cut, Stages};
use crate::segments::execution;
use crate::segments::group::Group;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

/// How long the compute thread looks for its next job before it sleeps: between the steps of a small network JavaScript takes less.
const AWAKE: Duration = Duration::from_micros(50);

/// What the compute thread owns.
pub(super) struct Compute {
    heap: Heap,
    jobs: Receiver<Job>,
    pending: Arc<Pending>,
    table: Vec<Entry>,
    /// The index of every operation.
    numbers: HashMap<&'static str, usize>,
    /// Commands that wait to be run together.
    group: Group,
    /// The first failure of a command that had no output to poison.
    failure: Option<Failure>,
    profile: Option<Profile>,
    /// Whether waiting for [`AWAKE`] does not keep a processor from the JavaScript thread.
    stays_awake: bool,
}

impl Drop for Compute {
    fn drop(&mut self) {
        self.pending.end();
    }
}

impl Compute {
    /// With an empty heap over `pool`; takes its work from `jobs`.
    pub fn new(jobs: Receiver<Job>, pending: Arc<Pending>, pool: Pool) -> Self {
        let table = operations::table();
        Compute {
            heap: Heap::new(pool),
            jobs,
            pending,
            group: Group::default(),
            numbers: table.iter().map(|entry| entry.name).zip(0..).collect(),
            table,
            failure: None,
            profile: None,
            stays_awake: std::thread::available_parallelism().is_ok_and(|all| all.get() > 1),
        }
    }

    /// Moves to a new thread, the first of a pool of `threads`: kernels fork and join inside the pool they run in, which spares
    /// them a hand-over to another pool's thread.
    pub fn run_with(self, threads: usize) -> Outcome {
        std::thread::Builder::new()
            .name("evenkeel-compute".into())
            .spawn(move || {
                let pool = rayon::ThreadPoolBuilder::new()
                    .num_threads(threads.max(1))
                    .thread_name(|index| format!("evenkeel-compute-{index}"))
                    .use_current_thread()
                    .build();
                // Without a pool of its own the stream still computes, in rayon's default one.
                let _pool = pool.ok();
                self.run();
            })
            .map(drop)
            .map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))
    }

    fn run(mut self) {
        while let Some(job) = self.next() {
            if !matches!(job, Job::Commands(..)) {
                self.run_group();
            }
            match job {
                Job::Commands(words, count) => {
                    self.commands(&words);
                    self.pending.remove(count);
                }
                Job::Upload(slot, dtype, bytes) => self.upload(slot, dtype, &bytes),
                Job::Overwrite(slot, bytes) => {
                    let outcome = self.heap.update([slot], |_, [buffer]| {
                        if buffer.bytes().len() != bytes.len() {
                            return Err(Failure::internal("overwrite: lengths differ"));
                        }
                        buffer.bytes_mut().copy_from_slice(&bytes);
                        Ok(())
                    });
                    self.note(outcome);
                }
                Job::Read(slot, reply) => {
                    reply(self.heap.get(slot).map(|buffer| buffer.bytes().to_vec()));
                }
                Job::Fence(reply) => reply(self.failure.take().map_or(Ok(Vec::new()), Err)),
                Job::StartProfile => {
                    self.profile = Some(Profile::start());
                }
                Job::StopProfile(reply) => {
                    let times = self
                        .profile
                        .take()
                        .map_or(Vec::new(), |profile| profile.times);
                    reply(Ok(times.into_iter().flat_map(f64::to_ne_bytes).collect()));
                }
                Job::Receive(slots, delivery) => self.receive(&slots, &delivery),
                Job::Threads(threads) => {
                    // A thread cannot leave its pool, so the work moves to a new thread with a new pool.
                    // Should the system refuse one, the stream ends and later calls say so.
                    let _ = self.run_with(threads);
                    return;
                }
                Job::Stop => return,
            }
        }
    }

    /// The next job; none when there will be no more. What waits is run before the thread would have to wait for it.
    fn next(&mut self) -> Option<Job> {
        match self.jobs.try_recv() {
            Ok(job) => Some(job),
            Err(TryRecvError::Empty) => {
                self.run_group();
                self.wait()
            }
            Err(TryRecvError::Disconnected) => None,
        }
    }

    /// Waits for a job, awake at first: the JavaScript thread mostly has the next one within microseconds, and waking up takes as long. It
    /// yields meanwhile: after a pause both threads may share a processor, where looking without end would keep the job from coming.
    fn wait(&self) -> Option<Job> {
        let start = Instant::now();
        while self.stays_awake && start.elapsed() < AWAKE {
            match self.jobs.try_recv() {
                Ok(job) => return Some(job),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => return None,
            }
        }
        self.jobs.recv().ok()
    }

    fn upload(&mut self, slot: usize, dtype: DType, bytes: &[u8]) {
        let made = if bytes.len().is_multiple_of(dtype.size()) {
            self.heap.allocate(dtype, bytes.len() / dtype.size())
        } else {
            Err(Failure::internal("upload: a part of an element"))
        };
        match made {
            Ok(mut buffer) => {
                buffer.bytes_mut().copy_from_slice(bytes);
                self.heap.put(slot, buffer);
            }
            Err(failure) => self.heap.poison(slot, failure),
        }
    }

    fn receive(&mut self, slots: &[usize], delivery: &Delivery) {
        let outcome = delivery
            .recv()
            .unwrap_or_else(|_| Err(Failure::internal("a loader thread has ended")))
            .and_then(|buffers| {
                if buffers.len() == slots.len() {
                    Ok(buffers)
                } else {
                    Err(Failure::internal("a delivery has the wrong size"))
                }
            });
        match outcome {
            Ok(buffers) => {
                for (&slot, buffer) in slots.iter().zip(buffers) {
                    self.heap.put(slot, buffer);
                }
            }
            Err(failure) => {
                for &slot in slots {
                    self.heap.poison(slot, failure.clone());
                }
            }
        }
    }

    fn note(&mut self, outcome: Outcome) {
        if let Err(failure) = outcome {
            self.failure.get_or_insert(failure);
        }
    }

    fn commands(&mut self, mut words: &[f64]) {
        while let [operation, count, rest @ ..] = words {
            let (operation, count) = (*operation as usize, (*count as usize).min(rest.len()));
            let (command, next) = rest.split_at(count);
            words = next;
            let timed = self
                .profile
                .as_mut()
                .map_or(0, |profile| profile.add(operation));
            self.enqueue(operation, command, timed);
        }
    }

    /// Adds a command to those that wait, or runs them and then it. It is the `timed`-th that a profile times.
    fn enqueue(&mut self, operation: usize, command: &[f64], timed: usize) {
        let Some(&Entry { name, cut, .. }) = self.table.get(operation) else {
            self.note(Err(Failure::internal(format!("no operation {operation}"))));
            return;
        };
        if name == "free" {
            if let [_, slot] = *command
                && self.group.free(slot as usize)
            {
                return;
            }
            return self.run_one(operation, command, timed);
        }
        match cut {
            None => {}
            Some(Cut::Stages(stages)) => {
                if let Ok(commands) = Stages::of(stages, command, &mut self.heap)
                    && !commands.is_empty()
                {
                    for (name, words) in commands {
                        let operation = self.numbers.get(name).copied().unwrap_or(usize::MAX);
                        self.enqueue(operation, &words, timed);
                    }
                    return;
                }
            }
            Some(cut) => loop {
                // What is wrong with the command, it will say itself.
                match self.group.add(&self.heap, operation, cut, command, timed) {
                    Ok(true) => return,
                    Ok(false) | Err(_) if self.group.is_empty() => break,
                    Ok(false) | Err(_) => self.run_group(),
                }
            },
        }
        self.run_group();
        self.run_one(operation, command, timed);
    }

    /// Runs the commands that wait.
    fn run_group(&mut self) {
        if self.group.is_empty() {
            return;
        }
        let start = Instant::now();
        let timed = self.profile.is_some();
        let result = execution::run(&self.group, &self.table, &mut self.heap, timed);
        if let (Some(profile), Ok(times)) = (&mut self.profile, result) {
            let mut start = start.duration_since(profile.origin).as_secs_f64();
            for (step, seconds) in self.group.steps.iter().zip(times) {
                profile.spend(step.timed, start, seconds);
                start += seconds;
            }
        }
        self.group.clear();
    }

    /// Runs one command on all of its tensors.
    fn run_one(&mut self, operation: usize, command: &[f64], timed: usize) {
        let start = Instant::now();
        let outcome = run_command(&mut self.heap, &self.table[operation], command);
        if let Some(profile) = &mut self.profile {
            let seconds = start.elapsed().as_secs_f64();
            let start = start.duration_since(profile.origin).as_secs_f64();
            profile.spend(timed, start, seconds);
        }
        if let Err(failure) = outcome {
            let mut poisoned = false;
            if let Ok(arguments) = Arguments::new(command) {
                for slot in arguments.output_slots() {
                    self.heap.poison(slot, failure.clone());
                    poisoned = true;
                }
            }
            if !poisoned {
                self.note(Err(failure));
            }
        }
    }
}
