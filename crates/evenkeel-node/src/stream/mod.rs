//! A device as a stream: one compute thread, a first-in-first-out queue, and back-pressure.
//!
//! [`Stream`] is the JavaScript thread's end, [`compute`] the other; [`queue`] is what goes from one to the other.

mod compute;
mod profile;
mod queue;

pub use queue::Reply;

use crate::buffer::{DType, Pool};
use crate::failure::{Failure, Outcome};
use crate::loader::{Batch, Delivery, Loader};
use compute::Compute;
use queue::{Job, Pending};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, Once, OnceLock, PoisonError};

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
        Compute::new(jobs, pending.clone(), pool.clone()).run_with(threads)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_stream_that_has_ended_refuses_commands_without_end() {
        let stream = Stream::start(1).unwrap();
        stream.stop();
        let (done, all) = channel();
        std::thread::spawn(move || {
            let submissions = (0..3 * queue::MAX_PENDING).map(|_| stream.submit(&[], 1));
            let _ = done.send(submissions.filter(|outcome| outcome.is_err()).count());
        });
        let refused = all.recv_timeout(Duration::from_secs(20));
        assert_eq!(refused, Ok(3 * queue::MAX_PENDING));
    }

    #[test]
    fn bytes_that_are_no_whole_elements_poison_their_slot_only() {
        let stream = Stream::start(1).unwrap();
        stream.upload(0, DType::Float32, &[1, 2, 3, 4, 5]).unwrap();
        stream.upload(1, DType::Uint8, &[6, 7]).unwrap();
        let read = |slot| {
            let (sender, receiver) = channel();
            let reply = Box::new(move |outcome| sender.send(outcome).unwrap());
            stream.read(slot, reply).unwrap();
            receiver.recv().unwrap()
        };
        assert!(read(0).is_err());
        assert_eq!(read(1).unwrap(), [6, 7]);
        stream.stop();
    }
}
