//! Shapes and parameters that every method takes.

use crate::error::{KernelError, Result, check_length, checked_product};

/// A feature map `[batch, positions, channels]`: NHWC with `positions = height * width`; 1 position for `[batch, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Samples.
    pub batch: usize,
    /// Positions of one sample (height times width).
    pub positions: usize,
    /// Channels, contiguous in memory.
    pub channels: usize,
}

impl Shape {
    /// Elements of the map, or an error where the product of its sizes does not fit. Sizes of 0 count as 1 for that: where there are no
    /// elements, there may be statistics.
    pub fn elements(self) -> Result<usize> {
        let sizes = [self.batch, self.positions, self.channels];
        checked_product("normalization", &sizes.map(|size| size.max(1)))?;
        Ok(sizes.into_iter().product())
    }
}

/// The learned scale and offset after a normalization, each `[channels]` or absent (1 and 0).
#[derive(Clone, Copy, Debug, Default)]
pub struct Affine<'a> {
    /// The scale of every channel.
    pub gamma: Option<&'a [f32]>,
    /// The offset of every channel.
    pub beta: Option<&'a [f32]>,
}

impl Affine<'_> {
    pub(super) fn check(&self, channels: usize) -> Result {
        check_optional("gamma", self.gamma, channels)?;
        check_optional("beta", self.beta, channels)
    }

    #[inline(always)]
    pub(super) fn gamma(&self, channel: usize) -> f32 {
        self.gamma.map_or(1.0, |gamma| gamma[channel])
    }

    #[inline(always)]
    pub(super) fn beta(&self, channel: usize) -> f32 {
        self.beta.map_or(0.0, |beta| beta[channel])
    }
}

/// Where a backward pass writes; an absent gradient is not computed.
#[derive(Debug, Default)]
pub struct AffineGradients<'a> {
    /// The gradient of the input, of the input's shape.
    pub dx: Option<&'a mut [f32]>,
    /// The gradient of the scale, `[channels]`.
    pub dgamma: Option<&'a mut [f32]>,
    /// The gradient of the offset, `[channels]`.
    pub dbeta: Option<&'a mut [f32]>,
}

impl AffineGradients<'_> {
    pub(super) fn check(&self, elements: usize, channels: usize) -> Result {
        check_optional("dx", self.dx.as_deref(), elements)?;
        check_optional("dgamma", self.dgamma.as_deref(), channels)?;
        check_optional("dbeta", self.dbeta.as_deref(), channels)
    }
}

/// Checks the length of an argument that may be absent.
pub(super) fn check_optional(
    argument: &'static str,
    values: Option<&[f32]>,
    expected: usize,
) -> Result {
    values.map_or(Ok(()), |values| {
        check_length(argument, values.len(), expected)
    })
}

/// Checks the momentum of running statistics.
pub(super) fn check_momentum(momentum: f32) -> Result {
    if (0.0..=1.0).contains(&momentum) {
        Ok(())
    } else {
        Err(KernelError::Invalid(format!(
            "momentum must be in 0 to 1, got {momentum}"
        )))
    }
}

/// Checks that epsilon is a finite number that is not negative.
pub(super) fn check_epsilon(epsilon: f32) -> Result {
    if epsilon.is_finite() && epsilon >= 0.0 {
        Ok(())
    } else {
        Err(KernelError::Invalid(format!(
            "epsilon must be a finite number >= 0, got {epsilon}"
        )))
    }
}
