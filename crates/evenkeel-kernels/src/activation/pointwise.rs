//! Activation functions alone, over contiguous memory.

use super::{Activation, ActivationFunction, ActivationVisitor};
use crate::elementwise::map::{Operands, VectorMap, map, operands};
use crate::error::{Result, check_length};
use crate::isa::Simd;

#[derive(Clone, Copy)]
struct Value<A>(A);

impl<A: ActivationFunction> VectorMap<1> for Value<A> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x]: [S::F32; 1]) -> S::F32 {
        self.0.apply(simd, x)
    }
}

#[derive(Clone, Copy)]
struct Gradient<A>(A);

impl<A: ActivationFunction> VectorMap<2> for Gradient<A> {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, [x, dy]: [S::F32; 2]) -> S::F32 {
        self.0.gradient(simd, x, dy)
    }
}

struct Forward {
    operands: Operands<1>,
    length: usize,
}

impl ActivationVisitor for Forward {
    type Output = ();
    fn visit<A: ActivationFunction>(self, activation: A) {
        // SAFETY: made below from slices of `length` elements that are one and the same or do not overlap.
        unsafe { map(Value(activation), self.operands, self.length) }
    }
}

struct Backward {
    operands: Operands<2>,
    length: usize,
}

impl ActivationVisitor for Backward {
    type Output = ();
    fn visit<A: ActivationFunction>(self, activation: A) {
        // SAFETY: as in `Forward`.
        unsafe { map(Gradient(activation), self.operands, self.length) }
    }
}

/// `y = activation(x)`, element by element.
///
/// # Errors
/// Where the lengths differ, or a parameter of the activation is unusable.
pub fn activation_forward(activation: Activation, x: &[f32], y: &mut [f32]) -> Result {
    activation.check()?;
    check_length("activation output", y.len(), x.len())?;
    activation.visit(Forward {
        operands: operands([x], y),
        length: x.len(),
    });
    Ok(())
}

/// `x = activation(x)`, element by element.
///
/// # Errors
/// Where a parameter of the activation is unusable.
pub fn activation_forward_in_place(activation: Activation, x: &mut [f32]) -> Result {
    activation.check()?;
    let output = x.as_mut_ptr();
    activation.visit(Forward {
        operands: Operands {
            inputs: [output.cast_const()],
            output,
        },
        length: x.len(),
    });
    Ok(())
}

/// `dx = dy * activation'(x)`, element by element; `x` is the input of the forward pass.
///
/// # Errors
/// Where the lengths differ, or a parameter of the activation is unusable.
pub fn activation_backward(
    activation: Activation,
    x: &[f32],
    dy: &[f32],
    dx: &mut [f32],
) -> Result {
    activation.check()?;
    check_length("activation output gradient", dy.len(), x.len())?;
    check_length("activation input gradient", dx.len(), x.len())?;
    activation.visit(Backward {
        operands: operands([x, dy], dx),
        length: x.len(),
    });
    Ok(())
}

/// `gradient = gradient * activation'(x)`, element by element.
///
/// # Errors
/// Where the lengths differ, or a parameter of the activation is unusable.
pub fn activation_backward_in_place(
    activation: Activation,
    x: &[f32],
    gradient: &mut [f32],
) -> Result {
    activation.check()?;
    check_length("activation gradient", gradient.len(), x.len())?;
    let output = gradient.as_mut_ptr();
    activation.visit(Backward {
        operands: Operands {
            inputs: [x.as_ptr(), output.cast_const()],
            output,
        },
        length: x.len(),
    });
    Ok(())
}
