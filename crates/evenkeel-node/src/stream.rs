//! A device as a stream: one compute thread, a first-in-first-out queue, and back-pressure.

use crate::arguments::Arguments;
use crate::buffer::{DType, Pool};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::loader::{Batch, Delivery, Loader};
use crate::operations::{self, Entry, run_command};
use crate::segments::cutting::{Cut, Stages};
use crate::segments::execution;
use crate::segments::group::Group;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Condvar, Mutex, Once, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// Commands that may wait before `submit` blocks: a loop that never awaits cannot run away from the compute thread.
const MAX_PENDING: usize = 1 << 14;
/// How long the compute thread looks for its next job before it sleeps: between the steps of a small network JavaScript takes less.
const AWAKE: Duration = Duration::from_micros(50);

/// Where the bytes of a tensor go when the stream has reached the request.
pub type Reply = Box<dyn FnOnce(Outcome<Vec<u8>>) + Send>;

/// One entry of the queue.
enum Job {
    /// Commands, and how many.
    Commands(Vec<f64>, usize),
    /// A new tensor with these bytes.
    Upload(usize, DType, Vec<u8>),
    /// New bytes for an existing tensor.
    Overwrite(usize, Vec<u8>),
    /// The bytes of a tensor.
    Read(usize, Reply),
    /// A sign that everything before it is done.
    Fence(Reply),
    /// Tensors made by another thread.
    Receive(Vec<usize>, Delivery),
    /// Time every command from here on.
    StartProfile,
    /// Stop timing; the times as f64: operation, start and duration in seconds, for each command.
    StopProfile(Reply),
    /// Go on with that many threads.
    Threads(usize),
    Stop,
}

#[derive(Default)]
struct Pending {
    commands: Mutex<usize>,
    changed: Condvar,
}

impl Pending {
    fn add(&self, count: usize) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        while *commands > MAX_PENDING {
            commands = self
                .changed
                .wait(commands)
                .unwrap_or_else(PoisonError::into_inner);
        }
        *commands += count;
    }

    fn remove(&self, count: usize) {
        let mut commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        *commands -= count;
        if *commands <= MAX_PENDING {
            self.changed.notify_all();
        }
    }
}

/// Batches that were requested and not yet delivered.
#[derive(Default)]
struct Requested {
    next: u32,
    batches: HashMap<u32, Delivery>,
}

/// The JavaScript thread's end of a stream.
pub struct Stream {
    queue: Sender<Job>,
    pending: Arc<Pending>,
    pool: Pool,
    loader: OnceLock<Outcome<Loader>>,
    requested: Mutex<Requested>,
    stopped: AtomicBool,
}

impl Stream {
    /// Starts a compute thread that uses `threads` threads in all.
    pub fn start(threads: usize) -> Outcome<Stream> {
        silence_panics();
        let (queue, jobs) = channel();
        let pending = Arc::new(Pending::default());
        let pool = Pool::default();
        let table = operations::table();
        let compute = Compute {
            heap: Heap::new(pool.clone()),
            jobs,
            pending: pending.clone(),
            group: Group::default(),
            numbers: table.iter().map(|entry| entry.name).zip(0..).collect(),
            table,
            failure: None,
            profile: None,
            stays_awake: std::thread::available_parallelism().is_ok_and(|all| all.get() > 1),
        };
        compute.run_with(threads)?;
        Ok(Stream {
            queue,
            pending,
            pool,
            loader: OnceLock::new(),
            requested: Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// Enqueues `count` commands. Blocks while too many wait.
    pub fn submit(&self, commands: &[f64], count: usize) -> Outcome {
        self.pending.add(count);
        self.send(Job::Commands(commands.to_vec(), count))
    }

    /// Enqueues a new tensor in `slot`.
    pub fn upload(&self, slot: usize, dtype: DType, bytes: &[u8]) -> Outcome {
        self.send(Job::Upload(slot, dtype, bytes.to_vec()))
    }

    /// Enqueues new contents for the tensor in `slot`.
    pub fn overwrite(&self, slot: usize, bytes: &[u8]) -> Outcome {
        self.send(Job::Overwrite(slot, bytes.to_vec()))
    }

    /// Asks for the bytes of the tensor in `slot`.
    pub fn read(&self, slot: usize, reply: Reply) -> Outcome {
        self.send(Job::Read(slot, reply))
    }

    /// Asks for a sign when everything enqueued so far is done; it brings the failure of a command without outputs, if there
    /// was one.
    pub fn fence(&self, reply: Reply) -> Outcome {
        self.send(Job::Fence(reply))
    }

    /// Has the loader thread make a batch, from now on, and returns the batch's number. The first call starts that thread.
    pub fn request(&self, batch: Batch) -> Outcome<u32> {
        let loader = self
            .loader
            .get_or_init(|| Loader::start(self.pool.clone()))
            .as_ref()
            .map_err(Failure::clone)?;
        let delivery = loader.request(batch)?;
        let mut requested = self
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let number = requested.next;
        requested.next = number.wrapping_add(1);
        requested.batches.insert(number, delivery);
        Ok(number)
    }

    /// Enqueues the two tensors of a requested batch, images and labels: the stream waits for them when it gets here, not before.
    pub fn deliver(&self, number: u32, slots: [usize; 2]) -> Outcome {
        let delivery = self
            .withdraw(number)
            .ok_or_else(|| Failure::internal(format!("batch {number} was not requested")))?;
        self.send(Job::Receive(slots.to_vec(), delivery))
    }

    /// Takes back a request; the batch is dropped when it is made.
    pub fn withdraw(&self, number: u32) -> Option<Delivery> {
        let mut requested = self
            .requested
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        requested.batches.remove(&number)
    }

    /// Times every command from here on, until [`Stream::stop_profile`].
    pub fn start_profile(&self) -> Outcome {
        self.send(Job::StartProfile)
    }

    /// Asks for the times of the commands since [`Stream::start_profile`]: three f64 each, the operation's index, its start and
    /// its duration in seconds.
    pub fn stop_profile(&self, reply: Reply) -> Outcome {
        self.send(Job::StopProfile(reply))
    }

    /// Uses `threads` threads for what is enqueued from now on.
    pub fn set_threads(&self, threads: usize) -> Outcome {
        self.send(Job::Threads(threads))
    }

    /// Ends the compute thread when it has done what is enqueued.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // A send fails only when the thread has already ended.
        let _ = self.queue.send(Job::Stop);
    }

    /// The pool of this stream's buffers.
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    fn send(&self, job: Job) -> Outcome {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(Failure::new("DISPOSED", "this device's stream has ended"));
        }
        self.queue
            .send(job)
            .map_err(|_| Failure::internal("the compute thread has ended"))
    }
}

/// Keeps panics of this library's threads off standard error: they are caught and become failures that say what happened.
fn silence_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let standard = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let ours = std::thread::current()
                .name()
                .is_some_and(|name| name.starts_with("evenkeel-"));
            if !ours {
                standard(panic);
            }
        }));
    });
}

/// The compute thread's end.
struct Compute {
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

/// The times of commands.
struct Profile {
    origin: Instant,
    /// Operation, start and duration in seconds, for each command.
    times: Vec<f64>,
}

impl Profile {
    /// Notes a command and returns its number.
    fn add(&mut self, operation: usize) -> usize {
        self.times.extend([operation as f64, 0.0, 0.0]);
        self.times.len() / 3 - 1
    }

    /// Adds to the time of a command.
    fn spend(&mut self, command: usize, start: f64, seconds: f64) {
        if let Some([_, begin, duration]) = self.times.get_mut(3 * command..3 * command + 3) {
            if *duration == 0.0 {
                *begin = start;
            }
            *duration += seconds;
        }
    }
}

impl Compute {
    /// Moves to a new thread, the first of a pool of `threads`: kernels fork and join inside the pool they run in, which spares
    /// them a hand-over to another pool's thread.
    fn run_with(self, threads: usize) -> Outcome {
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
                Job::Upload(slot, dtype, bytes) => {
                    let made = self.heap.allocate(dtype, bytes.len() / dtype.size());
                    match made {
                        Ok(mut buffer) => {
                            buffer.bytes_mut().copy_from_slice(&bytes);
                            self.heap.put(slot, buffer);
                        }
                        Err(failure) => self.heap.poison(slot, failure),
                    }
                }
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
                    self.profile = Some(Profile {
                        origin: Instant::now(),
                        times: Vec::new(),
                    });
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
