//! Functions of one array, with their gradients.

use super::binary::lanewise;
use super::map::{Operands, VectorMap, map, operands};
use crate::activation::math;
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;

/// What to do with one number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryOperation {
    /// `-x`.
    Negate,
    /// `|x|`; the derivative at 0 is 0.
    Absolute,
    /// The square root; NaN below zero.
    SquareRoot,
    /// `e^x`.
    Exponential,
    /// The natural logarithm; NaN below zero.
    Logarithm,
    /// `x * x`.
    Square,
    /// `1 / x`.
    Reciprocal,
    /// `x + term`.
    AddScalar(f32),
    /// `x * factor`.
    MultiplyScalar(f32),
    /// `x` to the power `exponent`.
    PowerScalar(f32),
    /// `x` limited to `min..=max`; NaN stays. The derivative is one at the limits.
    Clamp {
        /// The lower limit.
        min: f32,
        /// The upper limit.
        max: f32,
    },
}

impl UnaryOperation {
    /// The operation with this number, as it crosses the boundary to TypeScript: 0 negate, 1 absolute, 2 square root, 3
    /// exponential, 4 logarithm, 5 square, 6 reciprocal, 7 add scalar, 8 multiply by scalar, 9 power, 10 clamp (min, max).
    ///
    /// # Errors
    /// [`KernelError::Invalid`] for an unknown number or a clamp without `min <= max`.
    pub fn from_code(code: usize, first: f32, second: f32) -> Result<UnaryOperation> {
        let operation = match code {
            0 => UnaryOperation::Negate,
            1 => UnaryOperation::Absolute,
            2 => UnaryOperation::SquareRoot,
            3 => UnaryOperation::Exponential,
            4 => UnaryOperation::Logarithm,
            5 => UnaryOperation::Square,
            6 => UnaryOperation::Reciprocal,
            7 => UnaryOperation::AddScalar(first),
            8 => UnaryOperation::MultiplyScalar(first),
            9 => UnaryOperation::PowerScalar(first),
            10 => UnaryOperation::Clamp {
                min: first,
                max: second,
            },
            _ => {
                return Err(KernelError::Invalid(format!(
                    "unary operation number {code}: expected 0 to 10"
                )));
            }
        };
        operation.check()?;
        Ok(operation)
    }

    fn check(self) -> Result {
        match self {
            UnaryOperation::Clamp { min, max } if !matches!(min.partial_cmp(&max), Some(order) if order.is_le()) => {
                Err(KernelError::Invalid(format!(
                    "clamp to {min}..={max}: the lower limit must not be above the upper"
                )))
            }
            _ => Ok(()),
        }
    }
}

/// Defines a type for each operation with its value and its gradient, and the choice between them.
macro_rules! unary_functions {
    ($($name:ident $(($($field:ident),+))? $({$($named:ident),+})?:
        |$simd:ident, $x:ident| $value:expr, |$dy:ident| $gradient:expr;)*) => {
        mod functions {
            $(#[derive(Clone, Copy)]
            pub struct $name { $($(pub $field: f32,)+)? $($(pub $named: f32,)+)? })*
        }
        $(impl VectorMap<1> for functions::$name {
            #[inline(always)]
            fn apply<S: Simd>(self, $simd: S, [$x]: [S::F32; 1]) -> S::F32 {
                let functions::$name { $($($field,)+)? $($($named,)+)? } = self;
                $value
            }
        }
        impl VectorMap<2> for functions::$name {
            #[inline(always)]
            fn apply<S: Simd>(self, $simd: S, [$x, $dy]: [S::F32; 2]) -> S::F32 {
                #[allow(unused_variables)]
                let functions::$name { $($($field,)+)? $($($named,)+)? } = self;
                $gradient
            }
        })*

        /// Runs `operation`, or with two inputs its gradient.
        ///
        /// # Safety
        /// As for [`map`].
        unsafe fn run<const N: usize>(operation: UnaryOperation, operands: Operands<N>, length: usize)
        where
            $(functions::$name: VectorMap<N>,)*
        {
            match operation {
                $(UnaryOperation::$name $(($($field),+))? $({$($named),+})? => {
                    // SAFETY: the caller's promise.
                    unsafe { map(functions::$name { $($($field,)+)? $($($named,)+)? }, operands, length) }
                })*
            }
        }
    };
}

unary_functions! {
    Negate: |simd, x| simd.neg(x), |dy| { let _ = x; simd.neg(dy) };
    Absolute: |simd, x| simd.abs(x), |dy| {
        let below = simd.select(simd.gt(simd.zero(), x), simd.neg(dy), simd.zero());
        simd.select(simd.gt(x, simd.zero()), dy, below)
    };
    SquareRoot: |simd, x| simd.sqrt(x), |dy| simd.div(simd.mul(dy, simd.splat(0.5)), simd.sqrt(x));
    Exponential: |simd, x| math::exp(simd, x), |dy| simd.mul(dy, math::exp(simd, x));
    Logarithm: |simd, x| math::log(simd, x), |dy| simd.div(dy, x);
    Square: |simd, x| simd.mul(x, x), |dy| simd.mul(dy, simd.add(x, x));
    Reciprocal: |simd, x| simd.div(simd.splat(1.0), x), |dy| simd.neg(simd.div(simd.div(dy, x), x));
    AddScalar(term): |simd, x| simd.add(x, simd.splat(term)), |dy| { let _ = (simd, x); dy };
    MultiplyScalar(factor): |simd, x| simd.mul(x, simd.splat(factor)), |dy| {
        let _ = x;
        simd.mul(dy, simd.splat(factor))
    };
    PowerScalar(exponent): |simd, x| lanewise(simd, x, x, |x, _| x.powf(exponent)), |dy| {
        let slope = lanewise(simd, x, x, |x, _| power_slope(x, exponent));
        simd.mul(dy, slope)
    };
    Clamp{min, max}: |simd, x| simd.min(simd.splat(max), simd.max(simd.splat(min), x)), |dy| {
        let above = simd.select(simd.ge(x, simd.splat(min)), dy, simd.zero());
        simd.select(simd.ge(simd.splat(max), x), above, simd.zero())
    };
}

fn power_slope(x: f32, exponent: f32) -> f32 {
    if exponent == 0.0 {
        return 0.0;
    }
    let exponent = f64::from(exponent);
    (exponent * f64::from(x).powf(exponent - 1.0)) as f32
}

/// A square is far cheaper than a power.
fn simplify(operation: UnaryOperation) -> UnaryOperation {
    match operation {
        UnaryOperation::PowerScalar(2.0) => UnaryOperation::Square,
        other => other,
    }
}

/// `y = operation(x)`, element by element.
///
/// # Errors
/// Where the lengths differ, or a clamp's limits are out of order.
pub fn unary(operation: UnaryOperation, x: &[f32], y: &mut [f32]) -> Result {
    operation.check()?;
    check_length("output", y.len(), x.len())?;
    // SAFETY: both have the same length, and a mutable slice overlaps no other.
    unsafe { run(simplify(operation), operands([x], y), x.len()) };
    Ok(())
}

/// `x = operation(x)`, element by element.
///
/// # Errors
/// Where a clamp's limits are out of order.
pub fn unary_in_place(operation: UnaryOperation, x: &mut [f32]) -> Result {
    operation.check()?;
    let output = x.as_mut_ptr();
    let operands = Operands {
        inputs: [output.cast_const()],
        output,
    };
    // SAFETY: the input is the output itself.
    unsafe { run(simplify(operation), operands, x.len()) };
    Ok(())
}

/// `dx = dy * d operation(x) / dx`, element by element; `x` is the input of the forward pass.
///
/// # Errors
/// Where the lengths differ, or a clamp's limits are out of order.
pub fn unary_backward(operation: UnaryOperation, x: &[f32], dy: &[f32], dx: &mut [f32]) -> Result {
    operation.check()?;
    check_length("output gradient", dy.len(), x.len())?;
    check_length("input gradient", dx.len(), x.len())?;
    // SAFETY: all three have the same length, and a mutable slice overlaps no other.
    unsafe { run(simplify(operation), operands([x, dy], dx), x.len()) };
    Ok(())
}
