//! Memory-bound kernels, in bytes read and written a second: `cargo bench --bench elementwise`.
//!
//! Each works on a map of 32 images of 28x28 pixels and 64 channels (6.4 MB, beyond a second-level cache), as the layers of a
//! small residual network do. `copy` is what the memory can do.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use evenkeel_kernels::activation::{Activation, activation_backward, activation_forward};
use evenkeel_kernels::elementwise::{BinaryOperation, binary};
use evenkeel_kernels::layout::permute;
use evenkeel_kernels::random::{Generator, dropout, fill_normal};
use evenkeel_kernels::reduce::{Reduction, first_non_finite, reduce, squared_norm};
use evenkeel_kernels::softmax::softmax_forward;
use std::hint::black_box;
use std::time::Duration;

const SHAPE: [usize; 4] = [32, 28, 28, 64];
const LENGTH: usize = 32 * 28 * 28 * 64;

fn kernels(criterion: &mut Criterion) {
    let x: Vec<f32> = (0..LENGTH).map(|i| (i as f32 * 0.37).sin() * 3.0).collect();
    let other: Vec<f32> = x.iter().rev().copied().collect();
    let mut y = vec![0.0f32; LENGTH];
    let mut group = criterion.benchmark_group("elementwise");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500));
    /// Times one kernel that moves `$passes` times the map.
    macro_rules! time {
        ($name:expr, $passes:expr, $body:expr) => {
            group.throughput(Throughput::Bytes($passes * 4 * LENGTH as u64));
            group.bench_function($name, |bencher| bencher.iter(|| $body));
        };
    }
    time!("copy", 2, y.copy_from_slice(black_box(&x)));
    time!(
        "add",
        3,
        binary(
            BinaryOperation::Add,
            &x,
            &SHAPE,
            &other,
            &SHAPE,
            &mut y,
            &SHAPE
        )
        .unwrap()
    );
    time!(
        "add a channel vector",
        2,
        binary(
            BinaryOperation::Add,
            &x,
            &SHAPE,
            &other[..64],
            &[64],
            &mut y,
            &SHAPE
        )
        .unwrap()
    );
    let narrow = [LENGTH / 3, 3];
    let length = LENGTH / 3 * 3;
    time!(
        "multiply by 3 channels",
        2,
        binary(
            BinaryOperation::Multiply,
            &x[..length],
            &narrow,
            &other[..3],
            &[3],
            &mut y[..length],
            &narrow,
        )
        .unwrap()
    );
    for activation in [
        Activation::Relu,
        Activation::Silu,
        Activation::Gelu,
        Activation::Tanh,
    ] {
        time!(
            format!("{activation:?}"),
            2,
            activation_forward(activation, &x, &mut y).unwrap()
        );
        time!(
            format!("{activation:?} backward"),
            3,
            activation_backward(activation, &x, &other, &mut y).unwrap()
        );
    }
    time!(
        "sum over pixels",
        1,
        reduce(Reduction::Sum, &x, &SHAPE, &[0, 1, 2], &mut y[..64]).unwrap()
    );
    time!(
        "sum over channels",
        1,
        reduce(Reduction::Sum, &x, &SHAPE, &[3], &mut y[..LENGTH / 64]).unwrap()
    );
    time!("squared norm", 1, black_box(squared_norm(&x)));
    time!("first non-finite", 1, black_box(first_non_finite(&x)));
    time!("softmax of 64", 2, softmax_forward(&x, 64, &mut y).unwrap());
    time!(
        "NHWC to NCHW",
        2,
        permute(&x, &SHAPE, &[0, 3, 1, 2], &mut y).unwrap()
    );
    let generator = Generator {
        seed: 1,
        sequence: 2,
    };
    time!("dropout", 2, dropout(generator, 0.3, &x, &mut y).unwrap());
    time!(
        "normal values",
        1,
        fill_normal(generator, 0.0, 1.0, &mut y).unwrap()
    );
    group.finish();
}

criterion_group!(benches, kernels);
criterion_main!(benches);
