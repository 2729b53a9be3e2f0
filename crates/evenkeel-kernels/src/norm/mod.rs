//! Normalization, one file or folder per method, each with its activation fused.
//!
//! | file | statistics over | of every |
//! |---|---|---|
//! | [`batch`] | batch and positions | channel; [`batch_segments`] does it segment by segment |
//! | [`renorm`] | as [`batch`], corrected towards the running statistics | channel |
//! | [`group`] | positions and a group's channels | sample and group (one group: layer norm; a group a channel: instance norm) |
//! | [`evo`] | as [`group`], with a gate in place of centring and activation | sample and group |
//! | [`evo_batch`] | batch and positions, and positions | channel, sample and channel |
//! | [`switchable`] | positions; of those, mixtures over channels and over the batch | sample and channel |
//! | [`online`] | the samples before, and positions | channel |
//! | [`layer_channels`] | channels | sample and position |
//! | [`rms`] | channels, without centring | sample and position |
//! | [`filter_response`] | positions, without centring | sample and channel; [`threshold`] is its activation behind a residual sum |
//! | [`independent`] | batch and positions, with dropout | channel |
//! | [`kalman`] | a group of samples and positions, with a prior | channel; [`kalman::transition`] predicts the prior, [`kalman::link`] does all of it |
//! | [`proxy`] | as [`group`], and those of a Gaussian proxy after the activation | sample and group, channel |
//! | [`preconditioning`] | batch and positions, for the gradient of the weight behind | channel |
//!
//! # How they are built
//!
//! Activations are `[batch, positions, channels]` (NHWC with height and width as one axis), so that a vector holds
//! neighbouring channels. The methods with statistics over positions share one engine: `columns` sums and maps columns of
//! rows, `slab` cuts the work into pieces by shape, measures every piece, merges the measurements in order and maps the
//! output while the sample is still in cache. Statistics over channels go row by row (`rows`).
//!
//! # Numerics
//!
//! A piece sums `x - shift` and its square in runs of a few f32 additions that end in f64, where `shift` is the mean of the
//! piece's first rows; pieces are merged in f64 (Chan, Golub, LeVeque, 1979). Where f32 overflows (inputs of 1e+20) the piece is
//! measured again in f64. The mean is kept as the sum of two f32, so that `x - mean` keeps its digits where the mean is
//! thousands of times the standard deviation. Backward passes keep nothing but those statistics: they compute the normalized
//! value, the affine part and the activation's derivative again from `x`.

mod affine;
mod centred;
mod columns;
mod fused;
mod geometry;
mod instances;
mod moments;
mod proxy_nodes;
mod row;
mod rows;
mod slab;
mod sum_rows;

pub mod batch;
pub mod batch_segments;
pub mod evo;
pub mod evo_batch;
pub mod filter_response;
pub mod group;
pub mod independent;
pub mod kalman;
pub mod layer_channels;
pub mod online;
pub mod preconditioning;
pub mod proxy;
pub mod renorm;
pub mod rms;
pub mod switchable;
pub mod threshold;

pub use geometry::{Affine, AffineGradients, Shape};
pub(crate) use sum_rows::sum_rows;
