//! Commands that wait to be run together on the segments of a batch.

use super::Segmentation;
use super::cutting::{Cut, Cutter, Cutting, Input, Output};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use evenkeel_kernels::conv::PreparedWeights;
use std::collections::HashMap;
use std::sync::Arc;

/// Commands of a group, at most: a whole step of a deep network.
const MAX_STEPS: usize = 1024;

/// Bytes of prepared weights of a group, at most: every segment reads all of them, so they should stay in a core's second-level cache.
const MAX_PREPARED: usize = 768 * 1024;

/// Where a tensor of a group comes from, and what a segment sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Of the heap; a segment sees its images.
    Given,
    /// Of the heap; a segment sees all of it.
    Whole,
    /// Made by the group, by images.
    Made,
    /// Made by the group as a sum over segments.
    Sum,
    /// Made by the group, a row for each segment.
    Rows,
}

/// A tensor that commands of a group use. Slots are reused within a group: a tensor is what was in a slot between two uses.
#[derive(Clone, Copy, Debug)]
pub struct Tensor {
    pub kind: Kind,
    /// The slot in the heap.
    pub slot: usize,
    pub dtype: DType,
    /// Elements in all.
    pub length: usize,
    /// Whether the tensor is freed before the group ends.
    pub freed: bool,
    /// Whether a command changes it in place.
    pub updated: bool,
    /// Whether a command of the group reads it.
    pub read: bool,
}

/// One command.
pub struct Step {
    pub operation: usize,
    /// Its place among the commands that a profile times.
    pub timed: usize,
    /// Words of [`Group::words`]: outputs, then arguments, slots being numbers of tensors.
    pub words: std::ops::Range<usize>,
    /// Those of [`Group::words`] that are the number of images.
    pub sizes: Vec<usize>,
    /// Tensors that it makes.
    pub outputs: Vec<usize>,
    /// Tensors that nobody needs after it.
    pub last_of: Vec<usize>,
    /// What its kernel prepares for all segments.
    pub prepared: Option<Arc<PreparedWeights>>,
}

/// Commands on one batch that are run together.
#[derive(Default)]
pub struct Group {
    pub batch: usize,
    pub tensors: Vec<Tensor>,
    pub steps: Vec<Step>,
    pub words: Vec<f64>,
    /// Whether the last images go first: every second group starts with what the one before it left in the caches.
    pub backwards: bool,
    /// Bytes of what kernels prepare for all segments.
    prepared: usize,
    /// The tensor that is in a slot by now.
    current: HashMap<usize, usize>,
    cutting: Cutting,
}

impl Group {
    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How the batch is cut.
    pub fn segmentation(&self) -> Segmentation {
        Segmentation::of(self.batch)
    }

    /// The tensor that will be in `slot` when the group has run, if the group has to do with it.
    pub fn holds(&self, slot: usize, tensor: usize) -> bool {
        self.current.get(&slot) == Some(&tensor)
    }

    /// Forgets all commands.
    pub fn clear(&mut self) {
        self.tensors.clear();
        self.steps.clear();
        self.words.clear();
        self.current.clear();
        self.prepared = 0;
        self.backwards = !self.backwards;
    }

    /// Frees the tensor in `slot` after the last command that uses it; false where no command of the group does.
    pub fn free(&mut self, slot: usize) -> bool {
        let Some(tensor) = self.current.remove(&slot) else {
            return false;
        };
        self.tensors[tensor].freed = true;
        if let Some(step) = self.steps.last_mut() {
            step.last_of.push(tensor);
        }
        true
    }

    /// Adds a command; false where it cannot be run together with those that wait.
    pub fn add(
        &mut self,
        heap: &Heap,
        operation: usize,
        cut: Cut,
        command: &[f64],
        timed: usize,
    ) -> Outcome<bool> {
        let Cut::Images(cut) = cut else {
            return Ok(false);
        };
        let mut cutting = std::mem::take(&mut self.cutting);
        let mut arguments = Arguments::new(command)?;
        let added = Cutter::describe(cut, &mut arguments, &mut cutting).and_then(|cuttable| {
            Ok(cuttable && self.take(heap, operation, &cutting, command, timed)?)
        });
        self.cutting = cutting;
        added
    }

    /// Adds a command that `cutting` describes; false where it cannot be run together with those that wait.
    fn take(
        &mut self,
        heap: &Heap,
        operation: usize,
        cutting: &Cutting,
        command: &[f64],
        timed: usize,
    ) -> Outcome<bool> {
        let (outputs, words) = Arguments::new(command)?.split();
        let empty = self.steps.is_empty();
        let batch = cutting.batch.or((!empty).then_some(self.batch));
        let Some(batch) = batch.filter(|&batch| empty || batch == self.batch) else {
            return Ok(false);
        };
        // Look first, so that nothing has changed where the command cannot be added.
        if outputs.len() != cutting.outputs.len()
            || self.is_full(cutting)
            || !self.all_fit(heap, cutting, words, batch)?
        {
            return Ok(false);
        }
        self.batch = batch;
        self.prepared += cutting.prepares;
        let start = self.words.len();
        self.words.push(outputs.len() as f64);
        self.words.extend(outputs);
        let first = self.words.len();
        self.words.extend(words);
        let mut like = None;
        for &(index, input) in &cutting.inputs {
            let tensor = self.tensor(heap, words[index] as usize, input)?;
            self.words[first + index] = tensor as f64;
            like.get_or_insert(self.tensors[tensor]);
        }
        let mut made = Vec::with_capacity(outputs.len());
        for (index, (&slot, &output)) in outputs.iter().zip(&cutting.outputs).enumerate() {
            self.words[start + 1 + index] = self.tensors.len() as f64;
            made.push(self.tensors.len());
            self.make(slot as usize, output, like);
        }
        self.steps.push(Step {
            operation,
            timed,
            words: start..self.words.len(),
            sizes: cutting.sizes.iter().map(|index| first + index).collect(),
            outputs: made,
            last_of: Vec::new(),
            prepared: (cutting.prepares > 0).then(Arc::default),
        });
        Ok(true)
    }

    /// Whether the group has commands, or prepared weights, enough.
    fn is_full(&self, cutting: &Cutting) -> bool {
        let another = self.prepared > 0 && cutting.prepares > 0;
        self.steps.len() >= MAX_STEPS || another && self.prepared + cutting.prepares > MAX_PREPARED
    }

    /// Whether a segment of `batch` images can have all tensors that a command reads.
    fn all_fit(
        &self,
        heap: &Heap,
        cutting: &Cutting,
        words: &[f64],
        batch: usize,
    ) -> Outcome<bool> {
        let mut inputs = cutting.inputs.iter();
        let fit =
            inputs.all(|&(index, input)| self.fits(heap, words[index] as usize, input, batch));
        Ok(fit && (!cutting.one_length || self.of_one_length(heap, &cutting.inputs, words)?))
    }

    /// Adds the tensor that a command makes in `slot`; `like` is the first that it reads.
    fn make(&mut self, slot: usize, output: Output, like: Option<Tensor>) {
        let (kind, dtype, length) = match output {
            Output::Images(dtype, length) => (Kind::Made, dtype, length),
            Output::LikeFirst => (
                Kind::Made,
                DType::Float32,
                like.map_or(0, |like| like.length),
            ),
            Output::TypedAsFirst(length) => (
                Kind::Made,
                like.map_or(DType::Float32, |like| like.dtype),
                length,
            ),
            Output::Sum(length) => (Kind::Sum, DType::Float32, length),
            Output::EachSegment(length) => {
                let segments = self.segmentation().segments;
                (Kind::Rows, DType::Float64, segments * length)
            }
        };
        self.current.insert(slot, self.tensors.len());
        self.tensors.push(Tensor {
            kind,
            slot,
            dtype,
            length,
            freed: false,
            updated: false,
            read: false,
        });
    }

    /// Whether all inputs of a command have one length.
    fn of_one_length(
        &self,
        heap: &Heap,
        inputs: &[(usize, Input)],
        words: &[f64],
    ) -> Outcome<bool> {
        let mut first = None;
        for &(index, _) in inputs {
            let length = self.length(heap, words[index] as usize)?;
            if *first.get_or_insert(length) != length {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn length(&self, heap: &Heap, slot: usize) -> Outcome<usize> {
        match self.current.get(&slot) {
            Some(&tensor) => Ok(self.tensors[tensor].length),
            None => Ok(heap.get(slot)?.len()),
        }
    }

    /// Whether a segment of `batch` images can have the tensor in `slot` as `input`.
    fn fits(&self, heap: &Heap, slot: usize, input: Input, batch: usize) -> bool {
        let Some(&tensor) = self.current.get(&slot) else {
            return heap
                .get(slot)
                .is_ok_and(|buffer| input == Input::Whole || buffer.len().is_multiple_of(batch));
        };
        let Tensor { kind, length, .. } = self.tensors[tensor];
        match input {
            Input::Whole => kind == Kind::Whole,
            Input::Images | Input::Updated => {
                matches!(kind, Kind::Given | Kind::Made) && length.is_multiple_of(batch)
            }
        }
    }

    /// The tensor in `slot`, which fits.
    fn tensor(&mut self, heap: &Heap, slot: usize, input: Input) -> Outcome<usize> {
        let index = match self.current.get(&slot) {
            Some(&tensor) => tensor,
            None => {
                let buffer = heap.get(slot)?;
                self.current.insert(slot, self.tensors.len());
                self.tensors.push(Tensor {
                    kind: if input == Input::Whole {
                        Kind::Whole
                    } else {
                        Kind::Given
                    },
                    slot,
                    dtype: buffer.dtype(),
                    length: buffer.len(),
                    freed: false,
                    updated: false,
                    read: true,
                });
                self.tensors.len() - 1
            }
        };
        let tensor = &mut self.tensors[index];
        tensor.read = true;
        tensor.updated |= input == Input::Updated;
        Ok(index)
    }
}
