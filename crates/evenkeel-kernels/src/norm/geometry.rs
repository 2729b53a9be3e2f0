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

/// Groups of neighbouring channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Groups {
    pub count: usize,
    /// Channels of a group.
    pub size: usize,
    /// 2⁶⁴ over the size, rounded up.
    reciprocal: u64,
}

impl Groups {
    /// Cuts `channels` into `count` groups, which divides them.
    pub fn new(channels: usize, count: usize) -> Self {
        let size = channels / count.max(1);
        Groups {
            count,
            size,
            reciprocal: (u64::MAX / size.max(1) as u64).wrapping_add(1),
        }
    }

    /// Every channel by itself.
    pub fn channels(channels: usize) -> Self {
        Groups::new(channels, channels)
    }

    /// The group of a channel: `channel / size` as a product, because a division takes longer than all else that is done for a channel.
    #[inline(always)]
    pub fn of(&self, channel: usize) -> usize {
        if self.size == 1 {
            return channel;
        }
        // The reciprocal is too large by less than 1, so the product by less than channel / 2⁶⁴ groups.
        ((channel as u128 * u128::from(self.reciprocal)) >> 64) as usize
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

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn a_channel_is_found_in_its_group() {
        for size in (1..70).chain([127, 128, 129, 1000, 65_535, 65_536, 1 << 31]) {
            for count in [1, 2, 3, 7, 1000] {
                let groups = Groups::new(size * count, count);
                assert_eq!(groups.size, size);
                for group in [0, count / 2, count - 1] {
                    let (first, last) = (group * size, (group + 1) * size - 1);
                    assert_eq!((groups.of(first), groups.of(last)), (group, group));
                }
            }
        }
        assert_eq!(Groups::channels(3).of(2), 2);
        assert_eq!(Groups::channels(0).count, 0);
    }
}
