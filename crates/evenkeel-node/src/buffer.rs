//! A tensor's bytes, aligned to a cache line, and the pool that reuses them.

use crate::failure::{Failure, Outcome};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The element type of a tensor. The numbers are those of `src/tensor/dtype.ts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DType {
    /// 32-bit floating point.
    Float32,
    /// 32-bit signed integers.
    Int32,
    /// Bytes.
    Uint8,
    /// 64-bit floating point: sums on their way from one command to the next, which JavaScript never sees.
    Float64,
}

impl DType {
    /// The type with that number.
    pub fn from_code(code: usize) -> Outcome<DType> {
        match code {
            0 => Ok(DType::Float32),
            1 => Ok(DType::Int32),
            2 => Ok(DType::Uint8),
            _ => Err(Failure::internal(format!("unknown dtype {code}"))),
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::Float32 | DType::Int32 => 4,
            DType::Uint8 => 1,
            DType::Float64 => 8,
        }
    }

    /// The name that JavaScript uses.
    pub fn name(self) -> &'static str {
        match self {
            DType::Float32 => "float32",
            DType::Int32 => "int32",
            DType::Uint8 => "uint8",
            DType::Float64 => "float64",
        }
    }
}

const LINE: usize = 64;

/// One cache line: the unit and the alignment of every buffer.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; LINE]);

/// The elements of one tensor. Dropped, its memory goes back to the pool it came from.
pub struct Buffer {
    memory: Memory,
    dtype: DType,
    length: usize,
}

enum Memory {
    /// A buffer's own.
    Own(Vec<Line>, Pool),
    /// A part of another buffer's.
    View(View),
}

/// The address of a part of a buffer.
struct View(*mut u8);

// SAFETY: whoever makes a view ([`Buffer::view`]) promises that the thread that has it may use the memory.
unsafe impl Send for View {}
// SAFETY: as above; a shared view is only read.
unsafe impl Sync for View {}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Memory::Own(lines, pool) = &mut self.memory {
            pool.give(std::mem::take(lines));
        }
    }
}

/// Types whose every bit pattern is a value, so that bytes may be read as them.
///
/// # Safety
/// Implementors have no padding, no invalid bit patterns, and an alignment of at most 64.
unsafe trait Element: Copy {
    const DTYPE: DType;
}
// SAFETY: plain numbers.
unsafe impl Element for f32 {
    const DTYPE: DType = DType::Float32;
}
// SAFETY: plain numbers.
unsafe impl Element for i32 {
    const DTYPE: DType = DType::Int32;
}
// SAFETY: plain numbers. Packed bits travel as int32.
unsafe impl Element for u32 {
    const DTYPE: DType = DType::Int32;
}
// SAFETY: plain numbers.
unsafe impl Element for f64 {
    const DTYPE: DType = DType::Float64;
}
// SAFETY: plain numbers.
unsafe impl Element for u8 {
    const DTYPE: DType = DType::Uint8;
}

impl Buffer {
    /// `length` elements at `address`, which belong to another buffer.
    ///
    /// # Safety
    /// As long as the view lives, `address` must be valid and aligned for `length` initialized elements of `dtype` and hold still; nobody
    /// else may read what is written through the view, nor write anything of it.
    pub unsafe fn view(address: *mut u8, dtype: DType, length: usize) -> Self {
        Buffer {
            memory: Memory::View(View(address)),
            dtype,
            length,
        }
    }

    /// The address of a view; none of a buffer with memory of its own.
    pub fn view_address(&self) -> Option<*mut u8> {
        match &self.memory {
            Memory::Own(..) => None,
            Memory::View(view) => Some(view.0),
        }
    }

    fn address(&self) -> *const u8 {
        match &self.memory {
            Memory::Own(lines, _) => lines.as_ptr().cast(),
            Memory::View(view) => view.0,
        }
    }

    /// Where the elements begin.
    pub fn address_mut(&mut self) -> *mut u8 {
        match &mut self.memory {
            Memory::Own(lines, _) => lines.as_mut_ptr().cast(),
            Memory::View(view) => view.0,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.length
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    fn typed<T: Element>(&self) -> Outcome<&[T]> {
        if self.dtype != T::DTYPE {
            return Err(wrong_dtype(T::DTYPE, self.dtype));
        }
        // SAFETY: the memory holds at least `length` elements (the pool made it so, or the maker of a view promised it), all
        // initialized; it is aligned for them, and every bit pattern is a T.
        Ok(unsafe { std::slice::from_raw_parts(self.address().cast(), self.length) })
    }

    fn typed_mut<T: Element>(&mut self) -> Outcome<&mut [T]> {
        if self.dtype != T::DTYPE {
            return Err(wrong_dtype(T::DTYPE, self.dtype));
        }
        // SAFETY: as in `typed`, and the borrow is exclusive.
        Ok(unsafe { std::slice::from_raw_parts_mut(self.address_mut().cast(), self.length) })
    }

    /// The elements, of a float32 buffer.
    pub fn f32(&self) -> Outcome<&[f32]> {
        self.typed()
    }

    /// The elements, of a float32 buffer.
    pub fn f32_mut(&mut self) -> Outcome<&mut [f32]> {
        self.typed_mut()
    }

    /// The elements, of a float64 buffer.
    pub fn f64(&self) -> Outcome<&[f64]> {
        self.typed()
    }

    /// The elements, of a float64 buffer.
    pub fn f64_mut(&mut self) -> Outcome<&mut [f64]> {
        self.typed_mut()
    }

    /// The elements, of an int32 buffer.
    pub fn i32(&self) -> Outcome<&[i32]> {
        self.typed()
    }

    /// The elements, of an int32 buffer.
    pub fn i32_mut(&mut self) -> Outcome<&mut [i32]> {
        self.typed_mut()
    }

    /// The elements of an int32 buffer as words of bits.
    pub fn words(&self) -> Outcome<&[u32]> {
        self.typed()
    }

    /// The elements of an int32 buffer as words of bits.
    pub fn words_mut(&mut self) -> Outcome<&mut [u32]> {
        self.typed_mut()
    }

    /// The elements, of a uint8 buffer.
    pub fn u8(&self) -> Outcome<&[u8]> {
        self.typed()
    }

    /// The elements, of a uint8 buffer.
    pub fn u8_mut(&mut self) -> Outcome<&mut [u8]> {
        self.typed_mut()
    }

    /// The bytes of all elements.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the memory holds at least this many initialized bytes.
        unsafe { std::slice::from_raw_parts(self.address(), self.length * self.dtype.size()) }
    }

    /// The bytes of all elements.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`; every bit pattern is a value of every dtype; the borrow is exclusive.
        unsafe {
            std::slice::from_raw_parts_mut(self.address_mut(), self.length * self.dtype.size())
        }
    }
}

fn wrong_dtype(expected: DType, actual: DType) -> Failure {
    Failure::new(
        "DTYPE_MISMATCH",
        format!(
            "expected a {} tensor, got {}",
            expected.name(),
            actual.name()
        ),
    )
}

#[derive(Default)]
struct Shelves {
    free: HashMap<usize, Vec<Vec<Line>>>,
    free_lines: usize,
    live_lines: usize,
    peak_lines: usize,
}

/// Freed buffers by size, for reuse: after its first step, training allocates nothing new. Shared by the compute thread and the
/// loader thread, so that batches go round too.
#[derive(Clone, Default)]
pub struct Pool {
    shelves: Arc<Mutex<Shelves>>,
}

/// Bytes held by a pool's buffers.
pub struct PoolUse {
    /// In buffers that are in use.
    pub live: usize,
    /// The most that was ever in use.
    pub peak: usize,
    /// In buffers that wait for reuse.
    pub free: usize,
}

/// Rounds up to a multiple of an eighth of the next lower power of two, so that sizes that are nearly equal share a shelf and
/// at most an eighth is wasted.
fn size_class(lines: usize) -> usize {
    let step = (lines.next_power_of_two() / 16).max(1);
    lines.div_ceil(step) * step
}

impl Pool {
    /// A buffer of `length` elements with any contents.
    pub fn take(&self, dtype: DType, length: usize) -> Outcome<Buffer> {
        let bytes = length
            .checked_mul(dtype.size())
            .filter(|&bytes| bytes <= isize::MAX as usize / 2)
            .ok_or_else(|| out_of_memory(length, dtype))?;
        let class = size_class(bytes.div_ceil(LINE));
        {
            let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
            shelves.live_lines += class;
            shelves.peak_lines = shelves.peak_lines.max(shelves.live_lines);
            if let Some(lines) = shelves.free.get_mut(&class).and_then(Vec::pop) {
                shelves.free_lines -= class;
                return Ok(Buffer {
                    memory: Memory::Own(lines, self.clone()),
                    dtype,
                    length,
                });
            }
        }
        let mut lines = Vec::new();
        if lines.try_reserve_exact(class).is_err() {
            self.trim();
            if lines.try_reserve_exact(class).is_err() {
                let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
                shelves.live_lines -= class;
                return Err(out_of_memory(length, dtype));
            }
        }
        lines.resize(class, Line([0; LINE]));
        Ok(Buffer {
            memory: Memory::Own(lines, self.clone()),
            dtype,
            length,
        })
    }

    fn give(&self, lines: Vec<Line>) {
        let class = lines.len();
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.live_lines -= class;
        shelves.free_lines += class;
        shelves.free.entry(class).or_default().push(lines);
    }

    /// Returns all waiting buffers to the system.
    pub fn trim(&self) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        shelves.free.clear();
        shelves.free_lines = 0;
    }

    /// How much is held.
    pub fn usage(&self) -> PoolUse {
        let shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        PoolUse {
            live: shelves.live_lines * LINE,
            peak: shelves.peak_lines * LINE,
            free: shelves.free_lines * LINE,
        }
    }
}

fn out_of_memory(length: usize, dtype: DType) -> Failure {
    Failure::new(
        "OUT_OF_MEMORY",
        format!(
            "no memory for a tensor of {length} {} elements; free tensors with dispose() or scope(), or use a smaller batch",
            dtype.name()
        ),
    )
}
