//! Optimizer steps, pooling and image gathering: passes over memory, so the numbers are bytes a second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::image::{Augmentation, Images, Normalization, Pixels, gather_images};
use evenkeel_kernels::optimizer::{Adam, Sgd, step, sum_of_squares};
use evenkeel_kernels::pool::{
    Pool2d, average_backward, average_forward, max_backward, max_forward,
};
use std::hint::black_box;
use std::time::Duration;

/// The weights of a ResNet-20 for CIFAR.
const WEIGHTS: usize = 270_000;

fn optimizers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("optimizer");
    let gradients = vec![1e-3; WEIGHTS];
    let (mut weights, mut first, mut second) =
        (vec![1.0; WEIGHTS], vec![0.0; WEIGHTS], vec![0.0; WEIGHTS]);
    let sgd = Sgd {
        learning_rate: 1e-3,
        momentum: 0.9,
        nesterov: true,
        weight_decay: 1e-4,
        gradient_scale: 1.0,
    };
    group.throughput(Throughput::Bytes(WEIGHTS as u64 * 4 * 5));
    group.bench_function("sgd with momentum", |bencher| {
        bencher.iter(|| {
            let update = sgd.update(&mut weights, &gradients, Some(&mut first));
            step(&mut [update.unwrap()]);
        });
    });
    // As many tensors as a ResNet-20 has, of the same length.
    group.bench_function("sgd with momentum, 59 tensors", |bencher| {
        let length = WEIGHTS.div_ceil(59);
        bencher.iter(|| {
            let mut updates: Vec<_> = (weights.chunks_mut(length).zip(gradients.chunks(length)))
                .zip(first.chunks_mut(length))
                .map(|((w, g), v)| sgd.update(w, g, Some(v)).unwrap())
                .collect();
            step(&mut updates);
        });
    });
    group.throughput(Throughput::Bytes(WEIGHTS as u64 * 4 * 7));
    group.bench_function("adamw", |bencher| {
        let options = Adam {
            learning_rate: 1e-3,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            weight_decay: 1e-2,
            decoupled: true,
            gradient_scale: 1.0,
        };
        bencher.iter(|| {
            let update = options.update(1, &mut weights, &gradients, &mut first, &mut second);
            step(&mut [update.unwrap()]);
        });
    });
    group.throughput(Throughput::Bytes(WEIGHTS as u64 * 4));
    group.bench_function("sum of squares", |bencher| {
        bencher.iter(|| sum_of_squares(black_box(&gradients)));
    });
}

fn pooling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pool");
    for (kernel, padding) in [(2, 0), (3, 1)] {
        let geometry = Pool2d {
            batch: 8,
            height: 32,
            width: 32,
            channels: 64,
            kernel: [kernel; 2],
            stride: [2; 2],
            padding: [padding; 2],
            ceil_mode: false,
        };
        let input = vec![1.0; 8 * 32 * 32 * 64];
        let mut input_gradient = input.clone();
        let mut output = vec![0.0; 8 * 16 * 16 * 64];
        let mut indices = vec![0; output.len()];
        group.throughput(Throughput::Bytes(4 * (input.len() + output.len()) as u64));
        group.bench_function(format!("max {kernel}x{kernel} forward"), |bencher| {
            bencher.iter(|| max_forward(&geometry, &input, &mut output, Some(&mut indices)));
        });
        group.bench_function(format!("max {kernel}x{kernel} backward"), |bencher| {
            bencher.iter(|| max_backward(&geometry, &output, &indices, &mut input_gradient));
        });
        group.bench_function(format!("average {kernel}x{kernel} forward"), |bencher| {
            bencher.iter(|| average_forward(&geometry, true, &input, &mut output));
        });
        group.bench_function(format!("average {kernel}x{kernel} backward"), |bencher| {
            bencher.iter(|| average_backward(&geometry, true, &output, &mut input_gradient));
        });
    }
}

fn images(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("image");
    let pixels = vec![100u8; 512 * 32 * 32 * 3];
    let images = Images {
        pixels: Pixels::U8(&pixels),
        count: 512,
        height: 32,
        width: 32,
        channels: 3,
    };
    let normalization = Normalization::new(32, &[125.0; 3], &[0.02; 3]).unwrap();
    let augmentation = Augmentation {
        crop_padding: 4,
        flip: true,
        seed: 1,
        epoch: 0,
    };
    let indices: Vec<u32> = (0..128).collect();
    let mut output = vec![0.0; 128 * 32 * 32 * 3];
    group.throughput(Throughput::Elements(128));
    group.bench_function("gather 128 CIFAR images", |bencher| {
        bencher.iter(|| {
            gather_images(
                &images,
                &normalization,
                Some(&augmentation),
                &indices,
                &mut output,
            )
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    targets = optimizers, pooling, images
}
criterion_main!(benches);
