//! Normalization forward and forward + backward, in bytes of the least traffic that a tensor out of cache needs: a forward pass
//! reads and writes once, a backward pass reads twice and writes once.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::activation::Activation;
use evenkeel_kernels::norm::batch::{self, BatchNorm};
use evenkeel_kernels::norm::filter_response::{
    self, Ending, Epsilon, FilterResponseGradients, FilterResponseNorm,
};
use evenkeel_kernels::norm::{Affine, AffineGradients, Shape, group, layer_channels, rms};
use std::hint::black_box;
use std::time::Duration;

/// Floats of a cache line.
const LINE: usize = 16;

/// The first `length` floats of `memory` from a cache line's beginning on, as the library's tensors lie: outputs that do not begin with one are
/// never written past the caches.
fn aligned(memory: &mut [f32], length: usize) -> &mut [f32] {
    let start = memory.as_ptr().align_offset(4 * LINE);
    &mut memory[start..start + length]
}

fn normalization(criterion: &mut Criterion) {
    rayon::ThreadPoolBuilder::new()
        .num_threads(2)
        .use_current_thread()
        .build_global()
        .ok();
    for (batch, side, channels) in [(64, 32, 64), (8, 56, 256), (2, 56, 64)] {
        let shape = Shape {
            batch,
            positions: side * side,
            channels,
        };
        let elements = shape.elements().expect("it fits");
        let mut memory = [(); 4].map(|()| vec![0.0f32; elements + LINE]);
        let [x, dy, y, dx] = memory.each_mut().map(|memory| aligned(memory, elements));
        for (i, (x, dy)) in x.iter_mut().zip(dy.iter_mut().rev()).enumerate() {
            *x = ((i * 7919) % 1013) as f32 / 500.0 - 1.0;
            *dy = *x;
        }
        let (x, dy) = (&*x, &*dy);
        let (gamma, beta) = (vec![1.1; channels], vec![0.1; channels]);
        let affine = Affine {
            gamma: Some(&gamma),
            beta: Some(&beta),
        };
        let (mut dgamma, mut dbeta) = (vec![0.0f32; channels], vec![0.0f32; channels]);
        let mut dtau = dbeta.clone();
        let mut saved = vec![0.0f32; 3 * batch * channels.max(side * side)];
        let relu = Activation::Relu;

        let mut bench = criterion.benchmark_group(format!("{batch}x{side}x{side}x{channels}"));
        bench
            .warm_up_time(Duration::from_millis(200))
            .measurement_time(Duration::from_millis(700))
            .sample_size(10);

        let bytes = 4 * elements as u64;
        bench.throughput(Throughput::Bytes(2 * bytes));
        bench.bench_function("copy", |b| {
            b.iter(|| y.copy_from_slice(black_box(x)));
        });

        let norm = BatchNorm {
            shape,
            x,
            affine,
            residual: None,
            activation: relu,
        };
        let own = 3 * channels;
        bench.bench_function("batch + ReLU, forward", |b| {
            b.iter(|| batch::forward_training(norm, 1e-5, None, y, &mut saved[..own]));
        });
        bench.throughput(Throughput::Bytes(3 * bytes));
        bench.bench_function("batch + ReLU, backward", |b| {
            b.iter(|| {
                let gradients = AffineGradients {
                    dx: Some(&mut *dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                };
                batch::backward_training(norm, &saved[..own], dy, gradients, None)
            });
        });

        for groups in [32, 1, channels] {
            let own = 3 * batch * groups;
            bench.throughput(Throughput::Bytes(2 * bytes));
            bench.bench_function(format!("group ({groups}) + ReLU, forward"), |b| {
                b.iter(|| {
                    group::forward(shape, groups, x, affine, 1e-5, relu, y, &mut saved[..own])
                });
            });
            bench.throughput(Throughput::Bytes(3 * bytes));
            bench.bench_function(format!("group ({groups}) + ReLU, backward"), |b| {
                b.iter(|| {
                    let gradients = AffineGradients {
                        dx: Some(&mut *dx),
                        dgamma: Some(&mut dgamma),
                        dbeta: Some(&mut dbeta),
                    };
                    group::backward(shape, groups, x, affine, relu, &saved[..own], dy, gradients)
                });
            });
        }

        let norm = FilterResponseNorm {
            shape,
            x,
            affine,
            epsilon: Epsilon {
                fixed: 1e-6,
                learned: None,
            },
            ending: Ending::Threshold(&beta),
        };
        let own = batch * channels;
        bench.throughput(Throughput::Bytes(2 * bytes));
        bench.bench_function("filter response + TLU, forward", |b| {
            b.iter(|| filter_response::forward(norm, y, &mut saved[..own]));
        });
        bench.throughput(Throughput::Bytes(3 * bytes));
        bench.bench_function("filter response + TLU, backward", |b| {
            b.iter(|| {
                let gradients = FilterResponseGradients {
                    dx: Some(&mut *dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                    dtau: Some(&mut dtau),
                    depsilon: None,
                };
                filter_response::backward(norm, &saved[..own], dy, gradients)
            });
        });

        let own = 3 * batch * side * side;
        bench.throughput(Throughput::Bytes(2 * bytes));
        bench.bench_function("layer over channels + ReLU, forward", |b| {
            b.iter(|| layer_channels::forward(shape, x, affine, 1e-5, relu, y, &mut saved[..own]));
        });
        bench.throughput(Throughput::Bytes(3 * bytes));
        bench.bench_function("layer over channels + ReLU, backward", |b| {
            b.iter(|| {
                let gradients = AffineGradients {
                    dx: Some(&mut *dx),
                    dgamma: Some(&mut dgamma),
                    dbeta: Some(&mut dbeta),
                };
                layer_channels::backward(shape, x, affine, relu, &saved[..own], dy, gradients)
            });
        });
        let own = batch * side * side;
        let scale = Some(&gamma[..]);
        bench.throughput(Throughput::Bytes(2 * bytes));
        bench.bench_function("root mean square + ReLU, forward", |b| {
            b.iter(|| rms::forward(shape, x, scale, 1e-5, relu, y, &mut saved[..own]));
        });
        bench.throughput(Throughput::Bytes(3 * bytes));
        bench.bench_function("root mean square + ReLU, backward", |b| {
            b.iter(|| {
                let (dx, dgamma) = (Some(&mut dx[..]), Some(&mut dgamma[..]));
                rms::backward(shape, x, scale, relu, &saved[..own], dy, dx, dgamma)
            });
        });
        bench.finish();
    }
}

criterion_group!(benches, normalization);
criterion_main!(benches);
