//! The gradients of the forward pass, those of the prior and of its weight among them.

use super::{CORRECTION, INVERSE, KalmanNorm, MEAN, REST, SAVED, SURPRISE, VARIANCE_SURPRISE};
use crate::activation::ActivationFunction;
use crate::error::{KernelError, Result, check_length};
use crate::norm::affine::{
    BackwardInputs, GRADIENT_PARAMETERS, GradientMap, GradientSums, fill_forward, fill_projection,
    finish_sum,
};
use crate::norm::centred::{add_pieces, sum_samples};
use crate::norm::columns::{map_columns, sum_columns};
use crate::norm::fused::with_fused;
use crate::norm::geometry::{AffineGradients, check_optional};
use crate::norm::moments::Saved;
use crate::norm::slab::{self, Passes, Slab};
use crate::parallel::DisjointMut;
use std::ops::Range;

/// Where [`backward()`] writes besides the gradients of input, scale and offset.
#[derive(Debug, Default)]
pub struct PriorGradients<'a> {
    /// The gradient of the prior's means and variances, `[2, groups, channels]`.
    pub state: Option<&'a mut [f32]>,
    /// The gradient of the prior's weight, `[1]`.
    pub weight: Option<&'a mut [f32]>,
}

/// The gradients of [`super::forward()`], given what it saved, the gradient of `y`, and that of the posterior where another layer used it.
///
/// With A = Σ dz, B = Σ dz·normalized, r the inverse deviation and M the values of a group and channel:
/// `dv = dv_out - r² γ B / 2`, `dm = dm_out - r γ A`, `dx̄ = (1-q) dm + 2 q (1-q) δ dv`, `dS = (1-q) dv`,
/// `dx = r γ dz + dx̄ / M + 2 dS (x - x̄) / M`, `dm⁻ = q dm - 2 q (1-q) δ dv`, `dv⁻ = q dv`,
/// `dq = Σ -dm δ + dv (v⁻ - S + (1 - 2q) δ²)`.
///
/// # Errors
/// Where a length does not fit, or the gradient of a prior is asked for where there is none.
pub fn backward(
    norm: KalmanNorm,
    saved: &[f32],
    dy: &[f32],
    posterior_gradient: Option<&[f32]>,
    gradients: AffineGradients,
    dresidual: Option<&mut [f32]>,
    prior_gradients: PriorGradients,
) -> Result {
    let slab = norm.check()?;
    let (units, channels) = (norm.units(), norm.shape.channels);
    check_length("saved", saved.len(), SAVED * units)?;
    check_length("dy", dy.len(), norm.x.len())?;
    check_optional("posterior gradient", posterior_gradient, 2 * units)?;
    gradients.check(norm.x.len(), channels)?;
    check_optional("dresidual", dresidual.as_deref(), norm.x.len())?;
    let PriorGradients { state, weight } = prior_gradients;
    check_optional("prior gradient", state.as_deref(), 2 * units)?;
    check_optional("weight gradient", weight.as_deref(), 1)?;
    if norm.prior.is_none() && (state.is_some() || weight.is_some()) {
        return Err(KernelError::Invalid(
            "the gradient of a prior was asked for, but there is no prior".into(),
        ));
    }
    if dresidual.is_some() && norm.residual.is_none() {
        return Err(KernelError::Invalid(
            "the gradient of a residual was asked for, but there is no residual".into(),
        ));
    }
    if channels == 0 {
        return Ok(());
    }
    let AffineGradients { dx, dgamma, dbeta } = gradients;
    let (dx, dresidual) = (dx.map(DisjointMut::new), dresidual.map(DisjointMut::new));
    let state = state.map(DisjointMut::new);
    let after = |sums: &[f64], stride| {
        sum_samples(sums, stride, 0, dbeta);
        sum_samples(sums, stride, channels, dgamma);
        if let Some(weight) = weight {
            let groups = sums.chunks_exact(stride);
            weight[0] = groups.map(|group| group[2 * channels]).sum::<f64>() as f32;
        }
    };
    macro_rules! run {
        ($activation:ident, $residual:literal) => {
            slab::run(
                slab,
                &Backward::<_, $residual> {
                    slab,
                    norm,
                    saved,
                    posterior_gradient,
                    inputs: BackwardInputs {
                        x: norm.x,
                        residual: norm.residual.unwrap_or(&[]),
                        dy,
                        activation: $activation,
                    },
                    dx,
                    dresidual,
                    state,
                },
                after,
            )
        };
    }
    with_fused!(norm.activation, |activation| {
        if norm.residual.is_some() {
            run!(activation, true)
        } else {
            run!(activation, false)
        }
    });
    Ok(())
}

struct Backward<'a, A, const RESIDUAL: bool> {
    slab: Slab,
    norm: KalmanNorm<'a>,
    saved: &'a [f32],
    posterior_gradient: Option<&'a [f32]>,
    inputs: BackwardInputs<'a, A>,
    dx: Option<DisjointMut<'a, f32>>,
    dresidual: Option<DisjointMut<'a, f32>>,
    state: Option<DisjointMut<'a, f32>>,
}

impl<A, const RESIDUAL: bool> Backward<'_, A, RESIDUAL> {
    #[inline(always)]
    fn read(&self, array: usize, unit: usize) -> f32 {
        self.saved[array * self.norm.units() + unit]
    }

    #[inline(always)]
    fn unit(&self, unit: usize) -> Saved {
        Saved {
            mean: self.read(MEAN, unit),
            mean_rest: self.read(REST, unit),
            inverse_deviation: self.read(INVERSE, unit),
        }
    }
}

impl<'a, A: ActivationFunction, const RESIDUAL: bool> Passes for Backward<'a, A, RESIDUAL> {
    /// Two sums of every channel, then the group's part of the weight's gradient.
    fn measurement_length(&self) -> usize {
        2 * self.slab.columns.channels + 1
    }

    fn parameter_length(&self) -> usize {
        GRADIENT_PARAMETERS * self.slab.columns.padded
    }

    fn prepare(&self, group: usize, parameters: &mut [f32]) {
        let own = group * self.slab.columns.channels;
        let unit = |channel| self.unit(own + channel);
        fill_forward(self.slab.columns, &self.norm.affine, unit, parameters);
    }

    fn measure(&self, range: Range<usize>, parameters: &[f32], measurement: &mut [f64]) {
        let columns = self.slab.columns;
        let terms = GradientSums::<_, RESIDUAL>::new(self.inputs.part(range));
        let sums = &mut measurement[..2 * columns.channels];
        columns.gathered(sums, |sums| sum_columns(columns, parameters, terms, sums));
    }

    fn finish(&self, group: usize, measurements: &mut [f64], parameters: &mut [f32]) {
        let columns = self.slab.columns;
        let channels = columns.channels;
        let units = self.norm.units();
        let own = group * channels;
        add_pieces(measurements, 2 * channels + 1);
        let (dbeta, rest) = measurements.split_at_mut(channels);
        let (dgamma, rest) = rest.split_at_mut(channels);
        let weight_gradient = &mut rest[0];
        *weight_gradient = 0.0;
        let inverse_count = 1.0 / self.slab.positions.max(1) as f64;
        let weight = match self.norm.prior {
            Some(prior) if !self.read(SURPRISE, own).is_nan() => prior.weight,
            _ => 0.0,
        };
        let mut state = self.state.as_ref().map(|state| {
            // SAFETY: every group has its own units, and is finished once.
            [0, 1].map(|array| unsafe {
                state.part(array * units + own..array * units + own + channels)
            })
        });
        let dropped = self.norm.prior.is_some() && self.read(SURPRISE, own).is_nan();
        let projection = |channel: usize| -> (f64, f64) {
            let unit = self.unit(own + channel);
            dgamma[channel] = finish_sum(unit, dbeta[channel], dgamma[channel]);
            let gamma = f64::from(self.norm.affine.gamma(channel)) * inverse_count;
            let (first, second) = (gamma * dbeta[channel], gamma * dgamma[channel]);
            let r = f64::from(unit.inverse_deviation);
            let correction = f64::from(self.read(CORRECTION, own + channel));
            let [mean_out, variance_out] = [0, 1].map(|array| {
                self.posterior_gradient
                    .map_or(0.0, |g| f64::from(g[array * units + own + channel]))
            });
            // Everything is divided by M. `pull` is -2 dv / (M r²) and `push` is -dm / (M r); signs and order are such that a weight of
            // 0 gives the bits of batch norm.
            let pull = second - 2.0 * variance_out * inverse_count / (r * r);
            let push = first - mean_out * inverse_count / r;
            let along = -((1.0 - weight) * pull);
            let surprise = if dropped {
                0.0
            } else {
                f64::from(self.read(SURPRISE, own + channel))
            };
            let across = correction * r * -along
                - ((1.0 - weight) * push + weight * (1.0 - weight) * surprise * r * pull);
            // Back from M r to the gradients themselves.
            let count = self.slab.positions as f64;
            let dm = -push * r * count;
            let dv = -0.5 * pull * r * r * count;
            if let Some([means, variances]) = &mut state {
                means[channel] =
                    (weight * dm - 2.0 * weight * (1.0 - weight) * surprise * dv) as f32;
                variances[channel] = (weight * dv) as f32;
            }
            if !dropped {
                let between = f64::from(self.read(VARIANCE_SURPRISE, own + channel))
                    + (1.0 - 2.0 * weight) * surprise * surprise;
                *weight_gradient += dv * between - dm * surprise;
            }
            (along, across)
        };
        fill_projection(columns, &self.norm.affine, projection, parameters);
    }

    fn map(&self, range: Range<usize>, parameters: &[f32]) {
        if self.dx.is_none() && self.dresidual.is_none() {
            return;
        }
        let part = |array: &Option<DisjointMut<'a, f32>>| -> &'a mut [f32] {
            match array {
                // SAFETY: ranges of different tasks do not overlap.
                Some(array) => unsafe { array.part(range.clone()) },
                None => &mut [],
            }
        };
        let columns = self.slab.columns;
        let inputs = self.inputs.part(range.clone());
        let (dx, dresidual) = (part(&self.dx), part(&self.dresidual));
        map_columns(
            columns,
            parameters,
            GradientMap::<_, RESIDUAL>::new(inputs, dx, dresidual)
                .part_of(self.norm.x.len(), columns.width),
        );
    }
}
