//! Convolution by layer shape: multiplications and additions of the definition per second, for each pass.
//!
//! `cargo bench -p evenkeel-kernels --bench convolution -- 64@8` runs one shape; `RAYON_NUM_THREADS=1` one thread. Winograd's
//! algorithms do fewer operations than the definition has, so rates above the processor's peak are right.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::conv::{
    Conv2dGeometry, Conv2dOptions, conv2d_backward_data, conv2d_backward_weights, conv2d_forward,
};
use std::hint::black_box;
use std::time::Duration;

/// Name, batch, map, channels in and out, kernel, stride, groups.
type Shape = (&'static str, usize, usize, [usize; 2], usize, usize, usize);

const SHAPES: [Shape; 19] = [
    ("16@32", 64, 32, [16, 16], 3, 1, 1),
    ("32@16", 64, 16, [32, 32], 3, 1, 1),
    ("64@8", 64, 8, [64, 64], 3, 1, 1),
    ("64@56", 8, 56, [64, 64], 3, 1, 1),
    ("128@28", 8, 28, [128, 128], 3, 1, 1),
    ("256@14", 8, 14, [256, 256], 3, 1, 1),
    ("512@7", 8, 7, [512, 512], 3, 1, 1),
    ("16-32@32 stride 2", 64, 32, [16, 32], 3, 2, 1),
    ("64-128@56 stride 2", 8, 56, [64, 128], 3, 2, 1),
    ("256-64@56 1x1", 8, 56, [256, 64], 1, 1, 1),
    ("64-256@56 1x1", 8, 56, [64, 256], 1, 1, 1),
    ("3-16@32", 64, 32, [3, 16], 3, 1, 1),
    ("3-64@56", 8, 56, [3, 64], 3, 1, 1),
    ("3-64@224 7x7 stride 2", 4, 224, [3, 64], 7, 2, 1),
    ("1@56", 8, 56, [1, 1], 3, 1, 1),
    ("4@28", 8, 28, [4, 4], 3, 1, 1),
    ("3-8@32", 8, 32, [3, 8], 3, 1, 1),
    ("8@28", 8, 28, [8, 8], 3, 1, 1),
    ("128@32 depthwise", 32, 32, [128, 128], 3, 1, 128),
];

/// Irregular values between -1 and 1.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn passes(criterion: &mut Criterion) {
    for (name, batch, size, [inputs, outputs], kernel, stride, groups) in SHAPES {
        let options = Conv2dOptions {
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            groups,
            ..Conv2dOptions::default()
        };
        let geometry = Conv2dGeometry::new(batch, [size; 2], inputs, outputs, [kernel; 2], options)
            .expect("a valid shape");
        let (input, weight) = (
            values(geometry.input_length()),
            values(geometry.weight_length()),
        );
        let gradient = values(geometry.output_length());
        let mut output = vec![0.0; geometry.output_length()];
        let mut input_gradient = vec![0.0; geometry.input_length()];
        let mut weight_gradient = vec![0.0; geometry.weight_length()];
        let mut group = criterion.benchmark_group(name);
        group
            .throughput(Throughput::Elements(2 * geometry.multiplications() as u64))
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        group.bench_function("forward", |bencher| {
            bencher
                .iter(|| conv2d_forward(&geometry, black_box(&input), &weight, None, &mut output));
        });
        group.bench_function("backward data", |bencher| {
            bencher.iter(|| {
                let (from, to) = (black_box(&gradient), &mut input_gradient);
                conv2d_backward_data(&geometry, from, &weight, to)
            });
        });
        group.bench_function("backward weights", |bencher| {
            bencher.iter(|| {
                let (from, to) = (black_box(&gradient), &mut weight_gradient);
                conv2d_backward_weights(&geometry, &input, from, to)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, passes);
criterion_main!(benches);
