//! What the JavaScript thread sends the compute thread, and how much of it may wait.

use crate::buffer::DType;
use crate::failure::Outcome;
use crate::loader::Delivery;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Commands that may wait before `submit` blocks: a loop that never awaits cannot run away from the compute thread.
pub(super) const MAX_PENDING: usize = 1 << 14;

/// Where the bytes of a tensor go when the stream has reached the request.
pub type Reply = Box<dyn FnOnce(Outcome<Vec<u8>>) + Send>;

/// One entry of the queue.
pub(super) enum Job {
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

/// How many commands wait for the compute thread.
#[derive(Default)]
pub(super) struct Pending {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Default)]
struct Waiting {
    commands: usize,
    /// There is no compute thread any more to wait for.
    ended: bool,
}

impl Pending {
    /// Adds commands; blocks while too many wait.
    pub fn add(&self, count: usize) {
        let mut waiting = self.lock();
        while waiting.commands > MAX_PENDING && !waiting.ended {
            waiting = self
                .changed
                .wait(waiting)
                .unwrap_or_else(PoisonError::into_inner);
        }
        waiting.commands += count;
    }

    /// Takes off commands that are done.
    pub fn remove(&self, count: usize) {
        let mut waiting = self.lock();
        waiting.commands -= count;
        if waiting.commands <= MAX_PENDING {
            self.changed.notify_all();
        }
    }

    /// Nothing more will be taken off: [`Self::add`] no longer blocks.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
