//! Squares of vectors: where a two-dimensional transform reads, and where it writes.
//!
//! A transform takes a column of the source at a time, keeps the half-transformed square on the stack, and writes a row at a time.
//! So no square but that one is held, and with 36 to 81 vectors none would fit into registers.

use crate::isa::Simd;

/// A square that is read.
pub(in super::super) trait Load<S: Simd>: Copy {
    /// The vector in a row and a column.
    ///
    /// # Safety
    /// The row and the column must be inside the square.
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32;
}

/// A square that is written.
pub(in super::super) trait Store<S: Simd>: Copy {
    /// Writes the vector in a row and a column.
    ///
    /// # Safety
    /// The row and the column must be inside the square.
    unsafe fn store(self, s: S, row: usize, column: usize, value: S::F32);
}

/// Vectors at even distances. Whoever makes one promises that all of them may be read whole, where it is read, and written whole, where it
/// is written; the pointer is mutable for both.
#[derive(Clone, Copy)]
pub(super) struct Even {
    pub first: *mut f32,
    /// Floats from row to row.
    pub row: usize,
    /// Floats from column to column.
    pub column: usize,
}

impl Even {
    /// The elements of a transform, `size` by `size`, `element` floats apart.
    #[inline(always)]
    pub(super) fn elements(first: *mut f32, size: usize, element: usize) -> Even {
        Even {
            first,
            row: size * element,
            column: element,
        }
    }

    #[inline(always)]
    fn at(self, row: usize, column: usize) -> *mut f32 {
        self.first
            .wrapping_add(row * self.row + column * self.column)
    }
}

impl<S: Simd> Load<S> for Even {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        // SAFETY: the promise of whoever made it.
        unsafe { s.load(self.at(row, column)) }
    }
}

impl<S: Simd> Store<S> for Even {
    #[inline(always)]
    unsafe fn store(self, s: S, row: usize, column: usize, value: S::F32) {
        // SAFETY: the promise of whoever made it.
        unsafe { s.store(value, self.at(row, column)) }
    }
}

/// The first rows and columns of a square, and the first lanes of its vectors; the others are zeros that are not written. Whoever makes
/// one promises that these may be read (or written).
#[derive(Clone, Copy)]
pub(super) struct Cut {
    pub all: Even,
    pub rows: usize,
    pub columns: usize,
    pub lanes: usize,
}

impl<S: Simd> Load<S> for Cut {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        if row < self.rows && column < self.columns {
            // SAFETY: the promise of whoever made it.
            unsafe { s.load_partial(self.all.at(row, column), self.lanes) }
        } else {
            s.zero()
        }
    }
}

impl<S: Simd> Store<S> for Cut {
    #[inline(always)]
    unsafe fn store(self, s: S, row: usize, column: usize, value: S::F32) {
        if row < self.rows && column < self.columns {
            // SAFETY: the promise of whoever made it.
            unsafe { s.store_partial(value, self.all.at(row, column), self.lanes) }
        }
    }
}

/// A square to which a vector is added before it is written.
#[derive(Clone, Copy)]
pub(super) struct Biased<S: Simd, T> {
    pub to: T,
    pub bias: S::F32,
}

impl<S: Simd, T: Store<S>> Store<S> for Biased<S, T> {
    #[inline(always)]
    unsafe fn store(self, s: S, row: usize, column: usize, value: S::F32) {
        // SAFETY: the caller's promise.
        unsafe { self.to.store(s, row, column, s.add(value, self.bias)) }
    }
}

/// Pixels of an image, from one channel on, and zeros outside. Whoever makes one promises that those inside may be read, and as many zeros.
#[derive(Clone, Copy)]
pub(super) struct Framed {
    /// The channel of the first pixel.
    pub image: *const f32,
    /// `[height, width]` of the image.
    pub size: [usize; 2],
    /// Floats from pixel to pixel.
    pub channels: usize,
    /// Where the square begins.
    pub first: [isize; 2],
    pub zeros: *const f32,
}

impl Framed {
    #[inline(always)]
    fn at(self, row: usize, column: usize) -> *const f32 {
        let row = self.first[0].wrapping_add_unsigned(row) as usize;
        let column = self.first[1].wrapping_add_unsigned(column) as usize;
        let pixel = row.wrapping_mul(self.size[1]).wrapping_add(column);
        let pixel = self.image.wrapping_add(pixel.wrapping_mul(self.channels));
        // A choice of pointers, and not a branch around the load. Places before the image are large numbers.
        if row < self.size[0] && column < self.size[1] {
            pixel
        } else {
            self.zeros
        }
    }
}

/// Whole vectors of channels of a [`Framed`] image.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub Framed);

impl<S: Simd> Load<S> for Whole {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        // SAFETY: the promise of whoever made it.
        unsafe { s.load(self.0.at(row, column)) }
    }
}

/// The last channels of a [`Framed`] image, fewer than a vector.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub image: Framed,
    pub lanes: usize,
}

impl<S: Simd> Load<S> for Part {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        // SAFETY: the promise of whoever made it.
        unsafe { s.load_partial(self.image.at(row, column), self.lanes) }
    }
}

/// Vectors at even distances, each of which asks for one that will be read later.
#[derive(Clone, Copy)]
pub(super) struct Streamed {
    pub all: Even,
    /// Floats from a vector to the one that is asked for.
    pub ahead: usize,
}

impl<S: Simd> Load<S> for Streamed {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        s.prefetch(self.all.at(row, column).wrapping_add(self.ahead));
        // SAFETY: the promise of whoever made it.
        unsafe { self.all.load(s, row, column) }
    }
}

/// Vectors at the distances of a table. Whoever makes one promises that their first lanes may be read, where it is read, and that all of
/// them may be written whole, where it is written.
#[derive(Clone, Copy)]
pub(super) struct Scattered<'a, const SIZE: usize> {
    pub first: *mut f32,
    pub offsets: &'a [[usize; SIZE]; SIZE],
    pub lanes: usize,
}

impl<S: Simd, const SIZE: usize> Load<S> for Scattered<'_, SIZE> {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        let p = self.first.wrapping_add(self.offsets[row][column]);
        // SAFETY: the promise of whoever made it.
        unsafe {
            if self.lanes == S::LANES {
                s.load(p)
            } else {
                s.load_partial(p, self.lanes)
            }
        }
    }
}

impl<S: Simd, const SIZE: usize> Store<S> for Scattered<'_, SIZE> {
    #[inline(always)]
    unsafe fn store(self, s: S, row: usize, column: usize, value: S::F32) {
        // SAFETY: the promise of whoever made it.
        unsafe { s.store(value, self.first.wrapping_add(self.offsets[row][column])) }
    }
}

/// The sums of several squares, whole vectors, `distance` floats apart, added up in order. Whoever makes one promises that all may be read.
#[derive(Clone, Copy)]
pub(super) struct Sums<'a, const SIZE: usize> {
    pub squares: Scattered<'a, SIZE>,
    pub count: usize,
    pub distance: usize,
}

impl<S: Simd, const SIZE: usize> Load<S> for Sums<'_, SIZE> {
    #[inline(always)]
    unsafe fn load(self, s: S, row: usize, column: usize) -> S::F32 {
        let first = self.squares.first;
        let first = first.wrapping_add(self.squares.offsets[row][column]);
        // SAFETY: the promise of whoever made it.
        unsafe {
            let mut sum = s.load(first);
            for square in 1..self.count {
                sum = s.add(sum, s.load(first.wrapping_add(square * self.distance)));
            }
            sum
        }
    }
}
