//! Arithmetic and comparison of two arrays.

use super::broadcast::{Plan, broadcast_map, check_operands};
use super::map::{Operands, VectorMap, operands};
use crate::error::{KernelError, Result};
use crate::isa::{MAX_LANES, Simd};

/// What to do with two numbers. Comparisons give 1 or 0, and 0 with a NaN (except `NotEqual`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOperation {
    /// `a + b`.
    Add,
    /// `a - b`.
    Subtract,
    /// `a * b`.
    Multiply,
    /// `a / b`.
    Divide,
    /// The larger; `a` where they are equal, NaN where either is NaN.
    Maximum,
    /// The smaller; `a` where they are equal, NaN where either is NaN.
    Minimum,
    /// `a` to the power `b`.
    Power,
    /// `max(a + b, 0)`, the end of a residual block.
    AddRelu,
    /// `a == b`.
    Equal,
    /// `a != b`.
    NotEqual,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
}

impl BinaryOperation {
    /// Every operation, by the number that crosses the boundary to TypeScript.
    pub const ALL: [BinaryOperation; 14] = [
        BinaryOperation::Add,
        BinaryOperation::Subtract,
        BinaryOperation::Multiply,
        BinaryOperation::Divide,
        BinaryOperation::Maximum,
        BinaryOperation::Minimum,
        BinaryOperation::Power,
        BinaryOperation::AddRelu,
        BinaryOperation::Equal,
        BinaryOperation::NotEqual,
        BinaryOperation::Less,
        BinaryOperation::LessOrEqual,
        BinaryOperation::Greater,
        BinaryOperation::GreaterOrEqual,
    ];

    /// The operation with this number, its index in [`Self::ALL`].
    ///
    /// # Errors
    /// [`KernelError::Invalid`] for an unknown number.
    pub fn from_code(code: usize) -> Result<BinaryOperation> {
        Self::ALL.get(code).copied().ok_or_else(|| {
            KernelError::Invalid(format!("binary operation number {code}: expected 0 to 13"))
        })
    }
}

/// Defines a type for each operation and the choice between them.
macro_rules! binary_functions {
    ($($name:ident: |$simd:ident, $a:ident, $b:ident| $value:expr;)*) => {
        mod functions {
            $(#[derive(Clone, Copy)] pub struct $name;)*
        }
        $(impl VectorMap<2> for functions::$name {
            #[inline(always)]
            fn apply<S: Simd>(self, $simd: S, [$a, $b]: [S::F32; 2]) -> S::F32 {
                $value
            }
        })*

        /// Runs `operation`.
        ///
        /// # Safety
        /// As for [`broadcast_map`].
        unsafe fn run(operation: BinaryOperation, plan: &Plan<2>, operands: Operands<2>) {
            match operation {
                // SAFETY: the caller's promise.
                $(BinaryOperation::$name => unsafe { broadcast_map(functions::$name, plan, operands) },)*
            }
        }
    };
}

binary_functions! {
    Add: |simd, a, b| simd.add(a, b);
    Subtract: |simd, a, b| simd.sub(a, b);
    Multiply: |simd, a, b| simd.mul(a, b);
    Divide: |simd, a, b| simd.div(a, b);
    Maximum: |simd, a, b| {
        let larger = simd.select(simd.gt(b, a), b, a);
        simd.select(simd.ge(b, b), larger, b)
    };
    Minimum: |simd, a, b| {
        let smaller = simd.select(simd.gt(a, b), b, a);
        simd.select(simd.ge(b, b), smaller, b)
    };
    Power: |simd, a, b| lanewise(simd, a, b, f32::powf);
    AddRelu: |simd, a, b| simd.max(simd.zero(), simd.add(a, b));
    Equal: |simd, a, b| {
        let at_least = one_where(simd, simd.ge(a, b));
        simd.select(simd.ge(b, a), at_least, simd.zero())
    };
    NotEqual: |simd, a, b| {
        let less = simd.select(simd.ge(a, b), simd.zero(), simd.splat(1.0));
        simd.select(simd.ge(b, a), less, simd.splat(1.0))
    };
    Less: |simd, a, b| one_where(simd, simd.gt(b, a));
    LessOrEqual: |simd, a, b| one_where(simd, simd.ge(b, a));
    Greater: |simd, a, b| one_where(simd, simd.gt(a, b));
    GreaterOrEqual: |simd, a, b| one_where(simd, simd.ge(a, b));
}

#[inline(always)]
fn one_where<S: Simd>(simd: S, mask: S::Mask) -> S::F32 {
    simd.select(mask, simd.splat(1.0), simd.zero())
}

/// A scalar function, lane by lane, for what has no vector code.
#[inline(always)]
pub(super) fn lanewise<S: Simd>(
    simd: S,
    a: S::F32,
    b: S::F32,
    function: impl Fn(f32, f32) -> f32,
) -> S::F32 {
    let (mut x, mut y) = ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES]);
    // SAFETY: the buffers hold LANES numbers.
    unsafe {
        simd.store(a, x.as_mut_ptr());
        simd.store(b, y.as_mut_ptr());
        for lane in 0..S::LANES {
            x[lane] = function(x[lane], y[lane]);
        }
        simd.load(x.as_ptr())
    }
}

/// `output = operation(a, b)`, where `a` and `b` broadcast to `output_shape`.
///
/// # Errors
/// Where a length does not fit its shape, or a shape does not broadcast to `output_shape`.
pub fn binary(
    operation: BinaryOperation,
    a: &[f32],
    a_shape: &[usize],
    b: &[f32],
    b_shape: &[usize],
    output: &mut [f32],
    output_shape: &[usize],
) -> Result {
    let plan = Plan::new([a_shape, b_shape], output_shape)?;
    check_operands([
        ("first operand", a.len(), a_shape),
        ("second operand", b.len(), b_shape),
        ("output", output.len(), output_shape),
    ])?;
    // SAFETY: the lengths are those of the shapes, and a mutable slice overlaps no other.
    unsafe { run(operation, &plan, operands([a, b], output)) };
    Ok(())
}

/// `a = operation(a, b)`, where `b` broadcasts to `a`'s shape.
///
/// # Errors
/// Where a length does not fit its shape, or `b_shape` does not broadcast to `a_shape`.
pub fn binary_assign(
    operation: BinaryOperation,
    a: &mut [f32],
    a_shape: &[usize],
    b: &[f32],
    b_shape: &[usize],
) -> Result {
    let plan = Plan::new([a_shape, b_shape], a_shape)?;
    check_operands([
        ("first operand", a.len(), a_shape),
        ("second operand", b.len(), b_shape),
    ])?;
    let output = a.as_mut_ptr();
    // SAFETY: the lengths are those of the shapes; `a` is the output itself and has its shape.
    unsafe {
        run(
            operation,
            &plan,
            Operands {
                inputs: [output.cast_const(), b.as_ptr()],
                output,
            },
        );
    }
    Ok(())
}
