//! The forward pass: the instances are measured, their statistics mixed, and the mixtures taken out.

use super::mixture::{Mixture, with_mixture};
use super::{SAVED, SwitchableNorm, save};
use crate::activation::ActivationFunction;
use crate::error::{Result, check_length};
use crate::norm::affine::{FORWARD_PARAMETERS, Normalize, fill_forward};
use crate::norm::batch::{RunningStatistics, check_running};
use crate::norm::columns::map_columns;
use crate::norm::fused::with_fused;
use crate::norm::geometry::Shape;
use crate::norm::instances::{map_pieces, with_moments};
use crate::norm::moments::{all_finite, blend};
use crate::norm::slab::Slab;
use crate::parallel::DisjointMut;

/// `y = activation((x - mean) / sqrt(variance + epsilon) * gamma + beta)`, mean and variance being the mixtures. Where statistics of
/// the batch are not given, `running` moves towards them (the variance being biased), unless one is not finite or the batch is empty.
///
/// `saved` receives [`SAVED`] arrays `[batch, channels]`.
///
/// # Errors
/// Where a length does not fit, epsilon is negative or not finite, or the momentum is not in 0 to 1.
pub fn forward(
    norm: SwitchableNorm,
    running: Option<RunningStatistics>,
    y: &mut [f32],
    saved: &mut [f32],
) -> Result {
    let slab = norm.check()?;
    let Shape {
        batch, channels, ..
    } = norm.shape;
    check_length("y", y.len(), norm.x.len())?;
    check_length("saved", saved.len(), SAVED * batch * channels)?;
    if let Some(running) = &running {
        check_running(running, channels)?;
    }
    if norm.x.is_empty() {
        saved.fill(0.0);
        return Ok(());
    }
    with_moments(slab, norm.x, norm.epsilon, |instances| {
        save(instances, saved);
        with_mixture(&norm, instances, |mixture| {
            if let (Some(running), None) = (running, norm.given) {
                move_running(running, mixture.batch);
            }
            let y = DisjointMut::new(y);
            with_fused!(norm.activation, |activation| map_forward(
                &norm, slab, mixture, activation, &y
            ));
        });
    });
    Ok(())
}
fn move_running(running: RunningStatistics, batch: &[f64]) {
    if !all_finite(batch) {
        return;
    }
    let (means, variances) = batch.split_at(batch.len() / 2);
    blend(running.mean, means.iter().copied(), running.momentum);
    blend(
        running.variance,
        variances.iter().copied(),
        running.momentum,
    );
}

fn map_forward<A: ActivationFunction>(
    norm: &SwitchableNorm,
    slab: Slab,
    mixture: &Mixture,
    activation: A,
    y: &DisjointMut<f32>,
) {
    let columns = slab.columns;
    map_pieces(
        slab,
        FORWARD_PARAMETERS * columns.padded,
        &|sample, parameters| {
            let saved = |channel| mixture.saved(norm.epsilon, sample, channel);
            fill_forward(columns, &norm.affine, saved, parameters);
        },
        &|range, parameters| {
            // SAFETY: pieces do not overlap.
            let y = unsafe { y.part(range.clone()) };
            let x = &norm.x[range];
            let terms = Normalize::<_, false>::new(x, &[], y, activation)
                .part_of(norm.x.len(), columns.width);
            map_columns(columns, parameters, terms);
        },
    );
}
