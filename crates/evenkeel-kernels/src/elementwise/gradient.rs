//! Gradients of the arithmetic of two arrays, before they are summed back to the operands' shapes (`reduce::sum_to_shape`).

use super::BinaryOperation;
use super::binary::lanewise;
use super::broadcast::{Plan, broadcast_map, check_operands};
use super::map::{VectorMap, map, operands};
use crate::error::{KernelError, Result, check_length};
use crate::isa::Simd;

/// Which operand a gradient is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// `a`.
    First,
    /// `b`.
    Second,
}

/// Defines a type for each gradient, a function of `a`, `b` and `dy`.
macro_rules! gradient_functions {
    ($($name:ident: |$simd:ident, $a:ident, $b:ident, $dy:ident| $value:expr;)*) => {
        $(#[derive(Clone, Copy)]
        struct $name;

        impl VectorMap<3> for $name {
            #[inline(always)]
            fn apply<S: Simd>(self, $simd: S, [$a, $b, $dy]: [S::F32; 3]) -> S::F32 {
                $value
            }
        })*
    };
}

gradient_functions! {
    Same: |_simd, _a, _b, dy| dy;
    Negated: |simd, _a, _b, dy| simd.neg(dy);
    TimesFirst: |simd, a, _b, dy| simd.mul(dy, a);
    TimesSecond: |simd, _a, b, dy| simd.mul(dy, b);
    OverSecond: |simd, _a, b, dy| simd.div(dy, b);
    Divisor: |simd, a, b, dy| simd.neg(simd.mul(simd.div(dy, b), simd.div(a, b)));
    // The winner takes the gradient; a tie is the first operand's.
    FirstIsMaximum: |simd, a, b, dy| simd.select(simd.ge(a, b), dy, simd.zero());
    SecondIsMaximum: |simd, a, b, dy| simd.select(simd.ge(a, b), simd.zero(), dy);
    FirstIsMinimum: |simd, a, b, dy| simd.select(simd.ge(b, a), dy, simd.zero());
    SecondIsMinimum: |simd, a, b, dy| simd.select(simd.ge(b, a), simd.zero(), dy);
    PowerBase: |simd, a, b, dy| simd.mul(dy, lanewise(simd, a, b, power_base_slope));
    PowerExponent: |simd, a, b, dy| simd.mul(dy, lanewise(simd, a, b, power_exponent_slope));
    SumIsPositive: |simd, a, b, dy| simd.select(simd.gt(simd.add(a, b), simd.zero()), dy, simd.zero());
}

/// `b a^(b-1)`, and zero for a zero exponent even at zero.
fn power_base_slope(base: f32, exponent: f32) -> f32 {
    if exponent == 0.0 {
        return 0.0;
    }
    let (base, exponent) = (f64::from(base), f64::from(exponent));
    (exponent * base.powf(exponent - 1.0)) as f32
}

/// `a^b ln(a)`, and its limit zero at a zero base with an exponent that is not negative.
fn power_exponent_slope(base: f32, exponent: f32) -> f32 {
    if base == 0.0 && exponent >= 0.0 {
        return 0.0;
    }
    let (base, exponent) = (f64::from(base), f64::from(exponent));
    (base.powf(exponent) * base.ln()) as f32
}

/// The gradient of `operation` for one operand, in the output's shape: `gradient = dy * d operation(a, b) / d operand`.
///
/// `maximum` and `minimum` give the whole gradient to the operand that won, the first where they are equal. Where the gradient is
/// zero by choice (`maximum`, `minimum`, `AddRelu`) an infinite `dy` does not become NaN.
///
/// # Errors
/// Where a length does not fit its shape, a shape does not broadcast to `output_shape`, or the operation is a comparison.
pub fn binary_backward(
    operation: BinaryOperation,
    operand: Operand,
    a: &[f32],
    a_shape: &[usize],
    b: &[f32],
    b_shape: &[usize],
    dy: &[f32],
    gradient: &mut [f32],
    output_shape: &[usize],
) -> Result {
    let plan = Plan::new([a_shape, b_shape, output_shape], output_shape)?;
    check_operands([
        ("first operand", a.len(), a_shape),
        ("second operand", b.len(), b_shape),
        ("output gradient", dy.len(), output_shape),
        ("operand gradient", gradient.len(), output_shape),
    ])?;
    let operands = operands([a, b, dy], gradient);
    /// Runs one function of the macro above.
    macro_rules! run {
        ($function:expr) => {
            // SAFETY: the lengths are those of the shapes, and a mutable slice overlaps no other.
            unsafe { broadcast_map($function, &plan, operands) }
        };
    }
    match (operation, operand) {
        (BinaryOperation::Add, _) | (BinaryOperation::Subtract, Operand::First) => run!(Same),
        (BinaryOperation::Subtract, Operand::Second) => run!(Negated),
        (BinaryOperation::Multiply, Operand::First) => run!(TimesSecond),
        (BinaryOperation::Multiply, Operand::Second) => run!(TimesFirst),
        (BinaryOperation::Divide, Operand::First) => run!(OverSecond),
        (BinaryOperation::Divide, Operand::Second) => run!(Divisor),
        (BinaryOperation::Maximum, Operand::First) => run!(FirstIsMaximum),
        (BinaryOperation::Maximum, Operand::Second) => run!(SecondIsMaximum),
        (BinaryOperation::Minimum, Operand::First) => run!(FirstIsMinimum),
        (BinaryOperation::Minimum, Operand::Second) => run!(SecondIsMinimum),
        (BinaryOperation::Power, Operand::First) => run!(PowerBase),
        (BinaryOperation::Power, Operand::Second) => run!(PowerExponent),
        (BinaryOperation::AddRelu, _) => run!(SumIsPositive),
        _ => {
            return Err(KernelError::Invalid(format!(
                "{operation:?}: a comparison has no gradient"
            )));
        }
    }
    Ok(())
}

#[derive(Clone, Copy)]
struct Gate;

impl VectorMap<2> for Gate {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [y, dy]: [S::F32; 2]) -> S::F32 {
        simd.select(simd.gt(y, simd.zero()), dy, simd.zero())
    }
}

/// The gradient of `max(a + b, 0)` for the sum, from its output: `gradient = dy` where `y` is positive and zero elsewhere. It is
/// both operands' gradient, so neither need be kept.
///
/// # Errors
/// Where the lengths differ.
pub fn add_relu_backward(y: &[f32], dy: &[f32], gradient: &mut [f32]) -> Result {
    check_length("add-relu output gradient", dy.len(), y.len())?;
    check_length("add-relu operand gradient", gradient.len(), y.len())?;
    // SAFETY: all three have the same length, and a mutable slice overlaps no other.
    unsafe { map(Gate, operands([y, dy], gradient), y.len()) };
    Ok(())
}
