//! Normalization with the statistics of a batch, a group, a row or a map, with the activation fused.

use super::normalization_arguments::{
    AffineSlots, Batch, Passed, Plain, activation, cut_gradients, cut_passed, cut_plain,
    cut_plain_backward, fill, fill_wanted, shape, with_running_statistics,
};
use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::failure::{Failure, Outcome};
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter};
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::batch::{self, RunningStatistics};
use evenkeel_kernels::norm::filter_response::{
    self, Ending, Epsilon, EpsilonForm, FilterResponseGradients, FilterResponseNorm,
};
use evenkeel_kernels::norm::{AffineGradients, Shape, group, layer_channels, rms, threshold};

pub const OPERATIONS: Family = &[
    ("batch_norm", batch_training),
    ("batch_norm_backward", batch_training_gradient),
    ("batch_norm_inference", batch_inference),
    ("batch_norm_inference_backward", batch_inference_gradient),
    ("group_norm", group),
    ("group_norm_backward", group_gradient),
    ("layer_norm", layer),
    ("layer_norm_backward", layer_gradient),
    ("rms_norm", root_mean_square),
    ("rms_norm_backward", root_mean_square_gradient),
    ("filter_response_norm", filter_response),
    ("filter_response_norm_backward", filter_response_gradient),
    ("add_threshold", add_threshold),
    ("add_threshold_backward", add_threshold_gradient),
];

pub const CUTS: Cuts = &[
    ("batch_norm_inference", Cut::Images(cut_batch_inference)),
    ("group_norm", Cut::Images(cut_group)),
    ("group_norm_backward", Cut::Images(cut_group_gradient)),
    ("layer_norm", Cut::Images(cut_layer)),
    ("layer_norm_backward", Cut::Images(cut_plain_gradient)),
    ("rms_norm", Cut::Images(cut_root_mean_square)),
    ("rms_norm_backward", Cut::Images(cut_plain_gradient)),
    ("filter_response_norm", Cut::Images(cut_filter_response)),
    (
        "filter_response_norm_backward",
        Cut::Images(cut_filter_response_gradient),
    ),
    ("add_threshold", Cut::Images(cut_add_threshold)),
    (
        "add_threshold_backward",
        Cut::Images(cut_add_threshold_gradient),
    ),
];

/// `[output, saved] batch_norm(…Batch, epsilon, momentum)`: moves the statistics.
fn batch_training(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Batch::read(arguments)?;
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let lengths = [norm.shape.elements()?, 3 * norm.shape.channels];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        with_running_statistics(heap, norm.statistics, |heap, running| {
            let running = running.map(|[mean, variance]| RunningStatistics {
                mean,
                variance,
                momentum,
            });
            let norm = norm.get(heap)?;
            Ok(batch::forward_training(norm, epsilon, running, y, saved)?)
        })
    })
}

/// `[gradients of input, gamma, beta, residual] batch_norm_backward(…Passed, …Batch without statistics, wants …)`.
fn batch_training_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = Batch::read(arguments)?;
    let compute = |heap: &mut Heap, [dx, dgamma, dbeta, dresidual]: [Option<&mut [f32]>; 4]| {
        Ok(batch::backward_training(
            norm.get(heap)?,
            passed.saved(heap)?,
            passed.gradient(heap)?,
            AffineGradients { dx, dgamma, dbeta },
            dresidual,
        )?)
    };
    fill_wanted(heap, arguments, norm.lengths()?, compute)
}

/// `[output] batch_norm_inference(…Batch, epsilon)`.
fn batch_inference(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Batch::read(arguments)?;
    let epsilon = arguments.f32()?;
    fill(heap, arguments, [norm.shape.elements()?], |heap, [y]| {
        let (mean, variance) = norm.given(heap)?;
        let norm = norm.get(heap)?;
        Ok(batch::forward_inference(norm, mean, variance, epsilon, y)?)
    })
}

/// `[gradients of input, gamma, beta, residual] batch_norm_inference_backward(outputGradient, …Batch, epsilon, wants …)`.
fn batch_inference_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let norm = Batch::read(arguments)?;
    let epsilon = arguments.f32()?;
    let compute = |heap: &mut Heap, [dx, dgamma, dbeta, dresidual]: [Option<&mut [f32]>; 4]| {
        let (mean, variance) = norm.given(heap)?;
        Ok(batch::backward_inference(
            norm.get(heap)?,
            mean,
            variance,
            epsilon,
            heap.f32(gradient)?,
            AffineGradients { dx, dgamma, dbeta },
            dresidual,
        )?)
    };
    fill_wanted(heap, arguments, norm.lengths()?, compute)
}

/// `[output, saved] group_norm(…Plain, groups, epsilon)`.
fn group(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Plain::read(arguments)?;
    let (groups, epsilon) = (arguments.usize()?, arguments.f32()?);
    let lengths = [norm.shape.elements()?, 3 * norm.shape.batch * groups];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        let (x, affine) = (norm.input(heap)?, norm.affine(heap)?);
        let Plain {
            shape, activation, ..
        } = norm;
        Ok(group::forward(
            shape, groups, x, affine, epsilon, activation, y, saved,
        )?)
    })
}

/// `[gradients of input, gamma, beta] group_norm_backward(…Passed, …Plain, groups, wants …)`.
fn group_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = Plain::read(arguments)?;
    let groups = arguments.usize()?;
    let compute = |heap: &mut Heap, [dx, dgamma, dbeta]: [Option<&mut [f32]>; 3]| {
        Ok(group::backward(
            norm.shape,
            groups,
            norm.input(heap)?,
            norm.affine(heap)?,
            norm.activation,
            passed.saved(heap)?,
            passed.gradient(heap)?,
            AffineGradients { dx, dgamma, dbeta },
        )?)
    };
    fill_wanted(heap, arguments, norm.lengths()?, compute)
}

/// `[output, saved] layer_norm(…Plain, epsilon)`, over the channels.
fn layer(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Plain::read(arguments)?;
    let epsilon = arguments.f32()?;
    let rows = norm.shape.batch * norm.shape.positions;
    let lengths = [norm.shape.elements()?, 3 * rows];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        let (x, affine) = (norm.input(heap)?, norm.affine(heap)?);
        let Plain {
            shape, activation, ..
        } = norm;
        Ok(layer_channels::forward(
            shape, x, affine, epsilon, activation, y, saved,
        )?)
    })
}

/// `[gradients of input, gamma, beta] layer_norm_backward(…Passed, …Plain, wants …)`.
fn layer_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = Plain::read(arguments)?;
    let compute = |heap: &mut Heap, [dx, dgamma, dbeta]: [Option<&mut [f32]>; 3]| {
        Ok(layer_channels::backward(
            norm.shape,
            norm.input(heap)?,
            norm.affine(heap)?,
            norm.activation,
            passed.saved(heap)?,
            passed.gradient(heap)?,
            AffineGradients { dx, dgamma, dbeta },
        )?)
    };
    fill_wanted(heap, arguments, norm.lengths()?, compute)
}

/// `[output, saved] rms_norm(…Plain without beta, epsilon)`.
fn root_mean_square(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = Plain::read(arguments)?;
    let epsilon = arguments.f32()?;
    let rows = norm.shape.batch * norm.shape.positions;
    let lengths = [norm.shape.elements()?, rows];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        let (x, gamma) = (norm.input(heap)?, norm.affine(heap)?.gamma);
        let Plain {
            shape, activation, ..
        } = norm;
        Ok(rms::forward(
            shape, x, gamma, epsilon, activation, y, saved,
        )?)
    })
}

/// `[gradients of input, gamma] rms_norm_backward(…Passed, …Plain without beta, wants …)`.
fn root_mean_square_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = Plain::read(arguments)?;
    let compute = |heap: &mut Heap, [dx, dgamma, _]: [Option<&mut [f32]>; 3]| {
        Ok(rms::backward(
            norm.shape,
            norm.input(heap)?,
            norm.affine(heap)?.gamma,
            norm.activation,
            passed.saved(heap)?,
            passed.gradient(heap)?,
            dx,
            dgamma,
        )?)
    };
    fill_wanted(heap, arguments, norm.lengths()?, compute)
}

/// `input, gamma?, beta?, tau?, learnedEpsilon?, batch, positions, channels, epsilon, exponential, activation …`.
struct FilterResponse {
    input: usize,
    affine: AffineSlots,
    tau: Option<usize>,
    learned: Option<usize>,
    shape: Shape,
    fixed: f32,
    form: EpsilonForm,
    activation: Activation,
}

impl FilterResponse {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(FilterResponse {
            input: arguments.slot()?,
            affine: AffineSlots::read(arguments)?,
            tau: arguments.optional_slot()?,
            learned: arguments.optional_slot()?,
            shape: shape(arguments)?,
            fixed: arguments.f32()?,
            form: if arguments.bool()? {
                EpsilonForm::Exponential
            } else {
                EpsilonForm::Absolute
            },
            activation: activation(arguments)?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<FilterResponseNorm<'a>> {
        let learned = match heap.optional_f32(self.learned)? {
            None => None,
            Some([number]) => Some((self.form, *number)),
            Some(_) => return Err(Failure::internal("a learned epsilon is one number")),
        };
        Ok(FilterResponseNorm {
            shape: self.shape,
            x: heap.f32(self.input)?,
            affine: self.affine.get(heap)?,
            epsilon: Epsilon {
                fixed: self.fixed,
                learned,
            },
            ending: match heap.optional_f32(self.tau)? {
                Some(tau) => Ending::Threshold(tau),
                None => Ending::Function(self.activation),
            },
        })
    }
}

/// `[output, saved] filter_response_norm(…FilterResponse)`.
fn filter_response(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let norm = FilterResponse::read(arguments)?;
    let shape = norm.shape;
    let lengths = [shape.elements()?, shape.batch * shape.channels];
    fill(heap, arguments, lengths, |heap, [y, saved]| {
        Ok(filter_response::forward(norm.get(heap)?, y, saved)?)
    })
}

/// `[gradients of input, gamma, beta, tau, learnedEpsilon] filter_response_norm_backward(…Passed, …FilterResponse, wants …)`.
fn filter_response_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = FilterResponse::read(arguments)?;
    let channels = norm.shape.channels;
    let lengths = [norm.shape.elements()?, channels, channels, channels, 1];
    fill_wanted(heap, arguments, lengths, |heap, gradients| {
        let [dx, dgamma, dbeta, dtau, depsilon] = gradients;
        let gradients = FilterResponseGradients {
            dx,
            dgamma,
            dbeta,
            dtau,
            depsilon: depsilon.and_then(|values| values.first_mut()),
        };
        let (saved, gradient) = (passed.saved(heap)?, passed.gradient(heap)?);
        Ok(filter_response::backward(
            norm.get(heap)?,
            saved,
            gradient,
            gradients,
        )?)
    })
}

/// The arguments of [`add_threshold`] and its gradient.
struct AddThreshold {
    terms: [usize; 2],
    tau: usize,
    shape: Shape,
}

impl AddThreshold {
    fn read(arguments: &mut Arguments) -> Outcome<Self> {
        Ok(AddThreshold {
            terms: [arguments.slot()?, arguments.slot()?],
            tau: arguments.slot()?,
            shape: shape(arguments)?,
        })
    }

    fn get<'a>(&self, heap: &'a Heap) -> Outcome<[&'a [f32]; 3]> {
        let [a, b] = self.terms;
        Ok([heap.f32(a)?, heap.f32(b)?, heap.f32(self.tau)?])
    }
}

/// `[output] add_threshold(a, b, tau, batch, positions, channels)`.
fn add_threshold(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let sum = AddThreshold::read(arguments)?;
    fill(heap, arguments, [sum.shape.elements()?], |heap, [y]| {
        let [a, b, tau] = sum.get(heap)?;
        Ok(threshold::add_threshold_forward(a, b, tau, y)?)
    })
}

/// `[gradients of the sum, tau] add_threshold_backward(outputGradient, a, b, tau, batch, positions, channels, wants …)`.
fn add_threshold_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let gradient = arguments.slot()?;
    let sum = AddThreshold::read(arguments)?;
    let lengths = [sum.shape.elements()?, sum.shape.channels];
    fill_wanted(heap, arguments, lengths, |heap, [dsum, dtau]| {
        let ([a, b, tau], dy) = (sum.get(heap)?, heap.f32(gradient)?);
        Ok(threshold::add_threshold_backward(
            a, b, tau, dy, dsum, dtau,
        )?)
    })
}

/// The arguments of [`AddThreshold`].
fn cut_add_threshold_arguments(cutter: &mut Cutter) -> Outcome<Shape> {
    cutter.images()?;
    cutter.images()?;
    cutter.wholes(1)?;
    cutter.batch()?;
    shape(cutter.arguments())
}

fn cut_add_threshold(cutter: &mut Cutter) -> Outcome {
    let shape = cut_add_threshold_arguments(cutter)?;
    cutter.makes(shape.elements()?);
    Ok(())
}

fn cut_add_threshold_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    let shape = cut_add_threshold_arguments(cutter)?;
    cut_gradients(cutter, shape, &[shape.channels])
}

fn cut_group(cutter: &mut Cutter) -> Outcome {
    let shape = cut_plain(cutter)?;
    let groups = cutter.arguments().usize()?;
    cutter.arguments().f32()?;
    cutter.makes(shape.elements()?);
    cutter.makes(3 * shape.batch * groups);
    Ok(())
}

fn cut_group_gradient(cutter: &mut Cutter) -> Outcome {
    let shape = cut_plain_backward(cutter)?;
    cutter.arguments().usize()?;
    cut_gradients(cutter, shape, &[shape.channels; 2])
}

/// The cut of a norm over the channels of every position.
fn cut_rows(cutter: &mut Cutter, saved: usize) -> Outcome {
    let shape = cut_plain(cutter)?;
    cutter.arguments().f32()?;
    cutter.makes(shape.elements()?);
    cutter.makes(saved * shape.batch * shape.positions);
    Ok(())
}

fn cut_layer(cutter: &mut Cutter) -> Outcome {
    cut_rows(cutter, 3)
}

fn cut_root_mean_square(cutter: &mut Cutter) -> Outcome {
    cut_rows(cutter, 1)
}

fn cut_plain_gradient(cutter: &mut Cutter) -> Outcome {
    let shape = cut_plain_backward(cutter)?;
    cut_gradients(cutter, shape, &[shape.channels; 2])
}

/// The arguments of [`FilterResponse`].
fn cut_filter_response_arguments(cutter: &mut Cutter) -> Outcome<Shape> {
    cutter.images()?;
    cutter.wholes(4)?;
    cutter.batch()?;
    let shape = shape(cutter.arguments())?;
    cutter.arguments().f32()?;
    cutter.arguments().bool()?;
    activation(cutter.arguments())?;
    Ok(shape)
}

fn cut_filter_response(cutter: &mut Cutter) -> Outcome {
    let shape = cut_filter_response_arguments(cutter)?;
    cutter.makes(shape.elements()?);
    cutter.makes(shape.batch * shape.channels);
    Ok(())
}

fn cut_filter_response_gradient(cutter: &mut Cutter) -> Outcome {
    cut_passed(cutter)?;
    let shape = cut_filter_response_arguments(cutter)?;
    let channels = shape.channels;
    cut_gradients(cutter, shape, &[channels, channels, channels, 1])
}

fn cut_batch_inference(cutter: &mut Cutter) -> Outcome {
    let shape = Batch::cut(cutter)?;
    cutter.arguments().f32()?;
    cutter.makes(shape.elements()?);
    Ok(())
}
