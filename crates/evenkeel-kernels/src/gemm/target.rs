//! A matrix that several tasks write disjoint parts of.

use crate::parallel::DisjointMut;
use std::marker::PhantomData;

/// Where a product is written. Unlike a slice it can be shared by tasks that write different columns of the same rows.
#[derive(Clone, Copy)]
pub(crate) struct Target<'a> {
    pointer: *mut f32,
    length: usize,
    _borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]`, which may be sent; whoever made it promised that uses at the same time are disjoint.
unsafe impl Send for Target<'_> {}
// SAFETY: as above.
unsafe impl Sync for Target<'_> {}

impl<'a> Target<'a> {
    /// Stands for `values` for as long as they are borrowed.
    ///
    /// # Safety
    /// Products (and slices from [`Self::slice`]) that live at the same time must use different elements.
    pub(crate) unsafe fn new(values: &'a mut [f32]) -> Self {
        Target {
            pointer: values.as_mut_ptr(),
            length: values.len(),
            _borrow: PhantomData,
        }
    }

    /// Stands for the elements that tasks write parts of.
    ///
    /// # Safety
    /// As for [`Self::new`], and parts that live at the same time must have other elements.
    pub(crate) unsafe fn shared(values: &DisjointMut<'a, f32>) -> Self {
        let (pointer, length) = values.as_raw_parts();
        Target {
            pointer,
            length,
            _borrow: PhantomData,
        }
    }

    pub(crate) fn pointer(self) -> *mut f32 {
        self.pointer
    }

    pub(crate) fn length(self) -> usize {
        self.length
    }

    /// The elements from `start` on.
    pub(crate) fn from(self, start: usize) -> Self {
        assert!(start <= self.length);
        Target {
            // SAFETY: inside the slice, or one past its end.
            pointer: unsafe { self.pointer.add(start) },
            length: self.length - start,
            _borrow: PhantomData,
        }
    }
}
