//! The tensors of one stream, by slot number. Only its compute thread touches it.

use crate::buffer::{Buffer, DType, Pool};
use crate::failure::{Failure, Outcome};

enum Slot {
    Empty,
    Live(Buffer),
    /// The operation that should have filled this slot failed.
    Poisoned(Failure),
}

/// All live tensors of a stream and the pool that their bytes come from.
pub struct Heap {
    slots: Vec<Slot>,
    pool: Pool,
}

impl Heap {
    /// An empty heap over `pool`.
    pub fn new(pool: Pool) -> Self {
        Heap {
            slots: Vec::new(),
            pool,
        }
    }

    /// The tensor in `slot`, or the failure that poisoned it.
    pub fn get(&self, slot: usize) -> Outcome<&Buffer> {
        match self.slots.get(slot) {
            Some(Slot::Live(buffer)) => Ok(buffer),
            Some(Slot::Poisoned(failure)) => Err(failure.clone()),
            Some(Slot::Empty) | None => Err(Failure::internal(format!("slot {slot} is empty"))),
        }
    }

    /// The elements of the float32 tensor in `slot`.
    pub fn f32(&self, slot: usize) -> Outcome<&[f32]> {
        self.get(slot)?.f32()
    }

    /// The elements of the float32 tensor in an optional slot.
    pub fn optional_f32(&self, slot: Option<usize>) -> Outcome<Option<&[f32]>> {
        slot.map(|slot| self.f32(slot)).transpose()
    }

    /// The elements of the int32 tensor in `slot`.
    pub fn i32(&self, slot: usize) -> Outcome<&[i32]> {
        self.get(slot)?.i32()
    }

    /// A buffer of `length` elements with any contents; [`Heap::put`] makes it a tensor. Dropped instead (scratch space), its
    /// memory goes back to the pool.
    pub fn allocate(&self, dtype: DType, length: usize) -> Outcome<Buffer> {
        self.pool.take(dtype, length)
    }

    /// A float32 buffer of `length` elements with any contents.
    pub fn allocate_f32(&self, length: usize) -> Outcome<Buffer> {
        self.allocate(DType::Float32, length)
    }

    /// Makes `buffer` the tensor in `slot`.
    pub fn put(&mut self, slot: usize, buffer: Buffer) {
        self.set(slot, Slot::Live(buffer));
    }

    /// Marks `slot` as the output of a failed operation.
    pub fn poison(&mut self, slot: usize, failure: Failure) {
        self.set(slot, Slot::Poisoned(failure));
    }

    /// Frees `slot`.
    pub fn release(&mut self, slot: usize) {
        if slot < self.slots.len() {
            self.set(slot, Slot::Empty);
        }
    }

    /// Lends the buffers of `slots` to `update`, mutably, while it may read others from the heap; puts them back whatever comes
    /// of it. The slots must differ from each other.
    pub fn update<const N: usize>(
        &mut self,
        slots: [usize; N],
        update: impl FnOnce(&Heap, &mut [Buffer; N]) -> Outcome,
    ) -> Outcome {
        for (index, &slot) in slots.iter().enumerate() {
            self.get(slot)?;
            if slots[..index].contains(&slot) {
                return Err(Failure::internal("one slot is updated twice"));
            }
        }
        let lost = || Failure::internal("an update of this tensor did not return");
        let mut buffers = slots.map(|slot| {
            match std::mem::replace(&mut self.slots[slot], Slot::Poisoned(lost())) {
                Slot::Live(buffer) => buffer,
                // Every slot was just seen to be live.
                Slot::Empty | Slot::Poisoned(_) => unreachable!(),
            }
        });
        let outcome = update(self, &mut buffers);
        for (slot, buffer) in slots.into_iter().zip(buffers) {
            self.slots[slot] = Slot::Live(buffer);
        }
        outcome
    }

    fn set(&mut self, slot: usize, value: Slot) {
        if slot >= self.slots.len() {
            self.slots.resize_with(slot + 1, || Slot::Empty);
        }
        self.slots[slot] = value;
    }
}
