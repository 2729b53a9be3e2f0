//! Which outputs are written past the caches: a line that is stored the usual way is read from memory first, which an output that
//! will have left the caches before anybody reads it can do without.

use crate::isa::MAX_LANES;
use std::cell::Cell;

/// Elements from which an output does not fit in a third-level cache with its input: 16 MiB.
pub const LARGE: usize = 1 << 22;

thread_local! {
    static PART_OF_LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Runs `body`, whose kernels see parts of a batch. `large`: what they write is part of an output of at least [`LARGE`] elements that nobody
/// reads before the rest of it is written.
pub fn part_of_large<R>(large: bool, body: impl FnOnce() -> R) -> R {
    let _restore = Restore(PART_OF_LARGE.replace(large));
    body()
}

/// Whether `part` of an output of `elements` elements, written in rows of `width`, is to be written past the caches.
pub(crate) fn streams(elements: usize, part: &[f32], width: usize) -> bool {
    (elements >= LARGE || PART_OF_LARGE.get())
        && width.is_multiple_of(MAX_LANES)
        && (part.is_empty() || part.as_ptr().align_offset(size_of::<f32>() * MAX_LANES) == 0)
}

/// Puts back what held before, even where a kernel panics.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        PART_OF_LARGE.set(self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_aligned_outputs_and_their_parts_stream() {
        let values = vec![0.0; 4 * MAX_LANES];
        let aligned = values.as_ptr().align_offset(size_of::<f32>() * MAX_LANES);
        let (part, shifted) = (&values[aligned..], &values[aligned + 1..]);
        assert!(streams(LARGE, part, MAX_LANES));
        assert!(!streams(LARGE, shifted, MAX_LANES));
        assert!(!streams(LARGE, part, MAX_LANES + 1));
        assert!(!streams(LARGE - 1, part, MAX_LANES));
        part_of_large(true, || {
            assert!(streams(part.len(), part, MAX_LANES));
            part_of_large(false, || assert!(!streams(part.len(), part, MAX_LANES)));
            assert!(streams(part.len(), part, MAX_LANES));
        });
        assert!(!streams(part.len(), part, MAX_LANES));
    }
}
