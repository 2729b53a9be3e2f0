//! Groups of made-up operations: what they make, what they leave in the heap, what a failure does.

use super::cutting::{Cut, Cutter};
use super::group::Group;
use super::{Segmentation, execution};
use crate::arguments::Arguments;
use crate::buffer::{DType, Pool};
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::operations::Entry;

const BATCH: usize = 40;
/// Elements of an image: just enough to be worth a cut.
const IMAGE: usize = super::SMALLEST_TENSOR / BATCH + 1;
const ALL: usize = BATCH * IMAGE;

/// `[y] double(x, batch)`.
fn double(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let x = heap.f32(arguments.slot()?)?;
    assert_eq!(x.len(), arguments.usize()? * IMAGE);
    let mut y = heap.output_f32(arguments.output(0)?, x.len())?;
    for (y, x) in y.f32_mut()?.iter_mut().zip(x) {
        *y = 2.0 * x;
    }
    heap.put(arguments.output(0)?, y);
    Ok(())
}

fn cut_double(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.batch()?;
    let batch = cutter.arguments().usize()?;
    cutter.makes(batch * IMAGE);
    Ok(())
}

/// `[sum, rows] sum(x, weight, batch)`: the sum of all images, times a weight, and the images of each segment.
fn sum(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (x, weight) = (arguments.slot()?, arguments.slot()?);
    let batch = arguments.usize()?;
    let (x, weight) = (heap.f32(x)?, heap.f32(weight)?);
    let mut total = heap.output_f32(arguments.output(0)?, IMAGE)?;
    total.f32_mut()?.fill(0.0);
    for image in x.chunks_exact(IMAGE) {
        for (total, x) in total.f32_mut()?.iter_mut().zip(image) {
            *total += x * weight[0];
        }
    }
    let mut rows = heap.output(arguments.output(1)?, DType::Float64, 1)?;
    rows.f64_mut()?[0] = batch as f64;
    heap.put(arguments.output(0)?, total);
    heap.put(arguments.output(1)?, rows);
    Ok(())
}

fn cut_sum(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.whole()?;
    cutter.batch()?;
    let batch = cutter.arguments().usize()?;
    cutter.reads(batch * IMAGE);
    cutter.sums(IMAGE);
    cutter.each_makes(1);
    Ok(())
}

/// `increase(x, batch)`: adds 1 in place; fails where the last image is all minus one, panics where it is minus two.
fn increase(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (x, _) = (arguments.slot()?, arguments.usize()?);
    heap.update([x], |_, [x]| {
        let x = x.f32_mut()?;
        let last = x[x.len() - IMAGE];
        if last == -1.0 {
            return Err(Failure::new("INVALID_ARGUMENT", "minus one"));
        }
        assert!(last != -2.0, "minus two");
        x.iter_mut().for_each(|x| *x += 1.0);
        Ok(())
    })
}

fn cut_increase(cutter: &mut Cutter) -> Outcome {
    cutter.updated()?;
    cutter.batch()?;
    let batch = cutter.arguments().usize()?;
    cutter.reads(batch * IMAGE);
    Ok(())
}

const DOUBLE: usize = 0;
const SUM: usize = 1;
const INCREASE: usize = 2;

fn table() -> Vec<Entry> {
    vec![
        Entry::new("double", double, Some(Cut::Images(cut_double))),
        Entry::new("sum", sum, Some(Cut::Images(cut_sum))),
        Entry::new("increase", increase, Some(Cut::Images(cut_increase))),
    ]
}

/// A heap with images in slot 0 (image i is all i) and a weight of 3 in slot 1.
fn heap() -> Heap {
    let mut heap = Heap::new(Pool::default());
    let mut x = heap.allocate_f32(ALL).unwrap();
    for (number, image) in x.f32_mut().unwrap().chunks_exact_mut(IMAGE).enumerate() {
        image.fill(number as f32);
    }
    heap.put(0, x);
    let mut weight = heap.allocate_f32(1).unwrap();
    weight.f32_mut().unwrap()[0] = 3.0;
    heap.put(1, weight);
    heap
}

struct Run {
    heap: Heap,
    group: Group,
    table: Vec<Entry>,
}

impl Run {
    fn new() -> Self {
        Run {
            heap: heap(),
            group: Group::default(),
            table: table(),
        }
    }

    /// Adds a command; whether it fits.
    fn add(&mut self, operation: usize, outputs: &[usize], arguments: &[usize]) -> bool {
        let words = [&[outputs.len()], outputs, arguments].concat();
        let words: Vec<f64> = words.into_iter().map(|word| word as f64).collect();
        let cut = self.table[operation].cut.unwrap();
        self.group
            .add(&self.heap, operation, cut, &words, 0)
            .unwrap()
    }

    fn run(&mut self, threads: usize) -> Outcome<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("a thread pool");
        pool.install(|| execution::run(&self.group, &self.table, &mut self.heap, true))
    }

    fn first_of_images(&self, slot: usize) -> Vec<f32> {
        let tensor = self.heap.f32(slot).unwrap();
        assert_eq!(tensor.len(), ALL);
        assert!(
            tensor
                .chunks_exact(IMAGE)
                .all(|image| image.iter().all(|x| *x == image[0]))
        );
        tensor.iter().step_by(IMAGE).copied().collect()
    }
}

#[test]
fn commands_run_one_after_the_other_on_every_image() {
    for threads in [1, 2, 3, 20] {
        let mut run = Run::new();
        assert!(run.add(DOUBLE, &[2], &[0, BATCH]));
        assert!(run.add(DOUBLE, &[3], &[2, BATCH]));
        assert!(run.group.free(2));
        assert!(run.add(INCREASE, &[], &[3, BATCH]));
        assert!(run.add(SUM, &[4, 5], &[3, 1, BATCH]));
        // The slot of the tensor that is gone, taken again.
        assert!(run.add(DOUBLE, &[2], &[3, BATCH]));
        let times = run.run(threads).unwrap();
        assert_eq!(times.len(), 5);
        let quadrupled =
            |factor: f32| (0..BATCH).map(move |image| factor * (4.0 * image as f32 + 1.0));
        assert!(run.first_of_images(3).into_iter().eq(quadrupled(1.0)));
        assert!(run.first_of_images(2).into_iter().eq(quadrupled(2.0)));
        let total: f32 = quadrupled(3.0).sum();
        assert!(run.heap.f32(4).unwrap().iter().all(|&x| x == total));
        let cut = Segmentation::of(BATCH);
        let images: Vec<f64> = (0..cut.segments)
            .map(|s| cut.images(s).len() as f64)
            .collect();
        assert_eq!(run.heap.get(5).unwrap().f64().unwrap(), images);
        assert_eq!(run.first_of_images(0)[7], 7.0);
    }
}

#[test]
fn what_is_freed_within_a_group_is_gone_after_it() {
    let mut run = Run::new();
    assert!(run.add(DOUBLE, &[2], &[0, BATCH]));
    assert!(run.group.free(0));
    assert!(run.add(SUM, &[3, 4], &[2, 1, BATCH]));
    assert!(run.group.free(2) && run.group.free(3));
    run.run(2).unwrap();
    for slot in [0, 2, 3] {
        assert!(run.heap.get(slot).is_err(), "slot {slot}");
    }
    assert!(run.heap.get(4).is_ok());
}

#[test]
fn what_needs_the_whole_batch_does_not_fit() {
    let mut run = Run::new();
    assert!(run.add(SUM, &[2, 3], &[0, 1, BATCH]));
    // A sum is not there before all segments are.
    assert!(!run.add(DOUBLE, &[4], &[2, BATCH]));
    assert!(!run.add(SUM, &[4, 5], &[0, 2, BATCH]));
    // Another batch, another tensor for what is whole, an empty slot, a tensor too small to cut.
    assert!(!run.add(DOUBLE, &[4], &[0, BATCH / 2]));
    assert!(!run.add(SUM, &[4, 5], &[0, 0, BATCH]));
    assert!(!run.add(DOUBLE, &[4], &[9, BATCH]));
    assert!(!run.add(DOUBLE, &[4], &[1, 8]));
    assert_eq!(run.group.steps.len(), 1);
    assert!(!run.group.free(9));
}

#[test]
fn a_failure_of_one_segment_is_the_failure_of_what_the_group_makes() {
    for (value, text) in [(-1.0, "increase failed: minus one"), (-2.0, "minus two")] {
        for threads in [1, 3] {
            let mut run = Run::new();
            run.heap
                .update([0], |_, [x]| {
                    x.f32_mut()?[ALL - IMAGE..].fill(value / 2.0);
                    Ok(())
                })
                .unwrap();
            assert!(run.add(DOUBLE, &[2], &[0, BATCH]));
            assert!(run.add(INCREASE, &[], &[2, BATCH]));
            assert!(run.add(SUM, &[3, 4], &[2, 1, BATCH]));
            assert!(run.group.free(0));
            let failure = run.run(threads).unwrap_err();
            assert!(failure.message.contains(text), "{}", failure.message);
            for slot in [2, 3, 4] {
                let failure = run.heap.get(slot).err().unwrap();
                assert!(failure.message.contains(text), "{}", failure.message);
            }
            // What the group only read is as it was.
            assert!(run.heap.get(1).is_ok() && run.heap.get(0).is_err());
        }
    }
}

#[test]
fn every_image_is_in_one_segment_of_one_share() {
    for batch in 1..1000 {
        let cut = Segmentation::of(batch);
        let segments: Vec<usize> = (0..cut.shares).flat_map(|s| cut.share(s)).collect();
        assert!(segments.iter().copied().eq(0..cut.segments), "{batch}");
        let images = segments.iter().flat_map(|&segment| cut.images(segment));
        assert!(images.eq(0..batch), "{batch}");
        assert!(cut.shares <= super::SHARES);
        assert!(
            (0..cut.segments)
                .all(|segment| (1..=super::IMAGES).contains(&cut.images(segment).len()))
        );
    }
}
