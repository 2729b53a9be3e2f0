//! Changing the type of elements.

use crate::error::{Result, check_length};
use crate::parallel::{DisjointMut, for_each_task, piece};

/// Elements per task.
const PIECE: usize = 1 << 15;

/// A type of element. All conversions go through f64, which holds every value of each.
pub trait Number: Copy + Send + Sync {
    /// This number as f64: exact.
    fn widen(self) -> f64;
    /// The nearest number toward zero, saturating at the limits of the type; NaN becomes zero where there is none.
    fn narrow(wide: f64) -> Self;
}

impl Number for f32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn narrow(wide: f64) -> f32 {
        wide as f32
    }
}

impl Number for i32 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn narrow(wide: f64) -> i32 {
        wide as i32
    }
}

impl Number for u8 {
    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn narrow(wide: f64) -> u8 {
        wide as u8
    }
}

/// `y = x` in another type: toward zero, saturating, NaN to zero (f32 from i32 rounds to nearest).
///
/// # Errors
/// Where the lengths differ.
pub fn cast<T: Number, U: Number>(x: &[T], y: &mut [U]) -> Result {
    check_length("cast output", y.len(), x.len())?;
    let parts = DisjointMut::new(y);
    for_each_task(x.len().div_ceil(PIECE), x.len(), |task| {
        let range = piece(task, PIECE, x.len());
        // SAFETY: pieces do not overlap.
        let y = unsafe { parts.part(range.clone()) };
        for (y, x) in y.iter_mut().zip(&x[range]) {
            *y = U::narrow(x.widen());
        }
    });
    Ok(())
}
