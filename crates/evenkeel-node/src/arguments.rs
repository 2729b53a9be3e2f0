//! Reading a command: the numbers that TypeScript wrote, in the order it wrote them.
//!
//! A command is `[operation, words, outputs, output slots …, arguments …]`, all f64. A tensor argument is its slot number, or
//! -1 for none; a list is its length and then its items.

use crate::failure::{Failure, Outcome};

/// The most items a list argument may have (dimensions, axes).
const MAX_LIST: usize = 16;

/// A list argument without an allocation.
#[derive(Clone, Copy)]
pub struct List {
    items: [f64; MAX_LIST],
    length: usize,
}

impl List {
    /// The items as sizes.
    pub fn sizes(&self) -> Outcome<([usize; MAX_LIST], usize)> {
        let mut sizes = [0; MAX_LIST];
        for (size, &item) in sizes.iter_mut().zip(&self.items[..self.length]) {
            *size = size_of_word(item)?;
        }
        Ok((sizes, self.length))
    }
}

/// A list of sizes: a shape, axes, slots.
#[derive(Clone, Copy)]
pub struct Sizes {
    items: [usize; MAX_LIST],
    length: usize,
}

impl std::ops::Deref for Sizes {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.items[..self.length]
    }
}

/// The arguments of one command, read from the first to the last.
pub struct Arguments<'a> {
    outputs: &'a [f64],
    words: &'a [f64],
    next: usize,
}

fn size_of_word(word: f64) -> Outcome<usize> {
    if (0.0..=9_007_199_254_740_991.0).contains(&word) && word.fract() == 0.0 {
        Ok(word as usize)
    } else {
        Err(Failure::internal(format!("{word} is not a size")))
    }
}

impl<'a> Arguments<'a> {
    /// Over the words of one command after its operation and word count.
    pub fn new(command: &'a [f64]) -> Outcome<Self> {
        let count = command.first().copied().map_or(Ok(0), size_of_word)?;
        let rest = command.get(1..).unwrap_or(&[]);
        if count > rest.len() {
            return Err(Failure::internal("a command lost its outputs"));
        }
        let (outputs, words) = rest.split_at(count);
        Ok(Arguments {
            outputs,
            words,
            next: 0,
        })
    }

    /// All output slots, as far as they can be read: what to poison when the operation fails.
    pub fn output_slots(&self) -> impl Iterator<Item = usize> + 'a {
        self.outputs
            .iter()
            .filter_map(|&word| size_of_word(word).ok())
    }

    /// The slot of output number `index`.
    pub fn output(&self, index: usize) -> Outcome<usize> {
        self.outputs
            .get(index)
            .copied()
            .ok_or_else(|| Failure::internal(format!("output {index} is missing")))
            .and_then(size_of_word)
    }

    /// How many arguments were read.
    pub fn position(&self) -> usize {
        self.next
    }

    /// The next argument as a size, which stays to be read.
    pub fn peek(&self) -> Outcome<usize> {
        let word = self.words.get(self.next).copied();
        size_of_word(word.ok_or_else(|| Failure::internal("an argument is missing"))?)
    }

    /// The words of the outputs and of the arguments.
    pub fn split(&self) -> (&'a [f64], &'a [f64]) {
        (self.outputs, self.words)
    }

    /// The next argument as a number.
    pub fn f64(&mut self) -> Outcome<f64> {
        let word = self
            .words
            .get(self.next)
            .copied()
            .ok_or_else(|| Failure::internal("an argument is missing"))?;
        self.next += 1;
        Ok(word)
    }

    /// The next argument as a number, rounded to f32.
    pub fn f32(&mut self) -> Outcome<f32> {
        Ok(self.f64()? as f32)
    }

    /// The next argument as a size or an index.
    pub fn usize(&mut self) -> Outcome<usize> {
        size_of_word(self.f64()?)
    }

    /// The next argument as a truth value: 0 or 1.
    pub fn bool(&mut self) -> Outcome<bool> {
        Ok(self.f64()? != 0.0)
    }

    /// The next argument as a tensor's slot.
    pub fn slot(&mut self) -> Outcome<usize> {
        self.usize()
    }

    /// The next argument as a tensor's slot, or none.
    pub fn optional_slot(&mut self) -> Outcome<Option<usize>> {
        let word = self.f64()?;
        if word == -1.0 {
            Ok(None)
        } else {
            size_of_word(word).map(Some)
        }
    }

    /// The next argument as a list of at most 16 numbers.
    pub fn list(&mut self) -> Outcome<List> {
        let length = self.usize()?;
        if length > MAX_LIST {
            return Err(Failure::internal(format!("a list of {length} items")));
        }
        let mut items = [0.0; MAX_LIST];
        for item in &mut items[..length] {
            *item = self.f64()?;
        }
        Ok(List { items, length })
    }

    /// The next argument as a list of at most 16 sizes.
    pub fn sizes(&mut self) -> Outcome<Sizes> {
        let (items, length) = self.list()?.sizes()?;
        Ok(Sizes { items, length })
    }

    /// Checks that all arguments were read: the two sides agree on the command.
    pub fn finish(&self) -> Outcome {
        if self.next == self.words.len() {
            Ok(())
        } else {
            Err(Failure::internal(format!(
                "{} arguments were given, {} were read",
                self.words.len(),
                self.next
            )))
        }
    }
}
