//! Batch norm in stages: its statistics need all images, so the commands before it run on all segments of the batch up to its measurement,
//! those behind it from its map on.

use super::normalization_arguments::{Batch, Passed, fill, fill_wanted, with_running_statistics};
use super::{Cuts, Family};
use crate::arguments::Arguments;
use crate::buffer::DType;
use crate::failure::Outcome;
use crate::heap::Heap;
use crate::segments::cutting::{Cut, Cutter, Stages};
use crate::segments::{Segmentation, worthwhile};
use evenkeel_kernels::norm::Shape;
use evenkeel_kernels::norm::batch::RunningStatistics;
use evenkeel_kernels::norm::batch_segments;

pub const OPERATIONS: Family = &[
    ("batch_norm_measure", measure),
    ("batch_norm_merge", merge),
    ("batch_norm_map", map),
    ("batch_norm_gradient_measure", measure_gradient),
    ("batch_norm_gradient_merge", merge_gradient),
    ("batch_norm_gradient_map", map_gradient),
];

pub const CUTS: Cuts = &[
    ("batch_norm", Cut::Stages(stages)),
    ("batch_norm_backward", Cut::Stages(gradient_stages)),
    ("batch_norm_measure", Cut::Images(cut_measure)),
    ("batch_norm_map", Cut::Images(cut_map)),
    (
        "batch_norm_gradient_measure",
        Cut::Images(cut_measure_gradient),
    ),
    ("batch_norm_gradient_map", Cut::Images(cut_map_gradient)),
];

/// `[output, saved] batch_norm(…Batch, epsilon, momentum)`.
fn stages(stages: &mut Stages) -> Outcome {
    let norm = Batch::read(&mut stages.arguments)?;
    if !worthwhile(norm.shape.batch, norm.shape.elements()?) {
        return Ok(());
    }
    let (outputs, words) = stages.words();
    let (&[y, saved], &[input, ..], &[epsilon, momentum]) =
        (outputs, words, &words[Batch::WORDS..])
    else {
        return Ok(());
    };
    let measured = stages.temporary();
    let shape = &words[Batch::SHAPE];
    stages.command(
        "batch_norm_measure",
        &[measured],
        &[&[input], shape, &[epsilon]],
    );
    let running = &words[Batch::STATISTICS];
    stages.command(
        "batch_norm_merge",
        &[saved],
        &[&[measured], running, shape, &[epsilon, momentum]],
    );
    stages.command("batch_norm_map", &[y], &[&[saved], &words[..Batch::WORDS]]);
    stages.command("free", &[], &[&[measured]]);
    Ok(())
}

/// `[measurements] batch_norm_measure(input, batch, positions, channels, epsilon)`.
fn measure(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let input = arguments.slot()?;
    let shape = super::normalization_arguments::shape(arguments)?;
    let epsilon = arguments.f32()?;
    let slot = arguments.output(0)?;
    let mut measurement = heap.output(slot, DType::Float64, 2 * shape.channels)?;
    batch_segments::measure(
        shape.channels,
        heap.f32(input)?,
        epsilon,
        measurement.f64_mut()?,
    )?;
    heap.put(slot, measurement);
    Ok(())
}

fn cut_measure(cutter: &mut Cutter) -> Outcome {
    cutter.images()?;
    cutter.batch()?;
    let shape = super::normalization_arguments::shape(cutter.arguments())?;
    cutter.reads(shape.elements()?);
    cutter.each_makes(2 * shape.channels);
    Ok(())
}

/// `[saved] batch_norm_merge(measurements, mean?, variance?, batch, positions, channels, epsilon, momentum)`: moves the statistics.
fn merge(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let measured = arguments.slot()?;
    let running = [arguments.optional_slot()?, arguments.optional_slot()?];
    let Shape {
        batch,
        positions,
        channels,
    } = super::normalization_arguments::shape(arguments)?;
    let (epsilon, momentum) = (arguments.f32()?, arguments.f32()?);
    let cut = Segmentation::of(batch);
    let rows = (0..cut.segments).map(|segment| cut.images(segment).len() * positions);
    fill(heap, arguments, [3 * channels], |heap, [saved]| {
        // The running statistics are lent first: a heap lends to one at a time.
        let mut measurements = heap.get(measured)?.f64()?.to_vec();
        with_running_statistics(heap, running, |_, running| {
            let running = running.map(|[mean, variance]| RunningStatistics {
                mean,
                variance,
                momentum,
            });
            Ok(batch_segments::merge(
                channels,
                rows,
                &mut measurements,
                epsilon,
                running,
                saved,
            )?)
        })
    })
}

/// `[output] batch_norm_map(saved, …Batch)`.
fn map(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let saved = arguments.slot()?;
    let norm = Batch::read(arguments)?;
    fill(heap, arguments, [norm.shape.elements()?], |heap, [y]| {
        Ok(batch_segments::map(norm.get(heap)?, heap.f32(saved)?, y)?)
    })
}

fn cut_map(cutter: &mut Cutter) -> Outcome {
    cutter.whole()?;
    let shape = Batch::cut(cutter)?;
    cutter.makes(shape.elements()?);
    Ok(())
}

/// `[gradients of input, gamma, beta, residual] batch_norm_backward(…Passed, …Batch without statistics, wants …)`.
fn gradient_stages(stages: &mut Stages) -> Outcome {
    Passed::read(&mut stages.arguments)?;
    let norm = Batch::read(&mut stages.arguments)?;
    if !worthwhile(norm.shape.batch, norm.shape.elements()?) {
        return Ok(());
    }
    let (outputs, words) = stages.words();
    let (inputs, &[x, gamma, beta, residual]) = words.split_at(Batch::WORDS + 2) else {
        return Ok(());
    };
    let mut outputs = outputs.iter().copied();
    let [dx, dgamma, dbeta, dresidual] =
        [x, gamma, beta, residual].map(|wanted| (wanted != 0.0).then(|| outputs.next()).flatten());
    let sums = stages.temporary();
    let [saved, channels] = [inputs[1], inputs[2 + Batch::SHAPE.end - 1]];
    stages.command("batch_norm_gradient_measure", &[sums], &[inputs]);
    let made: Vec<f64> = dgamma.into_iter().chain(dbeta).collect();
    stages.command(
        "batch_norm_gradient_merge",
        &made,
        &[&[sums, saved, channels, gamma, beta]],
    );
    let made: Vec<f64> = dx.into_iter().chain(dresidual).collect();
    if !made.is_empty() {
        let [batch, positions] = [
            inputs[2 + Batch::SHAPE.start],
            inputs[2 + Batch::SHAPE.start + 1],
        ];
        stages.command(
            "batch_norm_gradient_map",
            &made,
            &[&[sums], inputs, &[batch * positions, x, residual]],
        );
    }
    stages.command("free", &[], &[&[sums]]);
    Ok(())
}

/// `[measurements] batch_norm_gradient_measure(…Passed, …Batch)`.
fn measure_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let passed = Passed::read(arguments)?;
    let norm = Batch::read(arguments)?;
    let slot = arguments.output(0)?;
    let mut measurement = heap.output(slot, DType::Float64, 2 * norm.shape.channels)?;
    batch_segments::measure_gradient(
        norm.get(heap)?,
        passed.saved(heap)?,
        passed.gradient(heap)?,
        measurement.f64_mut()?,
    )?;
    heap.put(slot, measurement);
    Ok(())
}

/// How the arguments `…Passed, …Batch` are cut: what batch norm saves is of the whole batch.
fn cut_passed_batch(cutter: &mut Cutter) -> Outcome<Shape> {
    cutter.images()?;
    cutter.whole()?;
    Batch::cut(cutter)
}

fn cut_measure_gradient(cutter: &mut Cutter) -> Outcome {
    let shape = cut_passed_batch(cutter)?;
    cutter.each_makes(2 * shape.channels);
    Ok(())
}

/// `[gradients of gamma, beta] batch_norm_gradient_merge(measurements, saved, channels, wants …)`: adds them up into the first.
fn merge_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let (measured, saved) = (arguments.slot()?, arguments.slot()?);
    let channels = arguments.usize()?;
    let mut gradients = Vec::new();
    fill_wanted(heap, arguments, [channels; 2], |heap, [dgamma, dbeta]| {
        let mut measurements = heap.get(measured)?.f64()?.to_vec();
        batch_segments::merge_gradient(
            channels,
            heap.f32(saved)?,
            &mut measurements,
            dgamma,
            dbeta,
        )?;
        gradients = measurements;
        Ok(())
    })?;
    heap.update([measured], |_, [sums]| {
        sums.f64_mut()?.copy_from_slice(&gradients);
        Ok(())
    })
}

/// `[gradients of input, residual] batch_norm_gradient_map(sums, …Passed, …Batch, rows, wants …)`.
fn map_gradient(heap: &mut Heap, arguments: &mut Arguments) -> Outcome {
    let sums = arguments.slot()?;
    let passed = Passed::read(arguments)?;
    let norm = Batch::read(arguments)?;
    let rows = arguments.usize()?;
    let elements = norm.shape.elements()?;
    let channels = norm.shape.channels;
    fill_wanted(heap, arguments, [elements; 2], |heap, [dx, dresidual]| {
        let sums = heap.get(sums)?.f64()?;
        Ok(batch_segments::map_gradient(
            norm.get(heap)?,
            passed.saved(heap)?,
            &sums[..sums.len().min(2 * channels)],
            rows,
            passed.gradient(heap)?,
            dx,
            dresidual,
        )?)
    })
}

fn cut_map_gradient(cutter: &mut Cutter) -> Outcome {
    cutter.whole()?;
    let shape = cut_passed_batch(cutter)?;
    cutter.arguments().usize()?;
    for _ in 0..2 {
        if cutter.arguments().bool()? {
            cutter.makes(shape.elements()?);
        }
    }
    Ok(())
}
