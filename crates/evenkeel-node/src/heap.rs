//! The tensors of one stream, by slot number. Only its compute thread touches it.

use crate::buffer::{Buffer, DType, Pool};
use crate::failure::{Failure, Outcome};

enum Slot {
    Empty,
    Live(Buffer),
    /// The operation that should have filled this slot failed.
    Poisoned(Failure),
}

/// Slots from here on are for what one command leaves to the next without JavaScript knowing.
const FIRST_TEMPORARY: usize = 1 << 40;

/// All live tensors of a stream and the pool that their bytes come from.
pub struct Heap {
    slots: Vec<Slot>,
    temporaries: Vec<Slot>,
    pool: Pool,
}

impl Heap {
    /// An empty heap over `pool`.
    pub fn new(pool: Pool) -> Self {
        Heap {
            slots: Vec::new(),
            temporaries: Vec::new(),
            pool,
        }
    }

    /// The tensor in `slot`, or the failure that poisoned it.
    pub fn get(&self, slot: usize) -> Outcome<&Buffer> {
        match self.slot(slot) {
            Some(Slot::Live(buffer)) => Ok(buffer),
            Some(Slot::Poisoned(failure)) => Err(failure.clone()),
            Some(Slot::Empty) | None => Err(Failure::internal(format!("slot {slot} is empty"))),
        }
    }

    /// Where the elements of the tensor in `slot` begin.
    pub fn address(&mut self, slot: usize) -> Outcome<*mut u8> {
        self.get(slot)?;
        match self.slot_mut(slot) {
            Slot::Live(buffer) => Ok(buffer.address_mut()),
            Slot::Empty | Slot::Poisoned(_) => {
                Err(Failure::internal("a tensor without an address"))
            }
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

    /// A buffer of `length` elements with any contents for the output in `slot`, which [`Heap::put`] makes it: the view that lies
    /// there already as its place, else a new one.
    pub fn output(&self, slot: usize, dtype: DType, length: usize) -> Outcome<Buffer> {
        let place = match self.slot(slot) {
            Some(Slot::Live(place)) => place,
            _ => return self.allocate(dtype, length),
        };
        match place.view_address() {
            None => self.allocate(dtype, length),
            Some(address) if place.dtype() == dtype && place.len() == length => {
                // SAFETY: the same memory as the view in the slot, which no command reads before it is put there again.
                Ok(unsafe { Buffer::view(address, dtype, length) })
            }
            Some(_) => Err(Failure::internal(format!(
                "an output of {length} {} elements has a place of {} {} elements",
                dtype.name(),
                place.len(),
                place.dtype().name(),
            ))),
        }
    }

    /// As [`Heap::output`], of float32.
    pub fn output_f32(&self, slot: usize, length: usize) -> Outcome<Buffer> {
        self.output(slot, DType::Float32, length)
    }

    /// An empty slot for a temporary tensor. Release it when it is done with.
    pub fn temporary(&mut self) -> usize {
        let empty = |slot: &Slot| matches!(slot, Slot::Empty);
        let index = self.temporaries.iter().position(empty);
        let index = index.unwrap_or(self.temporaries.len());
        FIRST_TEMPORARY + index
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
        if slot < self.slots.len() || slot >= FIRST_TEMPORARY {
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
        self.check_lendable(&slots)?;
        let mut buffers = slots.map(|slot| self.lend(slot));
        let outcome = update(self, &mut buffers);
        for (slot, buffer) in slots.into_iter().zip(buffers) {
            self.set(slot, Slot::Live(buffer));
        }
        outcome
    }

    /// As [`Heap::update`], for a number of slots that only the command knows.
    pub fn update_all(
        &mut self,
        slots: &[usize],
        update: impl FnOnce(&Heap, &mut [Buffer]) -> Outcome,
    ) -> Outcome {
        self.check_lendable(slots)?;
        let mut buffers: Vec<Buffer> = slots.iter().map(|&slot| self.lend(slot)).collect();
        let outcome = update(self, &mut buffers);
        for (&slot, buffer) in slots.iter().zip(buffers) {
            self.set(slot, Slot::Live(buffer));
        }
        outcome
    }

    /// Checks that there is a tensor in each of `slots`, and that they differ from each other.
    fn check_lendable(&self, slots: &[usize]) -> Outcome {
        for &slot in slots {
            self.get(slot)?;
        }
        let twice = if slots.len() <= 8 {
            (1..slots.len()).any(|index| slots[..index].contains(&slots[index]))
        } else {
            let mut sorted = slots.to_vec();
            sorted.sort_unstable();
            sorted.windows(2).any(|pair| pair[0] == pair[1])
        };
        if twice {
            return Err(Failure::internal("one slot is updated twice"));
        }
        Ok(())
    }

    /// Takes the buffer out of a slot that was seen to be live; should it not come back, whoever reads the slot is told.
    fn lend(&mut self, slot: usize) -> Buffer {
        let lost = Failure::internal("an update of this tensor did not return");
        match std::mem::replace(self.slot_mut(slot), Slot::Poisoned(lost)) {
            Slot::Live(buffer) => buffer,
            Slot::Empty | Slot::Poisoned(_) => unreachable!("slots are checked before"),
        }
    }

    fn set(&mut self, slot: usize, value: Slot) {
        *self.slot_mut(slot) = value;
    }

    fn slot(&self, slot: usize) -> Option<&Slot> {
        match slot.checked_sub(FIRST_TEMPORARY) {
            None => self.slots.get(slot),
            Some(index) => self.temporaries.get(index),
        }
    }

    fn slot_mut(&mut self, slot: usize) -> &mut Slot {
        let (slots, index) = match slot.checked_sub(FIRST_TEMPORARY) {
            None => (&mut self.slots, slot),
            Some(index) => (&mut self.temporaries, index),
        };
        if index >= slots.len() {
            slots.resize_with(index + 1, || Slot::Empty);
        }
        &mut slots[index]
    }
}
