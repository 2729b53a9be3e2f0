//! What an operation says of itself so that the stream can run it on some images of a batch.

use crate::arguments::{Arguments, Sizes};
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;

/// How a command is run on a batch in segments.
#[derive(Clone, Copy)]
pub enum Cut {
    /// It treats every image on its own, but for sums.
    Images(fn(&mut Cutter) -> Outcome),
    /// It is written as several commands.
    Stages(fn(&mut Stages) -> Outcome),
}

/// What a command does with a tensor it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A segment needs the part of its own images: the first axis is the batch.
    Images,
    /// As [`Input::Images`], and changes it in place.
    Updated,
    /// A segment needs all of it: weights.
    Whole,
}

/// What a command makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// A tensor of so many elements in all, a segment's part by itself.
    Images(DType, usize),
    /// A tensor of as many elements as the first that is read.
    LikeFirst,
    /// A tensor of so many elements in all with the element type of the first that is read.
    TypedAsFirst(usize),
    /// A float32 tensor of so many elements that is the sum of the segments'.
    Sum(usize),
    /// So many float64 numbers for every segment, one segment's after another's.
    EachSegment(usize),
}

/// One command's way to be cut. Indices are of the words after the operation's outputs.
#[derive(Default)]
pub struct Cutting {
    /// Images; none where the command goes through elements one by one, in any number.
    pub batch: Option<usize>,
    /// Elements of the largest tensor that is cut.
    pub elements: usize,
    /// Words that are the number of images.
    pub sizes: Vec<usize>,
    /// Words that are slots.
    pub inputs: Vec<(usize, Input)>,
    /// In the order of the outputs.
    pub outputs: Vec<Output>,
    /// Whether all tensors must have one length.
    pub one_length: bool,
    /// Bytes of weights that the kernel prepares for all segments.
    pub prepares: usize,
}

/// Reads a command as its operation does, and notes what is cut.
pub struct Cutter<'a, 'b> {
    arguments: &'a mut Arguments<'b>,
    cutting: &'a mut Cutting,
    cuttable: bool,
}

impl<'a, 'b> Cutter<'a, 'b> {
    /// Notes in `cutting` how the command `arguments` is cut; false where it is not.
    pub fn describe(
        cut: fn(&mut Cutter) -> Outcome,
        arguments: &mut Arguments,
        cutting: &mut Cutting,
    ) -> Outcome<bool> {
        cutting.batch = None;
        cutting.elements = 0;
        cutting.prepares = 0;
        cutting.one_length = false;
        cutting.sizes.clear();
        cutting.inputs.clear();
        cutting.outputs.clear();
        let mut cutter = Cutter {
            arguments,
            cutting,
            cuttable: true,
        };
        cut(&mut cutter)?;
        let cuttable = cutter.cuttable;
        let worthwhile = cutting
            .batch
            .is_none_or(|batch| super::worthwhile(batch, cutting.elements));
        Ok(cuttable && worthwhile)
    }

    /// The arguments that come next, for a decoder that the operation shares.
    pub fn arguments(&mut self) -> &mut Arguments<'b> {
        self.arguments
    }

    fn input(&mut self, input: Input) -> Outcome {
        let index = self.arguments.position();
        if self.arguments.optional_slot()?.is_some() {
            self.cutting.inputs.push((index, input));
        }
        Ok(())
    }

    /// The next argument is a tensor, or none, of which a segment needs its own images.
    pub fn images(&mut self) -> Outcome {
        self.input(Input::Images)
    }

    /// The next argument is such a tensor, and changes in place.
    pub fn updated(&mut self) -> Outcome {
        self.input(Input::Updated)
    }

    /// The next argument is a tensor, or none, that every segment needs whole.
    pub fn whole(&mut self) -> Outcome {
        self.input(Input::Whole)
    }

    /// The next `count` arguments are such tensors.
    pub fn wholes(&mut self, count: usize) -> Outcome {
        (0..count).try_for_each(|_| self.whole())
    }

    /// The next argument, which stays to be read, is the number of images.
    pub fn batch(&mut self) -> Outcome {
        let batch = self.arguments.peek()?;
        self.set_batch(self.arguments.position(), batch);
        Ok(())
    }

    fn set_batch(&mut self, index: usize, batch: usize) {
        self.cuttable &= self.cutting.batch.is_none_or(|other| other == batch);
        self.cutting.batch = Some(batch);
        self.cutting.sizes.push(index);
    }

    /// The next argument is a shape whose first axis is the batch.
    pub fn batch_shape(&mut self) -> Outcome<Sizes> {
        let first = self.arguments.position() + 1;
        let shape = self.arguments.sizes()?;
        match shape.first() {
            Some(&batch) => self.set_batch(first, batch),
            None => self.cuttable = false,
        }
        Ok(shape)
    }

    /// Passes over the next `count` arguments, tensors of which [`Self::operand`] will tell.
    pub fn skip(&mut self, count: usize) -> Outcome {
        (0..count).try_for_each(|_| self.arguments.slot().map(drop))
    }

    /// The next argument is a shape.
    pub fn shape(&mut self) -> Outcome<(usize, Sizes)> {
        Ok((self.arguments.position(), self.arguments.sizes()?))
    }

    /// The tensor at argument `index`, of a shape that was read and is broadcast to the shape `whole` of a batch: by images where it has
    /// the batch as its first axis, else the same for every image.
    pub fn operand(&mut self, index: usize, shape: &(usize, Sizes), whole: &[usize]) {
        let (position, shape) = shape;
        let input = if shape.len() < whole.len() || shape.first() == Some(&1) {
            Input::Whole
        } else {
            self.cutting.sizes.push(position + 1);
            self.cuttable &= shape.first() == whole.first();
            Input::Images
        };
        self.cutting.inputs.push((index, input));
    }

    /// Takes back that the command can be cut, unless `condition`.
    pub fn only_if(&mut self, condition: bool) {
        self.cuttable &= condition;
    }

    /// The next output is a float32 tensor of `length` elements, by images.
    pub fn makes(&mut self, length: usize) {
        self.makes_of(DType::Float32, length);
    }

    /// The next output is a tensor of `length` elements, by images.
    pub fn makes_of(&mut self, dtype: DType, length: usize) {
        self.cutting.elements = self.cutting.elements.max(length);
        self.cutting.outputs.push(Output::Images(dtype, length));
    }

    /// The next `inputs` arguments are tensors of one length, and so is the output, whose elements depend on elements at the same place only:
    /// any cut will do.
    pub fn element_by_element(&mut self, inputs: usize) -> Outcome {
        (0..inputs).try_for_each(|_| self.images())?;
        self.of_one_length();
        self.cutting.outputs.push(Output::LikeFirst);
        Ok(())
    }

    /// The next output is a tensor of `length` elements, by images, with the element type of the first tensor.
    pub fn makes_typed_as_first(&mut self, length: usize) {
        self.reads(length);
        self.cutting.outputs.push(Output::TypedAsFirst(length));
    }

    /// Only tensors of one length are cut.
    pub fn of_one_length(&mut self) {
        self.cutting.one_length = true;
    }

    /// The next output is the sum of what the segments make.
    pub fn sums(&mut self, length: usize) {
        self.cutting.outputs.push(Output::Sum(length));
    }

    /// The next output is what every segment makes, one after another.
    pub fn each_makes(&mut self, length: usize) {
        self.cutting.outputs.push(Output::EachSegment(length));
    }

    /// The command reads tensors of `length` elements by images.
    pub fn reads(&mut self, length: usize) {
        self.cutting.elements = self.cutting.elements.max(length);
    }

    /// The kernel prepares weights, of about `bytes`.
    pub fn prepares(&mut self, bytes: usize) {
        self.cutting.prepares = bytes;
    }
}

/// Writes the commands that a command consists of.
pub struct Stages<'a, 'b> {
    /// The command.
    pub arguments: Arguments<'b>,
    heap: &'a mut Heap,
    commands: Vec<(&'static str, Vec<f64>)>,
}

impl<'a, 'b> Stages<'a, 'b> {
    /// The commands of `command`; none where it is run as one.
    pub fn of(
        stages: fn(&mut Stages) -> Outcome,
        command: &'b [f64],
        heap: &'a mut Heap,
    ) -> Outcome<Vec<(&'static str, Vec<f64>)>> {
        let mut writer = Stages {
            arguments: Arguments::new(command)?,
            heap,
            commands: Vec::new(),
        };
        stages(&mut writer)?;
        Ok(writer.commands)
    }

    /// A slot for what one stage leaves to another.
    pub fn temporary(&mut self) -> f64 {
        self.heap.temporary() as f64
    }

    /// Adds a command: the operation, its outputs, its arguments in groups.
    pub fn command(&mut self, operation: &'static str, outputs: &[f64], arguments: &[&[f64]]) {
        let mut words = vec![outputs.len() as f64];
        words.extend(outputs);
        words.extend(arguments.iter().copied().flatten());
        self.commands.push((operation, words));
    }

    /// All arguments of the command, and its outputs.
    pub fn words(&self) -> (&'b [f64], &'b [f64]) {
        self.arguments.split()
    }
}
