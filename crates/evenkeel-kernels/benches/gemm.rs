//! Matrix products by size and transposition: multiplications and additions per second.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::gemm::matmul;
use std::hint::black_box;
use std::time::Duration;

fn products(criterion: &mut Criterion) {
    // Squares, and a classifier's layer: forward, gradient of the input, gradient of the weights.
    let shapes = [
        ("256", [256, 256, 256], [false, false]),
        ("1024", [1024, 1024, 1024], [false, false]),
        ("128x10x64", [128, 10, 64], [false, false]),
        ("128x1000x512", [128, 1000, 512], [false, false]),
        ("128x512x1000 transposed b", [128, 512, 1000], [false, true]),
        ("512x1000x128 transposed a", [512, 1000, 128], [true, false]),
    ];
    for (name, [m, n, k], [transpose_a, transpose_b]) in shapes {
        let values = |count: usize| -> Vec<f32> { (0..count).map(|i| (i as f32).sin()).collect() };
        let (a, b, mut c) = (values(m * k), values(k * n), vec![0.0; m * n]);
        let mut group = criterion.benchmark_group("product");
        group
            .throughput(Throughput::Elements(2 * (m * n * k) as u64))
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (a, b) = (black_box(&a), black_box(&b));
                matmul(m, n, k, a, transpose_a, b, transpose_b, false, &mut c)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
