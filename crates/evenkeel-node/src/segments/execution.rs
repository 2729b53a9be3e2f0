//! Runs a group: every thread takes its segments of the batch through all commands.

use super::Segmentation;
use super::group::{Group, Kind, Step, Tensor};
use crate::buffer::{Buffer, DType, Pool};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::operations::{Entry, run_command};
use evenkeel_kernels::memory;
use evenkeel_kernels::parallel::{
    self, DisjointMut, for_each_task, for_each_task_backwards, piece,
};
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Work that is worth a fork, whatever it is.
const MUCH: usize = usize::MAX;

/// A thread's own tensors while it takes a segment through a group. They come from a pool of the thread's own: what was freed last
/// is used next, while it is in the thread's cache.
struct Worker {
    heap: Heap,
    words: Vec<f64>,
}

thread_local! {
    static WORKERS: RefCell<Vec<Worker>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` with a worker; where a thread that waits for others begins another segment, with another one.
fn with_worker<R>(body: impl FnOnce(&mut Worker) -> R) -> R {
    let kept = WORKERS.with_borrow_mut(Vec::pop);
    let mut worker = kept.unwrap_or_else(|| Worker {
        heap: Heap::new(Pool::default()),
        words: Vec::new(),
    });
    let result = body(&mut worker);
    WORKERS.with_borrow_mut(|workers| workers.push(worker));
    result
}

/// Memory of a tensor that threads share, each using the part of its segment.
struct Place {
    address: *mut u8,
    dtype: DType,
}

// SAFETY: threads use what `Execution::view` gives them: parts of different segments, or what nobody writes.
unsafe impl Sync for Place {}

/// A group while it runs.
struct Execution<'a> {
    group: &'a Group,
    table: &'a [Entry],
    cut: Segmentation,
    /// Where every tensor is; none for one that lives within a segment.
    places: Vec<Option<Place>>,
    /// Whether threads have segments enough, so that kernels do not fork.
    alone: bool,
    failed: AtomicBool,
    failure: Mutex<Option<Failure>>,
    /// Nanoseconds of every command, where they are wanted.
    times: Option<Vec<AtomicU64>>,
}

/// Runs `group` and puts what it makes into `heap`. Returns the seconds of every command where `timed`. Where a command fails, nothing
/// that the group should have made can be used: it carries the failure.
pub fn run(group: &Group, table: &[Entry], heap: &mut Heap, timed: bool) -> Outcome<Vec<f64>> {
    let cut = group.segmentation();
    let mut made = group.tensors.iter().map(|_| None).collect::<Vec<_>>();
    let mut sums = Vec::new();
    let result = allocate(group, cut, heap, &mut made, &mut sums).and_then(|places| {
        let execution = Execution {
            group,
            table,
            cut,
            places,
            alone: rayon::current_num_threads() <= cut.shares,
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            times: timed.then(|| group.steps.iter().map(|_| AtomicU64::new(0)).collect()),
        };
        let each = if group.backwards {
            for_each_task_backwards
        } else {
            for_each_task
        };
        each(cut.shares, MUCH, |share| execution.share(share));
        let failure = execution.failure.into_inner();
        match failure.unwrap_or_else(PoisonError::into_inner) {
            Some(failure) => Err(failure),
            None => Ok(execution.times.unwrap_or_default()),
        }
    });
    let result = result.and_then(|times| {
        for (tensor, partial) in &sums {
            if let Some(Some(total)) = made.get_mut(*tensor) {
                add_up(partial.f32()?, total.f32_mut()?);
            }
        }
        let threads = rayon::current_num_threads().min(cut.shares) as f64;
        let seconds = |nanoseconds: AtomicU64| nanoseconds.into_inner() as f64 * 1e-9 / threads;
        Ok(times.into_iter().map(seconds).collect())
    });
    settle(group, heap, made, result.as_ref().err());
    result
}

/// Finds or makes the memory of every tensor that lives longer than a segment. `sums` receives the shares' parts of sums.
fn allocate(
    group: &Group,
    cut: Segmentation,
    heap: &mut Heap,
    made: &mut [Option<Buffer>],
    sums: &mut Vec<(usize, Buffer)>,
) -> Outcome<Vec<Option<Place>>> {
    let mut places = Vec::with_capacity(group.tensors.len());
    for (index, tensor) in group.tensors.iter().enumerate() {
        let Tensor { dtype, length, .. } = *tensor;
        let place = |address| Some(Place { address, dtype });
        places.push(match tensor.kind {
            Kind::Given | Kind::Whole => place(heap.address(tensor.slot)?),
            Kind::Made | Kind::Sum | Kind::Rows if tensor.freed => None,
            Kind::Made | Kind::Rows => place(
                made[index]
                    .insert(heap.allocate(dtype, length)?)
                    .address_mut(),
            ),
            Kind::Sum => {
                made[index] = Some(heap.allocate(dtype, length)?);
                let mut shares = heap.allocate(dtype, cut.shares * length)?;
                let address = shares.address_mut();
                sums.push((index, shares));
                place(address)
            }
        });
    }
    Ok(places)
}

/// Adds up the parts of the shares, in order.
fn add_up(shares: &[f32], total: &mut [f32]) {
    const PIECE: usize = 4096;
    let length = total.len();
    let parts = DisjointMut::new(total);
    for_each_task(length.div_ceil(PIECE), shares.len(), |task| {
        let range = piece(task, PIECE, length);
        // SAFETY: pieces do not overlap.
        let total = unsafe { parts.part(range.clone()) };
        total.copy_from_slice(&shares[range.clone()]);
        for share in shares.chunks_exact(length).skip(1) {
            add(total, &share[range.clone()]);
        }
    });
}

fn add(total: &mut [f32], part: &[f32]) {
    for (total, part) in total.iter_mut().zip(part) {
        *total += part;
    }
}

/// Puts what was made into its slots and frees what is freed, or poisons what a failure has left undone.
fn settle(group: &Group, heap: &mut Heap, made: Vec<Option<Buffer>>, failure: Option<&Failure>) {
    for tensor in group.tensors.iter().filter(|tensor| tensor.freed) {
        heap.release(tensor.slot);
    }
    for ((index, tensor), buffer) in group.tensors.iter().enumerate().zip(made) {
        if !group.holds(tensor.slot, index) {
            continue;
        }
        let new = !matches!(tensor.kind, Kind::Given | Kind::Whole);
        match (failure, buffer) {
            (Some(failure), _) if new || tensor.updated => {
                heap.poison(tensor.slot, failure.clone());
            }
            (None, Some(buffer)) => heap.put(tensor.slot, buffer),
            _ => {}
        }
    }
}

impl Execution<'_> {
    fn share(&self, share: usize) {
        let segments = self.cut.share(share);
        let first = segments.start;
        for segment in segments {
            let outcome =
                with_worker(|worker| self.segment(worker, share, segment, segment == first));
            if let Err(failure) = outcome {
                self.failed.store(true, Ordering::Relaxed);
                let mut kept = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                kept.get_or_insert(failure);
            }
        }
    }

    /// Takes the images of `segment` through all commands. Sums are those of `share`, which begins with its `first` segment.
    fn segment(&self, worker: &mut Worker, share: usize, segment: usize, first: bool) -> Outcome {
        let Worker { heap, words } = worker;
        for (index, tensor) in self.group.tensors.iter().enumerate() {
            if tensor.kind != Kind::Sum || first {
                match self.view(index, share, segment) {
                    Some(view) => heap.put(index, view),
                    None => heap.release(index),
                }
            }
        }
        let images = self.cut.images(segment).len();
        let outcome = self
            .group
            .steps
            .iter()
            .enumerate()
            .try_for_each(|(index, step)| {
                if self.failed.load(Ordering::Relaxed) {
                    return Ok(());
                }
                let start = self.times.as_ref().map(|_| Instant::now());
                self.step(heap, words, step, images)?;
                for &output in &step.outputs {
                    if !first && self.group.tensors[output].kind == Kind::Sum {
                        self.add_to_share(heap, output, share)?;
                    }
                }
                for &tensor in &step.last_of {
                    heap.release(tensor);
                }
                if let (Some(start), Some(times)) = (start, &self.times) {
                    times[index].fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
                }
                Ok(())
            });
        for index in 0..self.group.tensors.len() {
            heap.release(index);
        }
        outcome
    }

    fn step(&self, heap: &mut Heap, words: &mut Vec<f64>, step: &Step, images: usize) -> Outcome {
        words.clear();
        words.extend(&self.group.words[step.words.clone()]);
        for &index in &step.sizes {
            words[index - step.words.start] = images as f64;
        }
        let entry = &self.table[step.operation];
        parallel::segment(self.alone, || {
            memory::part_of_large(self.leaves(step), || match &step.prepared {
                Some(prepared) => prepared.share(|| run_command(heap, entry, words)),
                None => run_command(heap, entry, words),
            })
        })
    }

    /// Whether the large tensors that `step` makes do not fit into the caches, and no command of the group reads them.
    fn leaves(&self, step: &Step) -> bool {
        let outputs = step
            .outputs
            .iter()
            .map(|&output| &self.group.tensors[output]);
        let mut large = outputs
            .filter(|output| output.kind == Kind::Made && output.length >= memory::LARGE)
            .peekable();
        large.peek().is_some() && large.all(|output| !output.freed && !output.read)
    }

    /// What a segment sees of a tensor; nothing of one that lives within the segment.
    fn view(&self, tensor: usize, share: usize, segment: usize) -> Option<Buffer> {
        let place = self.places[tensor].as_ref()?;
        let Tensor { kind, length, .. } = self.group.tensors[tensor];
        let range = match kind {
            Kind::Whole => 0..length,
            Kind::Given | Kind::Made => {
                let image = length / self.group.batch;
                let images = self.cut.images(segment);
                images.start * image..images.end * image
            }
            Kind::Rows => {
                let row = length / self.cut.segments;
                segment * row..(segment + 1) * row
            }
            Kind::Sum => share * length..(share + 1) * length,
        };
        let start = range.start * place.dtype.size();
        // SAFETY: the range lies within the place's memory, which `run` keeps until all segments are done. Segments and shares have
        // different parts of what is written, and one thread at a time has a segment and its share; of what is whole, nothing is
        // written (`Group::add` refuses it).
        Some(unsafe { Buffer::view(place.address.add(start), place.dtype, range.len()) })
    }

    /// Adds what a later segment of a share made to the share's sum.
    fn add_to_share(&self, heap: &Heap, tensor: usize, share: usize) -> Outcome {
        if let Some(mut sum) = self.view(tensor, share, 0) {
            add(sum.f32_mut()?, heap.f32(tensor)?);
        }
        Ok(())
    }
}
